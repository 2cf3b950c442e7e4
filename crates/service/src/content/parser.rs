//! Reads a content stream, in whatever pieces it arrives. Bounded: it never holds more than one
//! frame and the piece that was pushed last.

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
    buffer: Vec<u8>,
    read: usize,
    begun: bool,
    ended: bool,
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

    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.read);
        self.read = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next event, or `None` when more bytes are needed.
    #[expect(clippy::should_implement_trait, reason = "it answers None for `not yet`, not for `no more`")]
    pub fn next(&mut self) -> Result<Option<ContentEvent>> {
        if !self.begun {
            let Some(magic) = self.peek(MAGIC.len()) else { return Ok(None) };
            if magic != MAGIC {
                return Err(broken("it does not begin as a content stream"));
            }
            self.read += MAGIC.len();
            self.begun = true;
        }
        if self.ended {
            return Ok(None);
        }
        let Some(header) = self.header() else { return Ok(None) };
        match header.kind {
            DATA => self.data(&header),
            FILL => {
                let Some(byte) = self.body(1) else { return Ok(None) };
                let body = FrameBody::Fill { byte: byte[0], length: header.length };
                Ok(Some(self.frame(&header, body, 1)))
            }
            END_OF_SEGMENT => {
                self.read += HEADER_BYTES;
                Ok(Some(ContentEvent::SegmentEnd { member: header.member, segment: header.segment }))
            }
            ERROR => self.error(&header),
            END_OF_STREAM => {
                self.read += HEADER_BYTES;
                self.ended = true;
                Ok(Some(ContentEvent::End { segments: header.length }))
            }
            _ => Err(broken("it holds an unknown frame")),
        }
    }

    /// Whether the stream was whole. To be called when no more bytes come.
    pub fn finish(&self) -> Result<()> {
        if self.ended && self.read == self.buffer.len() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unavailable, "The server's answer was cut short.").with_retry(Retry::Later))
    }

    fn data(&mut self, header: &Header) -> Result<Option<ContentEvent>> {
        if header.length > DATA_BYTES_MAX as u64 {
            return Err(broken("a frame is longer than allowed"));
        }
        let length = header.length as usize;
        let Some(body) = self.body(32 + length) else { return Ok(None) };
        let (digest, data) = body.split_at(32);
        if blake3::hash(data).as_bytes() != digest {
            return Err(Error::new(
                ErrorKind::Damage,
                "A byte changed on its way from the server; it was not used.",
            )
            .with_retry(Retry::Later));
        }
        let data = data.to_vec();
        Ok(Some(self.frame(header, FrameBody::Data(data), 32 + length)))
    }

    fn error(&self, header: &Header) -> Result<Option<ContentEvent>> {
        if header.length > ERROR_BYTES_MAX as u64 {
            return Err(broken("a frame is longer than allowed"));
        }
        let Some(body) = self.body(header.length as usize) else { return Ok(None) };
        let document: ErrorDocument =
            serde_json::from_slice(body).map_err(|_| broken("its error cannot be read"))?;
        let kind = kind_of(&document.code).unwrap_or(ErrorKind::Internal);
        Err(Error::new(kind, document.message).with_hint(document.hint))
    }

    fn frame(&mut self, header: &Header, body: FrameBody, length: usize) -> ContentEvent {
        self.read += HEADER_BYTES + length;
        ContentEvent::Frame(Frame {
            member: header.member,
            segment: header.segment,
            offset: header.offset,
            body,
        })
    }

    fn peek(&self, length: usize) -> Option<&[u8]> {
        self.buffer.get(self.read..self.read + length)
    }

    fn body(&self, length: usize) -> Option<&[u8]> {
        let start = self.read + HEADER_BYTES;
        self.buffer.get(start..start + length)
    }

    fn header(&self) -> Option<Header> {
        let bytes = self.peek(HEADER_BYTES)?;
        let number =
            |at: usize| -> Option<u64> { Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?)) };
        Some(Header {
            kind: bytes[0],
            member: number(1)?,
            segment: u32::from_le_bytes(bytes.get(9..13)?.try_into().ok()?),
            offset: number(13)?,
            length: number(21)?,
        })
    }
}

fn broken(what: &str) -> Error {
    Error::new(ErrorKind::Unavailable, format!("The server's answer cannot be used: {what}."))
        .with_hint("use a strongroom command of the same release as the server")
}
