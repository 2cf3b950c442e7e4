//! Reads a content stream, in whatever pieces it arrives. Bounded: it never holds more than one
//! frame. The bytes of a data frame are copied once, from the piece into the frame.

use serde::Deserialize;
use strongroom_core::{Error, ErrorKind, Result, Retry};
use strongroom_repository::{Frame, FrameBody};
use strongroom_restore::ContentEvent;

use super::{
    DATA, DATA_BYTES_MAX, END_OF_SEGMENT, END_OF_STREAM, ERROR, ERROR_BYTES_MAX, FILL, HEADER_BYTES, MAGIC,
};
use crate::failure::kind_of;

/// A parser that is fed.
#[derive(Debug, Default)]
pub struct ContentParser {
    /// The frame that is arriving, without the bytes of a data frame.
    head: Vec<u8>,
    /// The bytes of a data frame, when its head is whole.
    data: Vec<u8>,
    begun: bool,
    ended: bool,
    /// Something stood behind the end.
    excess: bool,
}

struct Header {
    kind: u8,
    member: u64,
    segment: u32,
    offset: u64,
    length: u64,
}

#[derive(Deserialize)]
struct ErrorDocument {
    code: String,
    message: String,
    #[serde(default)]
    hint: String,
}

impl ContentParser {
    pub fn new() -> Self {
        Self::default()
    }

    /// The next event, or `None` when `input` is used up and more bytes are needed. What was used
    /// is taken off the front of `input`.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<ContentEvent>> {
        if !self.begun {
            if !self.gather(MAGIC.len(), input) {
                return Ok(None);
            }
            if self.head != MAGIC {
                return Err(broken("it does not begin as a content stream"));
            }
            self.head.clear();
            self.begun = true;
        }
        if self.ended {
            self.excess |= !input.is_empty();
            *input = &[];
            return Ok(None);
        }
        if !self.gather(HEADER_BYTES, input) {
            return Ok(None);
        }
        let header = Header::of(&self.head);
        let behind = match header.kind {
            DATA if header.length <= DATA_BYTES_MAX as u64 => 4,
            ERROR if header.length <= ERROR_BYTES_MAX as u64 => header.length as usize,
            DATA | ERROR => return Err(broken("a frame is longer than allowed")),
            FILL => 1,
            END_OF_SEGMENT | END_OF_STREAM => 0,
            _ => return Err(broken("it holds an unknown frame")),
        };
        if !self.gather(HEADER_BYTES + behind, input)
            || header.kind == DATA && !self.gather_data(header.length as usize, input)
        {
            return Ok(None);
        }
        let event = self.event(&header)?;
        self.head.clear();
        Ok(Some(event))
    }

    /// Whether the stream was whole. To be called when no more bytes come.
    pub fn finish(&self) -> Result<()> {
        if self.ended && !self.excess {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unavailable, "The server's answer was cut short.").with_retry(Retry::Later))
    }

    /// Whether the head has `length` bytes, after taking what is missing.
    fn gather(&mut self, length: usize, input: &mut &[u8]) -> bool {
        let missing = length.saturating_sub(self.head.len()).min(input.len());
        let (now, later) = input.split_at(missing);
        self.head.extend_from_slice(now);
        *input = later;
        self.head.len() >= length
    }

    fn gather_data(&mut self, length: usize, input: &mut &[u8]) -> bool {
        self.data.reserve_exact(length - self.data.len());
        let (now, later) = input.split_at((length - self.data.len()).min(input.len()));
        self.data.extend_from_slice(now);
        *input = later;
        self.data.len() == length
    }

    fn event(&mut self, header: &Header) -> Result<ContentEvent> {
        let behind = &self.head[HEADER_BYTES..];
        let body = match header.kind {
            DATA => {
                if behind != crc32c::crc32c(&self.data).to_le_bytes() {
                    return Err(Error::new(
                        ErrorKind::Damage,
                        "A byte changed on its way from the server; it was not used.",
                    )
                    .with_retry(Retry::Later));
                }
                FrameBody::Data(std::mem::take(&mut self.data))
            }
            FILL => FrameBody::Fill { byte: behind[0], length: header.length },
            END_OF_SEGMENT => {
                return Ok(ContentEvent::SegmentEnd { member: header.member, segment: header.segment });
            }
            END_OF_STREAM => {
                self.ended = true;
                return Ok(ContentEvent::End { segments: header.length });
            }
            _ => return Err(told(behind)),
        };
        Ok(ContentEvent::Frame(Frame {
            member: header.member,
            segment: header.segment,
            offset: header.offset,
            body,
        }))
    }
}

impl Header {
    /// `bytes` has at least [`HEADER_BYTES`].
    fn of(bytes: &[u8]) -> Self {
        let number = |at: usize, length: usize| {
            let mut whole = [0; 8];
            whole[..length].copy_from_slice(&bytes[at..at + length]);
            u64::from_le_bytes(whole)
        };
        Self {
            kind: bytes[0],
            member: number(1, 8),
            segment: number(9, 4) as u32,
            offset: number(13, 8),
            length: number(21, 8),
        }
    }
}

/// The failure that an error frame tells of.
fn told(body: &[u8]) -> Error {
    match serde_json::from_slice::<ErrorDocument>(body) {
        Ok(document) => {
            let kind = kind_of(&document.code).unwrap_or(ErrorKind::Internal);
            Error::new(kind, document.message).with_hint(document.hint)
        }
        Err(_) => broken("its error cannot be read"),
    }
}

fn broken(what: &str) -> Error {
    Error::new(ErrorKind::Unavailable, format!("The server's answer cannot be used: {what}."))
        .with_hint("use a strongroom command of the same release as the server")
}
