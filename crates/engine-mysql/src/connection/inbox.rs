//! Bytes from the server, cut into packets: a length of three bytes, a number, a body.

use std::io::{self, Read};
use std::ops::Range;

use crate::fault::{Fault, Result};

/// What is read from the socket at once.
const INBOX_SIZE_BYTES: usize = 512 * 1024;

/// The largest packet that is taken. A block of a clone is 64 pages, which may have 64 KiB each; bodies
/// that go on in a second packet would begin at 16 MiB and are therefore never needed.
const PACKET_SIZE_BYTES_MAX: usize = 4 * 1024 * 1024 + 64 * 1024;

/// Length and number.
pub(super) const HEADER_SIZE_BYTES: usize = 4;

/// Where a complete packet lies in the inbox.
#[derive(Debug, Clone)]
pub(crate) struct Envelope {
    pub(crate) number: u8,
    body: Range<usize>,
}

/// Received bytes. Bodies are handed out as slices of it, so data is copied once: from the kernel.
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; INBOX_SIZE_BYTES], start: 0, end: 0 }
    }

    /// Reads once. 0 means that the server has closed the connection.
    pub(crate) fn fill(&mut self, from: &mut impl Read) -> io::Result<usize> {
        let count = from.read(&mut self.bytes[self.end..])?;
        self.end += count;
        Ok(count)
    }

    /// Whether something came that was not taken yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The next complete packet, when it is there. Otherwise there is room for the rest of it.
    pub(crate) fn take(&mut self) -> Result<Option<Envelope>> {
        let waiting = &self.bytes[self.start..self.end];
        let mut needed = HEADER_SIZE_BYTES;
        if let [a, b, c, number, ..] = *waiting {
            needed = HEADER_SIZE_BYTES + body_length([a, b, c])?;
            if waiting.len() >= needed {
                let body = self.start + HEADER_SIZE_BYTES..self.start + needed;
                self.start = body.end;
                return Ok(Some(Envelope { number, body }));
            }
        }
        self.make_room(needed);
        Ok(None)
    }

    /// The content of a packet that was just taken.
    pub(crate) fn open(&self, envelope: Envelope) -> &[u8] {
        &self.bytes[envelope.body]
    }

    /// What came and was not taken yet.
    pub(super) fn waiting(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Takes so many bytes, which are there.
    pub(super) fn skip(&mut self, count: usize) -> Range<usize> {
        let taken = self.start..self.start + count;
        self.start = taken.end;
        taken
    }

    /// Bytes that were just taken.
    pub(super) fn part(&self, taken: Range<usize>) -> &[u8] {
        &self.bytes[taken]
    }

    pub(super) fn make_room(&mut self, needed: usize) {
        let is_tight =
            self.bytes.len() - self.start < needed || self.bytes.len() - self.end < INBOX_SIZE_BYTES / 4;
        if self.start > 0 && is_tight {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.bytes.len() < needed {
            self.bytes.resize(needed, 0);
        }
    }
}

fn body_length(length: [u8; 3]) -> Result<usize> {
    let length = u32::from_le_bytes([length[0], length[1], length[2], 0]) as usize;
    if length > PACKET_SIZE_BYTES_MAX {
        return Err(Fault::hostile(format!("a packet that says it has {length} bytes")));
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn packets_do_not_depend_on_how_they_arrive(
            bodies in prop::collection::vec(0_usize..200_000, 1..8),
            cut in 1_usize..70_000,
        ) {
            let mut stream = Vec::new();
            for (number, size) in bodies.iter().enumerate() {
                stream.extend_from_slice(&u32::try_from(*size).unwrap().to_le_bytes()[..3]);
                stream.push(u8::try_from(number).unwrap());
                stream.resize(stream.len() + size, u8::try_from(number).unwrap());
            }
            let mut inbox = Inbox::new();
            let mut sizes = Vec::new();
            for piece in stream.chunks(cut) {
                let mut piece = piece;
                while !piece.is_empty() {
                    prop_assert!(inbox.fill(&mut piece).unwrap() > 0);
                    while let Some(envelope) = inbox.take().unwrap() {
                        let number = envelope.number;
                        let body = inbox.open(envelope);
                        prop_assert!(usize::from(number) == sizes.len() && body.iter().all(|b| *b == number));
                        sizes.push(body.len());
                    }
                }
            }
            prop_assert!(inbox.is_empty());
            prop_assert_eq!(sizes, bodies);
        }
    }

    #[test]
    fn h06_packets_that_lie_about_their_length_are_refused_before_memory_is_taken() {
        for length in [[0xff, 0xff, 0xff], [1, 0, 0x41]] {
            let mut inbox = Inbox::new();
            inbox.fill(&mut &[length[0], length[1], length[2], 0][..]).unwrap();
            assert!(inbox.take().is_err());
            assert_eq!(inbox.bytes.len(), INBOX_SIZE_BYTES);
        }
    }
}
