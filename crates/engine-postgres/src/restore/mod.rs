//! Makes a directory of restored files startable.
//!
//! Everything here may run again after it was cut short: each step leaves the directory either
//! as it was or as it must be.

mod files;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod settings;
mod start;
mod tablespaces;

use std::collections::BTreeMap;
use std::path::PathBuf;

use strongroom_core::engine::{BackupFacts, RestoreOrder, RestoredTree};
use strongroom_core::{Error, ErrorKind, Result};
use strongroom_host::Directory;

use self::files::Folder;
pub(crate) use self::settings::NOT_LOWER;
pub(crate) use self::start::{SOCKET_PATH_BYTES_MAX, find_postgres, is_ready, no_server, start};
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
    let mut directory = Directory::open(order.target)?;
    let mut folder = Folder::open(&mut directory, &facts)?;
    check_files(&mut folder, &facts)?;
    let map = tablespaces::map(&facts, order.tablespaces)?;
    let notes = prepare(&mut folder, &facts, &map, order.port)?;
    directory.close(&["pg_wal", "pg_logical", "pg_multixact"])?;
    Ok(notes.into_iter().chain(damage_note(order.facts)).collect())
}

/// The same for the files of an archive, whose tablespaces lie below the data directory: where that
/// will be is not known yet, so that the links are made relative to it.
pub(crate) fn finish_archive(
    facts: &BackupFacts,
    tablespaces: &BTreeMap<String, PathBuf>,
    tree: &mut dyn RestoredTree,
) -> Result<Vec<String>> {
    let own = PostgresFacts::of(facts)?;
    let mut folder = Folder::open(tree, &own)?;
    check_files(&mut folder, &own)?;
    let map = tablespaces::relative_map(&own, tablespaces)?;
    let mut notes = prepare(&mut folder, &own, &map, None)?;
    notes.extend(tablespaces::note(&own, tablespaces));
    notes.extend(damage_note(facts));
    Ok(notes)
}

fn prepare(
    folder: &mut Folder<'_>,
    facts: &PostgresFacts,
    map: &[u8],
    port: Option<u16>,
) -> Result<Vec<String>> {
    for directory in EMPTY_DIRECTORIES {
        folder.make_directory(directory)?;
    }
    if facts.major_version() >= MAJOR_WITH_SUMMARIES {
        folder.make_directory("pg_wal/summaries")?;
    }
    folder.replace(tablespaces::MAP, map)?;
    for signal in SIGNAL_FILES {
        folder.remove(signal)?;
    }
    settings::write(folder, facts, port)
}

/// The files must be those of the backup, complete, and not in use.
fn check_files(folder: &mut Folder<'_>, facts: &PostgresFacts) -> Result<()> {
    if folder.size_of("postmaster.pid")?.is_some() {
        return Err(Error::new(
            ErrorKind::TargetNotEmpty,
            "A server is running in the target directory, or ended without cleaning up. Nothing was changed.",
        )
        .with_hint("Stop that server, or restore to another directory."));
    }
    let missing = || "it is not there".to_owned();
    let version = folder.read("PG_VERSION")?.ok_or_else(|| incomplete("PG_VERSION", missing()))?;
    let version = String::from_utf8_lossy(&version);
    if version.trim() != facts.major_version().to_string() {
        return Err(incomplete("PG_VERSION", format!("version {version}")));
    }
    // Without the label the server would start from the wrong place and silently lose data.
    let label = folder.size_of("backup_label")?.ok_or_else(|| incomplete("backup_label", missing()))?;
    if label == 0 {
        return Err(incomplete("backup_label", "empty".to_owned()));
    }
    for name in facts.segment_names() {
        let path = format!("pg_wal/{name}");
        let size = folder.size_of(&path)?.ok_or_else(|| incomplete(&path, missing()))?;
        if size != facts.log.segment_size_bytes.bytes() {
            return Err(incomplete(&path, format!("{size} bytes")));
        }
    }
    Ok(())
}

fn incomplete(file: &str, cause: String) -> Error {
    Error::new(
        ErrorKind::Damage,
        format!("The restored directory is not complete: {file} is missing or not as it should be. The backup itself was not touched."),
    )
    .with_hint("Restore again into an empty directory.")
    .with_source(cause)
}

fn damage_note(facts: &BackupFacts) -> Option<String> {
    let first = facts.damage.first()?;
    Some(format!(
        "The source was damaged before the backup: {} pages, the first is block {} of {}. Reading them fails as it did at the source.",
        facts.damage.len(),
        first.block,
        first.relation
    ))
}
