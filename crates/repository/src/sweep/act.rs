//! Does what was planned, pack by pack. Each step may be the last one: nothing is removed before
//! what replaces it is durable and was read back.

use std::collections::BTreeMap;

use strongroom_core::Result;

use super::Sweep;
use super::look::Seen;
use super::plan::{Fate, LiveSlots, WINDOW_PACKS};
use crate::frame;
use crate::generations::{Generations, holds_all};
use crate::layout;
use crate::pack::{PackFile, PackId, read_table, rewrite};

impl Sweep<'_> {
    pub(super) fn act(&mut self, packs: &Generations, seen: &Seen) -> Result<()> {
        self.progress.set_phase("sweeping");
        let ids: Vec<PackId> = packs.0.keys().copied().collect();
        for window in ids.chunks(WINDOW_PACKS) {
            let live = self.live(seen, window)?;
            for pack in window.iter().filter(|pack| seen.decided.contains(&pack.attempt)) {
                self.cancel.check()?;
                let generations = &packs.0[pack];
                let planned = self.plan_pack(*pack, generations, live.of(*pack))?;
                match (planned.fate, live.of(*pack)) {
                    (Fate::Keep, _) => continue,
                    (Fate::Remove, _) => self.remove_all(*pack, generations)?,
                    (Fate::Rewrite, Some(live)) => self.rewrite(*pack, generations, live)?,
                    (Fate::Tidy, Some(live)) => self.remove_older(*pack, generations, live)?,
                    (Fate::Rewrite | Fate::Tidy, None) => {}
                }
                self.count(planned.fate, planned.freed);
                self.progress.add_done(planned.freed);
            }
        }
        Ok(())
    }

    /// The oldest first: what is left when this ends early is the newest.
    fn remove_all(&self, pack: PackId, generations: &BTreeMap<u32, u64>) -> Result<()> {
        for generation in generations.keys() {
            self.lineage.shared.store.delete(&layout::pack(self.lineage.id(), pack, *generation))?;
        }
        Ok(())
    }

    fn rewrite(&mut self, pack: PackId, generations: &BTreeMap<u32, u64>, live: &LiveSlots) -> Result<()> {
        let Some(newest) = generations.keys().next_back() else { return Ok(()) };
        let (shared, keys) = (&self.lineage.shared, &self.lineage.keys);
        let key = layout::pack(self.lineage.id(), pack, *newest);
        // Another sweep was faster; the next one looks again.
        let Some(object) = shared.store.get(&key)? else { return Ok(()) };
        let file = PackFile::parse(&key, keys, pack, *newest, &object)?;
        let table = file.check_slots(&key, keys)?;
        // Ours or another's: what counts is what it holds, which is read back.
        rewrite(&*shared.store, keys, &*shared.random, &file, &table, &live.all)?;
        let key = layout::pack(self.lineage.id(), pack, newest + 1);
        let object = shared.store.get(&key)?.ok_or_else(|| frame::missing(&key))?;
        self.report.bytes_rewritten += object.len() as u64;
        PackFile::parse(&key, keys, pack, newest + 1, &object)?.check_slots(&key, keys)?;
        self.remove_older(pack, generations, live)
    }

    /// Takes away what a newer generation holds as well.
    fn remove_older(&self, pack: PackId, generations: &BTreeMap<u32, u64>, live: &LiveSlots) -> Result<()> {
        let (store, id) = (&*self.lineage.shared.store, self.lineage.id());
        let Some(newest) = crate::generations::newest(store, id, pack)? else { return Ok(()) };
        let Some(table) = read_table(store, &self.lineage.keys, pack, newest)? else { return Ok(()) };
        if let Err(slot) = holds_all(&table, &live.surely) {
            let key = layout::pack(id, pack, newest);
            return Err(frame::damage(&key, &format!("it lacks the slot {slot}, which a backup needs")));
        }
        let lacks: Vec<u16> = live.all.slots().filter(|slot| !table.holds(*slot)).collect();
        for generation in generations.keys().filter(|generation| **generation < newest) {
            let older = if lacks.is_empty() {
                None
            } else {
                read_table(store, &self.lineage.keys, pack, *generation)?
            };
            if older.is_some_and(|older| lacks.iter().any(|slot| older.holds(*slot))) {
                continue;
            }
            store.delete(&layout::pack(id, pack, *generation))?;
        }
        Ok(())
    }

    /// Intents of attempts that have a verdict, and of readers that are gone.
    pub(super) fn clear_intents(&mut self, seen: &Seen) -> Result<()> {
        for key in &seen.spent_intents {
            self.lineage.shared.store.delete(key)?;
            self.report.intents_removed += 1;
        }
        Ok(())
    }
}
