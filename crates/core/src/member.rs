//! Members: the files and directories a backup consists of.

use std::fmt;

use crate::{Error, ErrorKind, Result, limits};

/// A path inside a backup: raw bytes, relative, beginning with one of the four roots `data/`,
/// `tablespace/<id>/`, `wal/`, `meta/` (repository.md section 2.2). Holding one proves that it
/// cannot leave the directory it is joined to.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberPath(Vec<u8>);

impl MemberPath {
    /// Refuses absolute paths, `.` and `..`, empty components, NUL, unknown roots, and length
    /// over the limit (faults.md H01). The root itself (`data`) is a valid directory path.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let hostile = |what: &str| {
            Error::new(
                ErrorKind::SourceHostile,
                format!(
                    "A file name in the stream was refused: {what}. Nothing was written outside the backup."
                ),
            )
        };
        if bytes.len() > limits::MEMBER_PATH_BYTES_MAX {
            return Err(hostile("it is longer than 4096 bytes"));
        }
        if bytes.contains(&0) {
            return Err(hostile("it holds a NUL byte"));
        }
        let mut components = bytes.split(|b| *b == b'/');
        let root = components.next().unwrap_or_default();
        if ![&b"data"[..], b"tablespace", b"wal", b"meta"].contains(&root) {
            return Err(hostile("it does not stand under data, tablespace, wal or meta"));
        }
        for part in components {
            if part.is_empty() || part == b"." || part == b".." {
                return Err(hostile("it is absolute, or holds an empty, . or .. component"));
            }
        }
        Ok(Self(bytes.to_vec()))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The root word: `data`, `tablespace`, `wal` or `meta`.
    pub fn root(&self) -> &[u8] {
        self.0.split(|b| *b == b'/').next().unwrap_or_default()
    }

    /// What follows the root, empty for the root itself.
    pub fn below_root(&self) -> &[u8] {
        self.0.get(self.root().len() + 1..).unwrap_or_default()
    }
}

/// For people and logs: bytes that are not printable are escaped.
impl fmt::Display for MemberPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for MemberPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberKind {
    File,
    Directory,
}

/// How the parent backup helps to store a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dedupe {
    /// Compare with, and store deltas against, the same path of the parent.
    Parent,
    /// Written once (write-ahead log): no parent, no delta.
    Never,
}

/// A member as an engine announces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub path: MemberPath,
    pub kind: MemberKind,
    /// Announced size of a file in bytes, when the source says it before the content.
    pub size: Option<u64>,
    /// Permission bits (`0o7777`).
    pub mode: u32,
    /// Modification time, seconds since the epoch.
    pub mtime_s: i64,
    /// Size of the pages the file consists of, 0 when it has none.
    pub page_size: u32,
    pub dedupe: Dedupe,
}

#[cfg(test)]
mod tests {
    use super::MemberPath;

    #[test]
    fn h01_paths_that_leave_the_root_are_refused() {
        for bad in [
            &b"../x"[..],
            b"/etc/passwd",
            b"data/../x",
            b"data//x",
            b"data/./x",
            b"data/x/",
            b"",
            b"x",
            b"data/a\0b",
            b"database/x",
        ] {
            assert!(MemberPath::parse(bad).is_err(), "{:?}", bad.escape_ascii().to_string());
        }
        let long = [b"data/".as_slice(), &vec![b'x'; 4092]].concat();
        assert!(MemberPath::parse(&long).is_err());
        assert!(MemberPath::parse(&long[..4096]).is_ok());
    }

    #[test]
    fn b16_raw_bytes_are_kept() {
        let path = MemberPath::parse(b"data/base/\xff\xfe").unwrap();
        assert_eq!(path.as_bytes(), b"data/base/\xff\xfe");
        assert_eq!(path.root(), b"data");
        assert_eq!(path.below_root(), b"base/\xff\xfe");
    }
}
