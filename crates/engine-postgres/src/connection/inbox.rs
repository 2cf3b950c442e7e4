//! Bytes from the server, cut into messages: a tag, a length, a body.

use std::io::{self, Read};
use std::ops::Range;

use crate::fault::{Fault, Result};

/// What is read from the socket at once.
const INBOX_SIZE_BYTES: usize = 512 * 1024;

/// The largest message that is taken. The server's own pieces of data stay below 150 KB.
const MESSAGE_SIZE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Tag and length.
const HEADER_SIZE_BYTES: usize = 5;

/// One message of the server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) tag: u8,
    pub(crate) body: &'a [u8],
}

/// Where a complete message lies in the inbox.
#[derive(Debug, Clone)]
pub(crate) struct Envelope {
    pub(crate) tag: u8,
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

    /// The next complete message, when it is there. Otherwise there is room for the rest of it.
    pub(crate) fn take(&mut self) -> Result<Option<Envelope>> {
        let waiting = &self.bytes[self.start..self.end];
        let mut needed = HEADER_SIZE_BYTES;
        if let [tag, a, b, c, d, ..] = *waiting {
            needed = 1 + message_length(tag, [a, b, c, d])?;
            if waiting.len() >= needed {
                let body = self.start + HEADER_SIZE_BYTES..self.start + needed;
                self.start = body.end;
                return Ok(Some(Envelope { tag, body }));
            }
        }
        self.make_room(needed);
        Ok(None)
    }

    /// The content of a message that was just taken.
    pub(crate) fn open(&self, envelope: Envelope) -> Message<'_> {
        Message { tag: envelope.tag, body: &self.bytes[envelope.body] }
    }

    /// Gives back the message that was just taken; it will be the next one again.
    pub(crate) fn put_back(&mut self, envelope: &Envelope) {
        self.start = envelope.body.start - HEADER_SIZE_BYTES;
    }

    fn make_room(&mut self, needed: usize) {
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

/// The length counts itself but not the tag.
fn message_length(tag: u8, length: [u8; 4]) -> Result<usize> {
    let length = u32::from_be_bytes(length) as usize;
    if !(4..=MESSAGE_SIZE_BYTES_MAX).contains(&length) {
        return Err(Fault::hostile(format!("a message of type 0x{tag:02x} that says it has {length} bytes")));
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_do_not_depend_on_how_they_arrive(
            bodies in prop::collection::vec(0_usize..200_000, 1..8),
            cut in 1_usize..70_000,
        ) {
            let mut stream = Vec::new();
            for (number, size) in bodies.iter().enumerate() {
                stream.push(b'd');
                stream.extend_from_slice(&u32::try_from(size + 4).unwrap().to_be_bytes());
                stream.resize(stream.len() + size, u8::try_from(number).unwrap());
            }
            let mut inbox = Inbox::new();
            let mut sizes = Vec::new();
            for piece in stream.chunks(cut) {
                let mut piece = piece;
                while !piece.is_empty() {
                    prop_assert!(inbox.fill(&mut piece).unwrap() > 0);
                    while let Some(envelope) = inbox.take().unwrap() {
                        let message = inbox.open(envelope);
                        let number = u8::try_from(sizes.len()).unwrap();
                        prop_assert!(message.tag == b'd' && message.body.iter().all(|b| *b == number));
                        sizes.push(message.body.len());
                    }
                }
            }
            prop_assert_eq!(sizes, bodies);
        }
    }

    #[test]
    fn h06_lengths_that_lie_are_refused_before_memory_is_taken() {
        for length in [0_u32, 3, 0x7fff_ffff, 0xffff_ffff, 4 * 1024 * 1024 + 1] {
            let mut inbox = Inbox::new();
            let stream = [&[b'd'][..], &length.to_be_bytes()].concat();
            inbox.fill(&mut &stream[..]).unwrap();
            assert!(inbox.take().is_err(), "{length}");
            assert_eq!(inbox.bytes.len(), INBOX_SIZE_BYTES);
        }
    }
}
