//! Takes the bytes of one member and cuts them into chunks.

use std::sync::Arc;

use strongroom_core::engine::{BackupSink, MemberWriter};
use strongroom_core::member::{Dedupe, Member, MemberKind};
use strongroom_core::{Error, ErrorKind, Result, limits};

use super::attempt::Attempt;
use super::pipeline::{MemberEnd, Parent, Shared};
use crate::reader::Tree;
use crate::tree::{Content, Segment};
use crate::{CHUNK_SIZE_BYTES, SEGMENT_CHUNKS};

/// The same path in the parent backup, read segment by segment.
struct ParentMember {
    tree: Arc<Tree>,
    content: Content,
    loaded: Option<Segment>,
}

impl ParentMember {
    /// What the parent has of chunk `number`. A damaged parent helps with nothing, and fails nothing.
    fn at(&mut self, shared: &Shared, number: usize) -> Parent {
        match &self.content {
            Content::Inline(leaf) if number == 0 => Parent { leaf: Some(leaf.clone()), segment: None },
            Content::Segments(refs) => {
                let index = number / SEGMENT_CHUNKS;
                let Some(node) = refs.get(index) else { return Parent::default() };
                if self.loaded.as_ref().is_none_or(|segment| segment.index as usize != index) {
                    self.loaded = match self.tree.segment(node) {
                        Ok(segment) => Some(segment),
                        Err(error) => {
                            note_damage(shared, &error);
                            None
                        }
                    };
                }
                let leaves = self.loaded.as_ref().map(|segment| &segment.leaves);
                let leaf = leaves.and_then(|leaves| leaves.get(number % SEGMENT_CHUNKS)).cloned();
                Parent { leaf, segment: Some(*node) }
            }
            Content::Directory | Content::Empty | Content::Inline(_) => Parent::default(),
        }
    }
}

/// Damage in the parent is reported once per object, and the backup goes on without that parent.
pub(crate) fn note_damage(shared: &Shared, error: &Error) {
    tracing::warn!("The parent backup is damaged, its data is stored again: {}", error.public());
    if let Ok(mut notes) = shared.notes.lock() {
        let note = format!("An earlier backup is damaged, its data was stored again. {}", error.public());
        if notes.len() < 16 && !notes.contains(&note) {
            notes.push(note);
        }
    }
}

/// One open member.
pub(crate) struct FileWriter {
    shared: Arc<Shared>,
    number: u32,
    member: Member,
    parent: Option<ParentMember>,
    buffer: Option<Vec<u8>>,
    chunks: usize,
    written: u64,
    finished: bool,
}

impl FileWriter {
    fn open(shared: Arc<Shared>, member: Member) -> Result<Self> {
        shared.check()?;
        if member.size.is_some_and(|size| size > limits::MEMBER_SIZE_BYTES_MAX) {
            return Err(Error::new(
                ErrorKind::SourceHostile,
                format!("The file {} claims to be larger than 16 TiB; the backup was stopped.", member.path),
            ));
        }
        let parent = match (&shared.parent, member.dedupe, member.kind) {
            (Some(tree), Dedupe::Parent, MemberKind::File) => match tree.find(&member.path) {
                Ok(entry) => entry.map(|entry| ParentMember {
                    tree: tree.clone(),
                    content: entry.content,
                    loaded: None,
                }),
                Err(error) => {
                    note_damage(&shared, &error);
                    None
                }
            },
            _ => None,
        };
        let number = shared.number_member();
        let mut writer =
            Self { shared, number, member, parent, buffer: None, chunks: 0, written: 0, finished: false };
        if writer.member.kind == MemberKind::Directory {
            // Complete with this call, as the port says: nobody has to end what takes no bytes.
            writer.end()?;
        }
        Ok(writer)
    }

    fn end(&mut self) -> Result<()> {
        self.finished = true;
        let end = MemberEnd {
            path: self.member.path.clone(),
            directory: self.member.kind == MemberKind::Directory,
            mode: self.member.mode,
            mtime_s: self.member.mtime_s,
            size: self.written,
            page_size: self.member.page_size,
        };
        self.shared.submit_end(self.number, end)
    }

    fn submit(&mut self) -> Result<()> {
        let Some(bytes) = self.buffer.take() else { return Ok(()) };
        let parent =
            self.parent.as_mut().map(|parent| parent.at(&self.shared, self.chunks)).unwrap_or_default();
        self.chunks += 1;
        self.shared.submit_chunk(self.number, bytes, parent)
    }
}

impl MemberWriter for FileWriter {
    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.written += bytes.len() as u64;
        if self.member.kind == MemberKind::Directory && !bytes.is_empty()
            || self.member.size.is_some_and(|size| self.written > size)
        {
            return Err(wrong_size(&self.member));
        }
        while !bytes.is_empty() {
            if self.buffer.is_none() {
                self.buffer = Some(self.shared.buffer()?);
            }
            let buffer = self.buffer.as_mut().expect("it was put there just now");
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_SIZE_BYTES - buffer.len()));
            buffer.extend_from_slice(now);
            bytes = later;
            if buffer.len() == CHUNK_SIZE_BYTES {
                self.submit()?;
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        if self.member.size.is_some_and(|size| self.written != size) {
            return Err(wrong_size(&self.member));
        }
        if self.finished {
            return Ok(());
        }
        self.submit()?;
        self.end()
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if !self.finished {
            self.shared.fail(Error::new(
                ErrorKind::Internal,
                format!("The file {} was not read to its end; this attempt is not usable.", self.member.path),
            ));
        }
    }
}

fn wrong_size(member: &Member) -> Error {
    Error::new(
        ErrorKind::SourceHostile,
        format!("The file {} has another size than was announced; the backup was stopped.", member.path),
    )
}

impl BackupSink for Attempt {
    fn open(&self, member: Member) -> Result<Box<dyn MemberWriter + '_>> {
        Ok(Box::new(FileWriter::open(self.pipeline.clone(), member)?))
    }
}
