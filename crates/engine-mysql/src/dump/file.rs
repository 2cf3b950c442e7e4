//! The one file of a dump: what was written for a table that could not be read to its end is taken back.

use strongroom_core::engine::BackupSink;
use strongroom_core::member::{Dedupe, Member, MemberKind, MemberPath};
use strongroom_core::overwrite::OverwriteWriter;

use super::NAME;
use crate::fault::Result;

/// Bytes that gather before they go to the sink.
const PIECE_BYTES: usize = 1 << 20;
const FILE_MODE: u32 = 0o640;

pub(super) struct DumpFile<'s> {
    sink: &'s dyn BackupSink,
    path: MemberPath,
    began_s: i64,
    bytes_max: u64,
    is_open: bool,
    /// As long as nothing was taken back that the sink has.
    writer: Option<Box<dyn OverwriteWriter + 's>>,
    /// Not with the sink yet, and where it goes.
    pending: Vec<u8>,
    at: u64,
    /// What the sink has reaches so far.
    end: u64,
}

impl<'s> DumpFile<'s> {
    pub(super) fn new(sink: &'s dyn BackupSink, began_s: i64, bytes_max: u64) -> Result<Self> {
        let path = MemberPath::parse(format!("data/{NAME}").as_bytes())?;
        let (writer, pending) = (None, Vec::new());
        Ok(Self { sink, path, began_s, bytes_max, is_open: false, writer, pending, at: 0, end: 0 })
    }

    /// How long the file is.
    pub(super) fn length(&self) -> u64 {
        self.at + self.pending.len() as u64
    }

    /// Appends; `false`, and nothing is appended, when the file would become too long.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<bool> {
        if self.length() + bytes.len() as u64 > self.bytes_max {
            return Ok(false);
        }
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(true)
    }

    /// Appends what the file ends with, however long it is.
    pub(super) fn append_end(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// Takes back what stands behind so many bytes.
    pub(super) fn rewind(&mut self, length: u64) -> Result<()> {
        if let Some(kept) = length.checked_sub(self.at) {
            self.pending.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
            return Ok(());
        }
        self.pending.clear();
        self.end_reading()?;
        self.at = length;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        if !self.is_open {
            self.writer = Some(self.sink.overwritable(self.member(), None)?);
            self.is_open = true;
        }
        match &mut self.writer {
            Some(writer) => writer.write(&self.pending)?,
            None => self.sink.overwrite(&self.path, self.at, &self.pending)?,
        }
        self.at += self.pending.len() as u64;
        self.end = self.end.max(self.at);
        self.pending.clear();
        Ok(())
    }

    fn end_reading(&mut self) -> Result<()> {
        match self.writer.take() {
            Some(writer) => Ok(writer.stored()?),
            None => Ok(()),
        }
    }

    /// Ends the file. Where more was written once, there are empty lines.
    pub(super) fn finish(mut self) -> Result<()> {
        self.flush()?;
        self.end_reading()?;
        while self.at < self.end {
            let count = (self.end - self.at).min(PIECE_BYTES as u64);
            self.pending.resize(usize::try_from(count).unwrap_or(PIECE_BYTES), b'\n');
            self.flush()?;
        }
        Ok(())
    }

    /// There is no such file.
    pub(super) fn discard(mut self) -> Result<()> {
        self.pending.clear();
        self.end_reading()?;
        if self.is_open {
            self.sink.discard(&self.path)?;
        }
        Ok(())
    }

    fn member(&self) -> Member {
        Member {
            path: self.path.clone(),
            kind: MemberKind::File,
            size: None,
            mode: FILE_MODE,
            mtime_s: self.began_s,
            page_size: 0,
            dedupe: Dedupe::Parent,
        }
    }
}
