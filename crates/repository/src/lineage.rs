//! A lineage: the backups of one source, the domain of dedupe, keys, collection and deletion.

use std::path::PathBuf;
use std::sync::Arc;

use strongroom_core::engine::CancelToken;
use strongroom_core::id::{AttemptId, LineageId};
use strongroom_core::progress::Progress;
use strongroom_core::{Error, ErrorKind, Result};

use crate::frame;
use crate::generations::Generations;
use crate::keys::LineageKeys;
use crate::layout;
use crate::marks;
use crate::reader::{BackupReader, Tree};
use crate::repository::Shared;
use crate::store::{Listed, Put};
use crate::verdict::{self, Opened, SealedSummary, Verdict};
use crate::writer::{Attempt, KnownTrees, WriterOptions};

/// A lineage, opened.
#[derive(Clone)]
pub struct Lineage {
    pub(crate) shared: Arc<Shared>,
    pub(crate) keys: Arc<LineageKeys>,
}

/// What begins an attempt.
pub struct AttemptStart {
    pub attempt: AttemptId,
    /// The sealed backup to compare with.
    pub parent: Option<AttemptId>,
    /// Lease epoch of the job, for the record.
    pub lease_epoch: i64,
    pub worker: String,
    /// A directory for spool files, on a local disk.
    pub scratch_dir: PathBuf,
    pub options: WriterOptions,
    pub cancel: CancelToken,
    pub progress: Arc<Progress>,
}

/// What came of beginning.
pub enum Begun {
    Started(Attempt),
    /// The parent was forgotten meanwhile; this attempt is abandoned: plan again, with another.
    ParentGone,
}

impl Lineage {
    pub fn id(&self) -> &LineageId {
        &self.keys.lineage
    }

    /// Begins an attempt: its intent first, then a second look at the parent (section 5, step 1).
    pub fn begin(&self, start: AttemptStart) -> Result<Begun> {
        self.shared.check_identity()?;
        let now_us = self.shared.clock.now().as_microsecond();
        let store = &*self.shared.store;
        let (attempt, parent) = (start.attempt, start.parent);
        marks::put_writer_intent(
            store,
            &self.keys,
            attempt,
            parent,
            start.lease_epoch,
            &start.worker,
            now_us,
        )?;
        let tree = match parent {
            Some(parent) => self.usable_tree(parent)?,
            None => None,
        };
        if parent.is_some() && tree.is_none() {
            self.abandon(attempt)?;
            self.clear_intent(attempt)?;
            return Ok(Begun::ParentGone);
        }
        Attempt::start(self, start, KnownTrees { parent: tree, old: None }).map(Begun::Started)
    }

    pub(crate) fn usable_tree(&self, attempt: AttemptId) -> Result<Option<Arc<Tree>>> {
        if self.is_forgotten(attempt)? {
            return Ok(None);
        }
        match self.open_verdict(attempt)? {
            Some((Opened::Sealed { root, .. }, _)) => {
                Ok(Some(Arc::new(Tree::new(self.shared.store.clone(), self.keys.clone(), *root))))
            }
            Some((Opened::Abandoned, _)) | None => Ok(None),
        }
    }

    pub(crate) fn open_verdict(&self, attempt: AttemptId) -> Result<Option<(Opened, Vec<u8>)>> {
        let Some(object) = self.shared.store.get(&layout::verdict(&self.keys.lineage, attempt))? else {
            return Ok(None);
        };
        Ok(Some((verdict::open(&self.keys, attempt, &object)?, object)))
    }

    /// What stands at the attempt's verdict, if anything.
    pub fn verdict(&self, attempt: AttemptId) -> Result<Option<Verdict>> {
        let Some((opened, object)) = self.open_verdict(attempt)? else { return Ok(None) };
        match opened {
            Opened::Abandoned => Ok(Some(Verdict::Abandoned)),
            Opened::Sealed { header, root } => {
                let forgotten = self.is_forgotten(attempt)?;
                let summary = verdict::summarise(&header, &root, &object, forgotten)?;
                Ok(Some(Verdict::Sealed(Box::new(summary))))
            }
        }
    }

    /// Makes sure that nobody can commit this attempt any more, and answers what stands: an
    /// attempt that was sealed before stays sealed.
    pub fn abandon(&self, attempt: AttemptId) -> Result<Verdict> {
        let key = layout::verdict(&self.keys.lineage, attempt);
        // Created or not: reading back is the answer.
        let (Put::Created | Put::AlreadyThere) =
            self.shared.store.put_new(&key, &verdict::write_abandoned(&key))?;
        self.verdict(attempt)?.ok_or_else(|| frame::missing(&key))
    }

    /// Takes the writer's intent away. Only after the verdict.
    pub fn clear_intent(&self, attempt: AttemptId) -> Result<()> {
        self.shared.store.delete(&layout::intent(&self.keys.lineage, attempt))
    }

