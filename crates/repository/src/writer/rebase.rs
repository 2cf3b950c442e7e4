//! Fills an attempt from a sealed backup instead of a source: what stands on living backups only is
//! taken over unread, what stands on bases of backups that are gone is stored anew upon the backup
//! before it (decision 0040).

use std::collections::HashSet;
use std::sync::Arc;

use strongroom_core::Result;
use strongroom_core::engine::CancelToken;

use super::attempt::Attempt;
use super::parent::{ParentMember, note_damage};
use super::pipeline::{Copied, MemberEnd, Parent, Shared, Work};
use crate::SEGMENT_CHUNKS;
use crate::frame;
use crate::reader::{ChunkReader, FrameBody, Tree, read_leaves};
use crate::tree::{CHAIN_MAX, Content, Entry, Leaf, LeafBody, Location, NodeRef, Segment};

/// How a chunk is to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// As it is.
    Own,
    /// As the backup before it has the same chunk.
    Before,
    /// As a record of its own.
    New,
}

/// What becomes of a chunk, beside the one at its place in the backup before. A chunk may stand on what
/// that one is or stands on: those are chunks of living backups, when that backup was looked at before.
fn fate(leaf: &Leaf, before: Option<&Leaf>) -> Fate {
    let Some((own, below)) = leaf.chain().split_last() else { return Fate::Own };
    let chain_before = before.map(Leaf::chain).unwrap_or_default();
    let is_same = |at: &Location, other: &Location| (at.pack, at.slot) == (other.pack, other.slot);
    if let (LeafBody::Stored { id, .. }, Some(Leaf { body: LeafBody::Stored { id: before, .. }, .. })) =
        (&leaf.body, before)
        && id == before
    {
        let is_shared = chain_before.last().is_some_and(|before| is_same(own, before));
        return if is_shared { Fate::Own } else { Fate::Before };
    }
    let is_living = |at: &Location| chain_before.iter().any(|before| is_same(at, before));
    if below.iter().all(is_living) { Fate::Own } else { Fate::New }
}

/// What becomes of a chunk of a backup in which something is stored anew. A record that stands on
/// nothing may be smaller upon what the backup before has now, where that is another content.
fn fate_when_due(leaf: &Leaf, before: Option<&Leaf>) -> Fate {
    let fate = fate(leaf, before);
    let (LeafBody::Stored { id, .. }, Some(before)) = (&leaf.body, before) else { return fate };
    let LeafBody::Stored { id: before_id, .. } = &before.body else { return fate };
    let may_stand = leaf.chain().len() == 1 && before.chain().len() < CHAIN_MAX && id != before_id;
    if fate == Fate::Own && may_stand { Fate::New } else { fate }
}

/// The member at the same path in the backup before. Log has none: it is written once.
fn member_before(before: Option<&Arc<Tree>>, entry: &Entry) -> Result<Option<ParentMember>> {
    let Some(tree) = before.filter(|_| entry.path.root() != b"wal") else { return Ok(None) };
    Ok(tree.find(&entry.path)?.map(|found| ParentMember::new(tree.clone(), found)))
}

/// A segment, if it is the one of this place.
fn segment_at(tree: &Tree, node: &NodeRef, index: usize) -> Result<Segment> {
    let segment = tree.segment(node)?;
    if segment.index as usize == index {
        return Ok(segment);
    }
    Err(frame::damage("segment", "it belongs to another place of its member"))
}

