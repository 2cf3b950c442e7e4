//! Events of the binary log: their heads, and those of their bodies that something follows from.

use super::checksum::Checksum;
use crate::fault::{Fault, Result};

/// What a file begins with.
pub(super) const MAGIC: [u8; 4] = *b"\xfebin";
pub(super) const HEAD_SIZE_BYTES: usize = 19;
const CHECKSUM_SIZE_BYTES: usize = 4;
/// Made for the one who listens; it is in no file.
const ARTIFICIAL: u16 = 0x20;
/// The only way of checksums there is, as the end of the first event of a file says it.
const CRC32: u8 = 1;

/// Kinds of events.
pub(super) mod kind {
    pub(in crate::logs) const ROTATE: u8 = 4;
    pub(in crate::logs) const FORMAT: u8 = 15;
    pub(in crate::logs) const HEARTBEAT: u8 = 27;
    pub(in crate::logs) const GTID: u8 = 33;
    pub(in crate::logs) const PREVIOUS_GTIDS: u8 = 35;
    pub(in crate::logs) const LONG_HEARTBEAT: u8 = 41;
    pub(in crate::logs) const TAGGED_GTID: u8 = 42;
}

/// The head of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: u8,
    /// Of the whole event, its checksum included.
    pub(super) size: u32,
    /// Where it ends in its file; only the lower half of it.
    pub(super) end: u32,
    flags: u16,
}

impl Head {
    pub(super) fn parse(bytes: &[u8; HEAD_SIZE_BYTES]) -> Result<Self> {
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let flags = u16::from_le_bytes([bytes[17], bytes[18]]);
        let head = Self { kind: bytes[4], size: number(9), end: number(13), flags };
        if (head.size as usize) < HEAD_SIZE_BYTES {
            return Err(Fault::hostile("an event that is shorter than its head"));
        }
        Ok(head)
    }

    pub(super) fn is_artificial(&self) -> bool {
        self.flags & ARTIFICIAL != 0
    }

    pub(super) fn is_heartbeat(&self) -> bool {
        matches!(self.kind, kind::HEARTBEAT | kind::LONG_HEARTBEAT)
    }
}

/// Whether the last four bytes are the checksum of all before them.
pub(super) fn is_right(event: &[u8]) -> bool {
    event
        .split_last_chunk::<CHECKSUM_SIZE_BYTES>()
        .is_some_and(|(content, stored)| Checksum::of(content) == u32::from_le_bytes(*stored))
}

/// The same of an event that comes in pieces.
pub(super) struct Judgement {
    checksum: Checksum,
    /// What comes before the checksum.
    content_left: usize,
    stored: Vec<u8>,
}

impl Judgement {
    pub(super) fn new(size: u32) -> Self {
        let content_left = (size as usize).saturating_sub(CHECKSUM_SIZE_BYTES);
        Self { checksum: Checksum::new(), content_left, stored: Vec::new() }
    }

    pub(super) fn add(&mut self, piece: &[u8]) {
        let (content, rest) = piece.split_at(piece.len().min(self.content_left));
        self.checksum.add(content);
        self.content_left -= content.len();
        self.stored.extend_from_slice(rest);
    }

    pub(super) fn is_right(&self) -> bool {
        self.stored == self.checksum.value().to_le_bytes()
    }
}

/// What is between head and checksum.
pub(super) fn body(event: &[u8], has_checksum: bool) -> Result<&[u8]> {
    let end = event.len().saturating_sub(if has_checksum { CHECKSUM_SIZE_BYTES } else { 0 });
    event.get(HEAD_SIZE_BYTES..end).ok_or_else(|| Fault::hostile("an event without a body"))
}

/// Whether the events of a file have checksums, by its first event, which always has one.
pub(super) fn format_has_checksums(event: &[u8]) -> Result<bool> {
    if !is_right(event) {
        return Err(Fault::hostile("the first event of a file has a wrong checksum"));
    }
    let content = body(event, true)?;
    match content.last() {
        Some(&way) if way <= CRC32 => Ok(way == CRC32),
        _ => Err(Fault::hostile("checksums of a kind that is not known")),
    }
}

/// The place and the file that a rotate event names.
pub(super) fn rotation(event: &[u8], has_checksum: bool) -> Result<(u64, &[u8])> {
    let body = body(event, has_checksum)?;
    let (place, name) =
        body.split_first_chunk::<8>().ok_or_else(|| Fault::hostile("a malformed rotate event"))?;
    Ok((u64::from_le_bytes(*place), name))
}

/// A file's name without its number, and its number: `binlog.000017`.
pub(super) fn file_of(name: &[u8]) -> Result<(&str, u64)> {
    let malformed = || Fault::hostile("a name that no binary log has");
    let name = std::str::from_utf8(name).map_err(|_| malformed())?;
    let (base, digits) = name.rsplit_once('.').ok_or_else(malformed)?;
    if base.is_empty() || digits.len() < 6 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed());
    }
    Ok((base, digits.parse().map_err(|_| malformed())?))
}

/// The name of a file.
pub(super) fn name_of(base: &str, number: u64) -> String {
    format!("{base}.{number:06}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_read_and_made() {
        for (name, base, number) in
            [("binlog.000001", "binlog", 1), ("a.b.123456", "a.b", 123_456), ("b.1234567", "b", 1_234_567)]
        {
            assert_eq!(file_of(name.as_bytes()).unwrap(), (base, number));
            assert_eq!(name_of(base, number), name);
        }
        for bad in ["binlog", "binlog.1", ".000001", "binlog.00000x", "binlog.", "x.99999999999999999999999"]
        {
            assert!(file_of(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(file_of(b"\xff.000001").is_err());
    }

    #[test]
    fn checksums_do_not_depend_on_how_events_come() {
        let event = super::super::fuzzing::made(30, &[3; 500], 4);
        let judge = |event: &[u8], cut: usize| {
            let mut judgement = Judgement::new(u32::try_from(event.len()).unwrap());
            event.chunks(cut).for_each(|piece| judgement.add(piece));
            judgement.is_right()
        };
        for cut in [1, 3, 19, 522, 523, 600] {
            assert!(is_right(&event) && judge(&event, cut), "{cut}");
            for at in (0..event.len()).step_by(29).chain([event.len() - 1]) {
                let mut torn = event.clone();
                torn[at] ^= 4;
                assert!(!is_right(&torn) && !judge(&torn, cut), "{at} {cut}");
            }
            assert!(!judge(&event[..event.len() - 1], cut));
        }
    }

    #[test]
    fn h06_events_that_lie_about_their_length_are_refused() {
        let mut head = [0; HEAD_SIZE_BYTES];
        head[9] = 18;
        assert!(Head::parse(&head).is_err());
        head[9] = 19;
        assert_eq!(Head::parse(&head).unwrap().size, 19);
        assert!(body(&head[..10], true).is_err() && rotation(&head, true).is_err());
        assert!(!is_right(&[1, 2]) && format_has_checksums(&head).is_err());
    }
}
