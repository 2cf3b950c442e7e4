//! Stores backups anew whose changes stand on backups that are gone: a part of a sweep that somebody
//! asked for (decision 0040).
//!
//! | Step | Effect | On a later try |
//! |---|---|---|
//! | settle | what earlier claims had begun, and noted, comes to one of its two ends | done again |
//! | begin-anew | the try is noted: old and new attempt, and the guard | settled |
//! | move | one transaction: the row leads to the new attempt, if it still led to the old one | the row decides |
//!
//! Between the two the repository writes and proves the new attempt; after it the old one is forgotten.

use serde_json::json;
use strongroom_catalog::{Move, Moved};
use strongroom_core::backup::BackupState;
use strongroom_core::{Error, ErrorKind, Result};
use strongroom_repository::{
    Lineage, Owner, RebaseOrder, RebaseReport, RebaseTry, SealedSummary, Stands, SweepOptions,
};

use super::{scratch_dir, sweep};
use crate::work::JobContext;

/// Under this name each claim notes what it is about to store anew.
const TRY: &str = "begin-anew";
/// Under this name each claim notes what it has stored anew so far.
const DONE: &str = "stored-anew";

/// Settles what earlier claims of a job had begun and not ended.
pub(super) fn settle(context: &JobContext) -> Result<()> {
    let tries = tries_of(context)?;
    if tries.is_empty() {
        return Ok(());
    }
    context.step("settle", || tries.iter().try_for_each(|attempt| settle_one(context, attempt)))?;
    // What they have stored may be of no use to anybody.
    sweep::wish(context)
}

/// What the claims of a job noted.
fn tries_of(context: &JobContext) -> Result<Vec<RebaseTry>> {
    let id = &context.job.id;
    let steps = context.catalog(|catalog| async move { catalog.job_steps(id).await })?;
    let tries = steps.into_iter().filter(|step| step.name == TRY).map(|step| step.output);
    tries.map(serde_json::from_value).collect::<Result<_, _>>().map_err(Error::internal)
}

fn settle_one(context: &JobContext, attempt: &RebaseTry) -> Result<()> {
    let lineage = match context.service.repository().lineage(&attempt.project, &attempt.lineage) {
        Ok(lineage) => lineage,
        // Without its key nothing of the lineage can be restored, whatever its verdicts say.
        Err(error) if error.kind() == ErrorKind::Damage => return Ok(()),
        Err(error) => return Err(error),
    };
    match lineage.settle_rebase(attempt, &mut Rows { context }) {
        // Whatever it was, it cannot be read: neither to be moved to nor to be sealed again.
        Err(error) if error.kind() == ErrorKind::Damage => {
            tracing::warn!(job.id = %context.job.id, "What was stored anew is damaged: {}", error.chain());
            Ok(())
        }
        other => other,
    }
}

/// What earlier claims of this job stored anew before they ended.
pub(super) fn earlier_tries(context: &JobContext) -> Result<RebaseReport> {
    let id = &context.job.id;
    let steps = context.catalog(|catalog| async move { catalog.job_steps(id).await })?;
    let mut report = RebaseReport::default();
    for step in steps.into_iter().filter(|step| step.name == DONE) {
        let done: RebaseReport = serde_json::from_value(step.output).map_err(Error::internal)?;
        report.add_done(&done);
    }
    Ok(report)
}

/// Every lineage in turn. What could not be read is told in the report.
pub(super) fn run(context: &JobContext) -> Result<RebaseReport> {
    let repository = context.service.repository();
    let order = RebaseOrder {
        lease_epoch: context.fence.epoch.value(),
        worker: context.fence.worker_id.to_string(),
        scratch_dir: scratch_dir(context)?,
        options: context.service.parts().settings.writer.clone(),
        cancel: context.cancel.clone(),
        progress: context.progress.clone(),
    };
    let mut report = RebaseReport::default();
    for (project, id) in repository.sweep_begin(&SweepOptions::default())? {
        context.cancel.check()?;
        let rebased = repository
            .lineage(&project, &id)
            .and_then(|lineage: Lineage| lineage.rebase(&order, &mut Rows { context }, &mut report));
        let noted = RebaseReport { doubts: Vec::new(), ..report.clone() };
        match rebased {
            Err(error) if error.kind() == ErrorKind::Damage => report.doubt(&error),
            Err(error) if error.kind() == ErrorKind::Fenced => return Err(error),
            other => {
                context.note(DONE, serde_json::to_value(&noted).map_err(Error::internal)?)?;
                other?;
            }
        }
    }
    // What follows is counted by itself.
    context.progress.set_done(0);
    context.progress.set_total(0);
    Ok(report)
}

/// The catalog says which attempt is a backup.
struct Rows<'a> {
    context: &'a JobContext,
}

impl Owner for Rows<'_> {
    fn may_move(&mut self, backup: &SealedSummary) -> Result<bool> {
        let id = &backup.catalog.backup_id;
        let row = self.context.catalog(|catalog| async move { catalog.backup_by_id(id).await })?;
        Ok(row
            .is_some_and(|row| row.state == BackupState::Completed && row.attempt_id == Some(backup.attempt)))
    }

    fn begin(&mut self, attempt: &RebaseTry) -> Result<()> {
        let noted = serde_json::to_value(attempt).map_err(Error::internal)?;
        self.context.step(TRY, || self.context.record(TRY, noted))
    }

    fn take(&mut self, attempt: &RebaseTry, new: &SealedSummary) -> Result<Stands> {
        let context = self.context;
        let to = Move {
            backup: attempt.backup.clone(),
            from: attempt.old,
            to: attempt.new,
            manifest_digest: new.manifest_digest.clone(),
        };
        let detail = json!({ "from": attempt.old.to_string(), "to": attempt.new.to_string() });
        let mut audit = context.audit("backup.stored_anew", attempt.backup.as_str(), detail);
        audit.project_id = Some(attempt.project.clone());
        let (to, audit) = (&to, &audit);
        let moved = context.step("move", || {
            context.catalog(|catalog| async move { catalog.backup_move(&context.fence, to, audit).await })
        })?;
        Ok(match moved {
            Moved::Is(now) if now == attempt.old || now == attempt.new => Stands::On(now),
            Moved::Is(_) | Moved::None => Stands::Elsewhere,
            Moved::Gone => Stands::Gone,
        })
    }
}
