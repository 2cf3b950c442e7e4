//! Whole packs and single records, as the fuzzer calls them.

use strongroom_core::time::Randomness;

use super::rewrite::tail;
use super::slot_table::digest_128;
use super::{
    AttemptId, Cursor, LineageKeys, NewRecord, PACK_HEADER_BYTES, PackBuilder, PackFile, PackHeader, PackId,
    PackKind, SlotEntry, SlotTable, open_record, read_table, record_aad, rewrite,
};
use crate::aead::{ONLY_NONCE, slot_nonce};
use crate::frame::{self, Kind};
use crate::keys::fuzzing::fixed;
use crate::layout;
use crate::record::{Encoding, INNER_HEADER_BYTES, InnerHeader, NO_BASE};
use crate::roster::Needed;
use crate::store::{MemoryStore, Store};
use crate::tree::Location;

/// Always the same.
struct Fixed;

impl Randomness for Fixed {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(6);
    }
}

fn id() -> PackId {
    PackId { attempt: AttemptId::from_bytes([9; 16]), n: 0 }
}

/// After a zero an object as it is; else the length of its records, records, and a slot table that
/// is sealed first.
pub(crate) fn pack(bytes: &[u8]) -> bool {
    let keys = fixed();
    match bytes {
        [0, object @ ..] => whole(&keys, object).is_some(),
        [_, low, high, rest @ ..] => {
            let (records, table) =
                rest.split_at(usize::from(u16::from_le_bytes([*low, *high])).min(rest.len()));
            parts(&keys, records, table)
        }
        _ => false,
    }
}

/// The slot table of a pack that is sound. What reads the whole object and what reads its ends say
/// the same, and no slot is bad in a pack that is sound.
fn whole(keys: &LineageKeys, object: &[u8]) -> Option<SlotTable> {
    let key = layout::pack(&keys.lineage, id(), 0);
    let table =
        PackFile::parse(&key, keys, id(), 0, object).and_then(|file| file.check_slots(&key, keys)).ok();
    let bad = PackFile::bad_slots(&key, keys, id(), 0, object);
    let store = MemoryStore::new();
    store.overwrite(&key, object.to_vec());
    let ends = read_table(&store, keys, id(), 0).ok().flatten();
    if let Some(table) = &table {
        assert_eq!((bad.as_ref(), ends.as_ref()), (None, Some(table)));
    }
    if let Some(bad) = bad {
        let ends = ends.expect("the table was believed");
        assert!(bad.iter().all(|slot| ends.holds(*slot)), "{bad:?}");
    }
    table
}

fn object_of(keys: &LineageKeys, records: &[u8], mut table: Vec<u8>) -> Vec<u8> {
    let slots = table.first_chunk().map_or(0, |count| u32::from_le_bytes(*count));
    let header = PackHeader {
        kind: PackKind::Data,
        key_epoch: keys.key_epoch,
        project: *keys.project_raw(),
        lineage: *keys.lineage_raw(),
        id: id(),
        generation: 0,
        pack_salt: [1; 16],
        table_salt: [2; 16],
    };
    let mut object = frame::header(Kind::Pack);
    header.write(&mut object);
    object.extend_from_slice(records);
    keys.slot_table_key(id(), 0, &header.table_salt).seal(ONLY_NONCE, &[], &mut table);
    let mut digest = blake3::Hasher::new();
    digest.update(&object);
    let tail = tail(table, object.len() as u64, slots as usize, &mut digest);
    object.extend_from_slice(&tail);
    object
}

/// A table is believed when its slots lie inside the pack and have their digests.
fn parts(keys: &LineageKeys, records: &[u8], table: &[u8]) -> bool {
    let object = object_of(keys, records, table.to_vec());
    let Ok(mut table) = SlotTable::parse(table) else {
        assert_eq!(whole(keys, &object), None);
        return false;
    };
    let _ = whole(keys, &object);
    let end = PACK_HEADER_BYTES + records.len();
    let mut all_fit = true;
    for entry in table.slots.iter_mut().filter(|entry| entry.offset != 0) {
        let start = entry.offset as usize;
        match object[..end].get(start..start + entry.stored_length as usize) {
            Some(record) => entry.digest = digest_128(record),
            None => all_fit = false,
        }
    }
    let object = object_of(keys, records, table.write());
    assert_eq!(whole(keys, &object).as_ref(), all_fit.then_some(&table));
    if all_fit {
        a_flipped_bit_is_found(keys, records, &table);
    }
    // Records that lie upon each other would become many times the pack.
    let stored: usize = table.slots.iter().map(|entry| entry.stored_length as usize).sum();
    if all_fit && stored <= end {
        rewritten(keys, &object, &table);
    }
    all_fit
}

