//! Rosters: for each pack a backup needs, the bitmap of slots. Bases of deltas are included, so
//! that collection, presence checks and "which backups does this damage touch" walk no tree.

use std::collections::BTreeMap;

use strongroom_core::id::AttemptId;

use crate::binary::{Cursor, Malformed, Parsed, Put};
use crate::pack::PackId;
use crate::tree::Location;

/// Roster records are cut at about this many bytes of plaintext.
const PART_BYTES: usize = 4 << 20;

/// What a backup needs of one pack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Needed {
    /// Generation and size of the object when the backup was sealed.
    pub(crate) generation: u32,
    pub(crate) size: u64,
    bits: Vec<u8>,
}

impl Needed {
    pub(crate) fn mark(&mut self, slot: u16) {
        let (byte, bit) = (usize::from(slot / 8), slot % 8);
        if self.bits.len() <= byte {
            self.bits.resize(byte + 1, 0);
        }
        self.bits[byte] |= 1 << bit;
    }

    /// Every slot that is needed.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u16> + '_ {
        (0..=u16::MAX).take(self.bits.len() * 8).filter(|slot| self.holds(*slot))
    }

    /// Needs also what another one needs.
    pub(crate) fn add(&mut self, other: &Self) {
        if self.bits.len() < other.bits.len() {
            self.bits.resize(other.bits.len(), 0);
        }
        self.bits.iter_mut().zip(&other.bits).for_each(|(bits, others)| *bits |= others);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bits.iter().all(|bits| *bits == 0)
    }

    pub(crate) fn holds(&self, slot: u16) -> bool {
        self.bits.get(usize::from(slot / 8)).is_some_and(|byte| byte & (1 << (slot % 8)) != 0)
    }
}

/// All packs and slots of one backup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Roster {
    pub(crate) packs: BTreeMap<PackId, Needed>,
}

impl Roster {
    pub(crate) fn mark(&mut self, at: &Location) {
        let needed = self.packs.entry(at.pack).or_default();
        needed.generation = at.generation;
        needed.mark(at.slot);
    }

    pub(crate) fn write(&self) -> Vec<Vec<u8>> {
        let mut parts = Vec::new();
        let mut part = Vec::new();
        for (pack, needed) in &self.packs {
            part.extend_from_slice(pack.attempt.as_bytes());
            part.put_u32(pack.n);
            part.put_u32(needed.generation);
            part.put_u64(needed.size);
            part.put_u16(needed.bits.len() as u16);
            part.extend_from_slice(&needed.bits);
            if part.len() >= PART_BYTES {
                parts.push(std::mem::take(&mut part));
            }
        }
        if !part.is_empty() || parts.is_empty() {
            parts.push(part);
        }
        parts
    }

    /// Adds one stored part.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Parsed<()> {
        let mut cursor = Cursor::new(bytes);
        while cursor.remaining() > 0 {
            let attempt = AttemptId::from_bytes(cursor.array()?);
            let pack = PackId { attempt, n: cursor.u32()? };
            let (generation, size) = (cursor.u32()?, cursor.u64()?);
            let length = usize::from(cursor.u16()?);
            if length > 8192 {
                return Err(Malformed("has a bitmap longer than a pack has slots"));
            }
            let bits = cursor.take(length)?.to_vec();
            self.packs.insert(pack, Needed { generation, size, bits });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roster_is_read_back_as_written() {
        let mut roster = Roster::default();
        for n in 0..3 {
            let pack = PackId { attempt: AttemptId::from_bytes([7; 16]), n };
            let needed = roster.packs.entry(pack).or_default();
            needed.size = 1 << 26;
            for slot in [0, 9, 65_534] {
                needed.mark(slot);
            }
        }
        let mut read = Roster::default();
        for part in roster.write() {
            read.read(&part).unwrap();
        }
        assert_eq!(read, roster);
        let needed = read.packs.values().next().unwrap();
        assert!(needed.holds(9) && !needed.holds(10) && needed.holds(65_534));
    }
}
