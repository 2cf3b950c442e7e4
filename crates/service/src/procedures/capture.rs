//! The capture of a log, from a claim until it is told to stop: bytes from the engine into the log
//! archive, ranges into the catalog, and a full backup where none leads to what is captured.
//!
//! | What happens | What follows |
//! |---|---|
//! | the process ends | what was not durable is still at the source; the next claim goes on at that byte |
//! | another worker took over | what this one still stores is the same log; its rows are refused by the fence |
//! | log is missing at the source | the gap is told exactly, a new range begins, a backup begins by itself |
//! | the source keeps too much | it is let go; the next try tells the gap |
//! | switched off | what is kept at the source goes, then the marks of the streams, then the row |

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use strongroom_catalog::{AuditEvent, Catalog, LogBegun};
use strongroom_core::backup::BackupType;
use strongroom_core::engine::SourceIdentity;
use strongroom_core::instance::Instance;
use strongroom_core::job::JobKind;
use strongroom_core::logs::{HeldLog, LogOrder, LogPosition, LogRange, LogSink, LogStream, LogStreamId};
use strongroom_core::progress::Progress;
use strongroom_core::{Error, ErrorKind, Result, limits};
use strongroom_repository::{Lineage, LogWriter};

use crate::work::CaptureContext;

/// How often what has grown is written down, at the most.
const WRITTEN_DOWN_EVERY: Duration = Duration::from_secs(1);
/// Between two calls of a catalog that does not answer.
const CATALOG_PAUSE: Duration = Duration::from_millis(500);

/// Answers when a capture that was switched off has ended for good.
pub(crate) fn run(context: &CaptureContext) -> Result<()> {
    let id = &context.claim.instance_id;
    let instance = context
        .catalog(|catalog| async move { catalog.instance_by_id(id).await })?
        .ok_or_else(|| Error::internal("an instance with a capture is there"))?;
    if context.claim.is_ending {
        return end(context, &instance);
    }
    match capture(context, &instance)? {}
}

fn lineage_of(context: &CaptureContext, instance: &Instance) -> Result<Lineage> {
    context.service.repository().lineage(&instance.project_id, &instance.lineage_id)
}

fn capture(context: &CaptureContext, instance: &Instance) -> Result<Infallible> {
    let engine = context.service.parts().engines.get(instance.engine)?.clone();
    let source = context.runtime.block_on(context.service.source_of(instance))?;
    let identity = SourceIdentity {
        engine: instance.engine,
        version: instance.version.clone(),
        system_identifier: instance.system_identifier.clone(),
    };
    let progress = Progress::new();
    let mut sink = ArchiveSink::new(context, instance, lineage_of(context, instance)?);
    let order = LogOrder {
        source: &source,
        identity: &identity,
        owner: instance.id.as_str(),
        retained_bytes_max: context.service.parts().settings.log_retained_bytes_max,
        cancel: &context.cancel,
        progress: &progress,
    };
    engine.capture_logs(&order, &mut sink)
}

fn end(context: &CaptureContext, instance: &Instance) -> Result<()> {
    let engine = context.service.parts().engines.get(instance.engine)?.clone();
    let source = context.runtime.block_on(context.service.source_of(instance))?;
    engine.release_logs(&source, instance.id.as_str(), &context.cancel)?;
    let lineage = lineage_of(context, instance)?;
    for stream in lineage.log_streams()?.into_iter().filter(|stream| stream.is_open) {
        lineage.close_log(&stream.id)?;
    }
    let audit = context.audit(instance, "log.ended", json!({}));
    let (fence, audit) = (&context.claim.fence, &audit);
    context.catalog(|catalog| async move { catalog.log_end(fence, audit).await })?;
    tracing::info!(instance.id = %instance.id, "The capture of a log has ended.");
    Ok(())
}

