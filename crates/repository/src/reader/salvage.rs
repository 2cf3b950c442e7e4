//! Reading what can still be read of a damaged backup. Nothing that fails a check is handed on;
//! what cannot be read is told with its place, chunk by chunk.

use strongroom_core::{Error, ErrorKind, Result};

use super::backup::member_entry;
use super::chunks::ReadAhead;
use super::{BackupReader, ChunkReader, FrameBody, MemberEntry};
use crate::SEGMENT_SIZE_BYTES;
use crate::tree::{Entry, Leaf};

/// A run of bytes of a member that cannot be read.
#[derive(Debug)]
pub struct Lost {
    /// Offset in the member.
    pub offset: u64,
    pub length: u64,
    pub error: Error,
}

/// Members of a directory page that cannot be read: not even their names are known.
#[derive(Debug)]
pub struct LostPage {
    /// The path of the first of them.
    pub first_path: Vec<u8>,
    pub members: u32,
    pub error: Error,
}

impl BackupReader {
    /// As [`BackupReader::members`], past directory pages that are damaged.
    pub fn readable_members(
        &self,
        out: &mut dyn FnMut(MemberEntry) -> Result<()>,
        lost: &mut dyn FnMut(LostPage),
    ) -> Result<()> {
        for (number, start) in self.page_starts.iter().enumerate() {
            let page = match self.tree.page(number) {
                Ok(page) => page,
                Err(error) if error.kind() == ErrorKind::Damage => {
                    let page = &self.tree.root.pages[number];
                    lost(LostPage { first_path: page.first_path.clone(), members: page.members, error });
                    continue;
                }
                Err(error) => return Err(error),
            };
            for (at, entry) in page.entries.iter().enumerate() {
                out(member_entry(start + at as u64, entry))?;
            }
        }
        Ok(())
    }

    /// Reads one segment from an offset in its member on, past chunks that are damaged. Every byte
    /// is either given or told as lost, in order.
    pub fn salvage_segment(
        &self,
        (member, segment): (u64, u32),
        from: u64,
        out: &mut dyn FnMut(u64, Result<FrameBody, Lost>) -> Result<()>,
    ) -> Result<()> {
        let entry = self.entry(member)?;
        let start = u64::from(segment) * SEGMENT_SIZE_BYTES;
        let leaves = match self.leaves(&entry, segment) {
            Ok(leaves) => leaves,
            Err(error) if error.kind() == ErrorKind::Damage => {
                let end = entry.size.min(start + SEGMENT_SIZE_BYTES);
                let lost = Lost { offset: from, length: end.saturating_sub(from), error };
                return out(from, Err(lost));
            }
            Err(error) => return Err(error),
        };
        let mut reader = ChunkReader::new(self.lineage.shared.store.clone(), self.lineage.keys.clone());
        let mut offset = start;
        for leaf in &leaves {
            if offset >= from {
                out(offset, chunk(&mut reader, leaf, offset)?)?;
            }
            offset += u64::from(leaf.plain_length);
        }
        self.check_length(&entry, segment, offset - start)
    }

    fn check_length(&self, entry: &Entry, segment: u32, found: u64) -> Result<()> {
        let start = u64::from(segment) * SEGMENT_SIZE_BYTES;
        if found == entry.size.saturating_sub(start).min(SEGMENT_SIZE_BYTES) {
            return Ok(());
        }
        let verdict = crate::layout::verdict(self.lineage.id(), self.summary().attempt);
        Err(crate::frame::damage(&verdict, &format!("the member {} has another length", entry.path)))
    }
}

fn chunk(reader: &mut ChunkReader, leaf: &Leaf, offset: u64) -> Result<Result<FrameBody, Lost>> {
    match reader.chunk(leaf, &mut ReadAhead::new()) {
        Ok(bytes) => Ok(Ok(FrameBody::Data(bytes))),
        Err(error) if error.kind() == ErrorKind::Damage => {
            Ok(Err(Lost { offset, length: u64::from(leaf.plain_length), error }))
        }
        Err(error) => Err(error),
    }
}
