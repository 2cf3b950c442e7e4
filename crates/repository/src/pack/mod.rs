//! Packs: objects of about 64 MiB that hold many records in numbered slots.
//!
//! ```text
//! header 160 B │ record │ record │ … │ sealed slot table │ trailer 64 B
//! ```

mod builder;
mod file;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod rewrite;
mod slot_table;

use strongroom_core::id::AttemptId;

pub(crate) use builder::{NewRecord, PackBuilder, PackClosed};
pub(crate) use file::{PackFile, open_record, read_table};
pub(crate) use rewrite::rewrite;
pub(crate) use slot_table::{SlotEntry, SlotTable};

use crate::FORMAT;
use crate::binary::{Cursor, Parsed, Put};
use crate::keys::LineageKeys;

/// Closed at this size …
pub(crate) const PACK_SIZE_BYTES: u64 = 64 << 20;
/// … or at this number of slots.
pub(crate) const PACK_SLOTS_MAX: u32 = 65_535;
pub(crate) const PACK_HEADER_BYTES: usize = 160;
pub(crate) const PACK_TRAILER_BYTES: usize = 64;
/// AES-256-GCM with BLAKE3; the number of the only suite so far.
const SUITE_AES_GCM: u8 = 1;

/// A pack is owned by the attempt that wrote it; the owner is visible in its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PackId {
    pub(crate) attempt: AttemptId,
    pub(crate) n: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum PackKind {
    /// Chunks of members.
    Data = 0,
    /// Segments, directory pages, rosters: opened by the meta key, no data inside.
    Meta = 1,
}

/// What the first 160 bytes of a pack say after the object's own header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackHeader {
    pub(crate) kind: PackKind,
    pub(crate) key_epoch: u32,
    pub(crate) project: [u8; 16],
    pub(crate) lineage: [u8; 16],
    pub(crate) id: PackId,
    pub(crate) generation: u32,
    /// Kept over generations.
    pub(crate) pack_salt: [u8; 16],
    /// New for every object written.
    pub(crate) table_salt: [u8; 16],
}

impl PackHeader {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len() - crate::frame::HEADER_BYTES;
        out.push(self.kind as u8);
        out.push(SUITE_AES_GCM);
        out.put_u16(0);
        out.put_u32(self.key_epoch);
        out.extend_from_slice(&self.project);
        out.extend_from_slice(&self.lineage);
        out.extend_from_slice(self.id.attempt.as_bytes());
        out.put_u32(self.id.n);
        out.put_u32(self.generation);
        out.extend_from_slice(&self.pack_salt);
        out.extend_from_slice(&self.table_salt);
        out.resize(start + PACK_HEADER_BYTES, 0);
    }

    /// `cursor` stands after the object's own 12 bytes.
    pub(crate) fn parse(cursor: &mut Cursor<'_>) -> Parsed<Self> {
        let kind = match cursor.u8()? {
            0 => PackKind::Data,
            1 => PackKind::Meta,
            _ => return Err(crate::binary::Malformed("has an unknown pack kind")),
        };
        if cursor.u8()? != SUITE_AES_GCM {
            return Err(crate::binary::Malformed("has an unknown cipher suite"));
        }
        cursor.u16()?;
        Ok(Self {
            kind,
            key_epoch: cursor.u32()?,
            project: cursor.array()?,
            lineage: cursor.array()?,
            id: {
                let attempt = AttemptId::from_bytes(cursor.array()?);
                PackId { attempt, n: cursor.u32()? }
            },
            generation: cursor.u32()?,
            pack_salt: cursor.array()?,
            table_salt: cursor.array()?,
        })
    }
}

/// Binds a record to its place: moved to another slot, pack, lineage or tenant, it does not open.
pub(crate) fn record_aad(
    keys: &LineageKeys,
    pack: PackId,
    slot: u16,
    encoding: u8,
    plain_length: u32,
) -> Vec<u8> {
    let mut aad = Vec::with_capacity(64);
    aad.put_u16(FORMAT);
    aad.extend_from_slice(keys.project_raw());
    aad.extend_from_slice(keys.lineage_raw());
    aad.extend_from_slice(pack.attempt.as_bytes());
    aad.put_u32(pack.n);
    aad.put_u16(slot);
    aad.push(encoding);
    aad.put_u24(plain_length);
    aad
}
