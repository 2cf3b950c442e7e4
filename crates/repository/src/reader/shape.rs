//! Chunks in the shape in which they are stored: whoever sends them on need not compress again what
//! is compressed already, and knows before reading a byte how long it will be.

use std::ops::Range;

use strongroom_core::Result;

use super::backup::{WINDOW_CHUNKS, plan_window};
use super::{BackupReader, ReadAhead};
use crate::aead::TAG_BYTES;
use crate::record::{Encoding, INNER_HEADER_BYTES};
use crate::tree::{Leaf, LeafBody};

/// What there is of a chunk to be sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// All bytes equal.
    Fill(u8),
    /// One zstd frame that stands for itself, of so many bytes.
    Frame(u32),
    /// Stored as it is, or as a difference to an earlier backup: only its plaintext is good for others.
    Plain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkShape {
    pub plain_length: u32,
    pub shape: Shape,
}

/// A chunk that was read and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShapedChunk {
    pub plain: Vec<u8>,
    /// The zstd frame it was stored as, where its shape is one.
    pub frame: Option<Vec<u8>>,
}

impl ChunkShape {
    fn of(leaf: &Leaf) -> Self {
        let shape = match (&leaf.body, leaf.chain()) {
            (LeafBody::Fill(byte), _) => Shape::Fill(*byte),
            (LeafBody::Stored { .. }, [at]) if at.encoding == Encoding::Zstd as u8 => {
                Shape::Frame(at.length.saturating_sub((INNER_HEADER_BYTES + TAG_BYTES) as u32))
            }
            (LeafBody::Stored { .. }, _) => Shape::Plain,
        };
        Self { plain_length: leaf.plain_length, shape }
    }
}

impl BackupReader {
    /// The shapes of a segment's chunks, in order. Reads no chunk.
    pub fn chunk_shapes(&self, member: u64, segment: u32) -> Result<Vec<ChunkShape>> {
        let entry = self.entry(member)?;
        Ok(self.leaves(&entry, segment)?.iter().map(ChunkShape::of).collect())
    }

    /// Reads some of a segment's chunks, in order, each checked by its id.
    pub fn read_shaped(
        &self,
        member: u64,
        segment: u32,
        chunks: Range<usize>,
        out: &mut dyn FnMut(ShapedChunk) -> Result<()>,
    ) -> Result<()> {
        self.read_chunks(member, segment, chunks, out).map_err(|error| self.explained(error))
    }

    fn read_chunks(
        &self,
        member: u64,
        segment: u32,
        chunks: Range<usize>,
        out: &mut dyn FnMut(ShapedChunk) -> Result<()>,
    ) -> Result<()> {
        self.renew_intent()?;
        let entry = self.entry(member)?;
        let leaves = self.leaves(&entry, segment)?;
        let wanted = leaves.get(chunks).unwrap_or_default();
        let (mut reader, mut ahead) = (self.chunk_reader(), ReadAhead::new());
        for window in wanted.chunks(WINDOW_CHUNKS) {
            plan_window(&mut reader, window, &mut ahead)?;
            for leaf in window {
                let (plain, payload) = reader.chunk_and_payload(leaf, &mut ahead)?;
                let is_frame = matches!(ChunkShape::of(leaf).shape, Shape::Frame(_));
                out(ShapedChunk { plain, frame: is_frame.then_some(payload) })?;
            }
        }
        self.keep(reader);
        Ok(())
    }
}
