//! Makes a directory of restored files startable.
//!
//! Everything here may run again after it was cut short: each step leaves the directory either
//! as it was or as it must be.

mod files;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod process;
mod settings;
mod start;
mod tablespaces;

use std::fs;
use std::path::Path;

use strongroom_core::engine::RestoreOrder;
use strongroom_core::{Error, ErrorKind, Result};

use self::files::Folder;
pub(crate) use self::files::io_failed;
pub(crate) use self::process::{Rise, ServerProcess};
pub(crate) use self::settings::NOT_LOWER;
pub(crate) use self::start::{SOCKET_PATH_BYTES_MAX, find_postgres, no_server, start};
use crate::facts::PostgresFacts;

/// Directories that the server wants and whose content is not part of a backup.
const EMPTY_DIRECTORIES: [&str; 17] = [
    "pg_commit_ts",
    "pg_dynshmem",
    "pg_logical/mappings",
    "pg_logical/snapshots",
    "pg_multixact/members",
    "pg_multixact/offsets",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat",
    "pg_stat_tmp",
    "pg_subtrans",
    "pg_tblspc",
    "pg_twophase",
    "pg_wal/archive_status",
    "pg_xact",
];

/// The first version that keeps log summaries.
const MAJOR_WITH_SUMMARIES: u32 = 17;

/// What would make the server wait for log that nobody sends.
const SIGNAL_FILES: [&str; 2] = ["standby.signal", "recovery.signal"];

/// Prepares the directory; answers with what a person should know.
pub(crate) fn finish(order: &RestoreOrder<'_>) -> Result<Vec<String>> {
    let facts = PostgresFacts::of(order.facts)?;
    let folder = Folder::open(order.target, &facts)?;
    check_files(order.target, &facts)?;
    for directory in EMPTY_DIRECTORIES {
        folder.make_directory(directory)?;
    }
    if facts.major_version() >= MAJOR_WITH_SUMMARIES {
        folder.make_directory("pg_wal/summaries")?;
    }
    tablespaces::write_map(&folder, &facts, order.tablespaces)?;
    for signal in SIGNAL_FILES {
        folder.remove(signal)?;
    }
    let mut notes = settings::write(&folder, &facts, order.port)?;
    folder.close()?;
    notes.extend(damage_note(order));
    Ok(notes)
}

/// The files must be those of the backup, complete, and not in use.
fn check_files(target: &Path, facts: &PostgresFacts) -> Result<()> {
    if target.join("postmaster.pid").exists() {
        return Err(Error::new(
            ErrorKind::TargetNotEmpty,
            "A server is running in the target directory, or ended without cleaning up. Nothing was changed.",
        )
        .with_hint("Stop that server, or restore to another directory."));
    }
    let version =
        fs::read_to_string(target.join("PG_VERSION")).map_err(|error| incomplete("PG_VERSION", &error))?;
    if version.trim() != facts.major_version().to_string() {
        return Err(incomplete("PG_VERSION", &format!("version {version}")));
    }
    // Without the label the server would start from the wrong place and silently lose data.
    let label = fs::read(target.join("backup_label")).map_err(|error| incomplete("backup_label", &error))?;
    if label.is_empty() {
        return Err(incomplete("backup_label", &"empty"));
    }
    for name in facts.segment_names() {
        let path = format!("pg_wal/{name}");
        let size = fs::metadata(target.join(&path)).map_err(|error| incomplete(&path, &error))?.len();
        if size != facts.log.segment_size_bytes.bytes() {
            return Err(incomplete(&path, &format!("{size} bytes")));
        }
    }
    Ok(())
}

fn incomplete(file: &str, cause: &dyn ToString) -> Error {
    Error::new(
        ErrorKind::Damage,
        format!("The restored directory is not complete: {file} is missing or not as it should be. The backup itself was not touched."),
    )
    .with_hint("Restore again into an empty directory.")
    .with_source(cause.to_string())
}

fn damage_note(order: &RestoreOrder<'_>) -> Option<String> {
    let first = order.facts.damage.first()?;
    Some(format!(
        "The source was damaged before the backup: {} pages, the first is block {} of {}. Reading them fails as it did at the source.",
        order.facts.damage.len(),
        first.block,
        first.relation
    ))
}
