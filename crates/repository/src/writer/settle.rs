//! Puts overwritten files together, once nothing comes over them any more. What nobody touched is
//! taken over by its leaf; the rest goes through the pipeline once more: read back, overwritten,
//! shown to its judge and decided anew.

use std::sync::Arc;

use strongroom_core::member::{Dedupe, MemberPath};
use strongroom_core::{Error, Result};

use super::leaves::HeldLeaves;
use super::overwriting::HeldFile;
use super::page_spool::SortedPages;
use super::parent::{ParentMember, note_damage};
use super::patch::Overlay;
use super::pipeline::{Copied, MemberEnd, Parent, Settled, Shared, Work};
use crate::tree::{Leaf, LeafBody, NodeRef};
use crate::{CHUNK_SIZE_BYTES, SEGMENT_CHUNKS};

/// How often a waiting thread looks whether it should go on.
const LOOK_INTERVAL: std::time::Duration = std::time::Duration::from_millis(200);

pub(super) fn run(shared: &Arc<Shared>) -> Result<()> {
    shared.check()?;
    let Some(held) = shared.overwriting.settle()? else { return Ok(()) };
    // What was stored must be readable before it is read back.
    wait_for_packer(shared, true)?;
    let leaves = shared.overwriting.take_leaves()?;
    let mut pages = held.pages.sorted()?;
    for (number, path, file) in held.files {
        pages.skip_before(number)?;
        let parent = parent_of(shared, &path, &file);
        let settling = Settling {
            shared,
            leaves: &leaves,
            pages: &mut pages,
            number,
            path: Arc::new(path),
            file: &file,
            parent,
            run: Vec::new(),
        };
        settling.settle()?;
    }
    wait_for_packer(shared, false)
}

/// Until the packer has taken everything that was handed on before, and with `durable` until all
/// packs of it are stored.
fn wait_for_packer(shared: &Shared, durable: bool) -> Result<()> {
    let (done, arrived) = crossbeam_channel::bounded(1);
    shared.submit_barrier(durable, done)?;
    loop {
        match arrived.recv_timeout(LOOK_INTERVAL) {
            Ok(()) => return shared.check(),
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => shared.check()?,
            Err(crossbeam_channel::RecvTimeoutError::Disconnected) => {
                shared.check()?;
                return Err(shared.failure());
            }
        }
    }
}

/// The file is compared with the one that it was begun as.
fn parent_of(shared: &Shared, path: &MemberPath, file: &HeldFile) -> Option<ParentMember> {
    let tree = shared.parent.as_ref().filter(|_| file.dedupe == Dedupe::Parent)?;
    match tree.find(file.begun_as.as_deref().unwrap_or(path)) {
        Ok(entry) => entry.map(|entry| ParentMember::new(tree.clone(), entry)),
        Err(error) => {
            note_damage(shared, &error);
            None
        }
    }
}

/// One file that is being put together.
struct Settling<'s> {
    shared: &'s Arc<Shared>,
    leaves: &'s HeldLeaves,
    pages: &'s mut SortedPages,
    number: u32,
    path: Arc<MemberPath>,
    file: &'s HeldFile,
    parent: Option<ParentMember>,
    /// Leaves that stay as they are and were not handed on yet, all of one segment.
    run: Vec<Leaf>,
}

impl Settling<'_> {
    fn settle(mut self) -> Result<()> {
        let count = self.file.size.div_ceil(CHUNK_SIZE_BYTES as u64) as usize;
        for first in (0..count).step_by(SEGMENT_CHUNKS) {
            self.settle_segment(first, (first + SEGMENT_CHUNKS).min(count))?;
        }
        let end = MemberEnd {
            path: self.path.as_ref().clone(),
            directory: false,
            mode: self.file.mode,
            mtime_s: self.file.mtime_s,
            size: self.file.size,
            page_size: self.file.page_size,
        };
        self.shared.submit_end(self.number, end)
    }

    fn settle_segment(&mut self, first: usize, end: usize) -> Result<()> {
        self.shared.check()?;
        let index = first / SEGMENT_CHUNKS;
        let own = self.leaves.segment(self.number, index)?;
        let within = self.parent.as_ref().and_then(|parent| parent.segment_node(index));
        for chunk in first..end {
            let length = self.length_of(chunk);
            let (leaf, is_suspect) = match own.at(chunk - first) {
                Some((leaf, is_suspect)) => (Some(leaf), is_suspect),
                None => (None, false),
            };
            if !is_suspect
                && !self.pages.touches(self.number, chunk)
                && let Some(leaf) = as_it_is(leaf, length)
            {
                self.run.push(leaf);
            } else {
                self.submit_run(within)?;
                self.submit_chunk(chunk, leaf.cloned(), within)?;
            }
        }
        self.submit_run(within)
    }

    fn length_of(&self, chunk: usize) -> usize {
        let start = chunk as u64 * CHUNK_SIZE_BYTES as u64;
        (self.file.size - start).min(CHUNK_SIZE_BYTES as u64) as usize
    }

    fn submit_run(&mut self, within: Option<NodeRef>) -> Result<()> {
        if self.run.is_empty() {
            return Ok(());
        }
        let leaves = std::mem::take(&mut self.run);
        self.shared.submit_copied(self.number, Copied { leaves, whole: None, within })
    }

    fn submit_chunk(&mut self, chunk: usize, own: Option<Leaf>, within: Option<NodeRef>) -> Result<()> {
        let mut bytes = self.shared.buffer()?;
        bytes.resize(self.length_of(chunk), 0);
        let mut overlay = Overlay::over(own.as_ref().map_or(0, |own| own.plain_length as usize));
        let mut piece = Vec::new();
        while let Some(entry) = self.pages.next_of(self.number, chunk, &mut piece)? {
            let (start, end) = (entry.start as usize, (entry.start + entry.length) as usize);
            let target = bytes
                .get_mut(start..end)
                .ok_or_else(|| Error::internal("bytes came behind the end of their file"))?;
            target.copy_from_slice(&piece);
            overlay.add(start, end);
        }
        let parent = match &mut self.parent {
            Some(parent) => Parent { segment: within, ..parent.at(self.shared, chunk) },
            None => Parent::default(),
        };
        let settled = Settled {
            own,
            overlay,
            path: self.path.clone(),
            offset: chunk as u64 * CHUNK_SIZE_BYTES as u64,
            judge: self.file.judge.clone(),
            has_deltas: self.file.dedupe == Dedupe::Parent,
        };
        self.shared.submit_chunk(self.number, bytes, parent, Work::Settled(Box::new(settled)))
    }
}

/// The leaf of a chunk over which nothing came, unless its file has grown and it is not just zeroes.
fn as_it_is(leaf: Option<&Leaf>, length: usize) -> Option<Leaf> {
    match leaf {
        Some(leaf) if leaf.plain_length as usize == length => Some(leaf.clone()),
        None | Some(Leaf { body: LeafBody::Fill(0), .. }) => {
            Some(Leaf { plain_length: length as u32, body: LeafBody::Fill(0) })
        }
        Some(_) => None,
    }
}
