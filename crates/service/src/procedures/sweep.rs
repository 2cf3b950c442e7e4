//! Sweeps the repository, or says what a sweep would take away and why.
//!
//! | Step | Effect | On a later try |
//! |---|---|---|
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
use strongroom_repository::{BaseCost, SweepOptions, SweepReport};

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
}

pub(super) fn run(context: &JobContext) -> Result<()> {
    let is_dry_run = context.job.kind == JobKind::PlanSweep;
    let input: SweepInput = serde_json::from_value(context.job.input.clone()).map_err(Error::internal)?;
    let usual = SweepOptions::default();
    let dead_percent = input.threshold_percent.unwrap_or(usual.dead_percent);
    let options = SweepOptions { is_dry_run, dead_percent, ..usual };
    let mut report = earlier_tries(context)?;
    if !is_dry_run {
        context.step("begin", || {
            context.catalog(|catalog| async move { catalog.sweep_begin(&context.fence).await })
        })?;
    }
    report.add(context.step("sweep", || sweep(context, &options))?);
    let bases = if is_dry_run { Some(base_cost(context)?) } else { None };
    context.step("record", || record(context, &options, &report, bases))
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

fn sweep(context: &JobContext, options: &SweepOptions) -> Result<SweepReport> {
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
            note(context, options, &report, &mut noted)?;
            noted_at = Instant::now();
        }
        swept?;
    }
    note(context, options, &report, &mut noted)?;
    if report.packs_without_room > 0 { Err(no_room(&report)) } else { Ok(report) }
}

/// Notes what this claim did, for the one that comes after it should this one end early.
fn note(
    context: &JobContext,
    options: &SweepOptions,
    report: &SweepReport,
    noted: &mut SweepReport,
) -> Result<()> {
    let mut done = SweepReport::default();
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
    bases: Option<BaseCost>,
) -> Result<()> {
    let mut result = serde_json::to_value(report).map_err(Error::internal)?;
    result["dry_run"] = options.is_dry_run.into();
    if let Some(bases) = bases {
        result["bases"] = serde_json::to_value(bases).map_err(Error::internal)?;
    }
    result["threshold_percent"] = options.dead_percent.into();
    let detail = json!({
        "bytes_freed": report.bytes_freed,
        "packs_removed": report.packs_removed,
        "packs_rewritten": report.packs_rewritten,
        "backups_decided": report.backups_decided,
        "doubts": report.doubts.len(),
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
