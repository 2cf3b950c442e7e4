//! What came over files that were read already: bytes in one work file, in the order in which they
//! came, and beside them an index that is sorted on disk, so that no number of pages costs memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::Path;

use strongroom_core::Result;
use strongroom_core::time::Randomness;

use super::work_file::WorkFile;
use crate::CHUNK_SIZE_BYTES;
use crate::binary::{Cursor, Parsed, Put};
use crate::frame;

/// Entries sorted in memory at once, 6 MiB of them.
const RUN_ENTRIES: usize = 1 << 18;
/// Entries of a run that are in memory while runs are merged.
const BLOCK_ENTRIES: usize = 512;
const ENTRY_BYTES: usize = 24;

/// Bytes for one chunk of one file. Sorted by the chunk, then by when they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Overwritten {
    pub(super) member: u32,
    pub(super) chunk: u32,
    /// Where they are in the work file; later ones are further behind.
    at: u64,
    /// Where they go in the chunk.
    pub(super) start: u32,
    pub(super) length: u32,
}

impl Overwritten {
    fn write(&self, out: &mut Vec<u8>) {
        out.put_u32(self.member);
        out.put_u32(self.chunk);
        out.put_u64(self.at);
        out.put_u32(self.start);
        out.put_u32(self.length);
    }

    fn parse(cursor: &mut Cursor<'_>) -> Parsed<Self> {
        Ok(Self {
            member: cursor.u32()?,
            chunk: cursor.u32()?,
            at: cursor.u64()?,
            start: cursor.u32()?,
            length: cursor.u32()?,
        })
    }
}

/// A sorted part of the index.
struct Run {
    at: u64,
    entries: usize,
}

pub(super) struct PageSpool {
    pages: WorkFile,
    index: WorkFile,
    recent: Vec<Overwritten>,
    runs: Vec<Run>,
    run_entries: usize,
}

impl PageSpool {
    pub(super) fn create(directory: &Path, random: &dyn Randomness) -> Result<Self> {
        Ok(Self {
            pages: WorkFile::create(directory, random)?,
            index: WorkFile::create(directory, random)?,
            recent: Vec::new(),
            runs: Vec::new(),
            run_entries: RUN_ENTRIES,
        })
    }

    pub(super) fn push(&mut self, member: u32, mut offset: u64, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let start = (offset % CHUNK_SIZE_BYTES as u64) as usize;
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_SIZE_BYTES - start));
            let chunk = (offset / CHUNK_SIZE_BYTES as u64) as u32;
            let at = self.pages.append(now)?;
            let (start, length) = (start as u32, now.len() as u32);
            self.recent.push(Overwritten { member, chunk, at, start, length });
            offset += now.len() as u64;
            bytes = later;
            if self.recent.len() >= self.run_entries {
                self.store_run()?;
            }
        }
        Ok(())
    }

    fn store_run(&mut self) -> Result<()> {
        self.recent.sort_unstable();
        let mut first = None;
        for block in self.recent.chunks(BLOCK_ENTRIES) {
            let mut bytes = Vec::with_capacity(block.len() * ENTRY_BYTES);
            for entry in block {
                entry.write(&mut bytes);
            }
            let at = self.index.append(&bytes)?;
            first.get_or_insert(at);
        }
        if let Some(at) = first {
            self.runs.push(Run { at, entries: self.recent.len() });
        }
        self.recent.clear();
        Ok(())
    }

    pub(super) fn sorted(mut self) -> Result<SortedPages> {
        self.store_run()?;
        let mut sorted = SortedPages {
            pages: self.pages,
            index: self.index,
            cursors: Vec::with_capacity(self.runs.len()),
            heads: BinaryHeap::with_capacity(self.runs.len()),
        };
        for Run { at, entries } in self.runs {
            sorted.cursors.push(RunCursor { at, entries, block: Vec::new() });
            sorted.advance(sorted.cursors.len() - 1)?;
        }
        Ok(sorted)
    }
}

