//! Makes a directory of restored files startable.
//!
//! Everything here may run again after it was cut short: each step leaves the directory either
//! as it was or as it must be. Names and their meaning are the server's own; see
//! `docs/formats/mysql-facts.md`.

mod holes;
mod keyring;
mod server;
mod settings;
mod start;
mod version;

use std::fs;
use std::path::Path;

use strongroom_core::engine::{BackupFacts, RestoreOrder, RestoredTree};
use strongroom_core::{Error, ErrorKind, Result};
use strongroom_host::{Directory, io_failed};

pub(crate) use self::keyring::{Program, Stage, keyring_of};
pub(crate) use self::server::find_mysqld;
use self::settings::OPTION_FILE;
pub(crate) use self::settings::{SOCKET_PATH_BYTES_MAX, must_be_the_same, system_files};
pub(crate) use self::start::{greets, reasons, start};
use crate::dump;
use crate::facts::MySqlFacts;

/// Nobody but the server's account, and its group as far as it can look.
const DIRECTORY_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o640;

/// The server wants its own schema to have a directory, although all tables of it are elsewhere.
const SYSTEM_SCHEMA: &str = "mysql";
/// Where the server looks, at its first start, for what a clone left to be done.
const CLONE_FOLDER: &str = "#clone";
/// With this one it makes the directories of schemas and the empty tables of other engines.
const STATUS_FIX: &str = "#clone/#status_fix";
/// The files that it would have to put in the place of others: there are none.
const REPLACE_FILES: &str = "#clone/#replace_files";
/// With this one it refuses to start.
const IN_PROGRESS: &str = "#clone/#status_in_progress";
/// Says who a server is; a copy must not say that it is the source. The server makes a new one.
const IDENTITY: &str = "auto.cnf";

const DICTIONARY: &str = "mysql.ibd";
const REDO_FOLDER: &str = "#innodb_redo";

/// Prepares the directory; answers with what a person should know.
pub(crate) fn finish(order: &RestoreOrder<'_>) -> Result<Vec<String>> {
    let facts = MySqlFacts::of(order.facts)?;
    let mut directory = Directory::open(order.target)?;
    check_not_running(order.target)?;
    check_files(&mut directory, &facts)?;
    check_log(order.target, &facts)?;
    let holes = holes::punch(order.target, &facts)?;
    let mut notes = prepare(&mut directory, &facts, Some(order.target), order.port)?;
    directory.close(&[SYSTEM_SCHEMA, CLONE_FOLDER])?;
    notes.extend(holes);
    notes.extend(notes_on(order.facts, &facts));
    Ok(notes)
}

/// The same for the files of an archive. Holes are lost in it: whoever unpacks it has files of the full
/// size, and the server takes them.
pub(crate) fn finish_archive(facts: &BackupFacts, tree: &mut dyn RestoredTree) -> Result<Vec<String>> {
    let own = MySqlFacts::of(facts)?;
    check_files(tree, &own)?;
    let mut notes = prepare(tree, &own, None, None)?;
    notes.extend(notes_on(facts, &own));
    Ok(notes)
}

fn prepare(
    tree: &mut dyn RestoredTree,
    facts: &MySqlFacts,
    target: Option<&Path>,
    port: Option<u16>,
) -> Result<Vec<String>> {
    tree.set_mode(DIRECTORY_MODE)?;
    tree.make_directory(SYSTEM_SCHEMA, DIRECTORY_MODE)?;
    tree.make_directory(CLONE_FOLDER, DIRECTORY_MODE)?;
    tree.replace(STATUS_FIX, FILE_MODE, b"")?;
    tree.replace(REPLACE_FILES, FILE_MODE, b"")?;
    tree.remove(IDENTITY)?;
    tree.replace(OPTION_FILE, FILE_MODE, settings::option_file(facts, port)?.as_bytes())?;
    let mut notes = settings::notes(facts);
    notes.extend(keyring::write(tree, facts, target)?);
    // Last: from here on it may be started.
    tree.remove(IN_PROGRESS)?;
    Ok(notes)
}

/// A server keeps its sockets and its pid file where it was told to; a clone has none of them.
fn check_not_running(target: &Path) -> Result<()> {
    let is_taken = [settings::PID_FILE, settings::SOCKET].iter().any(|name| target.join(name).exists());
    if is_taken {
        return Err(Error::new(
            ErrorKind::TargetNotEmpty,
            "A server is running in the target directory, or ended without cleaning up. Nothing was changed.",
        )
        .with_hint("Stop that server, or restore to another directory."));
    }
    Ok(())
}

/// The files that no server can do without must be there, whole pages of them.
fn check_files(tree: &mut dyn RestoredTree, facts: &MySqlFacts) -> Result<()> {
    let page = u64::from(facts.page_size_bytes);
    for name in system_files(facts).iter().map(String::as_str).chain([DICTIONARY]) {
        let size = tree.size_of(name)?.ok_or_else(|| incomplete(name, "it is not there"))?;
        if size == 0 || page == 0 || !size.is_multiple_of(page) {
            return Err(incomplete(name, &format!("it has {size} bytes")));
        }
    }
    Ok(())
}

/// A server that finds no log, or a piece of it, starts from the wrong place or not at all.
fn check_log(target: &Path, facts: &MySqlFacts) -> Result<()> {
    let folder = target.join(REDO_FOLDER);
    let page = u64::from(facts.page_size_bytes);
    let entries = fs::read_dir(&folder).map_err(|_| incomplete(REDO_FOLDER, "it is not there"))?;
    let mut count = 0;
    for entry in entries {
        let entry = entry.map_err(|error| io_failed(&folder, &error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let size = entry.metadata().map_err(|error| io_failed(&entry.path(), &error))?.len();
        if size == 0 || page == 0 || !size.is_multiple_of(page) {
            return Err(incomplete(&format!("{REDO_FOLDER}/{name}"), &format!("it has {size} bytes")));
        }
        count += 1;
    }
    if count == 0 { Err(incomplete(REDO_FOLDER, "it is empty")) } else { Ok(()) }
}

fn incomplete(file: &str, cause: &str) -> Error {
    Error::new(
        ErrorKind::Damage,
        format!("The restored directory is not complete: {file} is missing or not as it should be. The backup itself was not touched."),
    )
    .with_hint("Restore again into an empty directory.")
    .with_source(cause.to_owned())
}

fn notes_on(facts: &BackupFacts, own: &MySqlFacts) -> Vec<String> {
    let mut notes = Vec::new();
    notes.extend(dump::sentences(&own.tables_left_empty, own.tables_left_empty_unlisted));
    if let Some(first) = facts.damage.first() {
        notes.push(format!(
            "The source was damaged before the backup: {} pages, the first is page {} of {}. Reading them fails as it did at the source.",
            facts.damage.len(),
            first.block,
            first.relation
        ));
    }
    notes
}
