//! The next generation of a pack: the records that are live, byte for byte, in their slots. Needs
//! the lineage's meta key only, because nothing is opened or sealed but the slot table.

use strongroom_core::Result;
use strongroom_core::time::Randomness;

use super::{PACK_HEADER_BYTES, PackFile, PackHeader, SlotEntry, SlotTable};
use crate::aead::ONLY_NONCE;
use crate::binary::Put as _;
use crate::frame::{self, Kind};
use crate::keys::LineageKeys;
use crate::layout;
use crate::roster::Needed;
use crate::store::{Put, Store};

/// A slot whose record is gone.
const GONE: SlotEntry =
    SlotEntry { offset: 0, stored_length: 0, plain_length: 0, encoding: 0, digest: [0; 16] };

/// Writes the next generation; durable when it returns. `table` is the old one, and every slot of
/// it was checked.
pub(crate) fn rewrite(
    store: &dyn Store,
    keys: &LineageKeys,
    random: &dyn Randomness,
    old: &PackFile<'_>,
    table: &SlotTable,
    live: &Needed,
) -> Result<Put> {
    let mut table_salt = [0; 16];
    random.fill(&mut table_salt);
    let generation = old.header.generation + 1;
    let header = PackHeader { generation, table_salt, ..old.header.clone() };
    let key = layout::pack(&keys.lineage, header.id, generation);
    let mut bytes = frame::header(Kind::Pack);
    header.write(&mut bytes);
    let mut stream = store.begin_put(&key)?;
    let mut digest = blake3::Hasher::new();
    digest.update(&bytes);
    stream.append(&bytes)?;
    let mut written = PACK_HEADER_BYTES as u64;
    let mut new = SlotTable { slots: Vec::with_capacity(table.slots.len()), bases: table.bases.clone() };
    for (slot, entry) in (0..=u16::MAX).zip(&table.slots) {
        let record = if live.holds(slot) { old.record(entry) } else { None };
        let Some(record) = record else {
            new.slots.push(GONE);
            continue;
        };
        let offset = u32::try_from(written).expect("a pack closes far below 4 GiB");
        new.slots.push(SlotEntry { offset, ..*entry });
        digest.update(record);
        stream.append(record)?;
        written += record.len() as u64;
    }
    let mut sealed = new.write();
    keys.slot_table_key(header.id, generation, &table_salt).seal(ONLY_NONCE, &[], &mut sealed);
    let tail = tail(sealed, written, new.slots.len(), &mut digest);
    stream.append(&tail)?;
    stream.commit()
}

/// Slot table and trailer, as in every pack.
pub(super) fn tail(sealed: Vec<u8>, written: u64, slots: usize, digest: &mut blake3::Hasher) -> Vec<u8> {
    let length = sealed.len() as u32;
    let mut tail = sealed;
    tail.put_u64(written);
    tail.put_u32(length);
    tail.put_u32(slots as u32);
    tail.extend_from_slice(&[0; 16]);
    digest.update(&tail);
    tail.extend_from_slice(digest.finalize().as_bytes());
    tail
}