/// A run that is being read.
struct RunCursor {
    /// The next block, and what is left from there on.
    at: u64,
    entries: usize,
    /// Entries of the block before, the next one last.
    block: Vec<Overwritten>,
}

/// Everything that came, file by file and chunk by chunk.
pub(super) struct SortedPages {
    pages: WorkFile,
    index: WorkFile,
    cursors: Vec<RunCursor>,
    heads: BinaryHeap<Reverse<(Overwritten, usize)>>,
}

impl SortedPages {
    /// Puts the next entry of a run among the heads.
    fn advance(&mut self, run: usize) -> Result<()> {
        let cursor = &mut self.cursors[run];
        if cursor.block.is_empty() && cursor.entries > 0 {
            let count = cursor.entries.min(BLOCK_ENTRIES);
            let mut bytes = Vec::new();
            self.index.read(cursor.at, count * ENTRY_BYTES, &mut bytes)?;
            let mut reader = Cursor::new(&bytes);
            for _ in 0..count {
                let entry = Overwritten::parse(&mut reader).map_err(frame::malformed("work file"))?;
                cursor.block.push(entry);
            }
            cursor.block.reverse();
            cursor.at += WorkFile::stored_length(bytes.len());
            cursor.entries -= count;
        }
        if let Some(entry) = cursor.block.pop() {
            self.heads.push(Reverse((entry, run)));
        }
        Ok(())
    }

    fn pop(&mut self) -> Result<Option<Overwritten>> {
        let Some(Reverse((entry, run))) = self.heads.pop() else { return Ok(None) };
        self.advance(run)?;
        Ok(Some(entry))
    }

    /// Leaves out what is for files before this one: they are gone.
    pub(super) fn skip_before(&mut self, member: u32) -> Result<()> {
        while self.heads.peek().is_some_and(|Reverse((head, _))| head.member < member) {
            self.pop()?;
        }
        Ok(())
    }

    /// Whether something came over this chunk. Chunks are asked for in ascending order.
    pub(super) fn touches(&self, member: u32, chunk: usize) -> bool {
        self.heads
            .peek()
            .is_some_and(|Reverse((head, _))| (head.member, head.chunk as usize) == (member, chunk))
    }

    /// What came next over this chunk, the oldest first; the bytes are put into `buffer`.
    pub(super) fn next_of(
        &mut self,
        member: u32,
        chunk: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Overwritten>> {
        if !self.touches(member, chunk) {
            return Ok(None);
        }
        let entry = self.pop()?;
        if let Some(entry) = &entry {
            self.pages.read(entry.at, entry.length as usize, buffer)?;
        }
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Zeroes;

    impl Randomness for Zeroes {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn however_many_runs_there_are_the_last_bytes_win(
            writes in prop::collection::vec((0_u32..4, 0_usize..400_000, 1_usize..9_000, any::<u8>()), 0..200),
            run_entries in 1_usize..40,
            gone in 0_u32..4,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut spool = PageSpool::create(folder.path(), &Zeroes).unwrap();
            spool.run_entries = run_entries;
            let mut model = vec![vec![0_u8; 4 * CHUNK_SIZE_BYTES]; 4];
            for (member, offset, length, byte) in &writes {
                spool.push(*member, *offset as u64, &vec![*byte; *length]).unwrap();
                model[*member as usize][*offset..offset + length].fill(*byte);
            }
            let (mut sorted, mut buffer) = (spool.sorted().unwrap(), Vec::new());
            for member in (0..4).filter(|member| *member != gone) {
                sorted.skip_before(member).unwrap();
                let mut found = vec![0_u8; 4 * CHUNK_SIZE_BYTES];
                for chunk in 0..4 {
                    while let Some(entry) = sorted.next_of(member, chunk, &mut buffer).unwrap() {
                        let start = chunk * CHUNK_SIZE_BYTES + entry.start as usize;
                        found[start..start + buffer.len()].copy_from_slice(&buffer);
                    }
                }
                prop_assert!(found == model[member as usize]);
            }
            sorted.skip_before(u32::MAX).unwrap();
            prop_assert!(sorted.heads.is_empty());
        }
    }
}
