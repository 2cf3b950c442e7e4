//! Positions in the write-ahead log, and the names of the segments that hold them.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use strongroom_core::{Error, ErrorKind, Result};

/// A log sequence number: a byte position in the write-ahead log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Lsn(pub(crate) u64);

impl Lsn {
    /// Parses the server's own spelling, two hex numbers around a slash.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (high, low) = text.trim().split_once('/')?;
        let is_hex =
            |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_hex(high) || !is_hex(low) {
            return None;
        }
        let high = u64::from(u32::from_str_radix(high, 16).ok()?);
        let low = u64::from(u32::from_str_radix(low, 16).ok()?);
        Some(Self((high << 32) | low))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl Serialize for Lsn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lsn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("not a log position"))
    }
}

/// The size of a cluster's log segments: a power of two from 1 MiB to 1 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct SegmentSize(u64);

impl SegmentSize {
    pub(crate) fn new(bytes: u64) -> Result<Self> {
        if bytes.is_power_of_two() && (1 << 20..=1 << 30).contains(&bytes) {
            return Ok(Self(bytes));
        }
        Err(Error::new(
            ErrorKind::SourceHostile,
            format!("The server says that its log segments have {bytes} bytes, which no PostgreSQL has."),
        ))
    }

    pub(crate) fn bytes(self) -> u64 {
        self.0
    }

    /// Number of the segment a position lies in.
    pub(crate) fn segment_of(self, position: Lsn) -> u64 {
        position.0 / self.0
    }

    /// Position of a segment's first byte.
    pub(crate) fn start_of(self, segment: u64) -> Lsn {
        Lsn(segment * self.0)
    }

    /// Bytes from a position to the end of its segment; the last segment there is has an end too.
    pub(crate) fn left_in(self, position: Lsn) -> u64 {
        self.0 - position.0 % self.0
    }

    /// File name of a segment: timeline, high and low part, eight hex digits each.
    pub(crate) fn file_name(self, timeline: u32, segment: u64) -> String {
        let per_high_part = (1_u64 << 32) / self.0;
        format!("{timeline:08X}{:08X}{:08X}", segment / per_high_part, segment % per_high_part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_the_server_writes_them() {
        assert_eq!(Lsn::parse("1/A0B"), Some(Lsn(0x1_0000_0A0B)));
        assert_eq!(Lsn::parse("0/0000A0B0"), Some(Lsn(0xA0B0)));
        assert_eq!(Lsn(0x1_0000_0A0B).to_string(), "1/A0B");
        for bad in ["", "/", "1", "1/", "/1", "1/123456789", "g/1", "-1/1", "+1/1", "1/1/1"] {
            assert_eq!(Lsn::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn segment_names_follow_the_segment_size() {
        let sixteen = SegmentSize::new(16 << 20).unwrap();
        assert_eq!(sixteen.file_name(1, sixteen.segment_of(Lsn(0x1_0200_0000))), "000000010000000100000002");
        let one = SegmentSize::new(1 << 20).unwrap();
        assert_eq!(one.file_name(10, one.segment_of(Lsn(0x2_FFF0_0001))), "0000000A0000000200000FFF");
        assert_eq!(one.start_of(3), Lsn(3 << 20));
        assert_eq!((sixteen.left_in(Lsn(0)), sixteen.left_in(Lsn(u64::MAX))), (16 << 20, 1));
        for bad in [0, 1, 512 << 10, (16 << 20) + 1, 2 << 30] {
            assert!(SegmentSize::new(bad).is_err(), "{bad}");
        }
    }
}
