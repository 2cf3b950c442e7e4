//! Stores backups anew whose deltas stand on records of backups that are gone, each upon the backup
//! before it, so that a sweep can take those records (decision 0040).
//!
//! ```text
//! noted by the owner → intents → second look → packs → proof → verdict → the owner moves the backup
//!                                                       → the old attempt is forgotten → intents go
//! ```
//!
//! A backup has one attempt at every moment: the owner moves it in one step, from the old one to the
//! new one, and only when it is neither deleted nor about to be. Whatever ends this in the middle,
//! [`Lineage::settle_rebase`] brings it to one of the two ends. `tests/protocol` searches the order.

mod proof;

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use strongroom_core::engine::CancelToken;
use strongroom_core::id::{AttemptId, BackupId, LineageId, ProjectId};
use strongroom_core::progress::Progress;
use strongroom_core::{Error, ErrorKind, Result};

use crate::layout;
use crate::lineage::{AttemptStart, Lineage};
use crate::marks;
use crate::reader::{ChunkReader, Tree};
use crate::sweep::Doubt;
use crate::verdict::{Opened, SealedSummary, Verdict};
use crate::writer::{Attempt, KnownTrees, SealOutcome, WriterOptions, is_due};
use proof::Proofs;

/// Who knows which attempt is a backup.
pub trait Owner {
    /// Whether the backup is this attempt now, and may be moved to another one.
    fn may_move(&mut self, backup: &SealedSummary) -> Result<bool>;
    /// Notes, durably, what is about to be begun.
    fn begin(&mut self, attempt: &RebaseTry) -> Result<()>;
    /// Moves the backup from the old attempt to the new one if it still is the old one and is not about
    /// to be deleted. Answers what it is then. Must fail, having changed nothing, when somebody else
    /// has taken over the work.
    fn take(&mut self, attempt: &RebaseTry, new: &SealedSummary) -> Result<Stands>;
}

/// What a backup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stands {
    On(AttemptId),
    /// On neither of the two that were named.
    Elsewhere,
    /// There is no such backup any more.
    Gone,
}

/// One backup that is stored anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebaseTry {
    pub project: ProjectId,
    pub lineage: LineageId,
    pub backup: BackupId,
    pub old: AttemptId,
    pub new: AttemptId,
    /// Names an intent of its own: an intent protects one backup, and two are needed.
    pub guard: AttemptId,
}

/// How it is to be done.
pub struct RebaseOrder {
    pub lease_epoch: i64,
    pub worker: String,
    pub scratch_dir: PathBuf,
    pub options: WriterOptions,
    pub cancel: CancelToken,
    pub progress: Arc<Progress>,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RebaseReport {
    /// Backups that were looked at.
    pub backups: u64,
    /// Of these, stored anew.
    pub stored_anew: u64,
    /// Of these, left as they are: held, about to be deleted, or of another catalog.
    pub left: u64,
    pub chunks: u64,
    /// Bytes of all objects that were written.
    pub bytes: u64,
    /// Backups that were left as they are because something of them cannot be read.
    pub doubts: Vec<Doubt>,
}

impl RebaseReport {
    /// Adds what an earlier try of the same work did. What there is to be looked at, and what is left, is
    /// for the later one to say.
    pub fn add_done(&mut self, earlier: &Self) {
        self.stored_anew += earlier.stored_anew;
        self.chunks += earlier.chunks;
        self.bytes += earlier.bytes;
    }

    /// Tells of what cannot be read.
    pub fn doubt(&mut self, error: &Error) {
        self.doubts.push(Doubt::of_backup(error));
    }
}

/// How often one backup is begun again because another was deleted meanwhile.
const TRIES: usize = 8;

/// What came of one try.
enum Tried {
    /// The backup is this attempt now, or nothing of it is there any more.
    Done(Option<AttemptId>),
    /// It, or the backup before it, was forgotten meanwhile.
    Again,
}

/// A backup to be stored anew, with what it is read from and compared with.
struct Trees {
    old: Arc<Tree>,
    summary: SealedSummary,
    before: Option<Arc<Tree>>,
}

/// The work on one lineage.
struct Rebase<'a> {
    lineage: &'a Lineage,
    order: &'a RebaseOrder,
    owner: &'a mut dyn Owner,
    report: &'a mut RebaseReport,
    proofs: Proofs,
    /// The backups that were done, oldest first.
    done: Vec<AttemptId>,
}

