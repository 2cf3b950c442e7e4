//! The parent backup as a writer uses it: leaves to compare with, leaves to take over, and whole
//! files for an engine that asks what changed since.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use strongroom_core::engine::BackupFacts;
use strongroom_core::member::MemberPath;
use strongroom_core::parent::{MemberReader, ParentBackup, parent_unusable};
use strongroom_core::{Error, ErrorKind, Result};

use super::pipeline::{Parent, Shared};
use crate::SEGMENT_CHUNKS;
use crate::keys::LineageKeys;
use crate::reader::{ChunkReader, ReadAhead, Tree};
use crate::store::Store;
use crate::tree::{Content, Entry, Leaf, NodeRef, Segment};

/// Why nothing can be built on the parent, once that is known. Outlives the attempt.
#[derive(Debug, Clone, Default)]
pub struct Distrust(Arc<OnceLock<Distrusted>>);

#[derive(Debug, Clone)]
pub struct Distrusted {
    /// A clause.
    pub reason: String,
    /// A sentence, when the repository itself is to blame.
    pub damage: Option<String>,
}

impl Distrust {
    pub fn found(&self) -> Option<&Distrusted> {
        self.0.get()
    }

    /// The first reason stands. Answers the error to fail with.
    fn because(&self, reason: &str, damage: Option<String>) -> Error {
        let found = self.0.get_or_init(|| Distrusted { reason: reason.to_owned(), damage });
        parent_unusable(&found.reason)
    }
}

/// Nothing can be built on the parent: the attempt is void, and the next one reads everything.
/// Only damage says so; a store that does not answer is no reason to distrust what it holds.
pub(super) fn distrust(shared: &Shared, error: Error) -> Error {
    if error.kind() != ErrorKind::Damage {
        return error;
    }
    note_damage(shared, &error);
    shared.distrust.because("the earlier backup is damaged", Some(damage_note(&error)))
}

/// As [`distrust`], where nothing is damaged and the parent still does not fit.
pub(super) fn misfit(shared: &Shared, reason: &str) -> Error {
    shared.distrust.because(reason, None)
}

fn damage_note(error: &Error) -> String {
    format!("An earlier backup is damaged, its data was stored again. {}", error.public())
}

/// Damage in the parent is reported once per object, and the backup goes on without that parent.
pub(crate) fn note_damage(shared: &Shared, error: &Error) {
    tracing::warn!("The parent backup is damaged, its data is stored again: {}", error.public());
    if let Ok(mut notes) = shared.notes.lock() {
        let note = damage_note(error);
        if notes.len() < 16 && !notes.contains(&note) {
            notes.push(note);
        }
    }
}

/// The same path in the parent backup, read segment by segment.
pub(super) struct ParentMember {
    tree: Arc<Tree>,
    content: Content,
    loaded: Option<Segment>,
}

impl ParentMember {
    pub(super) fn new(tree: Arc<Tree>, entry: Entry) -> Self {
        Self { tree, content: entry.content, loaded: None }
    }

    /// What the parent has of chunk `number`. A damaged parent helps with nothing, and fails nothing.
    pub(super) fn at(&mut self, shared: &Shared, number: usize) -> Parent {
        match self.leaf(number) {
            Ok(leaf) => Parent { leaf, segment: self.segment_node(number / SEGMENT_CHUNKS) },
            Err(error) => {
                note_damage(shared, &error);
                Parent { leaf: None, segment: self.segment_node(number / SEGMENT_CHUNKS) }
            }
        }
    }

    /// The leaf of chunk `number`, `None` behind the end of the file.
    pub(super) fn leaf(&mut self, number: usize) -> Result<Option<Leaf>> {
        match &self.content {
            Content::Inline(leaf) if number == 0 => Ok(Some(leaf.clone())),
            Content::Segments(_) => {
                let segment = self.load(number / SEGMENT_CHUNKS)?;
                Ok(segment.and_then(|segment| segment.leaves.get(number % SEGMENT_CHUNKS).cloned()))
            }
            Content::Directory | Content::Empty | Content::Inline(_) => Ok(None),
        }
    }

    /// The node of segment `index`, to be shared when nothing in it changed.
    pub(super) fn segment_node(&self, index: usize) -> Option<NodeRef> {
        match &self.content {
            Content::Segments(refs) => refs.get(index).copied(),
            Content::Directory | Content::Empty | Content::Inline(_) => None,
        }
    }

    /// Segment `index`, `None` behind the end of the file.
    pub(super) fn load(&mut self, index: usize) -> Result<Option<&Segment>> {
        let Some(node) = self.segment_node(index) else { return Ok(None) };
        if self.loaded.as_ref().is_none_or(|segment| segment.index as usize != index) {
            self.loaded = None;
            let segment = self.tree.segment(&node)?;
            if segment.index as usize != index {
                return Err(crate::frame::damage("segment", "it belongs to another place of its member"));
            }
            self.loaded = Some(segment);
        }
        Ok(self.loaded.as_ref())
    }
}

/// The parent, for an engine.
pub struct ParentReader {
    shared: Arc<Shared>,
    tree: Arc<Tree>,
    store: Arc<dyn Store>,
    keys: Arc<LineageKeys>,
}

impl ParentReader {
    pub(super) fn new(
        shared: Arc<Shared>,
        tree: Arc<Tree>,
        store: Arc<dyn Store>,
        keys: Arc<LineageKeys>,
    ) -> Self {
        Self { shared, tree, store, keys }
    }
}

impl ParentBackup for ParentReader {
    fn facts(&self) -> &BackupFacts {
        &self.tree.root.document.facts
    }

    fn open(&self, path: &MemberPath) -> Result<Option<Box<dyn MemberReader + '_>>> {
        let found = self.tree.find(path).map_err(|error| distrust(&self.shared, error))?;
        let content = match found.map(|entry| entry.content) {
            None | Some(Content::Directory) => return Ok(None),
            Some(content) => content,
        };
        let (segments, leaves) = match content {
            Content::Segments(refs) => (refs.into(), VecDeque::new()),
            Content::Inline(leaf) => (VecDeque::new(), VecDeque::from([leaf])),
            Content::Directory | Content::Empty => (VecDeque::new(), VecDeque::new()),
        };
        let reader = ChunkReader::new(self.store.clone(), self.keys.clone());
        Ok(Some(Box::new(ParentFile { parent: self, reader, segments, leaves })))
    }

    fn distrust(&self, reason: &str) -> Error {
        misfit(&self.shared, reason)
    }
}

struct ParentFile<'p> {
    parent: &'p ParentReader,
    reader: ChunkReader,
    segments: VecDeque<NodeRef>,
    leaves: VecDeque<Leaf>,
}

impl ParentFile<'_> {
    fn next_chunk(&mut self) -> Result<Option<Vec<u8>>> {
        while self.leaves.is_empty() {
            let Some(node) = self.segments.pop_front() else { return Ok(None) };
            self.leaves = self.parent.tree.segment(&node)?.leaves.into();
        }
        let Some(leaf) = self.leaves.pop_front() else { return Ok(None) };
        self.reader.chunk(&leaf, &mut ReadAhead::new()).map(Some)
    }
}

impl MemberReader for ParentFile<'_> {
    fn next_piece(&mut self) -> Result<Option<Vec<u8>>> {
        self.next_chunk().map_err(|error| distrust(&self.parent.shared, error))
    }
}