    /// All sealed backups, oldest first, forgotten ones marked. One whose manifest is damaged is
    /// left out: it must not hide the others, and a check names it.
    pub fn backups(&self) -> Result<Vec<SealedSummary>> {
        let (found, damaged) = self.backups_and_damage()?;
        for error in damaged {
            tracing::warn!("A damaged backup is not listed: {}", error.public());
        }
        Ok(found)
    }

    /// As [`Lineage::backups`], with what is wrong with the manifests that cannot be read.
    pub fn backups_and_damage(&self) -> Result<(Vec<SealedSummary>, Vec<Error>)> {
        let forgotten = marks::forgotten(&*self.shared.store, self.id())?;
        let (mut found, mut damaged) = (Vec::new(), Vec::new());
        for object in self.shared.store.list(&layout::verdict_prefix(&self.keys.lineage))? {
            let Some(attempt) = layout::parse_verdict(&self.keys.lineage, &object.key) else { continue };
            match self.open_verdict(attempt) {
                Ok(Some((Opened::Sealed { header, root }, bytes))) => {
                    found.push(verdict::summarise(&header, &root, &bytes, forgotten.contains(&attempt))?);
                }
                Ok(Some((Opened::Abandoned, _)) | None) => {}
                Err(error) if error.kind() == ErrorKind::Damage => damaged.push(error),
                Err(error) => return Err(error),
            }
        }
        found.sort_by_key(|summary| (summary.sealed_at, summary.attempt));
        Ok((found, damaged))
    }

    /// The newest sealed backup that is not forgotten and whose packs are all there: what the next
    /// attempt compares with. A damaged one is passed over: the next backup must neither fail for
    /// it nor refer to what is lost.
    pub fn latest_parent(&self) -> Result<Option<AttemptId>> {
        let forgotten = marks::forgotten(&*self.shared.store, self.id())?;
        let listed = self.shared.store.list(&layout::verdict_prefix(&self.keys.lineage))?;
        // Attempt ids are UUIDv7: their order is the order of time.
        for object in listed.iter().rev() {
            let Some(attempt) = layout::parse_verdict(&self.keys.lineage, &object.key) else { continue };
            if forgotten.contains(&attempt) {
                continue;
            }
            match self.packs_are_there(attempt) {
                Ok(true) => return Ok(Some(attempt)),
                Ok(false) => {}
                Err(error) if error.kind() == ErrorKind::Damage => {
                    tracing::warn!(object = %object.key, "A damaged backup is not used as parent: {}", error.public());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Whether the attempt is sealed and every pack it needs is there.
    fn packs_are_there(&self, attempt: AttemptId) -> Result<bool> {
        let Some((Opened::Sealed { root, .. }, _)) = self.open_verdict(attempt)? else { return Ok(false) };
        let roster = Tree::new(self.shared.store.clone(), self.keys.clone(), *root).roster()?;
        let (listed, _) = Generations::of(self, self.listed_packs()?);
        for (pack, needed) in &roster.packs {
            listed.check(self, *pack, needed)?;
        }
        Ok(true)
    }

    /// Forgets a backup: durable when it returns. Space comes back with the sweep.
    pub fn forget(&self, attempt: AttemptId) -> Result<()> {
        marks::forget(&*self.shared.store, &self.keys, attempt, self.shared.clock.now().as_microsecond())
    }

    /// The name of the tombstone that a backup lacks which somebody knows to be forgotten.
    pub fn missing_tombstone(&self, attempt: AttemptId) -> Result<String> {
        marks::next_tombstone(&*self.shared.store, self.id(), attempt)
    }

    pub fn is_forgotten(&self, attempt: AttemptId) -> Result<bool> {
        Ok(marks::forgotten(&*self.shared.store, self.id())?.contains(&attempt))
    }

    /// Opens a backup for reading: the reader's intent first, then the second look (section 8).
    pub fn open_backup(&self, attempt: AttemptId) -> Result<BackupReader> {
        self.shared.check_identity()?;
        BackupReader::open(self, attempt)
    }

    /// As [`Lineage::open_backup`], also of a backup that was forgotten, as long as its packs are
    /// there.
    pub fn open_backup_even_forgotten(&self, attempt: AttemptId) -> Result<BackupReader> {
        self.shared.check_identity()?;
        BackupReader::open_as(self, attempt, true)
    }

    /// The packs of the lineage, as listed.
    pub(crate) fn listed_packs(&self) -> Result<Vec<Listed>> {
        self.shared.store.list(&layout::pack_prefix(&self.keys.lineage))
    }

    pub(crate) fn not_found(attempt: AttemptId) -> Error {
        Error::new(
            ErrorKind::BackupNotFound,
            format!("The repository holds no sealed backup for the attempt {attempt}."),
        )
    }
}
