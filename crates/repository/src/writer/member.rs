//! Takes the bytes of one member and cuts them into chunks.

use std::sync::Arc;

use strongroom_core::engine::{BackupSink, MemberWriter, PatchWriter};
use strongroom_core::member::{Dedupe, Member, MemberKind, MemberPath};
use strongroom_core::overwrite::{ContentJudge, OverwriteWriter};
use strongroom_core::{Error, ErrorKind, Result, limits};

use super::attempt::Attempt;
use super::parent::{ParentMember, note_damage};
use super::patch::FilePatcher;
use super::pipeline::{MemberEnd, Shared, Work};
use super::settle;
use crate::CHUNK_SIZE_BYTES;

/// How what is written becomes part of the backup.
enum Stage {
    /// As it comes.
    Final,
    /// It may be overwritten before that.
    First(Option<Arc<dyn ContentJudge>>),
}

/// One open member.
pub(crate) struct FileWriter {
    shared: Arc<Shared>,
    number: u32,
    member: Member,
    stage: Stage,
    parent: Option<ParentMember>,
    buffer: Option<Vec<u8>>,
    chunks: usize,
    written: u64,
    finished: bool,
}

impl FileWriter {
    fn open(shared: Arc<Shared>, member: Member, stage: Stage) -> Result<Self> {
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
        if let Stage::First(judge) = &stage {
            shared.overwriting.begin(&member, number, judge.clone())?;
        }
        let (buffer, chunks, written, finished) = (None, 0, 0, false);
        let mut writer = Self { shared, number, member, stage, parent, buffer, chunks, written, finished };
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
        let work = match &self.stage {
            Stage::Final => Work::Whole,
            Stage::First(judge) => {
                let offset = self.chunks as u64 * CHUNK_SIZE_BYTES as u64;
                Work::First { offset, judge: judge.clone() }
            }
        };
        self.chunks += 1;
        self.shared.submit_chunk(self.number, bytes, parent, work)
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.written += bytes.len() as u64;
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
}

impl MemberWriter for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let end = self.written.saturating_add(bytes.len() as u64);
        if self.member.kind == MemberKind::Directory && !bytes.is_empty()
            || self.member.size.is_some_and(|size| end > size)
        {
            return Err(wrong_size(&self.member));
        }
        self.take(bytes)
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

impl OverwriteWriter for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.written.saturating_add(bytes.len() as u64) > limits::MEMBER_SIZE_BYTES_MAX {
            return Err(too_large(&self.member));
        }
        self.take(bytes)
    }

    fn stored(mut self: Box<Self>) -> Result<()> {
        self.submit()?;
        self.shared.submit_held_end(self.number)?;
        self.shared.overwriting.stored(self.number, self.written)?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        let is_discarded = || match self.stage {
            Stage::Final => false,
            Stage::First(_) => !self.shared.overwriting.is_there(self.number),
        };
        if !self.finished && !is_discarded() {
            self.shared.fail(unfinished(&self.member));
        }
    }
}

/// Refuses a size that no file has, before anything is done for it.
pub(super) fn check_claim(member: &Member) -> Result<()> {
    if member.size.is_none_or(|size| size <= limits::MEMBER_SIZE_BYTES_MAX) {
        return Ok(());
    }
    Err(too_large(member))
}

fn too_large(member: &Member) -> Error {
    Error::new(
        ErrorKind::SourceHostile,
        format!("The file {} claims to be larger than 16 TiB; the backup was stopped.", member.path),
    )
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
        Ok(Box::new(FileWriter::open(self.pipeline.clone(), member, Stage::Final)?))
    }

    fn patch(&self, member: Member, kept: u64) -> Result<Box<dyn PatchWriter + '_>> {
        Ok(Box::new(FilePatcher::open(self.pipeline.clone(), member, kept)?))
    }

    fn overwritable(
        &self,
        member: Member,
        judge: Option<Arc<dyn ContentJudge>>,
    ) -> Result<Box<dyn OverwriteWriter + '_>> {
        Ok(Box::new(FileWriter::open(self.pipeline.clone(), member, Stage::First(judge))?))
    }

    fn overwrite(&self, path: &MemberPath, offset: u64, bytes: &[u8]) -> Result<()> {
        self.pipeline.check()?;
        self.voided_by(self.pipeline.overwriting.overwrite(path, offset, bytes))
    }

    fn extend(&self, path: &MemberPath, size: u64) -> Result<()> {
        self.voided_by(self.pipeline.overwriting.extend(path, size))
    }

    fn rename(&self, from: &MemberPath, to: &MemberPath) -> Result<()> {
        self.voided_by(self.pipeline.overwriting.rename(from, to))
    }

    fn discard(&self, path: &MemberPath) -> Result<()> {
        self.voided_by(self.pipeline.overwriting.discard(path))
    }

    fn settle(&self) -> Result<()> {
        self.voided_by(settle::run(&self.pipeline))
    }
}

impl Attempt {
    /// What could not be noted is missing from the backup: nobody may seal it.
    fn voided_by(&self, outcome: Result<()>) -> Result<()> {
        outcome.inspect_err(|error| self.pipeline.fail(error.again()))
    }
}
