//! A backup, from a claimed job to COMPLETED.
//!
//! | Step | Effect | On a later try |
//! |---|---|---|
//! | plan | choose the parent | chosen anew |
//! | open | the attempt's id is recorded, then its intent is put | always a new attempt |
//! | stream | the engine writes members | the old attempt's packs become garbage |
//! | fallback | the parent turned out unfit: that attempt is abandoned, plan begins again without block lists | – |
//! | prove | every pack looked at, a sample read back | – |
//! | seal | the verdict: the one commit point | read back: ours goes on, abandoned stops |
//! | publish | one transaction: COMPLETED, job succeeded | zero rows changed: we were fenced |
//!
//! Whoever takes over a job looks first at the attempts recorded by earlier claims: a sealed one is
//! published, any other is abandoned before a new one begins. A stream is never resumed half-way:
//! its consistency ended with its connection. The same is done before a backup becomes FAILED, so
//! that no sealed backup ever stands beside a FAILED row.

use serde_json::json;
use strongroom_catalog::Published;
use strongroom_core::backup::Backup;
use strongroom_core::engine::{BackupFacts, BackupOrder, PageDamage, SourceIdentity};
use strongroom_core::id::AttemptId;
use strongroom_core::instance::Instance;
use strongroom_core::parent::{ParentBackup, ParentOffer, Reading};
use strongroom_core::size::ByteSize;
use strongroom_core::{Error, ErrorKind, Result};
use strongroom_repository::{
    Attempt, AttemptStart, Begun, CatalogRecord, Distrusted, Lineage, SealOutcome, SealedSummary, Verdict,
};

use super::{GivenUp, backup_of, refuse_spent, scratch_dir, sweep};
use crate::measures::Measurement;
use crate::work::JobContext;

/// How often a parent may be forgotten under our hands before the try is given back.
const PLANS_MAX: u32 = 5;

pub(super) fn run(context: &JobContext) -> Result<()> {
    let backup = backup_of(context)?;
    let lineage = context.service.repository().lineage(&backup.project_id, &backup.lineage_id)?;
    if let Some(sealed) = settle_attempts(context, &lineage)? {
        return publish(context, &lineage, &backup, &sealed, Vec::new());
    }
    refuse_spent(context)?;
    let instance = instance_of(context, &backup)?;
    let mut distrusted: Option<Distrusted> = None;
    for _ in 0..PLANS_MAX {
        let parent = context.step("plan", || match &distrusted {
            // What is equal would be taken over from it unread, and be as damaged as it is.
            Some(Distrusted { damage: Some(_), .. }) => Ok(None),
            _ => lineage.latest_parent(),
        })?;
        context.record("plan", json!({ "parent": parent.map(|parent| parent.to_string()) }))?;
        let id = AttemptId::new(context.service.uuid());
        context.record("open", json!({ "attempt": id.to_string() }))?;
        match context.step("open", || lineage.begin(start(context, id, parent)?))? {
            Begun::ParentGone => {
                tracing::info!(job.id = %context.job.id, "The parent was forgotten; planning anew.");
            }
            Begun::Started(attempt) => {
                let distrust = attempt.distrust();
                let worked = work(context, &backup, &instance, attempt, distrusted.as_ref());
                let is_unfit = worked.as_ref().is_err_and(|error| error.kind() == ErrorKind::Damage);
                match distrust.found().filter(|_| is_unfit && distrusted.is_none()) {
                    None => return conclude(context, &lineage, &backup, id, worked),
                    Some(found) => distrusted = Some(found.clone()),
                }
                // The next one reads everything, and is no new try: nothing was wrong but the way.
                set_aside(context, &lineage, id, distrusted.as_ref())?;
            }
        }
    }
    Err(Error::new(ErrorKind::Unavailable, "The backups to compare with were deleted again and again."))
}

