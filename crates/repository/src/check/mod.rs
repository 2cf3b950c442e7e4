//! Checks what is stored, at the levels of `repository.md` section 9: presence, digest, decode.
//! Whatever is found is told with the object's name and the backups it touches; what cannot be
//! read never stands in the way of looking at the rest.

mod decode;
mod logs;
mod small;
mod whole;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use strongroom_core::engine::CancelToken;
use strongroom_core::id::AttemptId;
use strongroom_core::progress::Progress;
use strongroom_core::verification::Level;
use strongroom_core::{Error, ErrorKind, Result};

use crate::generations::{Generations, newest};
use crate::layout;
use crate::lineage::Lineage;
use crate::marks;
use crate::pack::{PackFile, PackId};
use crate::reader::BackupReader;
use crate::roster::{Needed, Roster};
use crate::verdict::Opened;

/// A stored byte that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The object's key.
    pub object: String,
    pub problem: String,
    /// Attempts of the backups that need the object, or that it speaks of.
    pub attempts: Vec<AttemptId>,
    /// Their names, for people; an attempt's id where the name cannot be read.
    pub backups: Vec<String>,
}

/// What a check looked at and found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    pub objects_checked: u64,
    pub bytes_checked: u64,
    pub findings: Vec<Finding>,
}

impl CheckReport {
    pub fn passed(&self) -> bool {
        self.findings.is_empty()
    }

    /// Adds another lineage's report. What both lineages stand on, their project's key, is told once.
    pub fn merge(&mut self, other: Self) {
        self.objects_checked += other.objects_checked;
        self.bytes_checked += other.bytes_checked;
        for finding in other.findings {
            match self.findings.iter_mut().find(|known| known.object == finding.object) {
                Some(known) => {
                    known.attempts.extend(finding.attempts);
                    known.backups.extend(finding.backups);
                }
                None => self.findings.push(finding),
            }
        }
    }
}

/// A backup under check, with the packs it needs.
struct Subject {
    attempt: AttemptId,
    name: String,
    roster: Roster,
    roster_packs: Vec<(PackId, u64)>,
}

struct Check<'a> {
    lineage: &'a Lineage,
    cancel: &'a CancelToken,
    progress: &'a Progress,
    report: CheckReport,
    subjects: Vec<Subject>,
    /// The backup that is being decoded: what damage meets it touches it, whatever rosters say.
    decoding: Option<AttemptId>,
    damaged: BTreeSet<String>,
}

impl Lineage {
    /// Checks one backup, or all that are sealed and not forgotten. Damage is a finding, not an
    /// error; an error means that the check itself could not go on.
    pub fn check(
        &self,
        attempt: Option<AttemptId>,
        level: Level,
        cancel: &CancelToken,
        progress: &Progress,
    ) -> Result<CheckReport> {
        let mut check = Check {
            lineage: self,
            cancel,
            progress,
            report: CheckReport::default(),
            subjects: Vec::new(),
            decoding: None,
            damaged: BTreeSet::new(),
        };
        check.load(attempt)?;
        check.presence()?;
        if attempt.is_none() {
            check.small_objects_are_there()?;
            check.logs(level)?;
        }
        if level >= Level::Digest {
            if attempt.is_none() {
                check.small_objects()?;
            }
            check.packs()?;
        }
        if level >= Level::Decode {
            check.decode()?;
        }
        Ok(check.report)
    }
}

