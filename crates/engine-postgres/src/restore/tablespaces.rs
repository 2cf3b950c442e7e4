//! Where tablespaces lie in the restored cluster. The server makes its links from the map at
//! its first start; the source's own places must never stand in it, or two servers would share
//! files.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use strongroom_core::{Error, ErrorKind, Result};

use super::files::Folder;
use crate::facts::PostgresFacts;

const MAP: &str = "tablespace_map";

/// Writes the map with the given directories, one for each tablespace of the backup.
pub(super) fn write_map(
    folder: &Folder<'_>,
    facts: &PostgresFacts,
    given: &BTreeMap<String, PathBuf>,
) -> Result<()> {
    let mut map = Vec::new();
    let mut taken = BTreeMap::new();
    for tablespace in &facts.tablespaces {
        let directory = given.get(&tablespace.id).ok_or_else(|| {
            refused(format!(
                "No directory was given for tablespace {} ({}).",
                tablespace.id, tablespace.source_path
            ))
        })?;
        check_directory(&tablespace.id, directory, facts)?;
        if let Some(other) = taken.insert(directory, &tablespace.id) {
            return Err(refused(format!(
                "Tablespaces {other} and {} were given the same directory.",
                tablespace.id
            )));
        }
        map.extend_from_slice(tablespace.id.as_bytes());
        map.push(b' ');
        map.extend_from_slice(&escape(directory.as_os_str().as_bytes()));
        map.push(b'\n');
    }
    folder.replace(MAP, &map)
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
