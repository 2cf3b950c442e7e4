//! What comes inside a copy.

use strongroom_core::Result;
use strongroom_core::engine::{BackupSink, MemberWriter, PatchWriter};
use strongroom_core::member::Member;

use super::base::TablespaceRow;
use super::block_list::BlockList;
use super::intake::{ClusterShape, ControlFile, Intake};
use super::manifest;
use super::wal::LogMessage;

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
pub(crate) fn archive(bytes: &[u8]) {
    let Some((cut, archive)) = bytes.split_first() else { return };
    let shape = ClusterShape { blocks_per_segment: 131_072, has_checksums: true, size_bytes_max: 1 << 40 };
    let rows = [TablespaceRow { id: 16_384, location: b"/t".to_vec() }];
    let name: &[u8] = if cut.is_multiple_of(2) { b"base.tar" } else { b"16384.tar" };
    let taken = |size: usize| {
        let mut intake = Intake::new(&Void, shape, &rows);
        intake.begin_archive(name).is_ok() && archive.chunks(size).all(|piece| intake.feed(piece).is_ok())
    };
    assert_eq!(taken(usize::from(*cut) + 1), taken(1 << 20));
}

/// The list at the front of a file of changes, in pieces.
pub(crate) fn block_list(bytes: &[u8]) {
    let Some((cut, content)) = bytes.split_first() else { return };
    let mut list = BlockList::new(content.len() as u64, 131_072);
    for mut piece in content.chunks(usize::from(*cut) + 1) {
        loop {
            match list.next(&mut piece) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
    assert!(list.blocks().len() * 4 <= content.len(), "more blocks than the list has room for");
}

pub(crate) fn control_file(bytes: &[u8]) {
    let identifier = bytes.first_chunk().map_or(0, |first| u64::from_le_bytes(*first));
    let _ = ControlFile::parse(bytes, identifier);
}

pub(crate) fn log_message(bytes: &[u8]) {
    if let Some((tag, body)) = bytes.split_first() {
        let _ = LogMessage::parse(*tag, body);
    }
}

/// A manifest is believed only when its own checksum, the last thing in it, is right.
pub(crate) fn manifest(bytes: &[u8]) {
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
}