/// Before the backup becomes FAILED: none of its attempts can be sealed any more, or one is and
/// the backup is published after all.
pub(super) fn give_up(context: &JobContext) -> Result<GivenUp> {
    if recorded_attempts(context)?.is_empty() {
        return Ok(GivenUp::Nothing);
    }
    let backup = backup_of(context)?;
    let lineage = match context.service.repository().lineage(&backup.project_id, &backup.lineage_id) {
        Ok(lineage) => lineage,
        // Without its key nothing of the lineage can be restored, whatever its verdicts say.
        Err(error) if error.kind() == ErrorKind::Damage => return Ok(GivenUp::Nothing),
        Err(error) => return Err(error),
    };
    match settle_attempts(context, &lineage)? {
        None => Ok(GivenUp::Nothing),
        Some(sealed) => publish(context, &lineage, &backup, &sealed, Vec::new()).map(|()| GivenUp::Published),
    }
}

/// The attempts that this and earlier claims of the job recorded, oldest first.
fn recorded_attempts(context: &JobContext) -> Result<Vec<AttemptId>> {
    let id = &context.job.id;
    let steps = context.catalog(|catalog| async move { catalog.job_steps(id).await })?;
    let opened = steps.iter().filter(|step| step.name == "open");
    opened
        .map(|step| {
            let recorded = step.output.get("attempt").and_then(serde_json::Value::as_str).unwrap_or_default();
            AttemptId::parse(recorded).map_err(Error::internal)
        })
        .collect()
}

/// Decides every attempt of this job: sealed wins, everything else is abandoned.
fn settle_attempts(context: &JobContext, lineage: &Lineage) -> Result<Option<SealedSummary>> {
    let attempts = recorded_attempts(context)?;
    for attempt in &attempts {
        let attempt = *attempt;
        match lineage.abandon(attempt) {
            // A sealed backup that was forgotten already must not come back.
            Ok(Verdict::Sealed(summary)) if !summary.forgotten => return Ok(Some(*summary)),
            Ok(Verdict::Sealed(_) | Verdict::Abandoned) => lineage.clear_intent(attempt)?,
            // Whatever it was, it cannot be read: neither to be published nor to be committed again.
            Err(error) if error.kind() == ErrorKind::Damage => {
                tracing::warn!(
                    job.id = %context.job.id, "The verdict of attempt {attempt} is damaged: {}", error.chain()
                );
            }
            Err(error) => return Err(error),
        }
    }
    // What they have stored is of no use to anybody.
    if !attempts.is_empty() {
        sweep::wish(context)?;
    }
    Ok(None)
}

fn instance_of(context: &JobContext, backup: &Backup) -> Result<Instance> {
    let id = &backup.instance_id;
    context.catalog(|catalog| async move { catalog.instance_by_id(id).await })?.ok_or_else(|| {
        Error::new(ErrorKind::InstanceNotFound, "The instance was removed before its backup began.")
    })
}

fn start(context: &JobContext, attempt: AttemptId, parent: Option<AttemptId>) -> Result<AttemptStart> {
    Ok(AttemptStart {
        attempt,
        parent,
        lease_epoch: context.fence.epoch.value(),
        worker: context.fence.worker_id.to_string(),
        scratch_dir: scratch_dir(context)?,
        options: context.service.parts().settings.writer.clone(),
        cancel: context.cancel.clone(),
        progress: context.progress.clone(),
    })
}

/// An attempt that could not be built on its parent makes room for one that is not.
fn set_aside(
    context: &JobContext,
    lineage: &Lineage,
    attempt: AttemptId,
    distrusted: Option<&Distrusted>,
) -> Result<()> {
    let reason = distrusted.map(|found| found.reason.as_str());
    tracing::warn!(job.id = %context.job.id, reason, "The parent cannot be built on; everything is read instead.");
    context.record("fallback", json!({ "attempt": attempt.to_string(), "reason": reason }))?;
    // Before the next one is recorded in its place. Nobody else can have sealed it: it never came to its proof.
    lineage.abandon(attempt)?;
    lineage.clear_intent(attempt)?;
    sweep::wish(context)
}

