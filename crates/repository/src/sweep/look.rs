//! Who needs what: intents, then verdicts, after the tombstones were decided.

use std::collections::{BTreeMap, BTreeSet};

use strongroom_core::id::AttemptId;
use strongroom_core::logs::LogPoint;
use strongroom_core::{Error, Result};

use super::Sweep;
use crate::binary::Cursor;
use crate::frame::{self, Kind};
use crate::generations::Generations;
use crate::layout::{self, IntentOf};
use crate::verdict::{self, Opened};

/// A reader says every ten minutes that it reads; one that has not for so long is gone.
const READER_GONE_AFTER_S: i64 = 3600;

/// What was seen of a lineage.
pub(super) struct Seen {
    /// Attempts whose rosters say what is live.
    pub(super) roots: BTreeSet<AttemptId>,
    /// Backups that are gone, and that a writer or reader named in its intent. Whoever came before
    /// the decision finds them whole; whoever came after it will find out, and something of them
    /// may be missing by now.
    pub(super) named: BTreeSet<AttemptId>,
    /// Open attempts by the parent they named.
    pub(super) writers_on: BTreeMap<AttemptId, Vec<AttemptId>>,
    /// Attempts that have a verdict.
    pub(super) decided: BTreeSet<AttemptId>,
    /// Backups that are gone for good.
    pub(super) gone: BTreeSet<AttemptId>,
    /// Intents that may go when everything else is done.
    pub(super) spent_intents: Vec<String>,
    /// From where log leads on from each backup that somebody may need.
    pub(super) log_points: Vec<LogPoint>,
    /// Whether an attempt may still become a backup.
    pub(super) has_open_attempt: bool,
}

/// Sealed attempts, each with the place from which log leads on.
type Sealed = BTreeMap<AttemptId, Option<LogPoint>>;

/// The intents of a lineage.
#[derive(Default)]
struct Intents {
    /// Parent and time of each writer's.
    writers: BTreeMap<AttemptId, (Option<AttemptId>, i64)>,
    /// Of each reader: what it reads, its newest time, its intents.
    readers: BTreeMap<String, (AttemptId, i64, Vec<String>)>,
}