impl CaptureContext {
    /// As of a job: a catalog that is away is waited for as long as the lease stands.
    fn catalog<T, F: Future<Output = Result<T>>>(&self, call: impl Fn(Catalog) -> F) -> Result<T> {
        let catalog = self.service.catalog();
        loop {
            match self.runtime.block_on(call(catalog.clone())) {
                Err(error)
                    if error.kind() == ErrorKind::Unavailable
                        && self.cancel.reason().is_none()
                        && !catalog.is_closed() =>
                {
                    tracing::warn!(job.id = %self.claim.fence.job_id, "The catalog is away, the capture waits: {}", error.chain());
                    self.runtime.block_on(tokio::time::sleep(CATALOG_PAUSE));
                }
                answered => return answered,
            }
        }
    }

    fn audit(&self, instance: &Instance, action: &'static str, detail: serde_json::Value) -> AuditEvent {
        AuditEvent {
            at: self.service.clock_reading(),
            project_id: Some(instance.project_id.clone()),
            actor: format!("worker {}", self.claim.fence.worker_id),
            action,
            object: instance.id.as_str().to_owned(),
            request_id: None,
            detail,
        }
    }
}

/// The log archive and the catalog, as an engine sees them.
struct ArchiveSink<'a> {
    context: &'a CaptureContext,
    instance: &'a Instance,
    lineage: Lineage,
    current: Option<Current>,
    /// When a backup to lead to the log was last looked for.
    base_looked: Option<Instant>,
}

/// The stream that is being captured.
struct Current {
    about: LogStream,
    writer: LogWriter,
    /// Since when something waits to become durable.
    since: Instant,
    /// What was written down last, and when.
    told: Option<LogRange>,
    told_at: Option<Instant>,
}

impl<'a> ArchiveSink<'a> {
    fn new(context: &'a CaptureContext, instance: &'a Instance, lineage: Lineage) -> Self {
        Self { context, instance, lineage, current: None, base_looked: None }
    }

    fn current(&mut self) -> Result<&mut Current> {
        self.current.as_mut().ok_or_else(|| Error::internal("log comes after its stream was begun"))
    }

    /// Writes down what has grown; with `until`, that the source had nothing more.
    fn write_down(&mut self, until: Option<Timestamp>) -> Result<()> {
        let context = self.context;
        let current = self.current()?;
        let Some(range) = current.writer.held() else { return Ok(()) };
        let is_early = current.told_at.is_some_and(|at| at.elapsed() < WRITTEN_DOWN_EVERY);
        if until.is_none() && (is_early || current.told == Some(range)) {
            return Ok(());
        }
        let (stream, origin) = (current.about.id.clone(), current.about.origin.clone());
        let held = HeldLog { stream, range, origin, until };
        let now = context.service.clock_reading();
        let (fence, id, held, confirmed) =
            (&context.claim.fence, &self.instance.id, &held, until.map(|_| now));
        let is_based = context
            .catalog(|catalog| async move { catalog.log_advance(fence, id, held, confirmed, now).await })?;
        let current = self.current()?;
        (current.told, current.told_at) = (Some(range), Some(Instant::now()));
        if is_based { Ok(()) } else { self.begin_backup(now) }
    }

    /// Log alone leads nowhere: where no backup leads to it, one begins by itself.
    fn begin_backup(&mut self, now: Timestamp) -> Result<()> {
        let (context, instance) = (self.context, self.instance);
        let pause = Duration::from_secs(limits::LOG_BASE_LOOK_S);
        if self.base_looked.is_some_and(|at| at.elapsed() < pause) {
            return Ok(());
        }
        self.base_looked = Some(Instant::now());
        let service = &context.service;
        let job = service.job_of(&instance.project_id, JobKind::Backup, Some(&instance.id), json!({}), now);
        let name = crate::schedule::automated_name(&instance.name, now);
        let backup = service.new_backup(instance, &job, name, None, BackupType::Auto);
        let job = strongroom_core::job::Job { backup_id: Some(backup.id.clone()), ..job };
        let audit = AuditEvent {
            object: backup.id.as_str().to_owned(),
            ..context.audit(instance, "backup.create", json!({ "name": backup.name.as_str(), "for": "log" }))
        };
        let pause = SignedDuration::from_secs(limits::LOG_BASE_PAUSE_S);
        let not_since = now.saturating_sub(pause).map_err(Error::internal)?;
        let (fence, backup, job, audit) = (&context.claim.fence, &backup, &job, &audit);
        let begun = context.catalog(|catalog| async move {
            catalog.log_base_admit(fence, backup, job, not_since, audit).await
        })?;
        if begun {
            tracing::info!(
                backup.id = %backup.id, job.id = %job.id, instance.id = %instance.id,
                "A backup begins because none leads to the log that is captured."
            );
            service.wake_worker();
        }
        Ok(())
    }
}

