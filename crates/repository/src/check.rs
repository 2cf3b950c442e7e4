//! Checks what is stored, at the levels of `repository.md` section 9: presence, digest, decode.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use strongroom_core::engine::CancelToken;
use strongroom_core::id::AttemptId;
use strongroom_core::progress::Progress;
use strongroom_core::verification::Level;
use strongroom_core::{Error, ErrorKind, Result};

use crate::frame;
use crate::layout;
use crate::lineage::Lineage;
use crate::pack::{PackFile, PackId};
use crate::reader::{BackupReader, ChunkReader, read_leaves};
use crate::roster::Roster;
use crate::tree::Content;
use crate::verdict::{Opened, SealedSummary};

/// A stored byte that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The object's key.
    pub object: String,
    pub problem: String,
    /// Attempts of the sealed backups that need the object.
    pub attempts: Vec<AttemptId>,
    /// Their names, for people.
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

    /// Adds another lineage's report.
    pub fn merge(&mut self, other: Self) {
        self.objects_checked += other.objects_checked;
        self.bytes_checked += other.bytes_checked;
        self.findings.extend(other.findings);
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
            damaged: BTreeSet::new(),
        };
        check.load(attempt)?;
        check.presence()?;
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
        if !self.damaged.insert(key.to_owned()) {
            return;
        }
        let lineage = self.lineage.id();
        let pack = layout::parse_pack(lineage, key).map(|(pack, _)| pack);
        let verdict = layout::parse_verdict(lineage, key);
        let touched = self.subjects.iter().filter(|subject| {
            Some(subject.attempt) == verdict
                || pack.is_some_and(|pack| {
                    subject.roster.packs.contains_key(&pack)
                        || subject.roster_packs.iter().any(|(own, _)| *own == pack)
                })
        });
        let (attempts, backups) = touched.map(|subject| (subject.attempt, subject.name.clone())).unzip();
        let finding = Finding { object: key.to_owned(), problem: problem.to_owned(), attempts, backups };
        self.report.findings.push(finding);
    }

    fn load(&mut self, wanted: Option<AttemptId>) -> Result<()> {
        let lineage = self.lineage;
        let prefix = layout::verdict_prefix(lineage.id());
        for object in lineage.shared.store.list(&prefix)? {
            let Some(attempt) = layout::parse_verdict(lineage.id(), &object.key) else {
                self.finding(&object.key, "its name is not one of ours");
                continue;
            };
            if wanted.is_some_and(|wanted| wanted != attempt) || lineage.is_forgotten(attempt)? {
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
            self.finding(&key, "the sealed manifest is missing");
        }
        Ok(())
    }

    fn add_subject(&mut self, attempt: AttemptId, name: &str) -> Result<()> {
        let reader = self.lineage.open_backup(attempt)?;
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

    /// Packs needed by any backup under check, with generation and size where a roster tells it.
    fn needed(&self) -> BTreeMap<PackId, (u32, u64)> {
        let mut needed = BTreeMap::new();
        for subject in &self.subjects {
            for (pack, size) in &subject.roster_packs {
                needed.insert(*pack, (0, *size));
            }
            for (pack, entry) in &subject.roster.packs {
                needed.insert(*pack, (entry.generation, entry.size));
            }
        }
        needed
    }

    /// V0: every pack is there, with its size.
    fn presence(&mut self) -> Result<()> {
        let listed: BTreeMap<String, u64> =
            self.lineage.listed_packs()?.into_iter().map(|object| (object.key, object.size)).collect();
        for (pack, (generation, size)) in self.needed() {
            let key = layout::pack(self.lineage.id(), pack, generation);
            self.report.objects_checked += 1;
            match listed.get(&key) {
                None => self.finding(&key, "it is missing"),
                Some(found) if *found != size => {
                    self.finding(&key, &format!("it has {found} bytes, {size} were written"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// V1 for everything small: verdicts of abandoned attempts, tombstones, intents, holds, keys.
    fn small_objects(&mut self) -> Result<()> {
        let store = self.lineage.shared.store.clone();
        let lineage = self.lineage.id();
        let own = layout::lineage_prefix(lineage);
        let mut keys = vec![
            layout::project_key(&self.lineage.keys.project, self.lineage.keys.key_epoch),
            layout::lineage_key(&self.lineage.keys.project, lineage, self.lineage.keys.key_epoch),
        ];
        for part in ["at/", "tb/", "in/", "hold/"] {
            keys.extend(store.list(&format!("{own}{part}"))?.into_iter().map(|object| object.key));
        }
        for key in keys {
            self.cancel.check()?;
            // An intent may end between the listing and this look.
            let Some(object) = store.get(&key)? else { continue };
            self.report.objects_checked += 1;
            self.report.bytes_checked += object.len() as u64;
            let checked = frame::check_digest(&key, &object).and_then(|()| {
                match layout::parse_verdict(lineage, &key) {
                    Some(attempt) => self.lineage.open_verdict(attempt).map(|_| ()),
                    None => Ok(()),
                }
            });
            self.found(&key, checked)?;
        }
        Ok(())
    }

    /// V1: the digest of each pack and of each slot in it.
    fn packs(&mut self) -> Result<()> {
        let needed = self.needed();
        self.progress.set_total(needed.values().map(|(_, size)| *size).sum());
        for (pack, (generation, _)) in needed {
            self.cancel.check()?;
            let key = layout::pack(self.lineage.id(), pack, generation);
            let Some(object) = self.lineage.shared.store.get(&key)? else {
                self.finding(&key, "it is missing");
                continue;
            };
            let size = object.len() as u64;
            let checked = PackFile::parse(&key, pack, generation, object)
                .and_then(|file| file.check_slots(&key, &self.lineage.keys).map(|_| ()));
            self.found(&key, checked)?;
            self.report.bytes_checked += size;
            self.progress.add_done(size);
        }
        Ok(())
    }

    /// V2: every chunk of every member, up to the root.
    fn decode(&mut self) -> Result<()> {
        self.progress.set_done(0);
        let attempts: Vec<AttemptId> = self.subjects.iter().map(|subject| subject.attempt).collect();
        for attempt in attempts {
            let reader = match self.lineage.open_backup(attempt) {
                Ok(reader) => reader,
                // Forgotten while we checked: nothing to say about it any more.
                Err(error) if error.kind() == ErrorKind::BackupNotFound => continue,
                Err(error) => return Err(error),
            };
            self.progress.set_total(reader.summary().totals.source_bytes);
            self.progress.set_done(0);
            self.decode_backup(&reader)?;
        }
        Ok(())
    }

    fn decode_backup(&mut self, reader: &BackupReader) -> Result<()> {
        let mut chunks = ChunkReader::new(self.lineage.shared.store.clone(), self.lineage.keys.clone());
        let (mut members, mut bytes) = (0, 0);
        for number in 0..reader.tree().root.pages.len() {
            let page = reader.tree().page(number);
            let verdict = layout::verdict(self.lineage.id(), reader.summary().attempt);
            let Some(page) = self.damage_in(&verdict, page)? else { continue };
            for entry in &page.entries {
                members += 1;
                let mut length = 0;
                for segment in 0..entry.segment_count() {
                    self.cancel.check()?;
                    let read = reader.leaves(entry, segment).and_then(|leaves| {
                        read_leaves(&mut chunks, &leaves, &mut |_, body| {
                            let run = match body {
                                crate::FrameBody::Data(data) => data.len() as u64,
                                crate::FrameBody::Fill { length, .. } => length,
                            };
                            length += run;
                            self.progress.add_done(run);
                            Ok(())
                        })
                    });
                    self.damage_in(&verdict, read)?;
                }
                bytes += length;
                let whole = matches!(entry.content, Content::Directory) || length == entry.size;
                if !whole && self.report.passed() {
                    self.finding(&verdict, &format!("the member {} has another length", entry.path));
                }
            }
        }
        let totals = reader.summary().totals;
        self.report.bytes_checked += bytes;
        if self.report.passed() && (members, bytes) != (totals.members, totals.source_bytes) {
            let key = layout::verdict(self.lineage.id(), reader.summary().attempt);
            self.finding(&key, "the tree holds other members than its totals say");
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

/// Which sealed backups need a pack; used by `stat` and by reports.
pub(crate) fn needs(lineage: &Lineage, summary: &SealedSummary) -> Result<BTreeSet<PackId>> {
    let Some((Opened::Sealed { root, .. }, _)) = lineage.open_verdict(summary.attempt)? else {
        return Ok(BTreeSet::new());
    };
    let roster_packs: Vec<PackId> = root.rosters.iter().map(|node| node.at.pack).collect();
    let tree = crate::reader::Tree::new(lineage.shared.store.clone(), lineage.keys.clone(), *root);
    let mut packs: BTreeSet<PackId> = tree.roster()?.packs.into_keys().collect();
    packs.extend(roster_packs);
    Ok(packs)
}
