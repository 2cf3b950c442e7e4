//! Requests and answers of the clone, outside InnoDB's descriptors. Little-endian throughout.

use strongroom_core::foreign_text::for_people;

use super::cursor::Cursor;
use crate::fault::{Fault, Result, ServerError};

/// InnoDB's number among the engines.
const INNODB: u8 = 12;
/// The newest version of the protocol that is known; a donor answers with the smaller of both.
pub(super) const PROTOCOL: u32 = 0x0103;
/// Do not take the backup lock: definitions of tables go on changing, and the clone follows them. The
/// seconds that the donor may wait for those under way must not be 0: the clone would be given up at
/// the first change.
const WITHOUT_LOCK: u32 = (1 << 31) + 300;

/// First bytes of requests.
mod request {
    pub(super) const INIT: u8 = 1;
    pub(super) const REINIT: u8 = 3;
    pub(super) const EXECUTE: u8 = 4;
    pub(super) const ACKNOWLEDGE: u8 = 5;
    pub(super) const EXIT: u8 = 6;
}

fn locator_record(into: &mut Vec<u8>, locator: &[u8]) {
    into.push(INNODB);
    into.extend_from_slice(&u32::try_from(locator.len()).unwrap_or(u32::MAX).to_le_bytes());
    into.extend_from_slice(locator);
}

fn beginning(kind: u8, locator: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&PROTOCOL.to_le_bytes());
    bytes.extend_from_slice(&WITHOUT_LOCK.to_le_bytes());
    locator_record(&mut bytes, locator);
    bytes
}

pub(super) fn init(locator: &[u8]) -> Vec<u8> {
    beginning(request::INIT, locator)
}

/// `locator` tells the progress.
pub(super) fn reinit(locator: &[u8]) -> Vec<u8> {
    beginning(request::REINIT, locator)
}

pub(super) fn execute() -> Vec<u8> {
    vec![request::EXECUTE]
}

/// Acknowledges the end of a phase, or, with an error's number, calls everything off.
pub(super) fn acknowledge(error: u32, locator: &[u8], descriptor: &[u8]) -> Vec<u8> {
    let mut bytes = vec![request::ACKNOWLEDGE];
    bytes.extend_from_slice(&error.to_le_bytes());
    locator_record(&mut bytes, locator);
    bytes.extend_from_slice(&u32::try_from(descriptor.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(descriptor);
    bytes
}

pub(super) fn exit() -> Vec<u8> {
    vec![request::EXIT]
}

/// One answer of a donor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Response<'a> {
    Locator { protocol: u32, locator: &'a [u8] },
    Descriptor(&'a [u8]),
    Data(&'a [u8]),
    Plugin { name: &'a [u8], library: Option<&'a [u8]> },
    Collation(&'a [u8]),
    Configuration { key: &'a [u8], value: &'a [u8] },
    Complete,
    Error(ServerError),
}

impl<'a> Response<'a> {
    pub(crate) fn parse(packet: &'a [u8]) -> Result<Self> {
        let (kind, body) = packet.split_first().ok_or_else(|| Fault::hostile("an empty answer"))?;
        let mut cursor = Cursor(body);
        let read = match kind {
            1 => locator(&mut cursor),
            2 => descriptor(&mut cursor),
            3 => Some(Self::Data(std::mem::take(&mut cursor.0))),
            4 => text(&mut cursor).map(|name| Self::Plugin { name, library: None }),
            5 | 8 | 9 => {
                let read = text(&mut cursor).zip(text(&mut cursor));
                read.map(|(key, value)| Self::Configuration { key, value })
            }
            6 => text(&mut cursor).map(Self::Collation),
            7 => {
                let read = text(&mut cursor).zip(text(&mut cursor));
                read.map(|(name, library)| Self::Plugin { name, library: Some(library) })
            }
            99 => Some(Self::Complete),
            100 => error(&mut cursor),
            0xff => {
                cursor.0 = &[];
                Some(Self::Error(ServerError::decode(packet)))
            }
            other => return Err(Fault::hostile(format!("an answer of type {other}"))),
        };
        match read {
            Some(response) if cursor.0.is_empty() => Ok(response),
            _ => Err(Fault::hostile(format!("a malformed answer of type {kind}"))),
        }
    }
}

fn text<'a>(cursor: &mut Cursor<'a>) -> Option<&'a [u8]> {
    let length = cursor.little_u32()?;
    cursor.bytes(length)
}

fn locator<'a>(cursor: &mut Cursor<'a>) -> Option<Response<'a>> {
    let protocol = cursor.little_u32()?;
    let engine = cursor.u8()?;
    let locator = text(cursor)?;
    // Another engine's locator behind it, or in its place, would be one that cannot be answered.
    (engine == INNODB).then_some(Response::Locator { protocol, locator })
}

fn descriptor<'a>(cursor: &mut Cursor<'a>) -> Option<Response<'a>> {
    let (engine, position) = (cursor.u8()?, cursor.u8()?);
    let descriptor = std::mem::take(&mut cursor.0);
    (engine == INNODB && position == 0).then_some(Response::Descriptor(descriptor))
}

fn error<'a>(cursor: &mut Cursor<'a>) -> Option<Response<'a>> {
    let code = cursor.little_u32()?;
    let message = for_people(std::mem::take(&mut cursor.0));
    Some(Response::Error(ServerError { code, message }))
}

#[cfg(test)]
mod tests {
    use super::super::descriptor::empty_locator;
    use super::*;

    #[test]
    fn requests_are_as_they_were_seen() {
        let init = init(&empty_locator());
        assert_eq!(&init[..14], [1, 3, 1, 0, 0, 0x2c, 1, 0, 0x80, 12, 34, 0, 0, 0]);
        assert_eq!((init.len(), execute(), exit()), (48, vec![4], vec![6]));
        let acknowledged = acknowledge(0, b"abc", b"de");
        assert_eq!(acknowledged, [5, 0, 0, 0, 0, 12, 3, 0, 0, 0, b'a', b'b', b'c', 2, 0, 0, 0, b'd', b'e']);
    }

    #[test]
    fn h06_answers_of_a_donor_are_read_or_refused() {
        let plugin = b"\x07\x03\0\0\0abc\x02\0\0\0so";
        let Response::Plugin { name, library } = Response::parse(plugin).unwrap() else {
            panic!("no plugin")
        };
        assert_eq!((name, library), (&b"abc"[..], Some(&b"so"[..])));
        let locators = b"\x01\x03\x01\0\0\x0c\x02\0\0\0ab";
        for good in [&plugin[..], locators, b"\x02\x0c\0", b"\x64\x01\0\0\0no", b"\x05\0\0\0\0\0\0\0\0"] {
            assert!(Response::parse(good).is_ok(), "{good:?}");
            for length in 0..good.len() {
                let is_whole = matches!(good[0], 2 | 100) && length >= if good[0] == 2 { 3 } else { 5 };
                assert!(is_whole || Response::parse(&good[..length]).is_err(), "{good:?} {length}");
            }
        }
        assert!(Response::parse(b"\x02\x0d\0").is_err() && Response::parse(b"\x02\x0c\x01").is_err());
        assert!(Response::parse(b"\x07\xff\xff\xff\xffabc").is_err());
        assert!(Response::parse(&[42]).is_err() && Response::parse(b"\x63x").is_err());
    }
}
