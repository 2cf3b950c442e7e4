//! The slot table: where each record of a pack lies, and the digest of its ciphertext.

use strongroom_core::id::AttemptId;

use super::PackId;
use crate::binary::{Cursor, Parsed, Put};

const ENTRY_BYTES: usize = 27;
const BASE_BYTES: usize = 20;

/// One slot. `offset` 0 means that this generation no longer holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotEntry {
    pub(crate) offset: u32,
    pub(crate) stored_length: u32,
    pub(crate) plain_length: u32,
    pub(crate) encoding: u8,
    /// BLAKE3 of the ciphertext, first 128 bits.
    pub(crate) digest: [u8; 16],
}

/// Slots in order, and the packs that deltas of this pack stand on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SlotTable {
    pub(crate) slots: Vec<SlotEntry>,
    pub(crate) bases: Vec<PackId>,
}

/// The first 128 bits of a BLAKE3 digest.
pub(crate) fn digest_128(bytes: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    out
}

impl SlotTable {
    /// Whether this generation has the slot's record.
    pub(crate) fn holds(&self, slot: u16) -> bool {
        self.slots.get(usize::from(slot)).is_some_and(|entry| entry.offset != 0)
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + self.slots.len() * ENTRY_BYTES + self.bases.len() * BASE_BYTES);
        out.put_u32(self.slots.len() as u32);
        out.put_u32(self.bases.len() as u32);
        for slot in &self.slots {
            out.put_u32(slot.offset);
            out.put_u24(slot.stored_length);
            out.put_u24(slot.plain_length);
            out.push(slot.encoding);
            out.extend_from_slice(&slot.digest);
        }
        for base in &self.bases {
            out.extend_from_slice(base.attempt.as_bytes());
            out.put_u32(base.n);
        }
        out
    }

    pub(crate) fn parse(bytes: &[u8]) -> Parsed<Self> {
        let mut cursor = Cursor::new(bytes);
        let (slot_count, base_count) = (cursor.u32()? as usize, cursor.u32()? as usize);
        let mut slots = Vec::with_capacity(cursor.capacity(slot_count, ENTRY_BYTES));
        for _ in 0..slot_count {
            slots.push(SlotEntry {
                offset: cursor.u32()?,
                stored_length: cursor.u24()?,
                plain_length: cursor.u24()?,
                encoding: cursor.u8()?,
                digest: cursor.array()?,
            });
        }
        let mut bases = Vec::with_capacity(cursor.capacity(base_count, BASE_BYTES));
        for _ in 0..base_count {
            let attempt = AttemptId::from_bytes(cursor.array()?);
            bases.push(PackId { attempt, n: cursor.u32()? });
        }
        cursor.end()?;
        Ok(Self { slots, bases })
    }
}
