//! Takes the bytes of one member and cuts them into chunks.

use std::sync::Arc;

use strongroom_core::engine::{BackupSink, MemberWriter, PatchWriter};
use strongroom_core::member::{Dedupe, Member, MemberKind};
use strongroom_core::{Error, ErrorKind, Result, limits};

use super::attempt::Attempt;
use super::parent::{ParentMember, note_damage};
use super::patch::FilePatcher;
use super::pipeline::{MemberEnd, Shared};
use crate::CHUNK_SIZE_BYTES;

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
        check_claim(&member)?;
        let parent = match (&shared.parent, member.dedupe, member.kind) {
            (Some(tree), Dedupe::Parent, MemberKind::File) => match tree.find(&member.path) {
                Ok(entry) => entry.map(|entry| ParentMember::new(tree.clone(), entry)),
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
        self.shared.submit_chunk(self.number, bytes, parent, None)
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
            self.shared.fail(unfinished(&self.member));
        }
    }
}

/// Refuses a size that no file has, before anything is done for it.
pub(super) fn check_claim(member: &Member) -> Result<()> {
    if member.size.is_none_or(|size| size <= limits::MEMBER_SIZE_BYTES_MAX) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::SourceHostile,
        format!("The file {} claims to be larger than 16 TiB; the backup was stopped.", member.path),
    ))
}

pub(super) fn unfinished(member: &Member) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("The file {} was not read to its end; this attempt is not usable.", member.path),
    )
}

pub(super) fn wrong_size(member: &Member) -> Error {
    Error::new(
        ErrorKind::SourceHostile,
        format!("The file {} has another size than was announced; the backup was stopped.", member.path),
    )
}

impl BackupSink for Attempt {
    fn open(&self, member: Member) -> Result<Box<dyn MemberWriter + '_>> {
        Ok(Box::new(FileWriter::open(self.pipeline.clone(), member)?))
    }

    fn patch(&self, member: Member, kept: u64) -> Result<Box<dyn PatchWriter + '_>> {
        Ok(Box::new(FilePatcher::open(self.pipeline.clone(), member, kept)?))
    }
}