impl Lineage {
    /// Stores anew what stands on records of backups that are gone, oldest first. Adds to the report
    /// also what was done before a failure.
    pub fn rebase(
        &self,
        order: &RebaseOrder,
        owner: &mut dyn Owner,
        report: &mut RebaseReport,
    ) -> Result<()> {
        self.shared.check_identity()?;
        let backups: Vec<SealedSummary> =
            self.backups()?.into_iter().filter(|summary| !summary.forgotten).collect();
        order.progress.add_total(backups.iter().map(|backup| backup.totals.source_bytes).sum());
        let mut rebase =
            Rebase { lineage: self, order, owner, report, proofs: Proofs::default(), done: Vec::new() };
        for backup in &backups {
            order.cancel.check()?;
            rebase.report.backups += 1;
            let done_before = order.progress.read().done_bytes;
            let now = rebase.backup(backup)?;
            rebase.done.extend(now);
            order.progress.set_done(done_before + backup.totals.source_bytes);
        }
        Ok(())
    }

    /// Brings a try to its end of which is not known how far it came: the backup is the new attempt, or
    /// nothing of that can come true any more. Again is fine.
    pub fn settle_rebase(&self, attempt: &RebaseTry, owner: &mut dyn Owner) -> Result<()> {
        if let Verdict::Sealed(summary) = self.abandon(attempt.new)? {
            self.conclude(attempt, &summary, owner)?;
        }
        self.clear_intents_of(attempt)
    }

    /// After the verdict: one of the two goes, or both when the backup was deleted. Answers what the
    /// backup is.
    fn conclude(
        &self,
        attempt: &RebaseTry,
        summary: &SealedSummary,
        owner: &mut dyn Owner,
    ) -> Result<Option<AttemptId>> {
        let stands = owner.take(attempt, summary)?;
        match stands {
            Stands::On(now) if now == attempt.new => match self.forget(attempt.old) {
                // Its bytes stay for the holder; the backup is the new one all the same.
                Err(error) if error.kind() == ErrorKind::BackupHeld => {
                    tracing::warn!("A backup that was stored anew stays as it was, too: {}", error.public());
                }
                other => other?,
            },
            Stands::On(_) | Stands::Elsewhere => self.forget(attempt.new)?,
            Stands::Gone => {
                self.forget(attempt.new)?;
                self.forget(attempt.old)?;
            }
        }
        Ok(match stands {
            Stands::On(now) => Some(now),
            Stands::Elsewhere | Stands::Gone => None,
        })
    }

    /// Only after the verdict.
    fn clear_intents_of(&self, attempt: &RebaseTry) -> Result<()> {
        self.clear_intent(attempt.guard)?;
        self.clear_intent(attempt.new)
    }

    /// Two new ids that have the place of an attempt in the order of time, the smaller one first.
    fn ids_in_place_of(&self, old: AttemptId) -> [AttemptId; 2] {
        let mut ids = [(); 2].map(|()| {
            let mut bytes = *old.as_bytes();
            self.shared.random.fill(&mut bytes[8..]);
            bytes[8] = bytes[8] & 0x3f | 0x80;
            AttemptId::from_bytes(bytes)
        });
        ids.sort_unstable();
        ids
    }

    fn is_held(&self, attempt: AttemptId) -> Result<bool> {
        Ok(!self.shared.store.list(&layout::hold_prefix(self.id(), attempt))?.is_empty())
    }
}

