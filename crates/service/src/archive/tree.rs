//! What an engine changes about the files of a backup that becomes an archive: small files of ours,
//! and names of members that are left out.

use std::collections::{BTreeMap, BTreeSet};

use strongroom_core::engine::RestoredTree;
use strongroom_core::member::{MemberKind, MemberPath};
use strongroom_core::{Error, ErrorKind, Result};
use strongroom_repository::{BackupReader, FrameBody, MemberEntry};

/// Files that are looked into are configuration and labels.
const READ_BYTES_MAX: u64 = 4 << 20;

/// A file or a directory that no member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) mode: u32,
    /// Nothing for a directory.
    pub(super) content: Option<Vec<u8>>,
}

/// The tree as it will be: members, without those that are left out, and what is our own.
pub(super) struct ArchiveTree<'a> {
    reader: &'a BackupReader,
    pub(super) mode: u32,
    pub(super) own: BTreeMap<String, Own>,
    /// Names of members that were replaced or removed.
    pub(super) left_out: BTreeSet<String>,
}

impl<'a> ArchiveTree<'a> {
    pub(super) fn new(reader: &'a BackupReader) -> Self {
        Self { reader, mode: 0o700, own: BTreeMap::new(), left_out: BTreeSet::new() }
    }

    /// The member that a name in the data directory stands for.
    fn member(&self, name: &str) -> Result<Option<MemberEntry>> {
        if self.left_out.contains(name) {
            return Ok(None);
        }
        let paths =
            [name.strip_prefix("pg_wal/").map(|below| format!("wal/{below}")), Some(format!("data/{name}"))];
        for path in paths.into_iter().flatten() {
            if let Some(found) = self.reader.find(&MemberPath::parse(path.as_bytes())?)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn content(&self, member: &MemberEntry) -> Result<Vec<u8>> {
        if member.size > READ_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::NotSupported,
                format!("The file {} of the backup is too large to be looked into.", member.path),
            )
            .with_hint("`strongroom restore` writes the backup where it runs"));
        }
        let mut content = Vec::new();
        let segments: Vec<_> = (0..member.segments).map(|segment| (member.index, segment)).collect();
        self.reader.read_segments(&segments, &mut |frame| {
            match frame.body {
                FrameBody::Data(data) => content.extend_from_slice(&data),
                FrameBody::Fill { byte, length } => content.resize(content.len() + length as usize, byte),
            }
            Ok(())
        })?;
        Ok(content)
    }
}

impl RestoredTree for ArchiveTree<'_> {
    fn size_of(&mut self, name: &str) -> Result<Option<u64>> {
        if let Some(own) = self.own.get(name) {
            return Ok(own.content.as_ref().map(|content| content.len() as u64));
        }
        let member = self.member(name)?;
        Ok(member.filter(|member| member.kind == MemberKind::File).map(|member| member.size))
    }

    fn read(&mut self, name: &str) -> Result<Option<Vec<u8>>> {
        if let Some(own) = self.own.get(name) {
            return Ok(own.content.clone());
        }
        match self.member(name)? {
            Some(member) if member.kind == MemberKind::File => self.content(&member).map(Some),
            _ => Ok(None),
        }
    }

    fn replace(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.remove(name)?;
        self.own.insert(name.to_owned(), Own { mode, content: Some(content.to_owned()) });
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<()> {
        self.own.remove(name);
        self.left_out.insert(name.to_owned());
        Ok(())
    }

    fn make_directory(&mut self, name: &str, mode: u32) -> Result<()> {
        if self.member(name)?.is_none() {
            self.own.entry(name.to_owned()).or_insert(Own { mode, content: None });
        }
        Ok(())
    }

    fn set_mode(&mut self, mode: u32) -> Result<()> {
        self.mode = mode;
        Ok(())
    }
}
