//! The data directory that is being finished, with the modes that the server wants.

use strongroom_core::Result;
use strongroom_core::engine::RestoredTree;

use crate::facts::PostgresFacts;

/// The data directory.
pub(super) struct Folder<'a> {
    tree: &'a mut dyn RestoredTree,
    directory_mode: u32,
}

impl<'a> Folder<'a> {
    /// The server refuses a directory that others can read; a group may when it could at the source.
    pub(super) fn open(tree: &'a mut dyn RestoredTree, facts: &PostgresFacts) -> Result<Self> {
        let has_group = facts.data_directory_mode.ends_with("50");
        let directory_mode = if has_group { 0o750 } else { 0o700 };
        tree.set_mode(directory_mode)?;
        Ok(Self { tree, directory_mode })
    }

    /// Makes a directory, and those above it, unless it is there.
    pub(super) fn make_directory(&mut self, name: &str) -> Result<()> {
        for (at, _) in name.match_indices('/').chain([(name.len(), "")]) {
            self.tree.make_directory(&name[..at], self.directory_mode)?;
        }
        Ok(())
    }

    /// The group reads what it may list.
    pub(super) fn replace(&mut self, name: &str, content: &[u8]) -> Result<()> {
        self.tree.replace(name, (self.directory_mode & 0o640) | 0o600, content)
    }

    pub(super) fn size_of(&mut self, name: &str) -> Result<Option<u64>> {
        self.tree.size_of(name)
    }

    pub(super) fn read(&mut self, name: &str) -> Result<Option<Vec<u8>>> {
        self.tree.read(name)
    }

    pub(super) fn remove(&mut self, name: &str) -> Result<()> {
        self.tree.remove(name)
    }
}
