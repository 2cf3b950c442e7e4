//! The content stream: how segments of a backup travel from the server to a restore.
//! `docs/formats/content-stream.md` describes each byte. Pure: it knows no socket.

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod parser;
mod writer;

pub use parser::ContentParser;
pub use strongroom_restore::ContentEvent;
pub use writer::ContentWriter;

/// Begins every stream.
pub const MAGIC: [u8; 8] = *b"SRCONT02";
/// Payload of one data frame.
pub const DATA_BYTES_MAX: usize = 1 << 20;
/// Payload of an error frame.
pub const ERROR_BYTES_MAX: usize = 64 << 10;

const DATA: u8 = 1;
const FILL: u8 = 2;
const END_OF_SEGMENT: u8 = 3;
const ERROR: u8 = 4;
const END_OF_STREAM: u8 = 5;
/// Kind, member, segment, offset, length.
const HEADER_BYTES: usize = 1 + 8 + 4 + 8 + 8;

#[cfg(test)]
mod tests {
    use strongroom_core::{Error, ErrorKind};
    use strongroom_repository::{Frame, FrameBody};

    use super::*;

    fn stream() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut sink = |piece: Vec<u8>| {
            bytes.extend_from_slice(&piece);
            Ok(())
        };
        let mut writer = ContentWriter::new(&mut sink);
        writer.begin().unwrap();
        let data = FrameBody::Data(vec![5; 3000]);
        writer.frame(Frame { member: 7, segment: 1, offset: 9, body: data }).unwrap();
        let fill = FrameBody::Fill { byte: 0, length: 1 << 33 };
        writer.frame(Frame { member: 7, segment: 1, offset: 3009, body: fill }).unwrap();
        writer.end_segment(7, 1).unwrap();
        writer.end(1).unwrap();
        bytes
    }

    fn parse(bytes: &[u8], piece: usize) -> strongroom_core::Result<Vec<ContentEvent>> {
        let (mut parser, mut events) = (ContentParser::new(), Vec::new());
        for mut part in bytes.chunks(piece) {
            while let Some(event) = parser.next(&mut part)? {
                events.push(event);
            }
        }
        parser.finish()?;
        Ok(events)
    }

    #[test]
    fn a_stream_is_read_back_however_it_is_cut() {
        let bytes = stream();
        let whole = parse(&bytes, bytes.len()).unwrap();
        assert_eq!(whole.len(), 4);
        for piece in [1, 2, 7, 64, 1000] {
            assert_eq!(parse(&bytes, piece).unwrap(), whole);
        }
    }

    #[test]
    fn s05_a_stream_that_is_cut_short_or_altered_is_refused() {
        let bytes = stream();
        for length in 0..bytes.len() {
            assert!(parse(&bytes[..length], 64).is_err(), "{length}");
        }
        // A byte of the payload: its checksum finds it.
        let mut altered = bytes.clone();
        altered[8 + HEADER_BYTES + 4 + 100] ^= 1;
        assert_eq!(parse(&altered, 64).unwrap_err().kind(), ErrorKind::Damage);
    }

    #[test]
    fn a_failure_in_the_middle_arrives_as_what_it_is() {
        let mut bytes = Vec::new();
        let mut sink = |piece: Vec<u8>| {
            bytes.extend_from_slice(&piece);
            Ok(())
        };
        let mut writer = ContentWriter::new(&mut sink);
        writer.begin().unwrap();
        writer.error(&Error::new(ErrorKind::Damage, "The object x is damaged."), "r1").unwrap();
        let failed = parse(&bytes, 16).unwrap_err();
        assert_eq!((failed.kind(), failed.public()), (ErrorKind::Damage, "The object x is damaged."));
    }

    #[test]
    fn lengths_that_lie_cost_no_memory() {
        let mut bytes = MAGIC.to_vec();
        bytes.push(DATA);
        bytes.extend_from_slice(&[0; 20]);
        bytes.extend_from_slice(&u64::MAX.to_le_bytes());
        assert!(parse(&bytes, 64).is_err());
    }
}
