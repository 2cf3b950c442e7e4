//! Builds one pack: seals records in slot order and streams them to the store.

use strongroom_core::Result;
use strongroom_core::time::Randomness;

use super::rewrite::tail;
use super::slot_table::digest_128;
use super::{
    PACK_HEADER_BYTES, PACK_SIZE_BYTES, PACK_SLOTS_MAX, PackHeader, PackId, PackKind, SlotEntry, SlotTable,
    record_aad,
};
use crate::aead::{ONLY_NONCE, SealingKey, slot_nonce};
use crate::frame::{self, Kind};
use crate::keys::LineageKeys;
use crate::layout;
use crate::record::{InnerHeader, NO_BASE};
use crate::store::{Put, PutStream, Store};
use crate::tree::Location;

/// A pack on its way to the store.
pub(crate) struct PackBuilder {
    id: PackId,
    salt: [u8; 16],
    table_salt: [u8; 16],
    key: SealingKey,
    stream: Box<dyn PutStream>,
    object_digest: blake3::Hasher,
    written: u64,
    table: SlotTable,
    buffer: Vec<u8>,
}

/// A pack that is durable under its name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PackClosed {
    pub(crate) id: PackId,
    pub(crate) size: u64,
}

/// A record before it is sealed.
pub(crate) struct NewRecord<'a> {
    pub(crate) encoding: u8,
    pub(crate) plain_length: u32,
    pub(crate) id: &'a [u8; 32],
    pub(crate) base: Option<(PackId, u16)>,
    pub(crate) payload: &'a [u8],
}

impl PackBuilder {
    /// Begins a pack with a salt of its own: its key has sealed nothing before.
    pub(crate) fn begin(
        store: &dyn Store,
        keys: &LineageKeys,
        random: &dyn Randomness,
        kind: PackKind,
        id: PackId,
    ) -> Result<Self> {
        let (mut salt, mut table_salt) = ([0; 16], [0; 16]);
        random.fill(&mut salt);
        random.fill(&mut table_salt);
        let header = PackHeader {
            kind,
            key_epoch: keys.key_epoch,
            project: *keys.project_raw(),
            lineage: *keys.lineage_raw(),
            id,
            generation: 0,
            pack_salt: salt,
            table_salt,
        };
        let mut bytes = frame::header(Kind::Pack);
        header.write(&mut bytes);
        let mut stream = store.begin_put(&layout::pack(&keys.lineage, id, 0))?;
        stream.append(&bytes)?;
        let mut object_digest = blake3::Hasher::new();
        object_digest.update(&bytes);
        Ok(Self {
            id,
            salt,
            table_salt,
            key: keys.pack_key(kind, id, &salt),
            stream,
            object_digest,
            written: PACK_HEADER_BYTES as u64,
            table: SlotTable::default(),
            buffer: Vec::new(),
        })
    }

    pub(crate) fn is_full(&self) -> bool {
        self.written >= PACK_SIZE_BYTES || self.table.slots.len() as u32 >= PACK_SLOTS_MAX
    }

    /// Bytes written so far.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Seals a record into the next slot and answers where it lies.
    pub(crate) fn push(&mut self, keys: &LineageKeys, record: &NewRecord<'_>) -> Result<Location> {
        let slot =
            u16::try_from(self.table.slots.len()).expect("is_full closes a pack before its slots run out");
        let base = record.base.map_or(NO_BASE, |(pack, slot)| (self.base_index(pack), slot));
        let mut id_prefix = [0; 8];
        id_prefix.copy_from_slice(&record.id[..8]);
        self.buffer.clear();
        InnerHeader { encoding: record.encoding, plain_length: record.plain_length, id_prefix, base }
            .write(&mut self.buffer);
        self.buffer.extend_from_slice(record.payload);
        let aad = record_aad(keys, self.id, slot, record.encoding, record.plain_length);
        self.key.seal(slot_nonce(slot), &aad, &mut self.buffer);
        let entry = SlotEntry {
            offset: u32::try_from(self.written).expect("a pack closes far below 4 GiB"),
            stored_length: self.buffer.len() as u32,
            plain_length: record.plain_length,
            encoding: record.encoding,
            digest: digest_128(&self.buffer),
        };
        self.table.slots.push(entry);
        self.object_digest.update(&self.buffer);
        self.stream.append(&self.buffer)?;
        self.written += self.buffer.len() as u64;
        Ok(Location {
            pack: self.id,
            generation: 0,
            salt: self.salt,
            slot,
            encoding: record.encoding,
            plain_length: record.plain_length,
            offset: entry.offset,
            length: entry.stored_length,
        })
    }

    fn base_index(&mut self, pack: PackId) -> u16 {
        let at = self.table.bases.iter().rposition(|base| *base == pack).unwrap_or_else(|| {
            self.table.bases.push(pack);
            self.table.bases.len() - 1
        });
        u16::try_from(at).expect("a pack has fewer bases than slots")
    }

    /// Writes the slot table and the trailer; durable when it returns.
    pub(crate) fn finish(mut self, keys: &LineageKeys) -> Result<PackClosed> {
        let mut table = self.table.write();
        keys.slot_table_key(self.id, 0, &self.table_salt).seal(ONLY_NONCE, &[], &mut table);
        let tail = tail(table, self.written, self.table.slots.len(), &mut self.object_digest);
        self.stream.append(&tail)?;
        let size = self.written + tail.len() as u64;
        match self.stream.commit()? {
            Put::Created => Ok(PackClosed { id: self.id, size }),
            Put::AlreadyThere => Err(strongroom_core::Error::new(
                strongroom_core::ErrorKind::Fenced,
                "Another writer uses this attempt's names; this attempt stops. Nothing stored was changed.",
            )),
        }
    }
}
