//! Sends a range of an archive. Everything before the range is skipped by its length; what is in it
//! is read, checked and framed again.

use std::ops::{ControlFlow, Range};

use strongroom_core::{Error, Result};
use strongroom_repository::{BackupReader, ChunkShape, MemberEntry, Shape, ShapedChunk};

use super::layout::{self, Layout, More};
use super::{tar, zstd};

/// Small frames are gathered to pieces of about this size.
const PIECE_BYTES: usize = 64 << 10;

/// Where in the archive we are, and what of it is wanted.
struct Out<'a> {
    at: u64,
    range: Range<u64>,
    piece: Vec<u8>,
    sink: &'a mut dyn FnMut(Vec<u8>) -> Result<()>,
}

impl Out<'_> {
    /// A frame, of which only what is in the range goes out.
    fn put(&mut self, frame: &[u8]) -> Result<()> {
        let within =
            |at: u64| usize::try_from(at.saturating_sub(self.at)).unwrap_or(usize::MAX).min(frame.len());
        let (from, to) = (within(self.range.start), within(self.range.end));
        self.at += frame.len() as u64;
        if from < to {
            self.piece.extend_from_slice(&frame[from..to]);
        }
        if self.piece.len() >= PIECE_BYTES { self.flush() } else { Ok(()) }
    }

    /// Whether something of what comes next is wanted; what is not is passed over.
    fn wants(&mut self, bytes: u64) -> bool {
        let wanted = bytes > 0 && self.at < self.range.end && self.at + bytes > self.range.start;
        if !wanted {
            self.at += bytes;
        }
        wanted
    }

    fn is_done(&self) -> bool {
        self.at >= self.range.end
    }

    fn flush(&mut self) -> Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        (self.sink)(std::mem::take(&mut self.piece))
    }
}

impl Layout {
    /// Sends a range that lies within the archive, whole or not at all without an error. Blocks.
    pub(crate) fn write(
        &self,
        reader: &BackupReader,
        range: Range<u64>,
        sink: &mut dyn FnMut(Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let wanted = range.end;
        let mut out = Out { at: 0, range, piece: Vec::new(), sink };
        if out.wants(self.own.len() as u64) {
            out.put(&self.own)?;
        }
        if !out.is_done() && out.range.start < self.members_end {
            self.members(reader, &mut out)?;
        } else if !out.is_done() {
            out.at = self.members_end;
        }
        if !out.is_done() {
            if out.at != self.members_end {
                return Err(Error::internal("an archive ended where its layout does not"));
            }
            out.put(&zstd::run(&[0; tar::END_BYTES]))?;
        }
        if out.at < wanted {
            return Err(Error::internal("an archive is shorter than its layout"));
        }
        out.flush()
    }

    fn members(&self, reader: &BackupReader, out: &mut Out<'_>) -> Result<()> {
        let from = out.range.start.max(self.own.len() as u64);
        let Some(mark) = self.mark_before(from) else { return Ok(()) };
        out.at = mark.at;
        reader.members_from(mark.member, &mut |member| {
            let Some(name) = self.name(&member) else { return Ok(More::Continue(())) };
            let first = if member.index == mark.member { mark.segment } else { 0 };
            for segment in first..member.segments.max(1) {
                if out.is_done() {
                    return Ok(ControlFlow::Break(()));
                }
                self.part(reader, &member, (&name, segment), out)?;
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    fn part(
        &self,
        reader: &BackupReader,
        member: &MemberEntry,
        (name, segment): (&[u8], u32),
        out: &mut Out<'_>,
    ) -> Result<()> {
        let shapes = layout::shapes(reader, member, segment)?;
        let whole = layout::part_bytes(member, name, segment, &shapes);
        if !out.wants(whole) {
            return Ok(());
        }
        let end = out.at + whole;
        if out.wants(layout::head_bytes(name, segment)) {
            let (size, mode, mtime_s) = (member.size, member.mode, member.mtime_s);
            let entry = tar::Entry { name, size, mode: mode & 0o777, mtime_s, owner: self.owner };
            out.put(&zstd::plain(&entry.write()))?;
        }
        chunks(reader, (member.index, segment), &shapes, out)?;
        let padding = layout::padding(member, segment);
        if padding > 0 && out.wants(zstd::run_bytes(padding)) {
            out.put(&zstd::run(&[0; tar::BLOCK_BYTES][..padding]))?;
        }
        if out.at == end {
            Ok(())
        } else {
            Err(Error::internal("a member's frames are not as long as was told"))
        }
    }
}

/// The frames of those chunks that the range touches.
fn chunks(
    reader: &BackupReader,
    (member, segment): (u64, u32),
    shapes: &[ChunkShape],
    out: &mut Out<'_>,
) -> Result<()> {
    let (mut before, mut wanted) = (0, 0);
    let mut at = out.at;
    for shape in shapes {
        let end = at + layout::chunk_bytes(*shape);
        if end <= out.range.start {
            (before, out.at) = (before + 1, end);
        } else if at < out.range.end {
            wanted += 1;
        }
        at = end;
    }
    if wanted == 0 {
        out.at = at;
        return Ok(());
    }
    let mut expected = shapes[before..].iter();
    reader.read_shaped(member, segment, before..before + wanted, &mut |chunk| {
        let shape = expected.next().copied().ok_or_else(misshapen)?;
        let frame = framed(chunk, shape)?;
        if frame.len() as u64 != layout::chunk_bytes(shape) {
            return Err(misshapen());
        }
        out.put(&frame)
    })?;
    // Chunks behind the range.
    out.at = at;
    Ok(())
}

fn framed(chunk: ShapedChunk, shape: ChunkShape) -> Result<Vec<u8>> {
    match (shape.shape, chunk.frame) {
        (Shape::Fill(_), _) => Ok(zstd::run(&chunk.plain)),
        (Shape::Frame(_), Some(frame)) => zstd::checked(frame, &chunk.plain),
        (Shape::Plain, None) => Ok(zstd::plain(&chunk.plain)),
        _ => Err(misshapen()),
    }
}

fn misshapen() -> Error {
    Error::internal("a chunk has another shape than its manifest says")
}
