//! What is live of each pack, and what is therefore to be done with it.

use std::collections::BTreeMap;

use strongroom_core::id::AttemptId;
use strongroom_core::{Error, ErrorKind, Result};

use super::look::Seen;
use super::{Sweep, SweepOptions};
use crate::frame;
use crate::generations::{Generations, holds_all};
use crate::layout;
use crate::pack::{PACK_HEADER_BYTES, PACK_TRAILER_BYTES, PackId, SlotTable, read_table};
use crate::reader::ChunkReader;
use crate::roster::{Needed, Roster};
use crate::verdict::{Opened, Verdict};

/// Packs whose two bitmaps of up to 8 KiB each are in memory at once.
const WINDOW_PACKS: usize = 4096;

/// Slots that somebody needs, of the packs of one window.
#[derive(Default)]
pub(super) struct Live(BTreeMap<PackId, LiveSlots>);

/// Slots of one pack that somebody needs.
#[derive(Default)]
pub(super) struct LiveSlots {
    pub(super) all: Needed,
    /// Those that are missed when they are not there.
    pub(super) surely: Needed,
}

impl Live {
    /// Whether nobody but readers and writers who came before a deletion needs it.
    fn is_only_in_use(&self, pack: PackId) -> bool {
        self.of(pack).is_some_and(|live| live.surely.is_empty())
    }

    /// `None` when nothing of the pack is live.
    pub(super) fn of(&self, pack: PackId) -> Option<&LiveSlots> {
        self.0.get(&pack).filter(|live| !live.all.is_empty())
    }
}

/// The packs of a lineage, so many at a time that what is live of them fits into memory.
pub(super) struct Windows {
    ids: Vec<PackId>,
    /// Of a lineage that has one window only, what is live is worked out once.
    kept: Option<Live>,
}

impl Windows {
    pub(super) fn new(packs: &Generations) -> Self {
        Self { ids: packs.0.keys().copied().collect(), kept: None }
    }

    /// Does something with each window and what is live of it.
    pub(super) fn each<'s>(
        &mut self,
        sweep: &mut Sweep<'s>,
        seen: &Seen,
        mut act: impl FnMut(&mut Sweep<'s>, &[PackId], &Live) -> Result<()>,
    ) -> Result<()> {
        for window in self.ids.chunks(WINDOW_PACKS) {
            let live = match self.kept.take() {
                Some(live) => live,
                None => sweep.live(seen, window)?,
            };
            act(sweep, window, &live)?;
            self.kept = (self.ids.len() <= WINDOW_PACKS).then_some(live);
        }
        Ok(())
    }
}

/// What is to be done with a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Keep,
    /// All generations go.
    Remove,
    /// Generations before the newest one go.
    Tidy,
    /// The newest one is written anew, then as `Tidy`.
    Rewrite,
}

/// A fate, and what of the pack's bytes it concerns.
#[derive(Clone, Copy)]
pub(super) struct Planned {
    pub(super) fate: Fate,
    /// Of the newest generation.
    pub(super) live: u64,
    dead: u64,
    /// Of those before it.
    older: u64,
}

impl Planned {
    /// By how many bytes smaller the pack becomes.
    pub(super) fn freed(&self) -> u64 {
        match self.fate {
            Fate::Keep => 0,
            Fate::Tidy => self.older,
            Fate::Remove | Fate::Rewrite => self.older + self.dead,
        }
    }
}

