//! Packets of any length, in pieces: a binary log's events may be a gigabyte large.

use std::ops::Range;
use std::time::Duration;

use super::inbox::{HEADER_SIZE_BYTES, Inbox};
use super::{Connection, TICK, Watch};
use crate::fault::{Fault, Result};

/// A body of this length goes on in the next packet.
const FULL_SIZE_BYTES: usize = 0x00ff_ffff;

/// A body that comes in pieces.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// Of the packet at hand.
    left: usize,
    goes_on: bool,
}

impl Incoming {
    /// How long the body is, when it is all in one packet. Before anything was taken of it.
    pub(super) fn whole_length(&self) -> Option<usize> {
        (!self.goes_on).then_some(self.left)
    }
}

impl Connection {
    /// Begins to take the next body, when its packet comes within the limit.
    pub(crate) fn incoming(&mut self, limit: Duration, watch: &Watch<'_>) -> Result<Option<Incoming>> {
        let length = self.take_within(limit, watch, |inbox| Ok(inbox.take_header()))?;
        Ok(length.map(|length| Incoming { left: length, goes_on: length == FULL_SIZE_BYTES }))
    }

    /// The next bytes of a body, `most` of them at most; none when it has ended.
    pub(crate) fn piece(&mut self, body: &mut Incoming, most: usize, watch: &Watch<'_>) -> Result<&[u8]> {
        while body.left == 0 {
            if !body.goes_on {
                return Ok(&[]);
            }
            let length = self.wait(watch, Inbox::take_header)?;
            (body.left, body.goes_on) = (length, length == FULL_SIZE_BYTES);
        }
        let most = most.min(body.left);
        let piece: Range<usize> = self.wait(watch, |inbox| inbox.take_piece(most))?;
        body.left -= piece.len();
        Ok(self.inbox.part(piece))
    }

    /// Appends exactly so many bytes of a body to a buffer.
    pub(crate) fn gather(
        &mut self,
        body: &mut Incoming,
        count: usize,
        buffer: &mut Vec<u8>,
        watch: &Watch<'_>,
    ) -> Result<()> {
        let wanted = buffer.len() + count;
        while buffer.len() < wanted {
            let piece = self.piece(body, wanted - buffer.len(), watch)?;
            if piece.is_empty() {
                return Err(Fault::hostile("a packet that is shorter than what it holds"));
            }
            buffer.extend_from_slice(piece);
        }
        Ok(())
    }

    fn wait<T>(&mut self, watch: &Watch<'_>, take: impl Fn(&mut Inbox) -> Option<T>) -> Result<T> {
        loop {
            if let Some(taken) = self.take_within(TICK, watch, |inbox| Ok(take(inbox)))? {
                return Ok(taken);
            }
        }
    }
}

impl Inbox {
    /// The length of the next packet, whose body follows in pieces.
    fn take_header(&mut self) -> Option<usize> {
        let Some([a, b, c, _number]) = self.waiting().first_chunk::<HEADER_SIZE_BYTES>().copied() else {
            self.make_room(HEADER_SIZE_BYTES);
            return None;
        };
        self.skip(HEADER_SIZE_BYTES);
        Some(u32::from_le_bytes([a, b, c, 0]) as usize)
    }

    /// Bytes that are there, `most` of them at most.
    fn take_piece(&mut self, most: usize) -> Option<Range<usize>> {
        let count = self.waiting().len().min(most);
        if count == 0 {
            self.make_room(1);
            return None;
        }
        Some(self.skip(count))
    }
}