impl Check<'_> {
    /// Turns damage into a finding and lets every other error through.
    fn found<T>(&mut self, key: &str, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if matches!(error.kind(), ErrorKind::Damage | ErrorKind::WrongKey) => {
                self.finding(key, error.public());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn finding(&mut self, key: &str, problem: &str) {
        self.finding_in_slots(key, problem, None);
    }

    /// As [`Check::finding`]; of a pack whose bad slots are known, only backups that need one of
    /// them are touched.
    fn finding_in_slots(&mut self, key: &str, problem: &str, slots: Option<&[u16]>) {
        if !self.damaged.insert(key.to_owned()) {
            return;
        }
        let lineage = self.lineage.id();
        let pack = layout::parse_pack(lineage, key).map(|(pack, _)| pack);
        let is_key = key.starts_with(layout::KEYS_PREFIX);
        let named = small::attempt_named(lineage, key);
        let is_touched = |subject: &&Subject| {
            let attempt = Some(subject.attempt);
            let needs = |pack: PackId| {
                let needed = subject.roster.packs.get(&pack);
                needed.is_some_and(|needed| {
                    slots.is_none_or(|slots| slots.iter().any(|slot| needed.holds(*slot)))
                }) || subject.roster_packs.iter().any(|(own, _)| *own == pack)
            };
            is_key || attempt == named || attempt == self.decoding || pack.is_some_and(needs)
        };
        let touched = self.subjects.iter().filter(is_touched);
        let (mut attempts, mut backups): (Vec<_>, Vec<_>) =
            touched.map(|subject| (subject.attempt, subject.name.clone())).unzip();
        // A manifest that cannot be opened, or a forgotten backup, is no subject.
        if let Some(named) = named
            && !attempts.contains(&named)
        {
            attempts.push(named);
            backups.push(format!("attempt {named}"));
        }
        let finding = Finding { object: key.to_owned(), problem: problem.to_owned(), attempts, backups };
        self.report.findings.push(finding);
    }

    fn load(&mut self, wanted: Option<AttemptId>) -> Result<()> {
        let lineage = self.lineage;
        let prefix = layout::verdict_prefix(lineage.id());
        let forgotten = marks::forgotten(&*lineage.shared.store, lineage.id())?;
        for object in lineage.shared.store.list(&prefix)? {
            let Some(attempt) = layout::parse_verdict(lineage.id(), &object.key) else {
                self.finding(&object.key, "its name is not one of ours");
                continue;
            };
            if wanted.is_some_and(|wanted| wanted != attempt) || forgotten.contains(&attempt) {
                continue;
            }
            self.report.objects_checked += 1;
            let opened = lineage.open_verdict(attempt);
            match self.found(&object.key, opened) {
                Ok(Some(Some((Opened::Sealed { root, .. }, _)))) => {
                    self.add_subject(attempt, &root.document.catalog.backup_name)?;
                }
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(attempt) = wanted
            && self.subjects.is_empty()
            && self.report.findings.is_empty()
        {
            let key = layout::verdict(lineage.id(), attempt);
            let problem = if forgotten.contains(&attempt) {
                "the backup was forgotten"
            } else {
                "the sealed manifest is missing"
            };
            self.finding(&key, problem);
        }
        Ok(())
    }

    fn add_subject(&mut self, attempt: AttemptId, name: &str) -> Result<()> {
        let Some(reader) = self.reader(attempt)? else { return Ok(()) };
        let named = &reader.tree().root.document.roster_packs;
        let roster_packs: Vec<(PackId, u64)> =
            named.iter().map(|(n, size)| (PackId { attempt, n: *n }, *size)).collect();
        self.subjects.push(Subject {
            attempt,
            name: name.to_owned(),
            roster: Roster::default(),
            roster_packs: roster_packs.clone(),
        });
        let key = roster_packs
            .first()
            .map_or_else(String::new, |(pack, _)| layout::pack(self.lineage.id(), *pack, 0));
        let roster = reader.tree().roster();
        if let Some(roster) = self.found(&key, roster)?
            && let Some(subject) = self.subjects.last_mut()
        {
            subject.roster = roster;
        }
        Ok(())
    }

    /// Opens a backup under check; `None` when it was forgotten meanwhile.
    fn reader(&self, attempt: AttemptId) -> Result<Option<BackupReader>> {
        match BackupReader::open(self.lineage, attempt) {
            Ok(reader) => Ok(Some(reader)),
            Err(error) if error.kind() == ErrorKind::BackupNotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Packs needed by any backup under check, with generation and size where a roster tells it.
    fn needed(&self) -> BTreeMap<PackId, Needed> {
        let mut needed: BTreeMap<PackId, Needed> = BTreeMap::new();
        for subject in &self.subjects {
            for (pack, size) in &subject.roster_packs {
                needed.entry(*pack).or_default().size = *size;
            }
            for (pack, entry) in &subject.roster.packs {
                let known = needed.entry(*pack).or_default();
                known.add(entry);
                (known.generation, known.size) = (entry.generation, entry.size);
            }
        }
        needed
    }

    /// Whether every backup that needs the pack was forgotten since this check began: then a sweep
    /// may have taken it.
    fn is_swept_meanwhile(&self, pack: PackId) -> Result<bool> {
        let forgotten = marks::forgotten(&*self.lineage.shared.store, self.lineage.id())?;
        let mut needing = self.subjects.iter().filter(|subject| {
            subject.roster.packs.contains_key(&pack)
                || subject.roster_packs.iter().any(|(own, _)| *own == pack)
        });
        Ok(needing.all(|subject| forgotten.contains(&subject.attempt)))
    }

    /// V0: every pack is there, with its size.
    fn presence(&mut self) -> Result<()> {
        let (listed, _) = Generations::of(self.lineage, self.lineage.listed_packs()?);
        for (pack, needed) in self.needed() {
            self.report.objects_checked += 1;
            if let Err(error) = listed.check(self.lineage, pack, &needed)
                && !self.is_swept_meanwhile(pack)?
            {
                let key = layout::pack(self.lineage.id(), pack, needed.generation);
                self.damage_in(&key, Err::<(), _>(error))?;
            }
        }
        Ok(())
    }

    /// The generation a tree names or, when that is gone, the newest. `None`: told already.
    fn object_of(&mut self, pack: PackId, named: u32) -> Result<Option<(u32, Vec<u8>)>> {
        let store = self.lineage.shared.store.clone();
        let mut generation = named;
        // A sweep may write the next one while this one is looked for.
        for _ in 0..4 {
            let key = layout::pack(self.lineage.id(), pack, generation);
            let object = store.get(&key);
            match self.found(&key, object)? {
                Some(Some(object)) => return Ok(Some((generation, object))),
                None => return Ok(None),
                Some(None) => {}
            }
            generation = newest(&*store, self.lineage.id(), pack)?.unwrap_or(named);
        }
        if !self.is_swept_meanwhile(pack)? {
            self.finding(&layout::pack(self.lineage.id(), pack, named), "it is missing");
        }
        Ok(None)
    }

    /// V1: the digest of each pack and of each slot in it.
    fn packs(&mut self) -> Result<()> {
        let needed = self.needed();
        self.progress.set_total(needed.values().map(|needed| needed.size).sum());
        for (pack, needed) in needed {
            self.cancel.check()?;
            let Some((generation, object)) = self.object_of(pack, needed.generation)? else { continue };
            let key = layout::pack(self.lineage.id(), pack, generation);
            let size = object.len() as u64;
            let checked = PackFile::parse(&key, &self.lineage.keys, pack, generation, &object)
                .and_then(|file| file.check_slots(&key, &self.lineage.keys).map(|_| ()));
            match checked {
                Err(error) if error.kind() == ErrorKind::Damage => {
                    let slots = PackFile::bad_slots(&key, &self.lineage.keys, pack, generation, &object);
                    self.finding_in_slots(&key, error.public(), slots.as_deref());
                }
                other => other?,
            }
            self.report.bytes_checked += size;
            self.progress.add_done(size);
        }
        Ok(())
    }

    /// As [`Check::found`], for errors that name the damaged object themselves.
    fn damage_in<T>(&mut self, fallback: &str, result: Result<T>) -> Result<Option<T>> {
        let object = match &result {
            Err(error) => named_object(error).unwrap_or(fallback).to_owned(),
            Ok(_) => String::new(),
        };
        self.found(&object, result)
    }
}

/// The object's key in a damage error's sentence: `The object KEY is damaged: …`.
fn named_object(error: &Error) -> Option<&str> {
    let key = error.public().strip_prefix("The object ")?.split(" is damaged").next()?;
    key.starts_with("l/").then_some(key)
}
