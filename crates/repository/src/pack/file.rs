//! Reads packs: single records by their location, or a whole object for checking.

use strongroom_core::Result;

use super::slot_table::digest_128;
use super::{PACK_HEADER_BYTES, PACK_TRAILER_BYTES, PackHeader, PackId, SlotEntry, SlotTable, record_aad};
use crate::aead::{ONLY_NONCE, SealingKey, slot_nonce};
use crate::binary::Cursor;
use crate::frame::{self, DIGEST_BYTES, HEADER_BYTES, Kind};
use crate::keys::LineageKeys;
use crate::layout;
use crate::record::{Encoding, INNER_HEADER_BYTES, InnerHeader};
use crate::store::Store;
use crate::tree::Location;

/// Opens one record in place: its encoding and payload. `None` when it is not authentic, not in
/// its place, or of an unknown encoding.
pub(crate) fn open_record<'a>(
    keys: &LineageKeys,
    key: &SealingKey,
    at: &Location,
    ciphertext: &'a mut [u8],
) -> Option<(Encoding, &'a [u8])> {
    let aad = record_aad(keys, at.pack, at.slot, at.encoding, at.plain_length);
    let plain = key.open(slot_nonce(at.slot), &aad, ciphertext).ok()?;
    let (header, payload) = plain.split_at_checked(INNER_HEADER_BYTES)?;
    let header = InnerHeader::parse(&mut Cursor::new(header)).ok()?;
    let encoding = Encoding::parse(header.encoding)?;
    (header.encoding == at.encoding && header.plain_length == at.plain_length).then_some((encoding, payload))
}

/// The slot table of a pack that is not read whole; `None` when the object is not there.
pub(crate) fn read_table(
    store: &dyn Store,
    keys: &LineageKeys,
    id: PackId,
    generation: u32,
) -> Result<Option<SlotTable>> {
    let key = layout::pack(&keys.lineage, id, generation);
    let Some(size) = store.head(&key)? else { return Ok(None) };
    let ends = (PACK_HEADER_BYTES + PACK_TRAILER_BYTES) as u64;
    if size < ends {
        return Err(frame::damage(&key, "it is too short for a pack"));
    }
    let Some(header) = store.get_range(&key, 0, PACK_HEADER_BYTES)? else { return Ok(None) };
    let end = size - PACK_TRAILER_BYTES as u64;
    let Some(trailer) = store.get_range(&key, end, PACK_TRAILER_BYTES)? else { return Ok(None) };
    let offset = Cursor::new(&trailer).u64().map_err(frame::malformed(&key))?;
    if offset < PACK_HEADER_BYTES as u64 || offset > end {
        return Err(frame::damage(&key, "its trailer does not fit its length"));
    }
    let Some(table) = store.get_range(&key, offset, (end - offset) as usize)? else { return Ok(None) };
    // A pack without its records: the same rules for the same bytes.
    let mut trailer = trailer;
    trailer[..8].copy_from_slice(&(PACK_HEADER_BYTES as u64).to_le_bytes());
    let object = [header, table, trailer].concat();
    PackFile::parse_unproven(&key, keys, id, generation, &object)?.table(&key, keys).map(Some)
}

/// A whole pack object in memory: nothing in here needs a key but the slot table, and that only
/// the meta key.
pub(crate) struct PackFile<'a> {
    pub(crate) header: PackHeader,
    object: &'a [u8],
    table_offset: usize,
    table_length: usize,
    slot_count: u32,
}

impl<'a> PackFile<'a> {
    /// Checks the object's digest, and that it is the pack its name says.
    pub(crate) fn parse(
        key: &str,
        keys: &LineageKeys,
        id: PackId,
        generation: u32,
        object: &'a [u8],
    ) -> Result<Self> {
        frame::check_digest(key, object)?;
        Self::parse_unproven(key, keys, id, generation, object)
    }

    /// As [`PackFile::parse`], for an object whose digest does not match.
    fn parse_unproven(
        key: &str,
        keys: &LineageKeys,
        id: PackId,
        generation: u32,
        object: &'a [u8],
    ) -> Result<Self> {
        frame::check_header(key, Kind::Pack, object)?;
        if object.len() < PACK_HEADER_BYTES + PACK_TRAILER_BYTES {
            return Err(frame::damage(key, "it is too short for a pack"));
        }
        let header = PackHeader::parse(&mut Cursor::new(&object[HEADER_BYTES..PACK_HEADER_BYTES]))
            .map_err(frame::malformed(key))?;
        let is_of_lineage = (&header.project, &header.lineage) == (keys.project_raw(), keys.lineage_raw());
        if header.id != id || header.generation != generation || !is_of_lineage {
            return Err(frame::damage(key, "it is another pack's content under this name"));
        }
        let mut trailer =
            Cursor::new(&object[object.len() - PACK_TRAILER_BYTES..object.len() - DIGEST_BYTES]);
        let (table_offset, table_length, slot_count) =
            (|| Ok((trailer.u64()?, trailer.u32()?, trailer.u32()?)))().map_err(frame::malformed(key))?;
        let end = table_offset.checked_add(u64::from(table_length));
        if end != Some((object.len() - PACK_TRAILER_BYTES) as u64) || table_offset < PACK_HEADER_BYTES as u64
        {
            return Err(frame::damage(key, "its trailer does not fit its length"));
        }
        Ok(Self {
            header,
            object,
            table_offset: table_offset as usize,
            table_length: table_length as usize,
            slot_count,
        })
    }

