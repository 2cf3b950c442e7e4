//! Sets of transactions: as they stand in binary logs, as statements say them, as a request sends them.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::fault::{Fault, Result};

/// Stretches of numbers in one set. A set has one for each hole in what was executed.
const STRETCHES_MAX: usize = 1_000_000;
/// The longest tag there is.
const TAG_LENGTH_MAX: usize = 32;
/// Marks an encoding that has tags, in its first byte and in its eighth.
const TAGGED: u8 = 1;
/// The number behind the last that a transaction can have.
const NUMBER_END: u64 = i64::MAX.unsigned_abs();

/// Who numbers transactions: a server, or one of its tags.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Origin {
    pub(super) uuid: [u8; 16],
    /// Empty for none.
    pub(super) tag: String,
}

/// Of each origin, stretches of numbers in order: the first, and the one behind the last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct GtidSet(BTreeMap<Origin, Vec<(u64, u64)>>);

impl GtidSet {
    /// Adds the numbers from `first` to before `end`.
    pub(super) fn add(&mut self, origin: Origin, first: u64, end: u64) -> Result<()> {
        if first == 0 || first >= end || end > NUMBER_END {
            return Err(Fault::hostile("a stretch of transactions that is none"));
        }
        let stretches = self.0.entry(origin).or_default();
        // All that touch the new one become one with it.
        let from = stretches.partition_point(|(_, stop)| *stop < first);
        let to = stretches.partition_point(|(begin, _)| *begin <= end);
        let first = stretches[from..to].first().map_or(first, |touched| touched.0.min(first));
        let end = stretches[from..to].last().map_or(end, |touched| touched.1.max(end));
        stretches.splice(from..to, [(first, end)]);
        if stretches.len() > STRETCHES_MAX {
            return Err(Fault::hostile("a set of transactions without an end"));
        }
        Ok(())
    }

    /// Adds an encoded set: the body of an event that says what came before its file.
    pub(super) fn add_encoded(&mut self, body: &[u8]) -> Result<()> {
        let mut cursor = Cursor(body);
        let head = cursor.take(8)?;
        let is_tagged = head[7] == TAGGED && head[0] == TAGGED;
        let count = if is_tagged {
            head[1..7].iter().rev().fold(0, |count, byte| (count << 8) | u64::from(*byte))
        } else {
            u64_of(head)
        };
        for _ in 0..count {
            let mut uuid = [0; 16];
            uuid.copy_from_slice(cursor.take(16)?);
            let tag = if is_tagged { cursor.tag()? } else { String::new() };
            let origin = Origin { uuid, tag };
            for _ in 0..u64_of(cursor.take(8)?) {
                let (first, end) = (u64_of(cursor.take(8)?), u64_of(cursor.take(8)?));
                self.add(origin.clone(), first, end)?;
            }
        }
        if cursor.0.is_empty() { Ok(()) } else { Err(malformed()) }
    }

    /// Adds the one transaction that an event without tag begins: flags, server, number.
    pub(super) fn add_event(&mut self, body: &[u8]) -> Result<()> {
        let mut cursor = Cursor(body);
        cursor.take(1)?;
        let mut uuid = [0; 16];
        uuid.copy_from_slice(cursor.take(16)?);
        self.add_one(Origin { uuid, tag: String::new() }, u64_of(cursor.take(8)?))
    }

    /// The same of an event that has a tag: numbered fields of numbers of varying length.
    pub(super) fn add_tagged_event(&mut self, body: &[u8]) -> Result<()> {
        let mut cursor = Cursor(body);
        // Version of the format, length, the last field that may not be passed over.
        for _ in 0..3 {
            cursor.varying()?;
        }
        let expect = |found: u64, field: u64| if found == field { Ok(()) } else { Err(malformed()) };
        expect(cursor.varying()?, 0)?;
        cursor.varying()?;
        expect(cursor.varying()?, 1)?;
        let mut uuid = [0; 16];
        for byte in &mut uuid {
            *byte = u8::try_from(cursor.varying()?).map_err(|_| malformed())?;
        }
        expect(cursor.varying()?, 2)?;
        // Of signed numbers the lowest bit is the sign.
        let number = cursor.varying()?;
        expect(number & 1, 0)?;
        expect(cursor.varying()?, 3)?;
        let tag = cursor.tag()?;
        self.add_one(Origin { uuid, tag }, number >> 1)
    }

    fn add_one(&mut self, origin: Origin, number: u64) -> Result<()> {
        self.add(origin, number, number.saturating_add(1))
    }

    /// As statements take it.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (origin, stretches) in &self.0 {
            if !text.is_empty() {
                text.push(',');
            }
            let digits = hex::encode(origin.uuid);
            let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
            text.push_str(&parts.join("-"));
            if !origin.tag.is_empty() {
                let _ = write!(text, ":{}", origin.tag);
            }
            for (first, end) in stretches {
                let last = end - 1;
                let _ =
                    if *first == last { write!(text, ":{first}") } else { write!(text, ":{first}-{last}") };
            }
        }
        text
    }

    /// As a request takes it, in the older form where no tag needs the newer.
    pub(super) fn encode(&self) -> Vec<u8> {
        let is_tagged = self.0.keys().any(|origin| !origin.tag.is_empty());
        let mut head = (self.0.len() as u64).to_le_bytes();
        if is_tagged {
            head.rotate_right(1);
            (head[0], head[7]) = (TAGGED, TAGGED);
        }
        let mut bytes = head.to_vec();
        for (origin, stretches) in &self.0 {
            bytes.extend_from_slice(&origin.uuid);
            if is_tagged {
                // A length in one byte of varying length.
                bytes.push(u8::try_from(origin.tag.len()).unwrap_or(0) << 1);
                bytes.extend_from_slice(origin.tag.as_bytes());
            }
            bytes.extend_from_slice(&(stretches.len() as u64).to_le_bytes());
            for (first, end) in stretches {
                bytes.extend_from_slice(&first.to_le_bytes());
                bytes.extend_from_slice(&end.to_le_bytes());
            }
        }
        bytes
    }
}

