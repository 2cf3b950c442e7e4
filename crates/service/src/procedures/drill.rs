//! The deepest look at a backup: it is restored into a sandbox on the worker's machine, the engine
//! starts a server on it, and the server checks itself. What that takes is measured as it goes.
//!
//! Not to have been able to try is a result of its own, `not_run`, and never one of the other two.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;
use strongroom_core::backup::Backup;
use strongroom_core::engine::{BackupFacts, DrillOrder, DrillReport, Engine};
use strongroom_core::size::ByteSize;
use strongroom_core::verification::{Drill, Outcome};
use strongroom_core::{Error, ErrorKind, Result, limits};
use strongroom_repository::BackupReader;

use super::verify::Found;
use crate::content::ContentEvent;
use crate::failure::code_of;
use crate::restore::{self, ContentSource, MemberInfo, RestoreOptions};
use crate::sandbox::{Sandbox, account_of, sweep};
use crate::work::JobContext;

/// Threads that read the repository.
const STREAMS: usize = 2;

pub(super) fn run(context: &JobContext, backup: &Backup) -> Result<Found> {
    match drill(context, backup) {
        Ok(found) => Ok(found),
        Err(error) if context.cancel.reason().is_some() => Err(error),
        Err(error) => match error.kind() {
            ErrorKind::Damage => Ok(Found::failed(vec![error.public().to_owned()])),
            ErrorKind::NotSupported | ErrorKind::NotAllowed | ErrorKind::DiskFull => Ok(not_run(&error)),
            _ => Err(error),
        },
    }
}

/// What kept the drill from being run, with the way out.
fn not_run(error: &Error) -> Found {
    let hint = error.hint().map(|hint| format!(" Next step: {hint}")).unwrap_or_default();
    let mut found = Found::new(Outcome::NotRun, vec![format!("{}{hint}", error.public())]);
    found.details = json!({ "reason": code_of(error.kind()) });
    found
}

/// The time for the whole drill.
#[derive(Clone, Copy)]
struct Clock {
    begun: Instant,
    timeout: Duration,
}

impl Clock {
    fn remaining(self) -> Duration {
        self.timeout.saturating_sub(self.begun.elapsed())
    }

    fn check(self) -> Result<()> {
        if !self.remaining().is_zero() {
            return Ok(());
        }
        let minutes = self.timeout.as_secs() / 60;
        Err(Error::new(
            ErrorKind::NotSupported,
            format!("The time for the drill ({minutes} min) was over before everything was restored."),
        )
        .with_hint("give more with --drill-timeout-minutes"))
    }
}

fn drill(context: &JobContext, backup: &Backup) -> Result<Found> {
    let settings = &context.service.parts().settings;
    let clock = Clock { begun: Instant::now(), timeout: settings.drill_timeout };
    let engine = context.service.parts().engines.get(backup.engine)?.clone();
    let reader = context.service.reader_of(backup)?;
    let facts = reader.summary().facts.clone();
    let server = engine.drill_server(&facts)?;
    let directory = context.service.sandbox_dir();
    sweep(&directory);
    let account = account_of(settings.drill_account.as_deref())?;
    let sandbox = Sandbox::make(&directory, &folder_name(context), account)?;

    let begun = Instant::now();
    let bytes = restore(context, &sandbox, &reader, &facts, &*engine, clock)?;
    sandbox.hand_over()?;
    let restore_ms = milliseconds(begun.elapsed());
    context.record("restore", json!({ "bytes": bytes, "milliseconds": restore_ms }))?;
    // Readers keep packs from the sweep of the repository; nothing more is read.
    drop(reader);
    let report = engine.drill(&DrillOrder {
        target: &sandbox.target(),
        run_dir: &sandbox.run_dir(),
        facts: &facts,
        server: &server,
        account: sandbox.account(),
        timeout: clock.remaining(),
        cancel: &context.cancel,
        progress: &context.progress,
    })?;
    Ok(judged(report, bytes, restore_ms))
}

/// Short, because paths of sockets are; unique for each claim of each job.
fn folder_name(context: &JobContext) -> String {
    let job = context.job.id.as_str();
    let end: String = job.chars().rev().take(12).collect::<Vec<_>>().into_iter().rev().collect();
    format!("{end}-{}", context.fence.epoch.value())
}