    /// Opens the slot table and checks the digest of every slot's ciphertext.
    pub(crate) fn check_slots(&self, key: &str, keys: &LineageKeys) -> Result<SlotTable> {
        let table = self.table(key, keys)?;
        match table.slots.iter().position(|entry| !self.is_sound(entry)) {
            None => Ok(table),
            Some(slot) => {
                Err(frame::damage(key, &format!("the record in slot {slot} does not match its digest")))
            }
        }
    }

    /// The slots that are damaged, when header, trailer and slot table of a damaged object are
    /// believable and some slot is to blame.
    pub(crate) fn bad_slots(
        key: &str,
        keys: &LineageKeys,
        id: PackId,
        generation: u32,
        object: &'a [u8],
    ) -> Option<Vec<u16>> {
        let file = Self::parse_unproven(key, keys, id, generation, object).ok()?;
        let table = file.table(key, keys).ok()?;
        let bad: Vec<u16> = (0..)
            .zip(&table.slots)
            .filter(|(_, entry)| !file.is_sound(entry))
            .map(|(slot, _)| slot)
            .collect();
        (!bad.is_empty()).then_some(bad)
    }

    fn table(&self, key: &str, keys: &LineageKeys) -> Result<SlotTable> {
        let table_key = keys.slot_table_key(self.header.id, self.header.generation, &self.header.table_salt);
        let mut sealed = self.object[self.table_offset..self.table_offset + self.table_length].to_vec();
        let plain = table_key
            .open(ONLY_NONCE, &[], &mut sealed)
            .map_err(|_| frame::damage(key, "its slot table is not authentic"))?;
        let table = SlotTable::parse(plain).map_err(frame::malformed(key))?;
        if table.slots.len() as u64 != u64::from(self.slot_count) {
            return Err(frame::damage(key, "its slot table has another length than its trailer says"));
        }
        Ok(table)
    }

    /// The record in a slot, as stored; `None` when this generation does not hold it.
    pub(crate) fn record(&self, entry: &SlotEntry) -> Option<&'a [u8]> {
        let start = entry.offset as usize;
        let end = start.checked_add(entry.stored_length as usize)?;
        if start == 0 { None } else { self.object[..self.table_offset].get(start..end) }
    }

    fn is_sound(&self, entry: &SlotEntry) -> bool {
        let start = entry.offset as usize;
        let ciphertext = start
            .checked_add(entry.stored_length as usize)
            .and_then(|end| self.object[..self.table_offset].get(start..end));
        entry.offset == 0 || ciphertext.map(digest_128) == Some(entry.digest)
    }
}

#[cfg(test)]
mod tests {
    use strongroom_core::id::{AttemptId, LineageId, ProjectId};
    use strongroom_core::time::Randomness;

    use super::*;
    use crate::keys::{RecoveryKey, open_or_create};
    use crate::pack::{NewRecord, PackBuilder, PackKind};
    use crate::store::MemoryStore;

    struct Counting(std::sync::atomic::AtomicU8);

    impl Randomness for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        }
    }

    #[test]
    fn f17_the_meta_key_checks_a_pack_and_reads_no_page() {
        let (store, random) = (MemoryStore::new(), Counting(1.into()));
        let raw = uuid::Uuid::from_u128(5);
        let recovery = RecoveryKey::generate(&random);
        let keys = open_or_create(&store, &recovery, &random, &ProjectId::issue(raw), &LineageId::issue(raw))
            .unwrap();
        let id = PackId { attempt: AttemptId::new(raw), n: 0 };
        let mut builder = PackBuilder::begin(&store, &keys, &random, PackKind::Data, id).unwrap();
        let chunk = [9; 100];
        let record = NewRecord {
            encoding: 1,
            plain_length: 100,
            id: &keys.chunk_id(&chunk),
            base: None,
            payload: &chunk,
        };
        let at = builder.push(&keys, &record).unwrap();
        builder.finish(&keys).unwrap();

        let key = layout::pack(&keys.lineage, id, 0);
        let object = store.get(&key).unwrap().unwrap();
        let ciphertext = || object[at.offset as usize..(at.offset + at.length) as usize].to_vec();
        let collector = keys.without_data_key();
        let table = PackFile::parse(&key, &collector, id, 0, &object)
            .and_then(|file| file.check_slots(&key, &collector))
            .unwrap();
        assert_eq!(table.slots.len(), 1);
        let open = |keys: &LineageKeys| {
            let pack_key = keys.pack_key(PackKind::Data, id, &at.salt);
            open_record(keys, &pack_key, &at, &mut ciphertext()).map(|(_, payload)| payload.to_vec())
        };
        assert_eq!(open(&keys), Some(chunk.to_vec()));
        assert_eq!(open(&collector), None);
    }
}
