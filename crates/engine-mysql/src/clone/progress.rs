//! Which pieces of the files were begun, and how far the last one is: what a donor has to be told to
//! go on where it was.

use crate::fault::{Fault, Result};

/// Pieces of one phase: 64 MiB each of a petabyte.
pub(super) const CHUNKS_MAX: u32 = 1 << 24;

/// The progress in one phase.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Bit 0 of the first word is piece 1.
    begun: Vec<u32>,
    /// The piece that came last, and its last block.
    open: Option<(u32, u32)>,
}

impl Progress {
    /// A block came, wholly.
    pub(super) fn note(&mut self, chunk: u32, block: u32) -> Result<()> {
        if chunk == 0 || chunk > CHUNKS_MAX {
            return Err(Fault::hostile(format!("a piece of a clone with the number {chunk}")));
        }
        let (word, bit) = (((chunk - 1) / 32) as usize, 1 << ((chunk - 1) % 32));
        if self.begun.len() <= word {
            self.begun.resize(word + 1, 0);
        }
        match self.open {
            Some((open, last)) if open == chunk && block <= last => {
                return Err(Fault::hostile(format!("block {block} of piece {chunk} behind block {last}")));
            }
            Some((open, _)) if open == chunk => {}
            _ if self.begun[word] & bit != 0 => {
                return Err(Fault::hostile(format!("piece {chunk} of a clone for a second time")));
            }
            _ => {}
        }
        self.begun[word] |= bit;
        self.open = Some((chunk, block));
        Ok(())
    }

    /// Every piece that was begun, but for the last one, is complete: one stream sends one after another.
    pub(super) fn incomplete(&self) -> Vec<(u32, u32)> {
        self.open.into_iter().collect()
    }

    pub(super) fn begun(&self) -> &[u32] {
        &self.begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h03_pieces_come_once_and_their_blocks_in_order() {
        let mut progress = Progress::default();
        for (chunk, block) in [(1, 1), (1, 2), (33, 1), (2, 5)] {
            progress.note(chunk, block).unwrap();
        }
        assert_eq!((progress.begun(), progress.incomplete()), (&[3, 1][..], vec![(2, 5)]));
        for (chunk, block) in [(2, 5), (2, 4), (1, 3), (0, 1), (CHUNKS_MAX + 1, 1), (u32::MAX, 1)] {
            assert!(progress.clone().note(chunk, block).is_err(), "{chunk}/{block}");
        }
        progress.note(CHUNKS_MAX, 1).unwrap();
        assert_eq!(progress.begun().len(), (CHUNKS_MAX / 32) as usize);
    }
}
