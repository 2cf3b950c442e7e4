//! The content stream, as the fuzzer calls it.

use strongroom_core::{Error, ErrorKind, Result};
use strongroom_repository::{Frame, FrameBody};

use super::{ContentEvent, ContentParser, ContentWriter, DATA, END_OF_SEGMENT, FILL, HEADER_BYTES, MAGIC};

/// A stream in pieces of any size, as it is and with right checksums. What it tells does not depend
/// on the pieces; data is data that came; and written again it is read as the same.
pub(crate) fn stream(bytes: &[u8]) -> bool {
    let Some((cut, stream)) = bytes.split_first() else { return false };
    let is_taken = told(usize::from(*cut) + 1, stream);
    let mut summed = stream.to_vec();
    let data = put_checksums(&mut summed);
    if !told(usize::from(*cut) + 1, &summed) {
        return is_taken;
    }
    if let Some(at) = data {
        summed[at] ^= 1 << (cut % 8);
        assert!(read(&summed, summed.len()).1.is_err(), "a bit of data flipped");
    }
    true
}

/// Whether the stream was whole.
fn told(piece: usize, stream: &[u8]) -> bool {
    let (events, end) = read(stream, stream.len().max(1));
    let (same, same_end) = read(stream, piece);
    assert_eq!(events, same);
    let words = |end: &Result<()>| end.as_ref().err().map(|error| (error.kind(), error.public().to_owned()));
    assert_eq!(words(&end), words(&same_end));
    let came = events.iter().map(|event| match event {
        ContentEvent::Frame(Frame { body: FrameBody::Data(data), .. }) => data.len(),
        _ => 0,
    });
    assert!(came.sum::<usize>() <= stream.len());
    if end.is_ok() {
        let (again, end) = read(&written(events.clone()), piece);
        assert!(end.is_ok());
        assert_eq!(again, events);
    }
    end.is_ok()
}

fn read(stream: &[u8], piece: usize) -> (Vec<ContentEvent>, Result<()>) {
    let (mut parser, mut events) = (ContentParser::new(), Vec::new());
    for mut part in stream.chunks(piece) {
        loop {
            match parser.next(&mut part) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return (events, Err(error)),
            }
        }
    }
    let end = parser.finish();
    (events, end)
}

fn written(events: Vec<ContentEvent>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut sink = |piece: Vec<u8>| {
        bytes.extend_from_slice(&piece);
        Ok(())
    };
    let mut writer = ContentWriter::new(&mut sink);
    let mut write = |event| match event {
        ContentEvent::Frame(frame) => writer.frame(frame),
        ContentEvent::SegmentEnd { member, segment } => writer.end_segment(member, segment),
        ContentEvent::End { segments } => writer.end(segments),
    };
    for event in events {
        write(event).expect("memory takes everything");
    }
    [&MAGIC[..], &bytes].concat()
}

/// Data with a wrong checksum would be the end of nearly every input. Answers where a byte of data is.
fn put_checksums(stream: &mut [u8]) -> Option<usize> {
    let mut found = None;
    let mut at = MAGIC.len();
    while let Some(header) = stream.get(at..at + HEADER_BYTES) {
        let (kind, mut length) = (header[0], [0; 8]);
        length.copy_from_slice(&header[21..]);
        let length = usize::try_from(u64::from_le_bytes(length)).unwrap_or(usize::MAX);
        at += HEADER_BYTES;
        at = match kind {
            DATA => {
                let end = at.saturating_add(4).saturating_add(length);
                let Some(data) = stream.get(at + 4..end) else { return found };
                let sum = crc32c::crc32c(data).to_le_bytes();
                found = (length > 0).then_some(at + 4).or(found);
                stream[at..at + 4].copy_from_slice(&sum);
                end
            }
            FILL => at + 1,
            END_OF_SEGMENT => at,
            _ => return found,
        };
    }
    found
}

pub(crate) fn whole() -> Vec<u8> {
    let at = (7, 1);
    let frame = |offset, body| ContentEvent::Frame(Frame { member: at.0, segment: at.1, offset, body });
    let stream = written(vec![
        frame(9, FrameBody::Data(vec![5; 40])),
        frame(49, FrameBody::Fill { byte: 0, length: 1 << 33 }),
        ContentEvent::SegmentEnd { member: at.0, segment: at.1 },
        ContentEvent::End { segments: 1 },
    ]);
    [&[6][..], &stream].concat()
}

/// Not taken: it tells of a failure.
pub(crate) fn failed() -> Vec<u8> {
    let mut bytes = vec![3];
    let mut sink = |piece: Vec<u8>| {
        bytes.extend_from_slice(&piece);
        Ok(())
    };
    let mut writer = ContentWriter::new(&mut sink);
    writer
        .begin()
        .and_then(|()| writer.error(&Error::new(ErrorKind::Damage, "The object x is damaged."), "r1"))
        .expect("memory takes everything");
    bytes
}
