//! Leaves of files that may still be overwritten: they wait in a work file, a segment at a time.

use std::collections::HashMap;

use strongroom_core::Result;

use super::work_file::WorkFile;
use crate::SEGMENT_CHUNKS;
use crate::frame;
use crate::tree::{Leaf, Segment};

const MARK_BYTES: usize = SEGMENT_CHUNKS / 8;

/// Consecutive leaves of one file, and which of them a judge suspects.
#[derive(Default)]
pub(super) struct HeldSegment {
    leaves: Vec<Leaf>,
    suspects: Vec<u8>,
}

impl HeldSegment {
    /// The leaf at a place in the segment, and whether it is suspected.
    pub(super) fn at(&self, place: usize) -> Option<(&Leaf, bool)> {
        let is_suspect = self.suspects.get(place / 8).is_some_and(|byte| byte & (1 << (place % 8)) != 0);
        self.leaves.get(place).map(|leaf| (leaf, is_suspect))
    }

    fn push(&mut self, leaf: Leaf, is_suspect: bool) {
        let place = self.leaves.len();
        self.suspects.resize(MARK_BYTES, 0);
        self.suspects[place / 8] |= u8::from(is_suspect) << (place % 8);
        self.leaves.push(leaf);
    }
}

/// Of every open file: where its segments are in the work file. A few dozen bytes for each.
pub(super) struct HeldLeaves {
    file: WorkFile,
    /// Place and length of each segment, in order.
    stored: HashMap<u32, Vec<(u64, u32)>>,
    filling: HashMap<u32, HeldSegment>,
}

impl HeldLeaves {
    pub(super) fn new(file: WorkFile) -> Self {
        Self { file, stored: HashMap::new(), filling: HashMap::new() }
    }

    /// The next leaf of a file.
    pub(super) fn push(&mut self, member: u32, leaf: Leaf, is_suspect: bool) -> Result<()> {
        let segment = self.filling.entry(member).or_default();
        segment.push(leaf, is_suspect);
        if segment.leaves.len() == SEGMENT_CHUNKS { self.close(member) } else { Ok(()) }
    }

    /// What is there of the file is all, until somebody extends it.
    pub(super) fn close(&mut self, member: u32) -> Result<()> {
        let Some(HeldSegment { leaves, suspects }) = self.filling.remove(&member) else { return Ok(()) };
        let stored = self.stored.entry(member).or_default();
        let mut bytes = suspects;
        bytes.extend(Segment { index: stored.len() as u32, leaves }.write());
        stored.push((self.file.append(&bytes)?, bytes.len() as u32));
        Ok(())
    }

    /// Segment `index` of a file, empty behind its end.
    pub(super) fn segment(&self, member: u32, index: usize) -> Result<HeldSegment> {
        let Some((at, length)) = self.stored.get(&member).and_then(|stored| stored.get(index)) else {
            return Ok(HeldSegment::default());
        };
        let mut bytes = Vec::new();
        self.file.read(*at, *length as usize, &mut bytes)?;
        let (suspects, segment) = bytes.split_at(MARK_BYTES);
        let segment = Segment::parse(segment).map_err(frame::malformed("work file"))?;
        Ok(HeldSegment { leaves: segment.leaves, suspects: suspects.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use strongroom_core::time::Randomness;

    use super::*;
    use crate::tree::LeafBody;

    struct Zeroes;

    impl Randomness for Zeroes {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }

    #[test]
    fn leaves_of_files_that_come_mixed_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let mut held = HeldLeaves::new(WorkFile::create(folder.path(), &Zeroes).unwrap());
        let leaf = |number: usize| Leaf { plain_length: number as u32 + 1, body: LeafBody::Fill(3) };
        let count = SEGMENT_CHUNKS + 5;
        for number in 0..count {
            for member in [4, 9] {
                held.push(member, leaf(number), number % 3 == member as usize % 2).unwrap();
            }
        }
        held.close(4).unwrap();
        held.close(9).unwrap();
        for member in [4_u32, 9] {
            for number in 0..count {
                let segment = held.segment(member, number / SEGMENT_CHUNKS).unwrap();
                let (found, is_suspect) = segment.at(number % SEGMENT_CHUNKS).unwrap();
                assert_eq!((found, is_suspect), (&leaf(number), number % 3 == member as usize % 2));
            }
            assert!(held.segment(member, 1).unwrap().at(5).is_none());
            assert!(held.segment(member, 2).unwrap().at(0).is_none());
        }
        assert!(held.segment(5, 0).unwrap().at(0).is_none());
    }
}
