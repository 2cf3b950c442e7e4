//! Sweeps the repository, or says what a sweep would take away and why.
//!
//! | Step | Effect | On a later try |
//! |---|---|---|
//! | rebase | where it is asked for: what is dead as a whole goes first, then backups are stored anew (`rebase.rs`) | what was begun is settled, then done again |
//! | begin | what was deleted until now is this sweep's to take away; what comes later asks for another one | begun anew |
//! | sweep | lineage by lineage: what only goes, then what is written anew. What this try did is noted as it goes | from the beginning: what is gone is gone |
//! | record | one transaction: what all tries together did, job succeeded | zero rows changed: we were fenced |
//!
//! Nothing of this is dangerous in the hands of a worker that lost its lease: any number of sweeps may
//! meet in a repository. The lease only keeps them from doing the same work.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::json;
use strongroom_core::job::JobKind;
use strongroom_core::size::ByteSize;
use strongroom_core::{Error, ErrorKind, Result};
use strongroom_repository::{BaseCost, RebaseReport, SweepOptions, SweepReport};

use super::rebase;
use crate::measures::Measurement;
use crate::work::JobContext;

/// Under this name each claim notes what it did so far.
const NOTE: &str = "sweep";
/// A repository may have many lineages in which there is nothing to do.
const NOTED_EVERY: Duration = Duration::from_secs(1);

/// What a job of sweeping is to do, as it is stored in its input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SweepInput {
    /// Without one, the usual.
    pub(crate) threshold_percent: Option<u8>,
    /// Whether backups are stored anew whose changes stand on backups that are gone.
    pub(crate) rebase: bool,
}

pub(super) fn run(context: &JobContext) -> Result<()> {
    let is_dry_run = context.job.kind == JobKind::PlanSweep;
    let input: SweepInput = serde_json::from_value(context.job.input.clone()).map_err(Error::internal)?;
    let usual = SweepOptions::default();
    let dead_percent = input.threshold_percent.unwrap_or(usual.dead_percent);
    let options = SweepOptions { is_dry_run, dead_percent, ..usual };
    // Also when somebody has asked for a plain one in the place of this one since.
    rebase::settle(context)?;
    let mut report = earlier_tries(context)?;
    let (first, rebased) = if input.rebase && !is_dry_run {
        let (first, rebased) = store_anew(context, &options)?;
        (first, Some(rebased))
    } else {
        (SweepReport::default(), None)
    };
    if !is_dry_run {
        context.step("begin", || {
            context.catalog(|catalog| async move { catalog.sweep_begin(&context.fence).await })
        })?;
    }
    report.add(context.step("sweep", || sweep(context, &options, &first))?);
    report.add_done(&first);
    let rebased = rebased.transpose()?;
    let bases = if is_dry_run { Some(base_cost(context)?) } else { None };
    context.step("record", || record(context, &options, &report, (rebased, bases)))
}

/// Stores backups anew. For want of room the sweep has its turn all the same: what it gives back may be
/// what is wanting.
fn store_anew(context: &JobContext, options: &SweepOptions) -> Result<(SweepReport, Result<RebaseReport>)> {
    let mut all = rebase::earlier_tries(context)?;
    // Nothing is written anew yet that is about to be needed no longer.
    let only_remove = SweepOptions { dead_percent: 100, ..*options };
    let first = sweep(context, &only_remove, &SweepReport::default())?;
    let rebased = match context.step("rebase", || rebase::run(context)) {
        Err(error) if error.kind() == ErrorKind::DiskFull => Err(no_room_to_store_anew(&error)),
        done => {
            let done = done?;
            all.add_done(&done);
            Ok(RebaseReport { backups: done.backups, left: done.left, doubts: done.doubts, ..all })
        }
    };
    Ok((first, rebased))
}

fn no_room_to_store_anew(error: &Error) -> Error {
    tracing::warn!("Backups cannot be stored anew: {}", error.chain());
    Error::new(
        ErrorKind::DiskFull,
        "Not every backup could be stored anew: the repository's disk has no room for what stands beside the old \
         one until it is proved. What was stored anew stays so, the others are as they were, nothing is lost, and \
         the sweep has done the rest.",
    )
    .with_hint("free room on the repository's disk, or delete more backups, then do it again")
}

