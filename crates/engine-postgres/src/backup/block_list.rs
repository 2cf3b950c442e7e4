//! A file that the server sends as a list of changed blocks (`INCREMENTAL.<name>`), read as it
//! streams by. What the list says is believed only where it agrees with itself and with the size
//! the archive announced.

use strongroom_core::Result;

use crate::fault::hostile;
use crate::relation::PAGE_SIZE_BYTES;

/// What stands before the name of a file of which only changed blocks come.
const NAME_PREFIX: &[u8] = b"INCREMENTAL.";
const MAGIC: u32 = 0xd3ae_1f0d;
/// Magic, number of blocks, truncation length.
const HEADER_SIZE_BYTES: usize = 12;
const NUMBER_SIZE_BYTES: usize = 4;

/// The path of the file that a list belongs to; `None` when the name is no list's.
pub(super) fn listed_file(path: &[u8]) -> Option<Vec<u8>> {
    let slash = path.iter().rposition(|byte| *byte == b'/')?;
    let (folder, name) = path.split_at(slash + 1);
    let name = name.strip_prefix(NAME_PREFIX)?;
    Some([folder, name].concat())
}

/// As the list of this file would be named.
pub(super) fn list_of(path: &[u8]) -> Vec<u8> {
    let start = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let (folder, name) = path.split_at(start);
    [folder, NAME_PREFIX, name].concat()
}

/// What a list says of its file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BlockEvent<'a> {
    /// The list is complete; `BlockList::file_size` and the like are known.
    Begin,
    /// Bytes of a changed block, from `offset` in it on.
    Bytes { block: u32, offset: usize, bytes: &'a [u8] },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Numbers { left: u32 },
    Padding { left: usize },
    Begin,
    Pages { index: usize, offset: usize },
}

/// The state machine. Feed it with [`BlockList::next`] until the input is used up.
#[derive(Debug)]
pub(super) struct BlockList {
    announced: u64,
    blocks_per_segment: u32,
    state: State,
    field: [u8; HEADER_SIZE_BYTES],
    filled: usize,
    blocks: Vec<u32>,
    truncation: u32,
}

impl BlockList {
    /// `announced` is the size of the list in the archive.
    pub(super) fn new(announced: u64, blocks_per_segment: u32) -> Self {
        let field = [0; HEADER_SIZE_BYTES];
        let (state, blocks) = (State::Header, Vec::new());
        Self { announced, blocks_per_segment, state, field, filled: 0, blocks, truncation: 0 }
    }

    /// Blocks of which the earlier file holds the content, unless they are listed.
    pub(super) fn kept_blocks(&self) -> u32 {
        self.truncation
    }

    /// The listed blocks, ascending, counted from the beginning of this file.
    pub(super) fn blocks(&self) -> &[u32] {
        &self.blocks
    }

    /// Blocks of the file as it is now.
    pub(super) fn file_blocks(&self) -> u32 {
        self.truncation.max(self.blocks.last().map_or(0, |last| last + 1))
    }

    /// Whether the file is longer than any file of a relation: some servers list a file so whose
    /// relation was truncated, and mean what nobody can know.
    pub(super) fn is_beyond_segment(&self) -> bool {
        self.truncation > self.blocks_per_segment
    }

