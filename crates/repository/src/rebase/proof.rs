//! Shows that a tree holds the same as another, before it takes its place: the same members in the same
//! order, the same chunks by their ids, which are keyed digests of content. Whatever is to be read from
//! other records than before is read once from the store.

use strongroom_core::engine::CancelToken;
use strongroom_core::{Error, ErrorKind, Result};

use crate::reader::{ChunkReader, Tree, read_leaves};
use crate::roster::Roster;
use crate::tree::{Content, Entry, Leaf, LeafBody};

/// Chunks that are read together.
const BATCH_LEAVES: usize = 256;
/// Packs of which is known what was read already, with a bitmap of up to 8 KiB each.
const PROVEN_PACKS_MAX: usize = 4096;

/// What was read and found right already, by the records that chunks end with.
#[derive(Default)]
pub(super) struct Proofs {
    proven: Roster,
}

/// The members of a tree, in order.
struct Entries<'t> {
    tree: &'t Tree,
    page: usize,
    at: usize,
}

impl Entries<'_> {
    fn next(&mut self) -> Result<Option<Entry>> {
        while self.page < self.tree.root.pages.len() {
            let page = self.tree.page(self.page)?;
            if let Some(entry) = page.entries.get(self.at) {
                self.at += 1;
                return Ok(Some(entry.clone()));
            }
            (self.page, self.at) = (self.page + 1, 0);
        }
        Ok(None)
    }
}

impl Proofs {
    /// Fails unless both hold the same, and everything that `new` does not have from `old` can be read.
    pub(super) fn require_same(
        &mut self,
        old: &Tree,
        new: &Tree,
        chunks: &mut ChunkReader,
        cancel: &CancelToken,
    ) -> Result<()> {
        let entries = |tree| Entries { tree, page: 0, at: 0 };
        let (mut left, mut right) = (entries(old), entries(new));
        let mut unread = Vec::new();
        loop {
            cancel.check()?;
            match (left.next()?, right.next()?) {
                (None, None) => break,
                (Some(before), Some(after)) if has_same_face(&before, &after) => {
                    self.compare((old, &before), (new, &after), &mut unread, chunks)?;
                }
                _ => return Err(differs()),
            }
        }
        self.read(&mut unread, chunks)
    }

    fn compare(
        &mut self,
        (old, before): (&Tree, &Entry),
        (new, after): (&Tree, &Entry),
        unread: &mut Vec<Leaf>,
        chunks: &mut ChunkReader,
    ) -> Result<()> {
        let (nodes, others) = match (&before.content, &after.content) {
            (Content::Directory, Content::Directory) | (Content::Empty, Content::Empty) => return Ok(()),
            (Content::Inline(leaf), Content::Inline(other)) => {
                return self.compare_leaves(std::slice::from_ref(leaf), std::slice::from_ref(other), unread);
            }
            (Content::Segments(nodes), Content::Segments(others)) if nodes.len() == others.len() => {
                (nodes, others)
            }
            _ => return Err(differs()),
        };
        for (node, other) in nodes.iter().zip(others) {
            if node == other {
                continue;
            }
            let (segment, stored) = (old.segment(node)?, new.segment(other)?);
            if segment.index != stored.index {
                return Err(differs());
            }
            self.compare_leaves(&segment.leaves, &stored.leaves, unread)?;
            if unread.len() >= BATCH_LEAVES {
                self.read(unread, chunks)?;
            }
        }
        Ok(())
    }

    fn compare_leaves(&self, before: &[Leaf], after: &[Leaf], unread: &mut Vec<Leaf>) -> Result<()> {
        if before.len() != after.len() {
            return Err(differs());
        }
        for (leaf, other) in before.iter().zip(after) {
            let is_same = match (&leaf.body, &other.body) {
                (LeafBody::Fill(byte), LeafBody::Fill(other)) => byte == other,
                (LeafBody::Stored { id, .. }, LeafBody::Stored { id: other, .. }) => id == other,
                _ => false,
            };
            if !is_same || leaf.plain_length != other.plain_length {
                return Err(differs());
            }
            if leaf.chain() != other.chain() && !self.is_proven(other) {
                unread.push(other.clone());
            }
        }
        Ok(())
    }

    fn is_proven(&self, leaf: &Leaf) -> bool {
        let own = leaf.chain().last();
        own.is_some_and(|own| self.proven.packs.get(&own.pack).is_some_and(|pack| pack.holds(own.slot)))
    }

    /// Reads chunks; each must have the content of its id.
    fn read(&mut self, unread: &mut Vec<Leaf>, chunks: &mut ChunkReader) -> Result<()> {
        read_leaves(chunks, unread, &mut |_, _| Ok(()))?;
        if self.proven.packs.len() > PROVEN_PACKS_MAX {
            self.proven = Roster::default();
        }
        unread
            .drain(..)
            .filter_map(|leaf| leaf.chain().last().copied())
            .for_each(|own| self.proven.mark(&own));
        Ok(())
    }
}

/// Everything of a member but its chunks.
fn has_same_face(before: &Entry, after: &Entry) -> bool {
    let face = |entry: &Entry| (entry.mode, entry.mtime_s, entry.size, entry.page_size);
    before.path == after.path && face(before) == face(after)
}

fn differs() -> Error {
    Error::new(
        ErrorKind::Internal,
        "A backup that was stored anew would not hold the same as before; it is not used. The backup is as it was.",
    )
    .with_hint("look for memory faults on this machine (for example with memtest)")
}