fn restore(
    context: &JobContext,
    sandbox: &Sandbox,
    reader: &BackupReader,
    facts: &BackupFacts,
    engine: &dyn Engine,
    clock: Clock,
) -> Result<u64> {
    let options = RestoreOptions { target: sandbox.target(), streams: STREAMS, ..RestoreOptions::default() };
    let summary = reader.summary();
    let tablespaces = engine.tablespaces(facts)?;
    let plan = restore::plan(&options, &summary.manifest_digest, summary.totals.source_bytes, &tablespaces)?;
    let needed = plan.bytes.saturating_add(limits::DRILL_ROOM_MARGIN_BYTES);
    if plan.free_bytes < needed {
        return Err(Error::new(
            ErrorKind::DiskFull,
            format!(
                "The drill needs {} at {}, {} are free. Nothing was restored.",
                ByteSize::new(needed),
                context.service.sandbox_dir().display(),
                ByteSize::new(plan.free_bytes)
            ),
        )
        .with_hint("free room there, or name another place with --sandbox-dir"));
    }
    let source = InTime { reader, clock };
    let running = (&*context.progress, &context.cancel);
    restore::run(&source, &plan, &options, &summary.manifest_digest, facts, Some(engine), running)
        .map(|restored| restored.bytes)
}

/// The repository in this process, until the time is over. Every chunk's id is checked on its way.
struct InTime<'a> {
    reader: &'a BackupReader,
    clock: Clock,
}

impl ContentSource for InTime<'_> {
    fn members(&self, out: &mut dyn FnMut(MemberInfo) -> Result<()>) -> Result<()> {
        ContentSource::members(self.reader, out)
    }

    fn content(
        &self,
        segments: &[(u64, u32)],
        out: &mut dyn FnMut(ContentEvent) -> Result<()>,
    ) -> Result<()> {
        ContentSource::content(self.reader, segments, &mut |event| {
            self.clock.check()?;
            out(event)
        })
    }
}

/// What the engine reports, as a result: anything wrong is failed, anything untried is not passed.
fn judged(report: DrillReport, bytes: u64, restore_ms: u64) -> Found {
    let outcome = match (report.start, report.failures.is_empty(), report.unjudged.is_empty()) {
        (_, false, _) => Outcome::Failed,
        (Some(_), true, true) => Outcome::Passed,
        _ => Outcome::NotRun,
    };
    let drill = report.start.map(|start| Drill {
        server_version: report.server_version,
        restored_bytes: bytes,
        restore_ms,
        start_ms: milliseconds(start),
        check_ms: milliseconds(report.check),
        databases: report.databases,
        tables: report.tables,
        rows: report.rows,
        checks: report.checks,
    });
    let findings = [report.failures, report.unjudged, report.notes].concat();
    let mut details = json!({ "drill": drill, "largest_tables": report.largest });
    if outcome == Outcome::NotRun {
        details["reason"] = code_of(ErrorKind::NotSupported).into();
    }
    Found { outcome, findings, drill, details }
}

/// Never 0: something that was measured took its time.
fn milliseconds(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX).max(1)
}

impl crate::parts::Service {
    /// Where drills restore to. Inside the data directory, unless the server runs as another account,
    /// which is not let in there: then beside it.
    pub(crate) fn sandbox_dir(&self) -> PathBuf {
        let parts = self.parts();
        parts.settings.sandbox_dir.clone().unwrap_or_else(|| {
            if !rustix::process::geteuid().is_root() {
                return parts.data_dir.join("sandbox");
            }
            let mut beside = parts.data_dir.as_os_str().to_owned();
            beside.push(".sandbox");
            beside.into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(start: bool, failures: usize, unjudged: usize) -> DrillReport {
        let sentences = |count| vec!["A sentence.".to_owned(); count];
        DrillReport {
            start: start.then(|| Duration::from_secs(7)),
            failures: sentences(failures),
            unjudged: sentences(unjudged),
            notes: sentences(1),
            ..DrillReport::default()
        }
    }

    #[test]
    fn v04_only_what_was_tried_and_whole_has_passed() {
        for (start, failures, unjudged, wanted) in [
            (true, 0, 0, Outcome::Passed),
            (true, 1, 0, Outcome::Failed),
            (true, 1, 1, Outcome::Failed),
            (true, 0, 1, Outcome::NotRun),
            (false, 1, 0, Outcome::Failed),
            (false, 0, 1, Outcome::NotRun),
            (false, 0, 0, Outcome::NotRun),
        ] {
            let found = judged(report(start, failures, unjudged), 5, 31_000);
            assert_eq!(found.outcome, wanted, "{start} {failures} {unjudged}");
            assert_eq!(found.findings.len(), failures + unjudged + 1);
            assert_eq!(found.drill.map(|drill| drill.time_to_restore_ms()), start.then_some(38_000));
        }
    }

    #[test]
    fn v04_the_time_for_a_drill_ends() {
        let clock = |timeout_ms| Clock { begun: Instant::now(), timeout: Duration::from_millis(timeout_ms) };
        clock(limits::DRILL_TIMEOUT_MS).check().unwrap();
        assert_eq!(not_run(&clock(0).check().unwrap_err()).outcome, Outcome::NotRun);
    }
}