/// In the first record there is, with the digest of the object made anew.
fn a_flipped_bit_is_found(keys: &LineageKeys, records: &[u8], table: &SlotTable) {
    let is_inside = |entry: &SlotEntry| entry.offset as usize >= PACK_HEADER_BYTES && entry.stored_length > 0;
    let Some(slot) = table.slots.iter().position(is_inside) else { return };
    let mut flipped = records.to_vec();
    flipped[table.slots[slot].offset as usize - PACK_HEADER_BYTES] ^= 1;
    let object = object_of(keys, &flipped, table.write());
    assert_eq!(whole(keys, &object), None);
    let key = layout::pack(&keys.lineage, id(), 0);
    let bad = PackFile::bad_slots(&key, keys, id(), 0, &object).unwrap_or_default();
    assert!(bad.iter().any(|found| usize::from(*found) == slot), "{slot}");
}

/// Every second slot goes; the next generation holds the others.
fn rewritten(keys: &LineageKeys, object: &[u8], table: &SlotTable) {
    let key = layout::pack(&keys.lineage, id(), 0);
    let file = PackFile::parse(&key, keys, id(), 0, object).expect("it was sound");
    let mut live = Needed::default();
    for slot in (0..=u16::MAX).step_by(2).take(table.slots.len()) {
        live.mark(slot);
    }
    let store = MemoryStore::new();
    rewrite(&store, keys, &Fixed, &file, table, &live).expect("a store in memory takes it");
    let next = read_table(&store, keys, id(), 1).ok().flatten().expect("the next generation can be read");
    for slot in 0..u16::try_from(table.slots.len()).unwrap_or(u16::MAX) {
        assert_eq!(next.holds(slot), table.holds(slot) && live.holds(slot), "{slot}");
    }
}

/// What a tree says of a record (encoding, length, slot), and the record, sealed in that place. It is
/// opened there when it says the same itself, and in no other slot.
pub(crate) fn sealed_record(bytes: &[u8]) -> bool {
    let Some(([encoding, a, b, c, low, high], plain)) = bytes.split_first_chunk() else { return false };
    let keys = fixed();
    let at = Location {
        pack: id(),
        generation: 0,
        salt: [1; 16],
        slot: u16::from_le_bytes([*low, *high]),
        encoding: *encoding,
        plain_length: u32::from_le_bytes([*a, *b, *c, 0]),
        offset: 0,
        length: 0,
    };
    let key = keys.pack_key(PackKind::Data, at.pack, &at.salt);
    assert!(open_record(&keys, &key, &at, &mut plain.to_vec()).is_none(), "it was never sealed");
    let mut sealed = plain.to_vec();
    let aad = record_aad(&keys, at.pack, at.slot, at.encoding, at.plain_length);
    key.seal(slot_nonce(at.slot), &aad, &mut sealed);
    let elsewhere = Location { slot: at.slot ^ 1, ..at };
    assert!(open_record(&keys, &key, &elsewhere, &mut sealed.clone()).is_none());
    let fits = InnerHeader::parse(&mut Cursor::new(plain))
        .is_ok_and(|header| (header.encoding, header.plain_length) == (at.encoding, at.plain_length));
    let expected = Encoding::parse(at.encoding).filter(|_| fits);
    let opened =
        open_record(&keys, &key, &at, &mut sealed).map(|(encoding, payload)| (encoding, payload.to_vec()));
    assert_eq!(opened, expected.map(|encoding| (encoding, plain[INNER_HEADER_BYTES..].to_vec())));
    opened.is_some()
}

pub(crate) fn raw_record() -> Vec<u8> {
    let mut bytes = vec![Encoding::Raw as u8, 20, 0, 0, 3, 0];
    let header = InnerHeader { encoding: 1, plain_length: 20, id_prefix: [4; 8], base: NO_BASE };
    header.write(&mut bytes);
    bytes.extend_from_slice(&[8; 20]);
    bytes
}

pub(crate) fn whole_one() -> Vec<u8> {
    let (keys, store) = (fixed(), MemoryStore::new());
    let mut builder =
        PackBuilder::begin(&store, &keys, &Fixed, PackKind::Data, id()).expect("a store in memory takes it");
    for chunk in [[9; 30], [8; 30]] {
        let record = NewRecord {
            encoding: Encoding::Raw as u8,
            plain_length: 30,
            id: &keys.chunk_id(&chunk),
            base: None,
            payload: &chunk,
        };
        builder.push(&keys, &record).expect("a store in memory takes it");
    }
    builder.finish(&keys).expect("a store in memory takes it");
    let object = store.get(&layout::pack(&keys.lineage, id(), 0)).ok().flatten().expect("it was written");
    [&[0][..], &object].concat()
}

pub(crate) fn parts_of_one() -> Vec<u8> {
    let entry = SlotEntry {
        offset: PACK_HEADER_BYTES as u32,
        stored_length: 10,
        plain_length: 10,
        encoding: Encoding::Raw as u8,
        digest: [0; 16],
    };
    let gone = SlotEntry { offset: 0, ..entry };
    let table = SlotTable { slots: vec![entry, gone, entry], bases: vec![id()] };
    [&[1, 20, 0][..], &[7; 20], &table.write()].concat()
}
