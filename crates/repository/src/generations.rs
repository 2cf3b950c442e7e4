//! Generations of packs. A sweep writes what is live of a pack as the next generation, under the
//! same slots, and then takes the old one away; trees go on naming the old one.

use std::collections::BTreeMap;

use strongroom_core::Result;

use crate::frame;
use crate::layout;
use crate::lineage::Lineage;
use crate::pack::{PackId, SlotTable, read_table};
use crate::roster::Needed;
use crate::store::{Listed, Store};

/// Which generations of which packs are there, with their sizes.
#[derive(Debug, Default)]
pub(crate) struct Generations(pub(crate) BTreeMap<PackId, BTreeMap<u32, u64>>);

impl Generations {
    /// Answers also the keys that no pack has.
    pub(crate) fn of(lineage: &Lineage, listed: Vec<Listed>) -> (Self, Vec<String>) {
        let (mut packs, mut unknown) = (Self::default(), Vec::new());
        for object in listed {
            match layout::parse_pack(lineage.id(), &object.key) {
                Some((pack, generation)) => {
                    packs.0.entry(pack).or_default().insert(generation, object.size);
                }
                None => unknown.push(object.key),
            }
        }
        (packs, unknown)
    }

    /// The generation a tree names or, when that is gone, the newest one, with its size.
    pub(crate) fn holding(&self, pack: PackId, named: u32) -> Option<(u32, u64)> {
        let generations = self.0.get(&pack)?;
        let found = generations.get_key_value(&named).or_else(|| generations.last_key_value());
        found.map(|(generation, size)| (*generation, *size))
    }

    /// Whether what a backup needs of a pack is there: by its size or, in a later generation, by
    /// the slots of its table. What is not is damage, named.
    pub(crate) fn check(&self, lineage: &Lineage, pack: PackId, needed: &Needed) -> Result<()> {
        let key = |generation| layout::pack(lineage.id(), pack, generation);
        match self.holding(pack, needed.generation) {
            None => Err(frame::missing(&key(needed.generation))),
            Some((generation, size)) if generation == needed.generation => {
                if size == needed.size {
                    return Ok(());
                }
                let what = format!("it has {size} bytes, {} were written", needed.size);
                Err(frame::damage(&key(generation), &what))
            }
            Some((generation, _)) => {
                let store = &*lineage.shared.store;
                let table = read_table(store, &lineage.keys, pack, generation)?
                    .ok_or_else(|| frame::missing(&key(generation)))?;
                holds_all(&table, needed)
                    .map_err(|slot| frame::damage(&key(generation), &format!("it lacks the slot {slot}")))
            }
        }
    }
}

/// Whether a generation holds every slot that is needed; else the first that it lacks.
pub(crate) fn holds_all(table: &SlotTable, needed: &Needed) -> Result<(), u16> {
    needed.slots().find(|slot| !table.holds(*slot)).map_or(Ok(()), Err)
}

/// The newest generation of a pack that is there now.
pub(crate) fn newest(
    store: &dyn Store,
    lineage: &strongroom_core::id::LineageId,
    pack: PackId,
) -> Result<Option<u32>> {
    let listed = store.list(&layout::pack_generations(lineage, pack))?;
    let generations = listed.iter().filter_map(|object| layout::parse_pack(lineage, &object.key));
    Ok(generations.map(|(_, generation)| generation).max())
}