impl LogSink for ArchiveSink<'_> {
    fn held(&mut self) -> Result<Vec<(LogStream, LogRange)>> {
        let streams = self.lineage.log_streams()?.into_iter();
        Ok(streams.filter_map(|held| Some((held.about?, *held.ranges.last()?))).collect())
    }

    fn read(
        &mut self,
        stream: &LogStreamId,
        range: LogRange,
        take: &mut dyn FnMut(LogPosition, &[u8]) -> Result<()>,
    ) -> Result<()> {
        self.lineage.read_log(stream, range, take)
    }

    fn begin(&mut self, stream: &LogStream, from: LogPosition, gap: Option<&str>) -> Result<()> {
        let context = self.context;
        let mut writer = self.lineage.open_log(stream)?;
        let ranges = self.lineage.log_ranges(&stream.id)?;
        if let Some(gap) = gap {
            tracing::error!(
                instance.id = %self.instance.id, stream = %stream.id, from = ?ranges.last().map(|range| range.until),
                until = %from, "Log is missing from the archive: {gap}"
            );
        }
        let audit = context.audit(self.instance, "log.gap", json!({}));
        let begun = LogBegun { stream, ranges: &ranges, from, gap };
        let (fence, id, audit) = (&context.claim.fence, &self.instance.id, &audit);
        context.catalog(|catalog| async move { catalog.log_begin(fence, id, begun, audit).await })?;
        writer.begin(from)?;
        let now = Instant::now();
        self.current = Some(Current { about: stream.clone(), writer, since: now, told: None, told_at: None });
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let current = self.current()?;
        if current.writer.waiting_bytes() == 0 {
            current.since = Instant::now();
        }
        current.writer.write(bytes)
    }

    fn finish_file(&mut self) -> Result<()> {
        self.context.cancel.check().or_else(|error| match error.kind() {
            ErrorKind::Fenced => Err(error),
            // What came is made durable all the same.
            _ => Ok(()),
        })?;
        self.current()?.writer.finish_file()?;
        self.write_down(None)
    }

    fn flush(&mut self) -> Result<()> {
        self.current()?.writer.flush()?;
        self.write_down(None)
    }

    fn is_flush_due(&self) -> bool {
        let wait = Duration::from_millis(limits::LOG_PART_WAIT_MS);
        self.current
            .as_ref()
            .is_some_and(|current| current.writer.waiting_bytes() > 0 && current.since.elapsed() >= wait)
    }

    fn durable(&self) -> LogPosition {
        self.current.as_ref().map_or(LogPosition::start_of(0), |current| current.writer.durable())
    }

    fn caught_up(&mut self, at: Timestamp) -> Result<()> {
        self.write_down(Some(at))
    }

    fn retained(&mut self, bytes: u64) {
        self.context.retained_bytes.store(bytes, Ordering::Relaxed);
    }

    fn given_up(&mut self, bytes: u64) -> Result<()> {
        tracing::error!(
            instance.id = %self.instance.id, log.retained_bytes = bytes,
            "The source is let go: it kept more log than it may until it could be stored."
        );
        let context = self.context;
        let audit = context.audit(self.instance, "log.given_up", json!({ "retained_bytes": bytes }));
        let (fence, audit) = (&context.claim.fence, &audit);
        context.catalog(|catalog| async move { catalog.log_given_up(fence, audit).await })
    }
}