impl Rebase<'_> {
    /// Answers which attempt the backup is afterwards, `None` when it is gone.
    fn backup(&mut self, backup: &SealedSummary) -> Result<Option<AttemptId>> {
        for _ in 0..TRIES {
            if self.lineage.is_forgotten(backup.attempt)? {
                return Ok(None);
            }
            self.drop_forgotten()?;
            self.order.progress.set_phase("comparing");
            let is_due = self.is_due(backup.attempt);
            match self.past_damage(backup.attempt, is_due)? {
                Some(Some(true)) => {}
                Some(None) => continue,
                Some(Some(false)) | None => return Ok(Some(backup.attempt)),
            }
            if self.lineage.is_held(backup.attempt)? || !self.owner.may_move(backup)? {
                self.report.left += 1;
                return Ok(Some(backup.attempt));
            }
            let tried = self.try_backup(backup);
            match self.past_damage(backup.attempt, tried)? {
                Some(Tried::Done(now)) => return Ok(now),
                Some(Tried::Again) => {}
                None => return Ok(Some(backup.attempt)),
            }
        }
        self.report.left += 1;
        Ok(Some(backup.attempt))
    }

    fn drop_forgotten(&mut self) -> Result<()> {
        let forgotten = marks::forgotten(&*self.lineage.shared.store, self.lineage.id())?;
        self.done.retain(|attempt| !forgotten.contains(attempt));
        Ok(())
    }

    /// What cannot be read stays as it is, and keeps no other backup from its turn.
    fn past_damage<T>(&mut self, of: AttemptId, tried: Result<T>) -> Result<Option<T>> {
        match tried {
            Ok(tried) => Ok(Some(tried)),
            Err(error) if error.kind() == ErrorKind::Damage => {
                if !self.lineage.is_forgotten(of)? {
                    tracing::warn!("A backup is not stored anew: {}", error.chain());
                    self.report.doubt(&error);
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether something of a backup is to be stored anew; `None` when it, or the one before it, was
    /// forgotten meanwhile. Intents of readers keep both while their trees are read.
    fn is_due(&self, attempt: AttemptId) -> Result<Option<bool>> {
        let (lineage, before) = (self.lineage, self.done.last().copied());
        let opened = lineage
            .open_backup(attempt)
            .and_then(|reader| Ok((reader, before.map(|before| lineage.open_backup(before)).transpose()?)));
        let _readers = match opened {
            Err(error) if error.kind() == ErrorKind::BackupNotFound => return Ok(None),
            opened => opened?,
        };
        let Some(old) = lineage.usable_tree(attempt)? else { return Ok(None) };
        let before = before.map(|before| lineage.usable_tree(before)).transpose()?.flatten();
        is_due(&old, before.as_ref(), &self.order.cancel).map(Some)
    }

    fn try_backup(&mut self, backup: &SealedSummary) -> Result<Tried> {
        let [guard, new] = self.lineage.ids_in_place_of(backup.attempt);
        let attempt = RebaseTry {
            project: self.lineage.keys.project.clone(),
            lineage: self.lineage.id().clone(),
            backup: backup.catalog.backup_id.clone(),
            old: backup.attempt,
            new,
            guard,
        };
        self.owner.begin(&attempt)?;
        match self.store_anew(&attempt) {
            Ok(Some(summary)) => {
                let now = self.lineage.conclude(&attempt, &summary, self.owner)?;
                self.report.stored_anew += u64::from(now == Some(attempt.new));
                self.lineage.clear_intents_of(&attempt)?;
                Ok(Tried::Done(now))
            }
            Ok(None) => Ok(Tried::Again),
            // Whoever took over has settled it, or will; and what was put after that is ours to take away.
            Err(error) if error.kind() == ErrorKind::Fenced => {
                if matches!(self.lineage.verdict(attempt.new), Ok(Some(_))) {
                    let _ = self.lineage.clear_intents_of(&attempt);
                }
                Err(error)
            }
            Err(error) => {
                // The failure that matters is the first one; whoever claims or ends the job settles it too.
                if let Err(settling) = self.lineage.settle_rebase(&attempt, self.owner) {
                    tracing::warn!("A backup that is stored anew is not settled yet: {}", settling.chain());
                }
                Err(error)
            }
        }
    }

    /// Everything up to the verdict; `None` when the backup, or the one before it, was forgotten.
    fn store_anew(&mut self, attempt: &RebaseTry) -> Result<Option<SealedSummary>> {
        let before = self.done.last().copied();
        self.put_intents(attempt, before)?;
        let Some(trees) = self.second_look(attempt, before)? else {
            self.lineage.abandon(attempt.new)?;
            self.lineage.clear_intents_of(attempt)?;
            return Ok(None);
        };
        let progress = self.order.progress.clone();
        progress.set_phase("storing-anew");
        let start = self.start(attempt, before);
        let known = KnownTrees { parent: trees.before.clone(), old: Some(trees.old.clone()) };
        let writer = Attempt::start(self.lineage, start, known)?;
        writer.take_members_of(&trees.old)?;
        progress.set_phase("reading-back");
        let proven = writer.prove()?;
        let counters = proven.counters();
        let old = &trees.old.root.document;
        let mut document = proven.document(old.facts.clone(), old.catalog.clone());
        document.content_of = Some(trees.summary.content_digest.clone());
        let new = proven.tree(document.clone());
        let shared = &self.lineage.shared;
        let mut chunks = ChunkReader::new(shared.store.clone(), self.lineage.keys.clone());
        self.proofs.require_same(&trees.old, &new, &mut chunks, &self.order.cancel)?;
        progress.set_phase("sealing");
        self.require_guard(attempt, before)?;
        match proven.seal_as(document, trees.summary.sealed_at.as_microsecond())? {
            SealOutcome::Sealed(summary) => {
                self.report.chunks += counters.chunks_delta + counters.chunks_full;
                self.report.bytes += summary.stored_bytes;
                Ok(Some(*summary))
            }
            SealOutcome::Abandoned => Err(taken_over()),
        }
    }

    fn start(&self, attempt: &RebaseTry, before: Option<AttemptId>) -> AttemptStart {
        AttemptStart {
            attempt: attempt.new,
            parent: before,
            lease_epoch: self.order.lease_epoch,
            worker: self.order.worker.clone(),
            scratch_dir: self.order.scratch_dir.clone(),
            // What it replaces goes: every record is decoded before it is stored.
            options: WriterOptions { verify_every: 1, ..self.order.options.clone() },
            cancel: self.order.cancel.clone(),
            progress: self.order.progress.clone(),
        }
    }

    /// The new attempt refers to records of two backups; an intent keeps one of them.
    fn put_intents(&self, attempt: &RebaseTry, before: Option<AttemptId>) -> Result<()> {
        let shared = &self.lineage.shared;
        let now_us = shared.clock.now().as_microsecond();
        let put = |of: AttemptId, parent: AttemptId| {
            let (epoch, worker) = (self.order.lease_epoch, &self.order.worker);
            marks::put_writer_intent(
                &*shared.store,
                &self.lineage.keys,
                of,
                Some(parent),
                epoch,
                worker,
                now_us,
            )
        };
        match before {
            None => put(attempt.new, attempt.old),
            Some(before) => {
                put(attempt.new, before)?;
                put(attempt.guard, attempt.old)
            }
        }
    }

    /// After the intents: whether both are still there.
    fn second_look(&self, attempt: &RebaseTry, before: Option<AttemptId>) -> Result<Option<Trees>> {
        let before = match before {
            None => None,
            Some(before) => match self.lineage.usable_tree(before)? {
                Some(tree) => Some(tree),
                None => return Ok(None),
            },
        };
        if self.lineage.is_forgotten(attempt.old)? {
            return Ok(None);
        }
        let Some((Opened::Sealed { header, root }, object)) = self.lineage.open_verdict(attempt.old)? else {
            return Ok(None);
        };
        let summary = crate::verdict::summarise(&header, &root, &object, false)?;
        let old = Tree::new(self.lineage.shared.store.clone(), self.lineage.keys.clone(), *root);
        Ok(Some(Trees { old: Arc::new(old), summary, before }))
    }

    /// Whoever gave this attempt up after days takes its guard away as well.
    fn require_guard(&self, attempt: &RebaseTry, before: Option<AttemptId>) -> Result<()> {
        let guard = if before.is_some() { attempt.guard } else { attempt.new };
        match self.lineage.shared.store.head(&layout::intent(self.lineage.id(), guard))? {
            Some(_) => Ok(()),
            None => Err(taken_over()),
        }
    }
}

fn taken_over() -> Error {
    Error::new(
        ErrorKind::Fenced,
        "Another worker has taken over; nothing of this attempt is used, and the backup is as it was.",
    )
}
