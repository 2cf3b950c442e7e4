//! Everything small beside the packs: wrapped keys, verdicts, intents, tombstones, holds.

use std::collections::{BTreeMap, BTreeSet};

use strongroom_core::Result;
use strongroom_core::id::{AttemptId, LineageId};

use super::Check;
use crate::keys;
use crate::layout::{self, IntentOf};
use crate::marks;

/// The attempt that a small object's name speaks of.
pub(super) fn attempt_named(lineage: &LineageId, key: &str) -> Option<AttemptId> {
    layout::parse_verdict(lineage, key)
        .or_else(|| layout::parse_tombstone(lineage, key).map(|(attempt, _, _)| attempt))
        .or_else(|| writer_of(lineage, key))
        .or_else(|| layout::parse_hold(lineage, key))
}

fn writer_of(lineage: &LineageId, key: &str) -> Option<AttemptId> {
    match layout::parse_intent(lineage, key)? {
        IntentOf::Writer(attempt) => Some(attempt),
        IntentOf::Reader(_) => None,
    }
}

impl Check<'_> {
    fn names_below(&self, prefix: &str) -> Result<Vec<String>> {
        Ok(self.lineage.shared.store.list(prefix)?.into_iter().map(|object| object.key).collect())
    }

    /// What a listing can tell: whose verdict, tombstone or end is gone.
    pub(super) fn small_objects_are_there(&mut self) -> Result<()> {
        let id = self.lineage.id().clone();
        // In this order, which mirrors the writer's, a pack whose owner has neither an intent nor
        // a verdict has lost one of them (repository.md section 7).
        let packs = self.names_below(&layout::pack_prefix(&id))?;
        let intents = self.names_below(&layout::intent_prefix(&id))?;
        let verdicts = self.names_below(&layout::verdict_prefix(&id))?;
        let owners: BTreeSet<AttemptId> = intents
            .iter()
            .filter_map(|key| writer_of(&id, key))
            .chain(verdicts.iter().filter_map(|key| layout::parse_verdict(&id, key)))
            .collect();
        for key in &packs {
            match layout::parse_pack(&id, key) {
                Some((pack, _)) if owners.contains(&pack.attempt) => {}
                Some((pack, _)) => self.finding(
                    &layout::verdict(&id, pack.attempt),
                    "it is missing: packs of this attempt are there, and neither its verdict nor its intent",
                ),
                None => self.finding(key, "its name is not one of ours"),
            }
        }
        for key in intents.iter().filter(|key| layout::parse_intent(&id, key).is_none()) {
            self.finding(key, "its name is not one of ours");
        }
        self.tombstones_have_no_gap(&id)
    }

    /// A tombstone is made only when the one before it was undone, and an end only for a tombstone.
    fn tombstones_have_no_gap(&mut self, id: &LineageId) -> Result<()> {
        let mut found: BTreeMap<AttemptId, BTreeSet<(u32, bool)>> = BTreeMap::new();
        for key in self.names_below(&layout::tombstone_prefix(id))? {
            match layout::parse_tombstone(id, &key) {
                Some((attempt, number, is_end)) => {
                    found.entry(attempt).or_default().insert((number, is_end));
                }
                None => self.finding(&key, "its name is not one of ours"),
            }
        }
        for (attempt, marks) in found {
            let Some((newest, _)) = marks.last().copied() else { continue };
            for number in 0..=newest {
                let tombstone = layout::tombstone(id, attempt, number);
                if !marks.contains(&(number, false)) {
                    self.finding(&tombstone, "it is missing");
                }
                if number < newest && !marks.contains(&(number, true)) {
                    self.finding(&format!("{tombstone}.end"), "it is missing");
                }
            }
        }
        Ok(())
    }

    /// Opens each of them: what they say must be what their names promise.
    pub(super) fn small_objects(&mut self) -> Result<()> {
        let store = self.lineage.shared.store.clone();
        let lineage = self.lineage;
        let (project, id) = (&lineage.keys.project, lineage.id());
        keys::check(&*store, &lineage.shared.recovery, project, id, |key, opened| {
            self.report.objects_checked += 1;
            self.found(key, opened).map(|_| ())
        })?;
        let prefixes = [
            layout::verdict_prefix(id),
            layout::tombstone_prefix(id),
            layout::intent_prefix(id),
            layout::holds_prefix(id),
        ];
        for prefix in prefixes {
            for key in self.names_below(&prefix)? {
                self.cancel.check()?;
                // An intent may end between the listing and this look.
                let Some(Some(object)) = self.found(&key, store.get(&key))? else { continue };
                self.report.objects_checked += 1;
                self.report.bytes_checked += object.len() as u64;
                let opened = match layout::parse_verdict(id, &key) {
                    Some(attempt) => crate::verdict::open(&lineage.keys, attempt, &object).map(|_| ()),
                    None => marks::check(id, &key, &object),
                };
                self.found(&key, opened)?;
            }
        }
        Ok(())
    }
}
