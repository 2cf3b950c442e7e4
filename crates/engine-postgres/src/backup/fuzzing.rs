//! What comes inside a copy.

use strongroom_core::Result;
use strongroom_core::engine::{BackupSink, MemberWriter, PatchWriter};
use strongroom_core::member::Member;

use super::base::TablespaceRow;
use super::block_list::BlockList;
use super::intake::{ClusterShape, ControlFile, Intake};
use super::manifest;
use super::wal::LogMessage;

pub(crate) use super::base::fuzzing::{base_backup, plain_copies, typed_copy};
pub(crate) use super::history::fuzzing::timeline_history;
pub(crate) use super::manifest::fuzzing::manifest_compare;

/// Takes everything and keeps nothing.
struct Void;

impl BackupSink for Void {
    fn open(&self, _member: Member) -> Result<Box<dyn MemberWriter + '_>> {
        Ok(Box::new(Void))
    }

    fn patch(&self, _member: Member, _kept: u64) -> Result<Box<dyn PatchWriter + '_>> {
        Ok(Box::new(Void))
    }
}

impl MemberWriter for Void {
    fn write(&mut self, _bytes: &[u8]) -> Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

impl PatchWriter for Void {
    fn write_at(&mut self, _offset: u64, _bytes: &[u8]) -> Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// An archive in pieces of any size; that it is taken must not depend on the pieces.
pub(crate) fn archive(bytes: &[u8]) -> bool {
    let Some((cut, archive)) = bytes.split_first() else { return false };
    let shape = ClusterShape { blocks_per_segment: 131_072, has_checksums: true, size_bytes_max: 1 << 40 };
    let rows = [TablespaceRow { id: 16_384, location: b"/t".to_vec() }];
    let name: &[u8] = if cut.is_multiple_of(2) { b"base.tar" } else { b"16384.tar" };
    let taken = |size: usize| {
        let mut intake = Intake::new(&Void, shape, &rows);
        intake.begin_archive(name).is_ok() && archive.chunks(size).all(|piece| intake.feed(piece).is_ok())
    };
    let is_taken = taken(1 << 20);
    assert_eq!(taken(usize::from(*cut) + 1), is_taken);
    is_taken
}

/// The list at the front of a file of changes, in pieces.
pub(crate) fn block_list(bytes: &[u8]) -> bool {
    let Some((cut, content)) = bytes.split_first() else { return false };
    let mut list = BlockList::new(content.len() as u64, 131_072);
    for mut piece in content.chunks(usize::from(*cut) + 1) {
        loop {
            match list.next(&mut piece) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return false,
            }
        }
    }
    assert!(list.blocks().len() * 4 <= content.len(), "more blocks than the list has room for");
    !list.blocks().is_empty()
}

pub(crate) fn control_file(bytes: &[u8]) -> bool {
    let identifier = bytes.first_chunk().map_or(0, |first| u64::from_le_bytes(*first));
    ControlFile::parse(bytes, identifier).is_ok()
}

pub(crate) fn log_message(bytes: &[u8]) -> bool {
    bytes.split_first().is_some_and(|(tag, body)| LogMessage::parse(*tag, body).is_ok())
}

/// A manifest is believed only when its own checksum, the last thing in it, is right.
pub(crate) fn manifest(bytes: &[u8]) -> bool {
    let mut pieces = bytes.chunks(1000);
    let outline = manifest::outline(1 << 20, |buffer| match pieces.next() {
        Some(piece) => {
            buffer.extend_from_slice(piece);
            Ok(true)
        }
        None => Ok(false),
    });
    if outline.is_ok() {
        assert!(bytes.windows(19).any(|window| window == b"\"Manifest-Checksum\""));
    }
    outline.is_ok()
}