impl Sweep<'_> {
    /// Plans everything; answers the bytes that come back.
    pub(super) fn plan(&mut self, packs: &Generations, seen: &Seen, windows: &mut Windows) -> Result<u64> {
        let mut freed = 0;
        windows.each(self, seen, |sweep, window, live| {
            for pack in window {
                sweep.cancel.check()?;
                let generations = &packs.0[pack];
                if !seen.decided.contains(&pack.attempt) {
                    sweep.report.unfinished.count(generations.values().sum());
                    continue;
                }
                let planned = sweep.plan_pack(*pack, generations, live.of(*pack))?;
                freed += planned.freed();
                sweep.report.bytes_live += planned.live;
                if live.is_only_in_use(*pack) {
                    sweep.report.in_use.count(planned.live);
                }
                if matches!(planned.fate, Fate::Keep | Fate::Tidy) && planned.dead > 0 {
                    sweep.report.dead_kept.count(planned.dead);
                }
                if sweep.options.is_dry_run {
                    sweep.count(seen, *pack, &planned);
                }
            }
            Ok(())
        })?;
        Ok(freed)
    }

    /// Enters into the report what was done with a pack, or would be.
    pub(super) fn count(&mut self, seen: &Seen, pack: PackId, planned: &Planned) {
        self.report.bytes_freed += planned.freed();
        let reasons = &mut self.report.reasons;
        match planned.fate {
            Fate::Keep => return,
            Fate::Tidy => {}
            Fate::Remove => {
                self.report.packs_removed += 1;
                let share = if seen.gone.contains(&pack.attempt) {
                    &mut reasons.deleted
                } else if seen.roots.contains(&pack.attempt) {
                    &mut reasons.unused
                } else {
                    &mut reasons.abandoned
                };
                share.count(planned.dead);
            }
            Fate::Rewrite => {
                self.report.packs_rewritten += 1;
                reasons.dead_records.count(planned.dead);
            }
        }
        if planned.older > 0 {
            reasons.replaced.count(planned.older);
        }
    }

    /// What the rosters say of these packs. Whatever cannot be read is a doubt about all of them.
    fn live(&self, seen: &Seen, window: &[PackId]) -> Result<Live> {
        let mut live = Live::default();
        let (Some(first), Some(last)) = (window.first(), window.last()) else { return Ok(live) };
        let mut reader = ChunkReader::new(self.lineage.shared.store.clone(), self.lineage.keys.clone());
        for attempt in seen.named.iter().chain(&seen.roots) {
            self.cancel.check()?;
            let is_sure = seen.roots.contains(attempt);
            let mut add = |pack: PackId, needed: &Needed| {
                if *first <= pack && pack <= *last {
                    let slots = live.0.entry(pack).or_default();
                    slots.all.add(needed);
                    if is_sure {
                        slots.surely.add(needed);
                    }
                }
            };
            match self.needs_of(*attempt, &mut reader, &mut add) {
                Err(error) if error.kind() == ErrorKind::Damage && !is_sure => {
                    self.cannot_commit_on(seen, *attempt, error)?;
                }
                other => other?,
            }
        }
        Ok(live)
    }

    /// A backup that is gone can no longer be read, and something named it in its intent. Writers
    /// that did are kept from committing, so that none refers to what is not there.
    fn cannot_commit_on(&self, seen: &Seen, parent: AttemptId, error: Error) -> Result<()> {
        for writer in seen.writers_on.get(&parent).into_iter().flatten() {
            if self.options.is_dry_run {
                continue;
            }
            // Sealed after all: what it needs is seen by the next sweep, and nothing goes in this one.
            if !matches!(self.lineage.abandon(*writer)?, Verdict::Abandoned) {
                return Err(error);
            }
        }
        Ok(())
    }

    fn needs_of(
        &self,
        attempt: AttemptId,
        reader: &mut ChunkReader,
        add: &mut dyn FnMut(PackId, &Needed),
    ) -> Result<()> {
        let key = layout::verdict(self.lineage.id(), attempt);
        let root = match self.lineage.open_verdict(attempt)? {
            Some((Opened::Sealed { root, .. }, _)) => root,
            // Every root was sealed when it was looked at.
            Some((Opened::Abandoned, _)) | None => return Err(frame::missing(&key)),
        };
        // The root's own nodes stand in no roster.
        let mut own = Roster::default();
        root.pages.iter().map(|page| &page.node).chain(&root.rosters).for_each(|node| own.mark(&node.at));
        own.packs.iter().for_each(|(pack, needed)| add(*pack, needed));
        for node in &root.rosters {
            let mut part = Roster::default();
            part.read(&reader.node(node)?).map_err(frame::malformed(&key))?;
            part.packs.iter().for_each(|(pack, needed)| add(*pack, needed));
        }
        Ok(())
    }

    /// What is to be done with a pack that has these generations.
    pub(super) fn plan_pack(
        &self,
        pack: PackId,
        generations: &BTreeMap<u32, u64>,
        live: Option<&LiveSlots>,
    ) -> Result<Planned> {
        let all: u64 = generations.values().sum();
        let (newest, size) = generations.last_key_value().map_or((0, 0), |(newest, size)| (*newest, *size));
        let older = all - size;
        let Some(live) = live else {
            return Ok(Planned { fate: Fate::Remove, live: 0, dead: size, older });
        };
        let (store, key) = (&*self.lineage.shared.store, layout::pack(self.lineage.id(), pack, newest));
        // Another sweep may have gone further since the listing: the next one looks again.
        let Some(table) = read_table(store, &self.lineage.keys, pack, newest)? else {
            return Ok(Planned { fate: Fate::Keep, live: size, dead: 0, older: 0 });
        };
        if let Err(slot) = holds_all(&table, &live.surely) {
            return Err(frame::damage(&key, &format!("it lacks the slot {slot}, which a backup needs")));
        }
        let dead = size.saturating_sub(live_size(&table, &live.all));
        let threshold = u64::from(self.options.dead_percent.max(SweepOptions::TIGHTEST_PERCENT));
        let fate = if dead > 0 && dead * 100 >= size * threshold {
            Fate::Rewrite
        } else if older > 0 {
            Fate::Tidy
        } else {
            Fate::Keep
        };
        Ok(Planned { fate, live: size - dead, dead, older })
    }
}

/// Bytes of a generation that holds nothing but what is live.
fn live_size(table: &SlotTable, live: &Needed) -> u64 {
    let records: u64 = live
        .slots()
        .filter_map(|slot| table.slots.get(usize::from(slot)))
        .map(|entry| u64::from(entry.stored_length))
        .sum();
    let ends = PACK_HEADER_BYTES + table.write().len() + crate::aead::TAG_BYTES + PACK_TRAILER_BYTES;
    records + ends as u64
}
