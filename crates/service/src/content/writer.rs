//! Writes a content stream.

use serde_json::json;
use strongroom_core::{Error, Result};
use strongroom_repository::{Frame, FrameBody};

use super::{DATA, DATA_BYTES_MAX, END_OF_SEGMENT, END_OF_STREAM, ERROR, FILL, HEADER_BYTES, MAGIC};
use crate::failure::code_of;

/// Turns frames into bytes, handed to a sink as they are made.
pub struct ContentWriter<'a> {
    sink: &'a mut dyn FnMut(Vec<u8>) -> Result<()>,
}

impl<'a> ContentWriter<'a> {
    pub fn new(sink: &'a mut dyn FnMut(Vec<u8>) -> Result<()>) -> Self {
        Self { sink }
    }

    pub fn begin(&mut self) -> Result<()> {
        (self.sink)(MAGIC.to_vec())
    }

    pub fn frame(&mut self, frame: Frame) -> Result<()> {
        let at = (frame.member, frame.segment);
        match frame.body {
            FrameBody::Fill { byte, length } => {
                let mut out = header(FILL, at, frame.offset, length, 1);
                out.push(byte);
                (self.sink)(out)
            }
            // The usual case: the bytes go on as they are, without a copy.
            FrameBody::Data(data) if data.len() <= DATA_BYTES_MAX => self.data(at, frame.offset, data),
            FrameBody::Data(data) => {
                let mut offset = frame.offset;
                for part in data.chunks(DATA_BYTES_MAX) {
                    self.data(at, offset, part.to_vec())?;
                    offset += part.len() as u64;
                }
                Ok(())
            }
        }
    }

    fn data(&mut self, at: (u64, u32), offset: u64, data: Vec<u8>) -> Result<()> {
        let mut out = header(DATA, at, offset, data.len() as u64, 4);
        out.extend_from_slice(&crc32c::crc32c(&data).to_le_bytes());
        (self.sink)(out)?;
        (self.sink)(data)
    }

    pub fn end_segment(&mut self, member: u64, segment: u32) -> Result<()> {
        (self.sink)(header(END_OF_SEGMENT, (member, segment), 0, 0, 0))
    }

    /// Ends the stream with a failure, in public words.
    pub fn error(&mut self, error: &Error, request_id: &str) -> Result<()> {
        let body = json!({
            "code": code_of(error.kind()),
            "message": error.public(),
            "hint": error.hint().unwrap_or_default(),
            "request_id": request_id,
        });
        let body = body.to_string();
        let mut out = header(ERROR, (0, 0), 0, body.len() as u64, body.len());
        out.extend_from_slice(body.as_bytes());
        (self.sink)(out)
    }

    pub fn end(&mut self, segments: u64) -> Result<()> {
        (self.sink)(header(END_OF_STREAM, (0, 0), 0, segments, 0))
    }
}

fn header(kind: u8, at: (u64, u32), offset: u64, length: u64, more: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + more);
    out.push(kind);
    out.extend_from_slice(&at.0.to_le_bytes());
    out.extend_from_slice(&at.1.to_le_bytes());
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out
}
