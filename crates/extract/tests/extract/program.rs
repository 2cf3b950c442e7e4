//! Running `strongroom-extract`, and a repository for it to read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use serde_json::Value;
use strongroom_repository::LocalStore;
use tempfile::TempDir;

use crate::room::{Members, Room};

/// A repository on disk, its recovery kit, and room for what is extracted.
pub(crate) struct Desk {
    pub(crate) folder: TempDir,
    pub(crate) room: Room,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let room = Room::new(Arc::new(LocalStore::open(&folder.path().join("repository")).unwrap()));
        let kit = format!("recovery kit\n\nRecovery key  {}\n\nKeep it safe.\n", room.key.to_text());
        std::fs::write(folder.path().join("kit.txt"), kit).unwrap();
        Self { folder, room }
    }

    pub(crate) fn repository(&self) -> PathBuf {
        self.folder.path().join("repository")
    }

    pub(crate) fn target(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_strongroom-extract"))
            .arg("--repository")
            .arg(self.repository())
            .arg("--recovery-kit")
            .arg(self.folder.path().join("kit.txt"))
            .args(arguments)
            .output()
            .unwrap()
    }

    /// As [`Desk::run`], with the exit code that must come.
    pub(crate) fn answered(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        let talk = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {talk}");
        format!("{}{talk}", String::from_utf8_lossy(&output.stdout))
    }

    pub(crate) fn json(&self, arguments: &[&str], code: i32) -> Value {
        let output = self.run(&[arguments, &["--output", "json"]].concat());
        let talk = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {talk}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Every object of the repository with its bytes.
    pub(crate) fn objects(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        files(&self.repository())
    }
}

/// Every file below a directory, by its relative path.
pub(crate) fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut open) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// What a restore writes of the members: `data/` as it is, `wal/` into its directory.
pub(crate) fn written(members: &Members) -> BTreeMap<PathBuf, Vec<u8>> {
    use std::os::unix::ffi::OsStrExt;
    let place = |path: &[u8]| -> Option<Vec<u8>> {
        let wal = path.strip_prefix(b"wal/").map(|below| [b"pg_wal/", below].concat());
        wal.or_else(|| path.strip_prefix(b"data/").map(<[u8]>::to_vec))
    };
    let path = |bytes: Vec<u8>| PathBuf::from(std::ffi::OsStr::from_bytes(&bytes));
    members.iter().filter_map(|(name, content)| Some((path(place(name)?), content.clone()))).collect()
}

/// Compares without printing megabytes.
pub(crate) fn assert_same(
    found: &BTreeMap<PathBuf, Vec<u8>>,
    wanted: &BTreeMap<PathBuf, Vec<u8>>,
    what: &str,
) {
    assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>(), "{what}");
    for (path, content) in wanted {
        assert!(found[path] == *content, "{what}: {} differs", path.display());
    }
}