/// Whether some chunk of a backup is not to stay as it is stored. Reads no chunk.
pub(crate) fn is_due(old: &Tree, before: Option<&Arc<Tree>>, cancel: &CancelToken) -> Result<bool> {
    let shared: HashSet<[u8; 32]> =
        before.iter().flat_map(|tree| &tree.root.pages).map(|page| page.node.id).collect();
    for (number, page) in old.root.pages.iter().enumerate() {
        cancel.check()?;
        if shared.contains(&page.node.id) {
            continue;
        }
        for entry in &old.page(number)?.entries {
            if is_member_due(old, before, entry, cancel)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn is_member_due(
    old: &Tree,
    before: Option<&Arc<Tree>>,
    entry: &Entry,
    cancel: &CancelToken,
) -> Result<bool> {
    let mut before = member_before(before, entry)?;
    let nodes = match &entry.content {
        Content::Inline(leaf) => return is_leaf_due(leaf, 0, before.as_mut()),
        Content::Directory | Content::Empty => return Ok(false),
        Content::Segments(nodes) => nodes,
    };
    for (index, node) in nodes.iter().enumerate() {
        cancel.check()?;
        let node_before = before.as_ref().and_then(|before| before.segment_node(index));
        if node_before.is_some_and(|before| before.id == node.id) {
            continue;
        }
        let segment = segment_at(old, node, index)?;
        for (at, leaf) in segment.leaves.iter().enumerate() {
            if is_leaf_due(leaf, index * SEGMENT_CHUNKS + at, before.as_mut())? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn is_leaf_due(leaf: &Leaf, number: usize, before: Option<&mut ParentMember>) -> Result<bool> {
    let before = before.map(|member| member.leaf(number)).transpose()?.flatten();
    Ok(fate(leaf, before.as_ref()) != Fate::Own)
}

impl Attempt {
    /// Takes every member of a sealed backup, to which this attempt may refer.
    pub(crate) fn take_members_of(&self, old: &Arc<Tree>) -> Result<()> {
        let chunks = ChunkReader::new(self.lineage.shared.store.clone(), self.lineage.keys.clone());
        let mut feeder = Feeder { shared: &self.pipeline, old, chunks };
        for number in 0..old.root.pages.len() {
            for entry in &old.page(number)?.entries {
                feeder.member(entry)?;
            }
        }
        Ok(())
    }
}

struct Feeder<'a> {
    shared: &'a Arc<Shared>,
    old: &'a Arc<Tree>,
    chunks: ChunkReader,
}

/// A piece of a member: the chunks of a segment, or the only one.
struct Piece<'a> {
    member: u32,
    leaves: &'a [Leaf],
    /// The segment, where there is one.
    node: Option<NodeRef>,
    /// What the backup before has at each place.
    before: Vec<Option<Leaf>>,
    node_before: Option<NodeRef>,
}

impl Feeder<'_> {
    fn member(&mut self, entry: &Entry) -> Result<()> {
        self.shared.check()?;
        let number = self.shared.number_member();
        let before = member_before(self.shared.parent.as_ref(), entry);
        let mut before = self.past_damage(before);
        match &entry.content {
            Content::Directory | Content::Empty => {}
            Content::Inline(leaf) => {
                let piece = self.piece((number, 0), std::slice::from_ref(leaf), None, before.as_mut());
                self.take(&piece)?;
            }
            Content::Segments(nodes) => {
                for (index, node) in nodes.iter().enumerate() {
                    let segment = segment_at(self.old, node, index)?;
                    let piece = self.piece((number, index), &segment.leaves, Some(*node), before.as_mut());
                    self.take(&piece)?;
                }
            }
        }
        let end = MemberEnd {
            path: entry.path.clone(),
            directory: matches!(entry.content, Content::Directory),
            mode: entry.mode,
            mtime_s: entry.mtime_s,
            size: entry.size,
            page_size: entry.page_size,
        };
        self.shared.submit_end(number, end)
    }

    /// What is damaged in the backup before helps with nothing, and fails nothing.
    fn past_damage<T>(&self, found: Result<Option<T>>) -> Option<T> {
        found.unwrap_or_else(|error| {
            note_damage(self.shared, &error);
            None
        })
    }

    fn piece<'p>(
        &self,
        (member, index): (u32, usize),
        leaves: &'p [Leaf],
        node: Option<NodeRef>,
        mut before: Option<&mut ParentMember>,
    ) -> Piece<'p> {
        let first = index * SEGMENT_CHUNKS;
        let mut found = Vec::with_capacity(leaves.len());
        for number in first..first + leaves.len() {
            let leaf = before.as_mut().map_or(Ok(None), |before| before.leaf(number));
            found.push(self.past_damage(leaf));
        }
        let node_before = before.and_then(|before| before.segment_node(index));
        Piece { member, leaves, node, before: found, node_before }
    }

    fn take(&mut self, piece: &Piece<'_>) -> Result<()> {
        let fates: Vec<Fate> = piece
            .leaves
            .iter()
            .zip(&piece.before)
            .map(|(leaf, before)| fate_when_due(leaf, before.as_ref()))
            .collect();
        // A segment of which every chunk stays as it is stays itself.
        let whole = piece.node.filter(|_| fates.iter().all(|fate| *fate == Fate::Own));
        let mut start = 0;
        for run in fates.chunk_by(|a, b| (*a == Fate::New) == (*b == Fate::New)) {
            let places = start..start + run.len();
            start = places.end;
            if run.first() == Some(&Fate::New) {
                self.store(piece, places)?;
                continue;
            }
            let taken = places.clone().filter_map(|at| match fates[at] {
                Fate::Before => piece.before[at].clone(),
                Fate::Own | Fate::New => Some(piece.leaves[at].clone()),
            });
            let leaves: Vec<Leaf> = taken.collect();
            self.shared.progress.add_done(leaves.iter().map(|leaf| u64::from(leaf.plain_length)).sum());
            // The backup before may have this very segment.
            let within = piece.node.and(piece.node_before);
            self.shared.submit_copied(piece.member, Copied { leaves, whole, within })?;
        }
        Ok(())
    }

    /// Stores chunks anew, each beside what the backup before has at its place.
    fn store(&mut self, piece: &Piece<'_>, places: std::ops::Range<usize>) -> Result<()> {
        let (shared, mut at) = (self.shared, places.start);
        read_leaves(&mut self.chunks, &piece.leaves[places], &mut |_, body| {
            let FrameBody::Data(plain) = body else {
                return Err(strongroom_core::Error::internal("a chunk of one value has no base"));
            };
            let mut bytes = shared.buffer()?;
            bytes.extend_from_slice(&plain);
            shared.progress.add_done(plain.len() as u64);
            let parent = Parent { leaf: piece.before[at].clone(), segment: None };
            at += 1;
            shared.submit_chunk(piece.member, bytes, parent, Work::Whole)
        })
    }
}
