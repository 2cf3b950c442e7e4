//! Which backups are gone for good: one object each, created if absent, decides between a sweep
//! and an undo.

use std::collections::{BTreeMap, BTreeSet};

use strongroom_core::id::AttemptId;
use strongroom_core::{ErrorKind, Result};

use super::Sweep;
use crate::binary::Cursor;
use crate::frame::{self, Kind};
use crate::layout;
use crate::marks::{self, END_SWEPT};
use crate::store::Put;

impl Sweep<'_> {
    /// Decides what is forgotten, not held and older than the grace; answers what is gone. The end
    /// of every tombstone in it is durable.
    pub(super) fn decide(&mut self) -> Result<BTreeSet<AttemptId>> {
        let (store, id) = (self.lineage.shared.store.clone(), self.lineage.id().clone());
        let mut newest: BTreeMap<AttemptId, (u32, bool)> = BTreeMap::new();
        for object in store.list(&layout::tombstone_prefix(&id))? {
            let Some((attempt, number, is_end)) = layout::parse_tombstone(&id, &object.key) else {
                self.leave(&object.key, "its name is not one of ours", "move it away when nobody needs it");
                continue;
            };
            let mark = newest.entry(attempt).or_insert((number, is_end));
            *mark = (*mark).max((number, is_end));
        }
        // After the tombstones: whoever placed a hold looked for a tombstone after that.
        let mut held = BTreeSet::new();
        for object in store.list(&layout::holds_prefix(&id))? {
            match layout::parse_hold(&id, &object.key) {
                Some(attempt) => held.insert(attempt),
                None => return Err(frame::damage(&object.key, "its name is not one of ours")),
            };
        }
        let mut gone = BTreeSet::new();
        for (attempt, (number, has_end)) in newest {
            self.cancel.check()?;
            let tombstone = layout::tombstone(&id, attempt, number);
            if !has_end && (held.contains(&attempt) || !self.may_decide(&tombstone)?) {
                self.report.backups_waiting += 1;
                continue;
            }
            if self.is_swept(&tombstone, has_end)? {
                gone.insert(attempt);
            }
        }
        Ok(gone)
    }

    /// Whether something was decided to be gone that is not in `gone`.
    pub(super) fn is_overtaken(&self, gone: &BTreeSet<AttemptId>) -> Result<bool> {
        let id = self.lineage.id();
        let listed = self.lineage.shared.store.list(&layout::tombstone_prefix(id))?;
        let mut ends = listed.iter().filter_map(|object| layout::parse_tombstone(id, &object.key));
        Ok(ends.any(|(attempt, _, is_end)| is_end && !gone.contains(&attempt)))
    }

    /// Whether a tombstone is sound and older than the grace.
    fn may_decide(&mut self, tombstone: &str) -> Result<bool> {
        let Some(object) = self.lineage.shared.store.get(tombstone)? else { return Ok(false) };
        let read = frame::unwrap(tombstone, Kind::Tombstone, &object)
            .and_then(|payload| Cursor::new(payload).i64().map_err(frame::malformed(tombstone)));
        match read {
            Ok(time_us) => Ok(self.is_older(time_us, self.options.grace_s)),
            // The backup stays hidden and keeps its space; the others are none the worse.
            Err(error) if error.kind() == ErrorKind::Damage => {
                self.leave(
                    tombstone,
                    error.public(),
                    "bring it back from a copy; its backup keeps its space",
                );
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Creates the end unless there is one, and answers what stands there.
    fn is_swept(&mut self, tombstone: &str, has_end: bool) -> Result<bool> {
        let (store, end) = (&self.lineage.shared.store, format!("{tombstone}.end"));
        if !has_end {
            self.report.backups_decided += 1;
            if self.options.is_dry_run {
                return Ok(true);
            }
            // Neither answer is believed: reading back is.
            let (Put::Created | Put::AlreadyThere) =
                store.put_new(&end, &frame::wrap(Kind::TombstoneEnd, &end, &[END_SWEPT]))?;
        }
        let object = store.get(&end)?.ok_or_else(|| frame::missing(&end))?;
        match marks::read_end(&end, &object) {
            Ok(is_undone) => Ok(!is_undone),
            Err(error) if error.kind() == ErrorKind::Damage => {
                self.leave(&end, error.public(), "bring it back from a copy; its backup keeps its space");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}
