//! A member that is the parent's with changes (repository.md section 4.4 of the design): chunks
//! that nothing touched are taken over without reading them, the others are put together from
//! the parent's plaintext and what came.

use std::sync::Arc;

use strongroom_core::engine::PatchWriter;
use strongroom_core::member::{Dedupe, Member, MemberKind};
use strongroom_core::{Error, Result};

use super::member::{check_claim, unfinished, wrong_size};
use super::parent::{ParentMember, distrust, misfit};
use super::pipeline::{Copied, MemberEnd, Parent, Shared, Work};
use crate::tree::{Leaf, LeafBody, NodeRef};
use crate::{CHUNK_SIZE_BYTES, SEGMENT_CHUNKS};

/// What of a chunk came, and how far the rest of it is the parent's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Overlay {
    /// Ranges that were written, ascending and apart.
    written: Vec<(usize, usize)>,
    /// Bytes of the chunk that the parent has a say in.
    kept: usize,
}

impl Overlay {
    /// Nothing was written yet; `kept` bytes are somebody else's until then.
    pub(super) fn over(kept: usize) -> Self {
        Self { written: Vec::new(), kept }
    }

    /// Notes a range, wherever it lies.
    pub(super) fn add(&mut self, start: usize, end: usize) {
        // Those before this one end before it begins, those from the other on begin behind it.
        let from = self.written.partition_point(|(_, other)| *other < start);
        let to = self.written.partition_point(|(other, _)| *other <= end);
        let joined = self
            .written
            .drain(from..to)
            .fold((start, end), |joined, other| (joined.0.min(other.0), joined.1.max(other.1)));
        self.written.insert(from, joined);
    }

    /// Whether some byte is the parent's.
    pub(crate) fn needs_parent(&self) -> bool {
        self.gaps(self.kept).next().is_some()
    }

    /// Puts the parent's bytes where nothing was written. All other bytes are there already, and
    /// those of nobody are zero.
    pub(crate) fn fill_from(&self, parent: &[u8], chunk: &mut [u8]) {
        for (start, end) in self.gaps(self.kept.min(parent.len()).min(chunk.len())) {
            chunk[start..end].copy_from_slice(&parent[start..end]);
        }
    }

    /// Ranges below `limit` in which nothing was written.
    fn gaps(&self, limit: usize) -> impl Iterator<Item = (usize, usize)> {
        let starts = std::iter::once(0).chain(self.written.iter().map(|(_, end)| *end));
        let ends = self.written.iter().map(|(start, _)| *start).chain(std::iter::once(limit));
        starts.zip(ends).map(move |(start, end)| (start, end.min(limit))).filter(|(start, end)| start < end)
    }
}

/// A chunk that is being put together.
struct OpenChunk {
    number: usize,
    bytes: Vec<u8>,
    overlay: Overlay,
}

/// One open member.
pub(super) struct FilePatcher {
    shared: Arc<Shared>,
    number: u32,
    member: Member,
    size: u64,
    kept: u64,
    parent: ParentMember,
    /// The first chunk that was not handed on yet.
    next: usize,
    open: Option<OpenChunk>,
    /// Behind the last byte that came.
    position: u64,
    is_finished: bool,
}

impl FilePatcher {
    pub(super) fn open(shared: Arc<Shared>, member: Member, kept: u64) -> Result<Self> {
        shared.check()?;
        check_claim(&member)?;
        let (Some(size), Dedupe::Parent, MemberKind::File) = (member.size, member.dedupe, member.kind) else {
            return Err(Error::internal("only a file of known size can be patched"));
        };
        let Some(tree) = shared.parent.clone() else {
            return Err(misfit(&shared, "there is no earlier backup"));
        };
        let entry = tree.find(&member.path).map_err(|error| distrust(&shared, error))?;
        let Some(entry) = entry.filter(|entry| entry.kind() == MemberKind::File) else {
            let reason =
                format!("the earlier backup has no file {}, of which only changes came", member.path);
            return Err(misfit(&shared, &reason));
        };
        let parent = ParentMember::new(tree, entry);
        let number = shared.number_member();
        let (next, open, position, is_finished) = (0, None, 0, false);
        Ok(Self { shared, number, member, size, kept, parent, next, open, position, is_finished })
    }

    fn chunk_count(&self) -> usize {
        self.size.div_ceil(CHUNK_SIZE_BYTES as u64) as usize
    }

    fn start_of(number: usize) -> u64 {
        number as u64 * CHUNK_SIZE_BYTES as u64
    }

    /// Bytes of chunk `number` in the file as it will be.
    fn length_of(&self, number: usize) -> usize {
        (self.size - Self::start_of(number)).min(CHUNK_SIZE_BYTES as u64) as usize
    }

    /// Bytes of chunk `number` that are the parent's unless they are written.
    fn kept_of(&self, number: usize) -> usize {
        self.kept.saturating_sub(Self::start_of(number)).min(self.length_of(number) as u64) as usize
    }

    /// The chunk that `offset` lies in, begun when need be.
    fn chunk_at(&mut self, offset: u64) -> Result<&mut OpenChunk> {
        let number = (offset / CHUNK_SIZE_BYTES as u64) as usize;
        if self.open.as_ref().is_none_or(|open| open.number != number) {
            self.submit_open()?;
            self.take_over_until(number)?;
            self.open = Some(self.begin_chunk(number)?);
        }
        Ok(self.open.as_mut().expect("it was opened just now"))
    }

    fn begin_chunk(&self, number: usize) -> Result<OpenChunk> {
        let mut bytes = self.shared.buffer()?;
        bytes.resize(self.length_of(number), 0);
        let overlay = Overlay::over(self.kept_of(number));
        Ok(OpenChunk { number, bytes, overlay })
    }