/// Stream, prove and seal. Answers the summary and the notes for the backup's record.
fn work(
    context: &JobContext,
    backup: &Backup,
    instance: &Instance,
    attempt: Attempt,
    distrusted: Option<&Distrusted>,
) -> Result<(SealedSummary, Vec<String>)> {
    let record = catalog_record(context, backup, instance)?;
    let facts = context.step("stream", || stream(context, instance, &attempt, distrusted))?;
    let done_bytes = context.progress.read().done_bytes;
    context
        .record("stream", json!({ "done_bytes": done_bytes, "block_lists": block_lists(&facts.reading) }))?;
    context.progress.set_phase("reading-back");
    let proven = context.step("prove", || attempt.prove())?;
    context.record("prove", json!(proven.counters()))?;
    context.progress.set_phase("sealing");
    let mut notes = proven.notes().to_vec();
    notes.extend(distrusted.and_then(|found| found.damage.clone()).filter(|note| !notes.contains(note)));
    match context.step("seal", || proven.seal(&facts, &record))? {
        SealOutcome::Sealed(summary) => Ok((*summary, notes)),
        SealOutcome::Abandoned => Err(Error::new(
            ErrorKind::Fenced,
            "Another worker abandoned this attempt; nothing of it is used.",
        )),
    }
}

/// How the source was read, for the job's record.
fn block_lists(reading: &Reading) -> serde_json::Value {
    match reading {
        Reading::FullStream { reason } => json!({ "used": false, "reason": reason }),
        Reading::BlockLists { since, patched_files, received_blocks } => json!({
            "used": true, "since": since, "patched_files": patched_files, "received_blocks": received_blocks,
        }),
    }
}

fn stream(
    context: &JobContext,
    instance: &Instance,
    attempt: &Attempt,
    distrusted: Option<&Distrusted>,
) -> Result<BackupFacts> {
    context.progress.set_phase("connecting");
    let engine = context.service.parts().engines.get(instance.engine)?.clone();
    let source = context.runtime.block_on(context.service.source_of(instance))?;
    let identity = SourceIdentity {
        engine: instance.engine,
        version: instance.version.clone(),
        system_identifier: instance.system_identifier.clone(),
    };
    let id = context.job.id.as_str();
    let parent = attempt.parent();
    let offer = match (distrusted, &parent) {
        (Some(distrusted), _) => ParentOffer::Withheld(&distrusted.reason),
        (None, None) => ParentOffer::Withheld("there is no earlier backup"),
        (None, Some(parent)) => ParentOffer::Offered(parent as &dyn ParentBackup),
    };
    engine.backup(
        &BackupOrder {
            source: &source,
            attempt: AttemptId::new(context.service.uuid()),
            label: &format!("strongroom {id}"),
            identity: Some(&identity),
            parent: offer,
            cancel: &context.cancel,
            progress: &context.progress,
        },
        attempt,
    )
}

fn catalog_record(context: &JobContext, backup: &Backup, instance: &Instance) -> Result<CatalogRecord> {
    let id = &backup.project_id;
    let project = context.catalog(|catalog| async move { catalog.project_find(id).await })?;
    Ok(CatalogRecord {
        backup_id: backup.id.clone(),
        backup_name: backup.name.as_str().to_owned(),
        description: backup.description.as_ref().map(|text| text.as_str().to_owned()),
        backup_type: backup.kind,
        created_us: backup.created.as_microsecond(),
        project_id: backup.project_id.clone(),
        project_name: project.map(|project| project.name).unwrap_or_default(),
        instance_id: backup.instance_id.clone(),
        node_id: backup.node_id.clone(),
        instance_name: instance.name.as_str().to_owned(),
        engine: instance.engine,
        host: instance.host.clone(),
        port: instance.port,
        user: instance.user.clone(),
    })
}