fn malformed() -> Fault {
    Fault::hostile("a malformed set of transactions")
}

fn u64_of(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number of one to nine bytes: as many ones at the low end of the first byte as bytes follow it.
    fn varying(&mut self) -> Result<u64> {
        let first = self.take(1)?[0];
        let more = first.trailing_ones() as usize;
        let rest = u64_of(self.take(more)?);
        let (in_first, shift) = match more {
            0..=6 => (u64::from(first >> (more + 1)), 7 - more),
            _ => (0, 0),
        };
        Ok((rest << shift) | in_first)
    }

    fn tag(&mut self) -> Result<String> {
        let length = usize::try_from(self.varying()?).map_err(|_| malformed())?;
        if length > TAG_LENGTH_MAX {
            return Err(malformed());
        }
        let tag = self.take(length)?;
        // Text of statements is made of it.
        if !tag.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_') {
            return Err(malformed());
        }
        Ok(String::from_utf8_lossy(tag).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UUID: &str = "d1aa9fa1-ec56-11f1-ad4b-02fc00000001";
    /// What came before a file, as a server of 9.7 wrote it: 1 to 8, and 1 of a tag.
    const TAGGED_SET: &str = "0102000000000001d1aa9fa1ec5611f1ad4b02fc00000001000100000000000000010000000000000009000000\
                              00000000d1aa9fa1ec5611f1ad4b02fc000000010a6d79746167010000000000000001000000000000000200000000000000";
    const PLAIN_SET: &str =
        "0100000000000000d1aa9fa1ec5611f1ad4b02fc00000001010000000000000001000000000000000600000000000000";

    fn origin(tag: &str) -> Origin {
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&hex::decode(UUID.replace('-', "")).unwrap());
        Origin { uuid, tag: tag.to_owned() }
    }

    #[test]
    fn sets_of_transactions_are_read_as_a_server_writes_them() {
        for (encoded, wanted) in [
            ("0000000000000000", String::new()),
            (PLAIN_SET, format!("{UUID}:1-5")),
            (TAGGED_SET, format!("{UUID}:1-8,{UUID}:mytag:1")),
        ] {
            let bytes = hex::decode(encoded).unwrap();
            let mut set = GtidSet::default();
            set.add_encoded(&bytes).unwrap();
            assert_eq!(set.text(), wanted);
            assert_eq!(set.encode(), bytes);
            for length in 0..bytes.len() {
                assert!(GtidSet::default().add_encoded(&bytes[..length]).is_err(), "{length}");
            }
        }
    }

    #[test]
    fn transactions_are_read_as_a_server_writes_them() {
        let mut set = GtidSet::default();
        let plain = "01d1aa9fa1ec5611f1ad4b02fc00000001010000000000000002000000000000000001000000000000000f";
        set.add_event(&hex::decode(plain).unwrap()).unwrap();
        let tagged = "0276000000024503a9027d028502b103ac22c503b5029604f103000000020404060a6d7974616708040a080c7f7b6389b0";
        let tagged = hex::decode(tagged).unwrap();
        set.add_tagged_event(&tagged).unwrap();
        assert_eq!(set.text(), format!("{UUID}:1,{UUID}:mytag:1"));
        let end = tagged.windows(5).position(|window| window == b"mytag").unwrap() + 5;
        for length in 0..end {
            assert!(GtidSet::default().add_tagged_event(&tagged[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn h06_sets_that_are_none_are_refused() {
        let mut set = GtidSet::default();
        for (first, end) in [(0, 5), (5, 5), (6, 5), (1, u64::MAX)] {
            assert!(set.add(origin(""), first, end).is_err(), "{first} {end}");
        }
        let mut statement = hex::decode(TAGGED_SET).unwrap();
        let at = statement.windows(5).position(|window| window == b"mytag").unwrap();
        statement[at] = b'\'';
        assert!(set.add_encoded(&statement).is_err());
        let mut many = hex::decode(PLAIN_SET).unwrap();
        many[7] = 0xff;
        assert!(set.add_encoded(&many).is_err());
    }

    proptest! {
        #[test]
        fn stretches_become_one_where_they_touch(pieces in prop::collection::vec((1_u64..60, 1_u64..9), 0..40)) {
            let mut set = GtidSet::default();
            let mut numbers = std::collections::BTreeSet::new();
            for (first, length) in pieces {
                set.add(origin(""), first, first + length).unwrap();
                numbers.extend(first..first + length);
            }
            let stretches = set.0.values().next().cloned().unwrap_or_default();
            prop_assert!(stretches.windows(2).all(|pair| pair[0].1 < pair[1].0));
            let found: Vec<u64> = stretches.iter().flat_map(|(first, end)| *first..*end).collect();
            prop_assert_eq!(found, numbers.into_iter().collect::<Vec<_>>());
        }
    }
}
