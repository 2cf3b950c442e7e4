//! Does what was planned, pack by pack. Each step may be the last one: nothing is removed before
//! what replaces it is durable and was read back.

use std::collections::BTreeMap;

use strongroom_core::{ErrorKind, Result, limits};

use super::Sweep;
use super::look::Seen;
use super::plan::{Fate, LiveSlots, Windows};
use crate::frame;
use crate::generations::{Generations, holds_all};
use crate::layout;
use crate::pack::{PackFile, PackId, read_table, rewrite};

impl Sweep<'_> {
    pub(super) fn act(&mut self, packs: &Generations, seen: &Seen, windows: &mut Windows) -> Result<()> {
        self.progress.set_phase("removing");
        self.pass(packs, seen, windows, |fate| matches!(fate, Fate::Remove | Fate::Tidy))?;
        self.progress.set_phase("rewriting");
        self.pass(packs, seen, windows, |fate| fate == Fate::Rewrite)
    }

    /// Does what is to be done with the packs of these fates.
    fn pass(
        &mut self,
        packs: &Generations,
        seen: &Seen,
        windows: &mut Windows,
        is_due: impl Fn(Fate) -> bool,
    ) -> Result<()> {
        windows.each(self, seen, |sweep, window, live| {
            for pack in window.iter().filter(|pack| seen.decided.contains(&pack.attempt)) {
                sweep.cancel.check()?;
                let generations = &packs.0[pack];
                let planned = sweep.plan_pack(*pack, generations, live.of(*pack))?;
                if !is_due(planned.fate) {
                    continue;
                }
                let is_done = match (planned.fate, live.of(*pack)) {
                    (Fate::Remove, _) => sweep.remove_all(*pack, generations).map(|()| true)?,
                    (Fate::Tidy, Some(live)) => {
                        sweep.remove_older(*pack, generations, live).map(|()| true)?
                    }
                    (Fate::Rewrite, Some(live)) => {
                        sweep.rewrite_if_it_fits(*pack, generations, live, planned.live)?
                    }
                    (Fate::Keep | Fate::Rewrite | Fate::Tidy, _) => false,
                };
                if is_done {
                    sweep.count(seen, *pack, &planned);
                    sweep.progress.add_done(planned.freed());
                }
            }
            Ok(())
        })
    }

    /// The oldest first: what is left when this ends early is the newest.
    fn remove_all(&self, pack: PackId, generations: &BTreeMap<u32, u64>) -> Result<()> {
        for generation in generations.keys() {
            self.lineage.shared.store.delete(&layout::pack(self.lineage.id(), pack, *generation))?;
        }
        Ok(())
    }

    /// Writes a pack anew where there is room for both generations at once. Where there is none the
    /// pack stays as it is, and the others have their turn: a smaller one may fit.
    fn rewrite_if_it_fits(
        &mut self,
        pack: PackId,
        generations: &BTreeMap<u32, u64>,
        live: &LiveSlots,
        new_bytes: u64,
    ) -> Result<bool> {
        // Some is left for tombstones and verdicts: without them nothing comes back any more.
        let needed = new_bytes + limits::SWEEP_ROOM_KEPT_BYTES;
        let has_room = self.lineage.shared.store.free_bytes()?.is_none_or(|free| free >= needed);
        let rewritten = if has_room { self.rewrite(pack, generations, live) } else { Ok(false) };
        match rewritten {
            Err(error) if error.kind() == ErrorKind::DiskFull => {
                tracing::warn!("A pack cannot be written anew: {}", error.chain());
                self.report.packs_without_room += 1;
                Ok(false)
            }
            other => {
                self.report.packs_without_room += u64::from(!has_room);
                other
            }
        }
    }

    /// Answers whether it was done.
    fn rewrite(&mut self, pack: PackId, generations: &BTreeMap<u32, u64>, live: &LiveSlots) -> Result<bool> {
        let Some(newest) = generations.keys().next_back() else { return Ok(false) };
        // Another sweep was faster; the next one looks again.
        if !self.write_next(pack, *newest, live)? {
            return Ok(false);
        }
        // Ours or another's: what counts is what it holds, which is read back.
        let (store, keys) = (&self.lineage.shared.store, &self.lineage.keys);
        let key = layout::pack(self.lineage.id(), pack, newest + 1);
        let object = store.get(&key)?.ok_or_else(|| frame::missing(&key))?;
        PackFile::parse(&key, keys, pack, newest + 1, &object)?.check_slots(&key, keys)?;
        self.report.bytes_rewritten += object.len() as u64;
        self.progress.add_stored(object.len() as u64);
        drop(object);
        self.remove_older(pack, generations, live).map(|()| true)
    }

    /// Writes the generation after `newest`; the whole of the pack is in memory only as long as this
    /// takes. Answers whether there was something to write from.
    fn write_next(&self, pack: PackId, newest: u32, live: &LiveSlots) -> Result<bool> {
        let (shared, keys) = (&self.lineage.shared, &self.lineage.keys);
        let key = layout::pack(self.lineage.id(), pack, newest);
        let Some(object) = shared.store.get(&key)? else { return Ok(false) };
        let file = PackFile::parse(&key, keys, pack, newest, &object)?;
        let table = file.check_slots(&key, keys)?;
        rewrite(&*shared.store, keys, &*shared.random, &file, &table, &live.all)?;
        Ok(true)
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