/// Publishes what was sealed. A failed attempt is abandoned first; if it turns out to be sealed
/// after all (an answer was lost on the way), it is published.
fn conclude(
    context: &JobContext,
    lineage: &Lineage,
    backup: &Backup,
    attempt: AttemptId,
    worked: Result<(SealedSummary, Vec<String>)>,
) -> Result<()> {
    match worked {
        Ok((summary, notes)) => publish(context, lineage, backup, &summary, notes),
        Err(error) if error.kind() == ErrorKind::Fenced => Err(error),
        Err(error) => match lineage.abandon(attempt) {
            Ok(Verdict::Sealed(summary)) if !summary.forgotten => {
                publish(context, lineage, backup, &summary, Vec::new())
            }
            Ok(Verdict::Sealed(_) | Verdict::Abandoned) => {
                // Left behind, the intent only tells the sweep what the verdict tells it as well.
                let _ = lineage.clear_intent(attempt);
                Err(error)
            }
            // Whoever claims or ends the job abandons it; the failure that matters is the first one.
            Err(_) => Err(error),
        },
    }
}

/// The commit has happened: nobody's wish to stop is heard here any more.
fn publish(
    context: &JobContext,
    lineage: &Lineage,
    backup: &Backup,
    summary: &SealedSummary,
    notes: Vec<String>,
) -> Result<()> {
    context.note(
        "seal",
        json!({ "attempt": summary.attempt.to_string(), "manifest": summary.manifest_digest }),
    )?;
    let mut warnings = summary.facts.warnings.clone();
    warnings.extend(damage_sentence(&summary.facts.damage));
    warnings.extend(notes);
    let published = Published {
        attempt: summary.attempt,
        manifest_digest: summary.manifest_digest.clone(),
        source_bytes: ByteSize::new(summary.totals.source_bytes),
        stored_bytes: ByteSize::new(summary.stored_bytes),
        warnings,
        finished: context.service.clock_reading(),
        log: summary.facts.log.clone(),
    };
    let detail = json!({ "stored_bytes": summary.stored_bytes });
    let audit = context.audit("backup.complete", backup.id.as_str(), detail);
    let (published, audit) = (&published, &audit);
    context.step("publish", || {
        context.catalog(|catalog| async move {
            catalog.backup_publish(&context.fence, &backup.id, published, audit).await
        })
    })?;
    tracing::info!(
        backup.id = %backup.id, job.id = %context.job.id, size_bytes = summary.totals.source_bytes,
        stored_bytes = summary.stored_bytes, "Backup COMPLETED."
    );
    measure(context, backup, summary);
    if let Err(error) = lineage.clear_intent(summary.attempt) {
        // It only makes the sweep look at the verdict, which says the same.
        tracing::warn!(backup.id = %backup.id, "The writer's intent was left behind: {}", error.chain());
    }
    Ok(())
}

/// Numbers for the metrics page; a backup is no worse for their lack.
fn measure(context: &JobContext, backup: &Backup, summary: &SealedSummary) {
    let measures = &context.service.inner.measures;
    measures.add(Measurement::Backup {
        source_bytes: summary.totals.source_bytes,
        stored_bytes: summary.stored_bytes,
    });
    let id = &context.job.id;
    if let Ok(steps) = context.catalog(|catalog| async move { catalog.job_steps(id).await }) {
        measures.add_phases(backup.engine, context.job.attempts, &steps);
    }
}

/// Damage in the source: the first places by name, the rest by number.
fn damage_sentence(damage: &[PageDamage]) -> Option<String> {
    const NAMED_MAX: usize = 5;
    if damage.is_empty() {
        return None;
    }
    let places: Vec<String> =
        damage.iter().take(NAMED_MAX).map(|page| format!("{} block {}", page.relation, page.block)).collect();
    let more = damage.len().saturating_sub(NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(format!(
        "The source has {} damaged pages (wrong checksum): {}{more}. The backup holds them as they are; keep older backups.",
        damage.len(),
        places.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b13_damage_is_told_by_place_and_number() {
        let page = |block| PageDamage {
            relation: "base/5/16384".to_owned(),
            block,
            position: "0/1".to_owned(),
            expected: 1,
            found: 2,
        };
        assert_eq!(damage_sentence(&[]), None);
        let few = damage_sentence(&[page(7)]).unwrap();
        assert!(few.contains("base/5/16384 block 7"), "{few}");
        let many = damage_sentence(&(0..9).map(page).collect::<Vec<_>>()).unwrap();
        assert!(many.contains("9 damaged") && many.contains("and 4 more"), "{many}");
    }
}