    fn submit_open(&mut self) -> Result<()> {
        let Some(OpenChunk { number, bytes, overlay }) = self.open.take() else { return Ok(()) };
        let leaf = self.parent.leaf(number).map_err(|error| distrust(&self.shared, error))?;
        let parent = Parent { leaf, segment: self.parent.segment_node(number / SEGMENT_CHUNKS) };
        self.next = number + 1;
        self.shared.submit_chunk(self.number, bytes, parent, Work::Patched(overlay))
    }

    /// Hands on all chunks before `end`, in which nothing was written.
    fn take_over_until(&mut self, end: usize) -> Result<()> {
        while self.next < end {
            self.shared.check()?;
            let index = self.next / SEGMENT_CHUNKS;
            let segment_end = ((index + 1) * SEGMENT_CHUNKS).min(self.chunk_count());
            if self.next.is_multiple_of(SEGMENT_CHUNKS)
                && segment_end <= end
                && let Some((node, leaves)) = self.whole_segment(index, segment_end - self.next)?
            {
                self.next = segment_end;
                self.shared.submit_copied(self.number, Copied { leaves, whole: Some(node), within: None })?;
                continue;
            }
            self.take_over_run(segment_end.min(end))?;
        }
        Ok(())
    }

    /// A segment of the parent that is the same here.
    fn whole_segment(&mut self, index: usize, count: usize) -> Result<Option<(NodeRef, Vec<Leaf>)>> {
        let first = index * SEGMENT_CHUNKS;
        let Some(node) = self.parent.segment_node(index) else { return Ok(None) };
        let segment = self.parent.load(index).map_err(|error| distrust(&self.shared, error))?;
        let leaves = segment.map(|segment| segment.leaves.clone()).unwrap_or_default();
        let is_same = leaves.len() == count
            && leaves.iter().zip(first..).all(|(leaf, number)| self.is_untouched(leaf, number));
        Ok(is_same.then_some((node, leaves)))
    }

    fn is_untouched(&self, leaf: &Leaf, number: usize) -> bool {
        let length = self.length_of(number);
        leaf.plain_length as usize == length && self.kept_of(number) == length
    }

    /// Hands on chunks before `end`, all of one segment.
    fn take_over_run(&mut self, end: usize) -> Result<()> {
        let within = self.parent.segment_node(self.next / SEGMENT_CHUNKS);
        let mut leaves = Vec::new();
        while self.next < end {
            let number = self.next;
            let leaf = self.parent.leaf(number).map_err(|error| distrust(&self.shared, error))?;
            let length = self.length_of(number);
            match leaf {
                Some(leaf) if self.is_untouched(&leaf, number) => leaves.push(leaf),
                Some(_) if self.kept_of(number) > 0 => {
                    self.submit_run(std::mem::take(&mut leaves), within)?;
                    self.open = Some(self.begin_chunk(number)?);
                    self.submit_open()?;
                }
                // Nobody has anything to say about these bytes.
                _ => leaves.push(Leaf { plain_length: length as u32, body: LeafBody::Fill(0) }),
            }
            self.next = number + 1;
        }
        self.submit_run(leaves, within)
    }

    fn submit_run(&self, leaves: Vec<Leaf>, within: Option<NodeRef>) -> Result<()> {
        if leaves.is_empty() {
            return Ok(());
        }
        self.shared.submit_copied(self.number, Copied { leaves, whole: None, within })
    }
}

impl PatchWriter for FilePatcher {
    fn write_at(&mut self, mut offset: u64, mut bytes: &[u8]) -> Result<()> {
        if offset < self.position || offset.saturating_add(bytes.len() as u64) > self.size {
            return Err(wrong_size(&self.member));
        }
        self.position = offset + bytes.len() as u64;
        while !bytes.is_empty() {
            let chunk = self.chunk_at(offset)?;
            let start = (offset % CHUNK_SIZE_BYTES as u64) as usize;
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_SIZE_BYTES - start));
            chunk.bytes[start..start + now.len()].copy_from_slice(now);
            chunk.overlay.add(start, start + now.len());
            offset += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.submit_open()?;
        self.take_over_until(self.chunk_count())?;
        self.is_finished = true;
        let end = MemberEnd {
            path: self.member.path.clone(),
            directory: false,
            mode: self.member.mode,
            mtime_s: self.member.mtime_s,
            size: self.size,
            page_size: self.member.page_size,
        };
        self.shared.submit_end(self.number, end)
    }
}

impl Drop for FilePatcher {
    fn drop(&mut self) {
        if !self.is_finished {
            self.shared.fail(unfinished(&self.member));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Overlay;

    proptest! {
        #[test]
        fn each_byte_is_the_newest_that_somebody_said(
            ranges in prop::collection::vec((0_usize..80, 1_usize..20), 0..8),
            kept in 0_usize..80,
            parent_length in 0_usize..80,
        ) {
            let parent = vec![1; parent_length];
            let (mut chunk, mut model) = (vec![0; 80], vec![0; 80]);
            model[..kept.min(parent_length)].fill(1);
            let mut overlay = Overlay::over(kept);
            for (start, length) in ranges {
                let end = (start + length).min(80);
                chunk[start..end].fill(2);
                model[start..end].fill(2);
                overlay.add(start, end);
            }
            let apart = overlay.written.windows(2).all(|pair| pair[0].1 < pair[1].0);
            prop_assert!(apart && overlay.written.iter().all(|(start, end)| start < end));
            overlay.fill_from(&parent, &mut chunk);
            prop_assert_eq!(&chunk, &model);
            let has_gap = model[..kept].iter().any(|byte| *byte != 2);
            prop_assert_eq!(overlay.needs_parent(), has_gap);
        }
    }
}
