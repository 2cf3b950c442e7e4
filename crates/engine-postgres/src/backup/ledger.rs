//! The book of everything that came: each path once, with size and checksum, to be compared
//! with the server's manifest.

use std::collections::HashMap;

use strongroom_core::{Error, ErrorKind, Result, Retry, limits};

use crate::fault::hostile;

/// What came under a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrival {
    Directory,
    File { size: u64, crc32c: u32 },
}

/// Paths relative to the data directory, tablespaces under `pg_tblspc/<id>/`.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    arrivals: HashMap<Box<[u8]>, Arrival>,
    entered: u64,
    files: u64,
}

impl Ledger {
    /// Enters a path that begins to arrive; a second time is refused (faults.md H03).
    pub(super) fn enter(&mut self, path: &[u8], is_directory: bool) -> Result<()> {
        if self.entered >= limits::MEMBERS_MAX {
            return Err(hostile(format!("more than {} files", limits::MEMBERS_MAX)));
        }
        self.entered += 1;
        let arrival = if is_directory { Arrival::Directory } else { Arrival::File { size: 0, crc32c: 0 } };
        self.files += u64::from(!is_directory);
        match self.arrivals.insert(path.into(), arrival) {
            None => Ok(()),
            Some(_) => Err(hostile(format!("the file {} twice", path.escape_ascii()))),
        }
    }

    /// Whether this path has begun to arrive.
    pub(super) fn holds(&self, path: &[u8]) -> bool {
        self.arrivals.contains_key(path)
    }

    /// Notes what a file turned out to be.
    pub(super) fn complete(&mut self, path: &[u8], size: u64, crc32c: u32) {
        self.arrivals.insert(path.into(), Arrival::File { size, crc32c });
    }

    /// Files that came, for limits that depend on it.
    pub(super) fn file_count(&self) -> u64 {
        self.files
    }

    /// Ticks a file of the manifest off.
    pub(super) fn tick_off(&mut self, path: &[u8], size: u64, crc32c: u32) -> Result<()> {
        let shown = path.escape_ascii();
        match self.arrivals.remove(path) {
            Some(Arrival::File { size: came, crc32c: sum }) if came == size && sum == crc32c => Ok(()),
            Some(Arrival::File { size: came, .. }) if came != size => {
                Err(differs(&format!("{shown} has {size} bytes in the manifest, and {came} came")))
            }
            Some(Arrival::File { .. }) => {
                Err(differs(&format!("the content of {shown} has another checksum")))
            }
            Some(Arrival::Directory) => {
                Err(differs(&format!("{shown} is a file in the manifest, and a directory came")))
            }
            None => Err(differs(&format!("{shown} is in the manifest, and did not come"))),
        }
    }

    /// Whether every file that came was ticked off.
    pub(super) fn check_all_ticked_off(&self) -> Result<()> {
        let unlisted = self.arrivals.iter().find(|(_, arrival)| matches!(arrival, Arrival::File { .. }));
        match unlisted {
            None => Ok(()),
            Some((path, _)) => {
                Err(differs(&format!("{} came, and is not in the manifest", path.escape_ascii())))
            }
        }
    }
}

/// Either the line mangled the stream or the server told two stories. The copy is not usable;
/// the next one may be.
fn differs(what: &str) -> Error {
    Error::new(
        ErrorKind::SourceHostile,
        format!("What the source sent is not what its manifest says: {what}. This copy is void."),
    )
    .with_retry(Retry::Later)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.enter(b"base", true).unwrap();
        ledger.enter(b"base/1", false).unwrap();
        ledger.complete(b"base/1", 10, 99);
        ledger
    }

    #[test]
    fn both_sides_must_agree() {
        assert!(ledger().tick_off(b"base/1", 10, 99).is_ok());
        assert!(ledger().tick_off(b"base/1", 11, 99).unwrap_err().public().contains("10 came"));
        assert!(ledger().tick_off(b"base/1", 10, 98).unwrap_err().public().contains("checksum"));
        assert!(ledger().tick_off(b"base/2", 10, 99).unwrap_err().public().contains("did not come"));
        assert!(ledger().tick_off(b"base", 0, 0).is_err());
        assert!(ledger().check_all_ticked_off().unwrap_err().public().contains("base/1 came"));
        let mut complete = ledger();
        complete.tick_off(b"base/1", 10, 99).unwrap();
        assert!(complete.check_all_ticked_off().is_ok());
        assert!(complete.tick_off(b"base/1", 10, 99).is_err());
    }

    #[test]
    fn h03_files_without_an_end_are_given_up() {
        let mut ledger = Ledger { entered: limits::MEMBERS_MAX - 1, ..Ledger::default() };
        ledger.enter(b"base/last", false).unwrap();
        assert!(ledger.enter(b"base/beyond", false).unwrap_err().public().contains("16000000"));
    }

    #[test]
    fn h03_a_name_comes_once() {
        assert!(ledger().enter(b"base/1", false).is_err());
        assert!(ledger().enter(b"base", false).is_err());
    }
}
