//! Where tablespaces lie in the restored cluster. The server makes its links from the map at
//! its first start; the source's own places must never stand in it, or two servers would share
//! files.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use strongroom_core::{Error, ErrorKind, Result};

use crate::facts::{PostgresFacts, TablespaceFact};

pub(super) const MAP: &str = "tablespace_map";

/// The map with the given directories, one for each tablespace of the backup.
pub(super) fn map(facts: &PostgresFacts, given: &BTreeMap<String, PathBuf>) -> Result<Vec<u8>> {
    let mut map = Vec::new();
    let mut taken = BTreeMap::new();
    for tablespace in &facts.tablespaces {
        let directory = given_to(tablespace, given)?;
        check_directory(&tablespace.id, directory, facts)?;
        if let Some(other) = taken.insert(directory, &tablespace.id) {
            return Err(refused(format!(
                "Tablespaces {other} and {} were given the same directory.",
                tablespace.id
            )));
        }
        push_entry(&mut map, &tablespace.id, directory.as_os_str().as_bytes());
    }
    Ok(map)
}

/// The map with directories below the data directory. The server makes each link as the map says,
/// and it stands in `pg_tblspc`: one step up is the data directory, wherever it is.
pub(super) fn relative_map(facts: &PostgresFacts, given: &BTreeMap<String, PathBuf>) -> Result<Vec<u8>> {
    let mut map = Vec::new();
    for tablespace in &facts.tablespaces {
        let directory = Path::new("..").join(given_to(tablespace, given)?);
        push_entry(&mut map, &tablespace.id, directory.as_os_str().as_bytes());
    }
    Ok(map)
}

/// How tablespaces leave the data directory: tools that copy a server want to find them outside.
pub(super) fn note(facts: &PostgresFacts, given: &BTreeMap<String, PathBuf>) -> Option<String> {
    let first = facts.tablespaces.first()?;
    let place = given.get(&first.id)?.display();
    Some(format!(
        "Tablespaces lie below the data directory and the server finds them there. Before this copy takes over \
         from the source, move each to a place of its own. Before the first start, that is: mv {place} /new/place, \
         and the line `{} /new/place` in {MAP}. Later, with the server stopped: mv {place} /new/place && \
         ln -sfn /new/place pg_tblspc/{}. At the source they were: {}.",
        first.id,
        first.id,
        facts
            .tablespaces
            .iter()
            .map(|space| format!("{} {}", space.id, space.source_path))
            .collect::<Vec<_>>()
            .join(", ")
    ))
}

fn given_to<'a>(tablespace: &TablespaceFact, given: &'a BTreeMap<String, PathBuf>) -> Result<&'a PathBuf> {
    given.get(&tablespace.id).ok_or_else(|| {
        refused(format!(
            "No directory was given for tablespace {} ({}).",
            tablespace.id, tablespace.source_path
        ))
    })
}

fn push_entry(map: &mut Vec<u8>, id: &str, directory: &[u8]) {
    map.extend_from_slice(id.as_bytes());
    map.push(b' ');
    map.extend_from_slice(&escape(directory));
    map.push(b'\n');
}

/// The directory must be usable by the server and hold the tablespace's files.
fn check_directory(id: &str, directory: &Path, facts: &PostgresFacts) -> Result<()> {
    if !directory.is_absolute() {
        return Err(refused(format!("The directory of tablespace {id} must be an absolute path.")));
    }
    let version = format!("PG_{}_{}", facts.major_version(), facts.catalog_version);
    if !directory.join(&version).is_dir() {
        return Err(refused(format!(
            "The directory of tablespace {id} does not hold its files ({version})."
        )));
    }
    Ok(())
}

/// Line ends and backslashes would otherwise end the entry.
fn escape(path: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(path.len());
    for byte in path {
        if matches!(byte, b'\n' | b'\r' | b'\\') {
            escaped.push(b'\\');
        }
        escaped.push(*byte);
    }
    escaped
}

fn refused(what: String) -> Error {
    Error::new(ErrorKind::Parameter(strongroom_core::Field::Other), what)
        .with_hint("Give every tablespace of the backup an empty directory of its own.")
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn b17_paths_with_line_ends_stay_one_entry() {
        assert_eq!(escape(b"/a b/c\\d\ne\r"), b"/a b/c\\\\d\\\ne\\\r");
    }
}