/// What of the rest is there only because deltas stand on it. A lineage that cannot be read was told
/// as a doubt.
fn base_cost(context: &JobContext) -> Result<BaseCost> {
    let repository = context.service.repository();
    let mut cost = BaseCost::default();
    for (project, lineage) in repository.lineages()? {
        let known =
            repository.lineage(&project, &lineage).and_then(|lineage| lineage.base_cost(&context.cancel));
        match known {
            Ok(known) => cost.add(known),
            Err(error) if matches!(error.kind(), ErrorKind::Damage | ErrorKind::WrongKey) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(cost)
}

/// What earlier claims of this job did before they ended.
fn earlier_tries(context: &JobContext) -> Result<SweepReport> {
    let id = &context.job.id;
    let steps = context.catalog(|catalog| async move { catalog.job_steps(id).await })?;
    let mut report = SweepReport::default();
    for step in steps.into_iter().filter(|step| step.name == NOTE) {
        report.add_done(&serde_json::from_value(step.output).map_err(Error::internal)?);
    }
    Ok(report)
}

/// `first` is what this claim has swept until now.
fn sweep(context: &JobContext, options: &SweepOptions, first: &SweepReport) -> Result<SweepReport> {
    let repository = context.service.repository();
    let (mut report, mut noted) = (SweepReport::default(), SweepReport::default());
    let mut noted_at = Instant::now();
    for (project, lineage) in repository.sweep_begin(options)? {
        let swept = repository.sweep_lineage(
            &project,
            &lineage,
            options,
            &context.cancel,
            &context.progress,
            &mut report,
        );
        if swept.is_err() || noted_at.elapsed() >= NOTED_EVERY {
            note(context, options, (first, &report), &mut noted)?;
            noted_at = Instant::now();
        }
        swept?;
    }
    note(context, options, (first, &report), &mut noted)?;
    if report.packs_without_room > 0 { Err(no_room(&report)) } else { Ok(report) }
}

/// Notes what this claim did, for the one that comes after it should this one end early.
fn note(
    context: &JobContext,
    options: &SweepOptions,
    (first, report): (&SweepReport, &SweepReport),
    noted: &mut SweepReport,
) -> Result<()> {
    let mut done = SweepReport::default();
    done.add_done(first);
    done.add_done(report);
    if options.is_dry_run || done == *noted {
        return Ok(());
    }
    context.note(NOTE, serde_json::to_value(&done).map_err(Error::internal)?)?;
    *noted = done;
    Ok(())
}

fn no_room(report: &SweepReport) -> Error {
    Error::new(
        ErrorKind::DiskFull,
        format!(
            "{} packs could not be written anew: the repository's disk has no room for the copy that stands beside \
             the old one until it is proved. They are as they were, nothing is lost, and {} came back.",
            report.packs_without_room,
            ByteSize::new(report.bytes_freed)
        ),
    )
    .with_hint("free room on the repository's disk, or delete more backups, then sweep again")
}

fn record(
    context: &JobContext,
    options: &SweepOptions,
    report: &SweepReport,
    (rebased, bases): (Option<RebaseReport>, Option<BaseCost>),
) -> Result<()> {
    let mut result = serde_json::to_value(report).map_err(Error::internal)?;
    result["dry_run"] = options.is_dry_run.into();
    if let Some(bases) = bases {
        result["bases"] = serde_json::to_value(bases).map_err(Error::internal)?;
    }
    if let Some(rebased) = &rebased {
        result["rebase"] = serde_json::to_value(rebased).map_err(Error::internal)?;
    }
    result["threshold_percent"] = options.dead_percent.into();
    let detail = json!({
        "bytes_freed": report.bytes_freed,
        "packs_removed": report.packs_removed,
        "packs_rewritten": report.packs_rewritten,
        "backups_decided": report.backups_decided,
        "doubts": report.doubts.len(),
        "stored_anew": rebased.map_or(0, |rebased| rebased.stored_anew),
    });
    let action = if options.is_dry_run { "repository.sweep_planned" } else { "repository.swept" };
    let audit = context.audit(action, context.service.repository().id(), detail);
    let (result, audit, now) = (&result, &audit, context.service.clock_reading());
    context
        .catalog(|catalog| async move { catalog.job_succeed(&context.fence, result, now, audit).await })?;
    if !options.is_dry_run {
        context.service.inner.measures.add(Measurement::Sweep { bytes_freed: report.bytes_freed });
    }
    Ok(())
}

/// Asks for a sweep, because what was needed until now is needed no longer; that must be durable in
/// the repository already. Many wishes become one sweep.
pub(super) fn wish(context: &JobContext) -> Result<()> {
    let Some(job) = context.service.next_sweep()? else { return Ok(()) };
    let job = &job;
    context.catalog(|catalog| async move { catalog.sweep_wish(job).await })
}