    /// Takes bytes off the front of `input` and answers with what they mean; `None` when more
    /// input is needed.
    pub(super) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<BlockEvent<'a>>> {
        loop {
            match self.state {
                State::Header => {
                    if !self.collect(HEADER_SIZE_BYTES, input) {
                        return Ok(None);
                    }
                    self.take_header()?;
                }
                State::Numbers { left: 0 } => {
                    self.state = State::Padding { left: padding(self.blocks.len()) };
                }
                State::Numbers { left } => {
                    if !self.collect(NUMBER_SIZE_BYTES, input) {
                        return Ok(None);
                    }
                    self.take_number()?;
                    self.state = State::Numbers { left: left - 1 };
                }
                State::Padding { left: 0 } => self.state = State::Begin,
                State::Begin => {
                    self.state = State::Pages { index: 0, offset: 0 };
                    return Ok(Some(BlockEvent::Begin));
                }
                _ if input.is_empty() => return Ok(None),
                State::Padding { left } => {
                    let (zeroes, rest) = input.split_at(left.min(input.len()));
                    if zeroes.iter().any(|byte| *byte != 0) {
                        return Err(hostile("a list of blocks with something between list and blocks"));
                    }
                    *input = rest;
                    self.state = State::Padding { left: left - zeroes.len() };
                }
                State::Pages { index, offset } => {
                    let Some(block) = self.blocks.get(index).copied() else {
                        return Err(hostile("a list of blocks with more blocks than it lists"));
                    };
                    let (bytes, rest) = input.split_at((PAGE_SIZE_BYTES - offset).min(input.len()));
                    *input = rest;
                    let end = offset + bytes.len();
                    let is_whole = end == PAGE_SIZE_BYTES;
                    self.state = State::Pages {
                        index: index + usize::from(is_whole),
                        offset: if is_whole { 0 } else { end },
                    };
                    return Ok(Some(BlockEvent::Bytes { block, offset, bytes }));
                }
            }
        }
    }

    /// Whether all that was announced has come.
    pub(super) fn is_complete(&self) -> bool {
        self.state == State::Pages { index: self.blocks.len(), offset: 0 }
    }

    /// Fills the field being read; `true` when it has `size` bytes.
    fn collect(&mut self, size: usize, input: &mut &[u8]) -> bool {
        let (piece, rest) = input.split_at((size - self.filled).min(input.len()));
        self.field[self.filled..self.filled + piece.len()].copy_from_slice(piece);
        *input = rest;
        self.filled += piece.len();
        if self.filled < size {
            return false;
        }
        self.filled = 0;
        true
    }

    fn word(&self, at: usize) -> u32 {
        let [a, b, c, d] = [self.field[at], self.field[at + 1], self.field[at + 2], self.field[at + 3]];
        u32::from_le_bytes([a, b, c, d])
    }

    fn take_header(&mut self) -> Result<()> {
        let (magic, count, truncation) = (self.word(0), self.word(4), self.word(8));
        if magic != MAGIC {
            return Err(hostile("a list of blocks that does not begin as one"));
        }
        if count > self.blocks_per_segment {
            return Err(hostile(format!("a list of {count} blocks, more than a file has")));
        }
        let blocks = count as usize;
        let size = if blocks == 0 {
            HEADER_SIZE_BYTES
        } else {
            HEADER_SIZE_BYTES + blocks * NUMBER_SIZE_BYTES + padding(blocks) + blocks * PAGE_SIZE_BYTES
        };
        if self.announced != size as u64 {
            let announced = self.announced;
            return Err(hostile(format!("a list of {count} blocks in {announced} bytes instead of {size}")));
        }
        self.truncation = truncation;
        self.blocks.reserve_exact(blocks);
        self.state = State::Numbers { left: count };
        Ok(())
    }

    fn take_number(&mut self) -> Result<()> {
        let block = self.word(0);
        if block >= self.blocks_per_segment || self.blocks.last().is_some_and(|last| *last >= block) {
            return Err(hostile(format!("block {block} out of order in a list of blocks")));
        }
        self.blocks.push(block);
        Ok(())
    }
}

/// Zeroes between the list and its blocks, so that these begin at a whole page.
fn padding(blocks: usize) -> usize {
    let list = HEADER_SIZE_BYTES + blocks * NUMBER_SIZE_BYTES;
    if blocks == 0 { 0 } else { list.next_multiple_of(PAGE_SIZE_BYTES) - list }
}

#[cfg(test)]
#[path = "block_list_tests.rs"]
mod tests;