impl Sweep<'_> {
    pub(super) fn look(&mut self, packs: &Generations, gone: &BTreeSet<AttemptId>) -> Result<Seen> {
        let intents = self.intents()?;
        self.abandon(&intents)?;
        let (sealed, decided) = self.verdicts(gone)?;
        let roots: BTreeSet<AttemptId> =
            sealed.keys().filter(|attempt| !gone.contains(attempt)).copied().collect();
        let mut log_points: Vec<LogPoint> = sealed.into_values().flatten().collect();
        let (mut named, mut spent_intents) = (BTreeSet::new(), Vec::new());
        let mut writers_on: BTreeMap<AttemptId, Vec<AttemptId>> = BTreeMap::new();
        for (attempt, (parent, _)) in &intents.writers {
            if decided.contains(attempt) {
                spent_intents.push(layout::intent(self.lineage.id(), *attempt));
            } else if let Some(parent) = parent {
                named.insert(*parent);
                writers_on.entry(*parent).or_default().push(*attempt);
            }
        }
        for (target, time_us, keys) in intents.readers.into_values() {
            if self.is_older(time_us, READER_GONE_AFTER_S) {
                spent_intents.extend(keys);
            } else {
                named.insert(target);
            }
        }
        // One that is neither gone nor sealed is no backup: whoever named it will find that out.
        named.retain(|attempt| gone.contains(attempt));
        for attempt in &named {
            if let Some((Opened::Sealed { root, .. }, _)) = self.lineage.open_verdict(*attempt)? {
                log_points.extend(root.document.facts.log);
            }
        }
        let owners: BTreeSet<AttemptId> = packs.0.keys().map(|pack| pack.attempt).collect();
        for owner in owners {
            if !decided.contains(&owner) && !intents.writers.contains_key(&owner) {
                let key = layout::verdict(self.lineage.id(), owner);
                let problem =
                    "it is missing: packs of this attempt are there, and neither its verdict nor its intent";
                self.leave(&key, problem, "its packs stay; bring the verdict back from a copy");
            }
        }
        let has_open_attempt = intents.writers.keys().any(|attempt| !decided.contains(attempt));
        let gone = gone.clone();
        Ok(Seen { roots, named, writers_on, decided, gone, spent_intents, log_points, has_open_attempt })
    }

    /// All intents. One that cannot be read might need anything: damage.
    fn intents(&self) -> Result<Intents> {
        let (store, id) = (&self.lineage.shared.store, self.lineage.id());
        let mut intents = Intents::default();
        for object in store.list(&layout::intent_prefix(id))? {
            let key = &object.key;
            let of = layout::parse_intent(id, key)
                .ok_or_else(|| frame::damage(key, "its name is not one of ours"))?;
            // Whoever took it away since has ended, or has its verdict by now.
            let Some(bytes) = store.get(key)? else { continue };
            let mut fields = Cursor::new(frame::unwrap(key, Kind::Intent, &bytes)?);
            let named: [u8; 16] = fields.array().map_err(frame::malformed(key))?;
            match of {
                IntentOf::Writer(attempt) => {
                    let parent = (named != [0; 16]).then(|| AttemptId::from_bytes(named));
                    let time = fields.i64().and_then(|_epoch| fields.i64());
                    intents.writers.insert(attempt, (parent, time.map_err(frame::malformed(key))?));
                }
                IntentOf::Reader(reader) => {
                    let time_us = fields.i64().map_err(frame::malformed(key))?;
                    let target = AttemptId::from_bytes(named);
                    let known =
                        intents.readers.entry(reader.to_owned()).or_insert((target, time_us, Vec::new()));
                    known.1 = known.1.max(time_us);
                    known.2.push(key.clone());
                }
            }
        }
        Ok(intents)
    }

    /// Makes sure that attempts which nobody goes on with cannot commit any more: only that, never
    /// a clock, makes their packs garbage.
    fn abandon(&mut self, intents: &Intents) -> Result<()> {
        for (attempt, (_, time_us)) in &intents.writers {
            let is_spent = self.is_older(*time_us, self.options.abandon_after_s);
            if self.options.is_dry_run || !is_spent {
                continue;
            }
            let key = layout::verdict(self.lineage.id(), *attempt);
            if self.lineage.shared.store.head(&key)?.is_none() {
                self.lineage.abandon(*attempt)?;
                self.report.attempts_abandoned += 1;
            }
        }
        Ok(())
    }

    /// The sealed attempts with the place from which log leads on, and all that have a verdict. Of
    /// those that are gone nothing is read.
    fn verdicts(&self, gone: &BTreeSet<AttemptId>) -> Result<(Sealed, BTreeSet<AttemptId>)> {
        let (store, id) = (&self.lineage.shared.store, self.lineage.id());
        let (mut sealed, mut decided) = (BTreeMap::new(), BTreeSet::new());
        for object in store.list(&layout::verdict_prefix(id))? {
            self.cancel.check()?;
            let key = &object.key;
            let attempt = layout::parse_verdict(id, key)
                .ok_or_else(|| frame::damage(key, "its name is not one of ours"))?;
            decided.insert(attempt);
            if gone.contains(&attempt) {
                continue;
            }
            let bytes = store.get(key)?.ok_or_else(|| frame::missing(key))?;
            if !verdict::is_abandoned(key, &bytes) {
                let Opened::Sealed { root, .. } = verdict::open(&self.lineage.keys, attempt, &bytes)? else {
                    return Err(Error::internal("a verdict is abandoned and is not"));
                };
                sealed.insert(attempt, root.document.facts.log);
            }
        }
        Ok((sealed, decided))
    }
}
