//! The scheduler: begins automated backups that are due, and has removed what is over by a rule.
//!
//! Every `serve` process has one; they need not know of each other, because the catalog decides who
//! begins what. Nothing here is kept in memory but what the clock did since the last look: a
//! scheduler that is killed, frozen or started twice loses nothing and begins nothing twice.
//!
//! | What happens | What follows |
//! |---|---|
//! | the server was away for three days | one backup for the newest moment that was missed, at once |
//! | a backup of the instance runs at the moment | its end is waited for, then the moment's backup begins |
//! | the backup fails | its job was tried as every job is; the next moment brings the next backup |
//! | the clock jumps ahead | one backup for what was missed; rules remove nothing until somebody consents |
//! | the clock jumps back | what is owed is computed anew; what was begun in the false future is void |

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use strongroom_catalog::{AuditEvent, DueStart, Started};
use strongroom_core::backup::{Backup, BackupState, BackupType};
use strongroom_core::id::{BackupId, InstanceId};
use strongroom_core::instance::Instance;
use strongroom_core::job::{Job, JobKind};
use strongroom_core::text::{BackupName, InstanceName};
use strongroom_core::time::{from_micros, to_micros};
use strongroom_core::{ErrorKind, Result, limits};

use crate::measures::Measurement;
use crate::parts::Service;

/// Who acts, in the audit chain.
const ACTOR: &str = "scheduler";
/// When a scheduler last looked, for the first look after a start.
const SEEN: &str = "schedule.seen";
/// Rows read from the catalog at a time.
const PAGE_ROWS: u32 = 200;
/// With the longest name of an instance, as much of it as fits between `auto-` and the time.
const INSTANCE_NAME_CHARS: usize = 42;

/// The scheduler of this process.
pub struct Scheduler {
    service: Service,
    /// Where the clock stood at the last look.
    seen: Option<Timestamp>,
    /// Since backups were last looked through for what is over; `None` is never.
    since_retention: Option<Duration>,
}

/// What one look came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Looked {
    pub begun: usize,
    pub expired: usize,
}

impl Scheduler {
    pub fn new(service: Service) -> Self {
        Self { service, seen: None, since_retention: None }
    }

    /// Looks again and again until `shutdown`.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        let mut last = Instant::now();
        loop {
            let now = Instant::now();
            let passed = now.duration_since(last);
            last = now;
            if let Err(error) = self.look(passed).await {
                tracing::warn!("The scheduler could not look for what is due: {}", error.chain());
            }
            tokio::select! {
                () = &mut shutdown => return,
                () = tokio::time::sleep(Duration::from_millis(limits::SCHEDULE_INTERVAL_MS)) => {}
            }
        }
    }

    /// One look, `passed` after the one before, by a clock that nobody can set. For callers that own
    /// the time, such as tests; [`Scheduler::run`] is the same with a clock of its own.
    pub async fn look(&mut self, passed: Duration) -> Result<Looked> {
        self.service.time_refresh().await?;
        if self.service.clock_trouble().is_some() {
            return Ok(Looked::default());
        }
        let now = self.service.now();
        self.watch_clock(now, passed).await?;
        let mut looked = Looked::default();
        // What cannot be looked through or begun keeps nothing else from beginning.
        let mut failed = self.look_for_what_is_over(now, passed, &mut looked).await.err();
        for due in self.service.catalog().policy_due(now).await? {
            match self.begin(&due, now).await {
                Ok(begun) => looked.begun += usize::from(begun),
                Err(error) => {
                    tracing::warn!(instance.id = %due.instance_id, "An automated backup did not begin: {}", error.chain());
                    failed = failed.or(Some(error));
                }
            }
        }
        if looked != Looked::default() {
            self.service.wake_worker();
        }
        failed.map_or(Ok(looked), Err)
    }

    /// Now and then; a look that failed comes again with the next one.
    async fn look_for_what_is_over(
        &mut self,
        now: Timestamp,
        passed: Duration,
        looked: &mut Looked,
    ) -> Result<()> {
        self.since_retention = self.since_retention.map(|since| since.saturating_add(passed));
        let interval = Duration::from_secs(limits::RETENTION_INTERVAL_S);
        if self.since_retention.is_some_and(|since| since < interval) {
            return Ok(());
        }
        self.owe_no_far_future(now).await?;
        self.expire(now, &mut looked.expired).await?;
        self.service.catalog().setting_put(SEEN, &to_micros(now).to_string(), now).await?;
        self.since_retention = Some(Duration::ZERO);
        Ok(())
    }

    /// Holds what rules would remove when the clock is not where it should be (faults.md T01).
    async fn watch_clock(&mut self, now: Timestamp, passed: Duration) -> Result<()> {
        let (expected, ahead_s_max) = match self.seen {
            Some(seen) => {
                let passed = SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX);
                (Some(seen.saturating_add(passed).unwrap_or(Timestamp::MAX)), limits::RETENTION_CLOCK_STEP_S)
            }
            // How long the server was away nobody knows: only a very long absence is suspicious.
            None => (self.seen_before().await?, limits::RETENTION_ABSENCE_S),
        };
        self.seen = Some(now);
        let Some(expected) = expected else { return Ok(()) };
        let moved = now.duration_since(expected);
        if moved.as_secs() <= ahead_s_max && moved.as_secs() >= -limits::RETENTION_CLOCK_STEP_S {
            return Ok(());
        }
        let moved_ms = i64::try_from(moved.as_millis()).unwrap_or(i64::MAX);
        tracing::error!(
            clock.moved_ms = moved_ms,
            "The clock moved by {} s, or this machine slept: no backup is removed by a rule until \
             `strongroom policy resume` says that the clock is right.",
            moved.as_secs()
        );
        // What was owed and seen by the other time is looked at anew.
        self.since_retention = None;
        self.service.retention_hold_put(moved_ms).await
    }

    async fn seen_before(&self) -> Result<Option<Timestamp>> {
        let stored = self.service.catalog().setting(SEEN).await?;
        Ok(stored.and_then(|text| text.parse().ok()).map(from_micros))
    }

    /// After a clock that was ahead is set right, a start may be owed far in the future: no policy owes
    /// a later one than its next.
    async fn owe_no_far_future(&self, now: Timestamp) -> Result<()> {
        let catalog = self.service.catalog();
        let mut after = None;
        loop {
            let page = catalog.policy_page(after.as_ref(), PAGE_ROWS).await?;
            for row in &page {
                let Some(schedule) = row.policy.active() else { continue };
                let next = schedule.timetable(&row.instance_id).next_after(now);
                if row.next_due.is_some_and(|due| due > next) && catalog.policy_owe(row, next).await? {
                    tracing::warn!(instance.id = %row.instance_id, "A start was owed too far ahead; it is now owed at {next}.");
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE_ROWS as usize => after = Some(last.instance_id.clone()),
                _ => return Ok(()),
            }
        }
    }

    async fn begin(&self, due: &DueStart, now: Timestamp) -> Result<bool> {
        let catalog = self.service.catalog();
        let Some(instance) = catalog.instance_by_id(&due.instance_id).await? else { return Ok(false) };
        let table = due.schedule.timetable(&due.instance_id);
        // Of all that was missed only the newest moment counts: one backup catches up.
        let counts_for = if table.is_late(due.due, now) { table.last_until(now) } else { due.due };
        let is_late = table.is_late(counts_for, now);
        let (backup, job) = self.service.automated(&instance, now);
        let audit = AuditEvent {
            at: now,
            project_id: Some(due.project_id.clone()),
            actor: ACTOR.to_owned(),
            action: "backup.create",
            object: backup.id.as_str().to_owned(),
            request_id: None,
            detail: json!({ "name": backup.name.as_str(), "due": counts_for.to_string(), "late": is_late }),
        };
        let next = table.next_after(now);
        let begun = match catalog.policy_begin(due, counts_for, next, &backup, &job, &audit).await {
            // It was removed a moment ago, and its policy with it.
            Err(error) if error.kind() == ErrorKind::InstanceNotFound => return Ok(false),
            begun => begun?,
        };
        if begun == Started::Begun {
            tracing::info!(
                backup.id = %backup.id, job.id = %job.id, instance.id = %instance.id,
                "Automated backup accepted{}.", if is_late { ", after its window" } else { "" }
            );
            self.service.inner.measures.add(Measurement::PolicyBegun { is_late });
        }
        Ok(begun == Started::Begun)
    }

    /// Has removed what is over by a rule, unless the clock is not to be trusted.
    async fn expire(&self, now: Timestamp, expired: &mut usize) -> Result<()> {
        if self.service.retention_hold().await?.is_some() {
            return Ok(());
        }
        let catalog = self.service.catalog();
        let (mut after, mut failed) = (None, None);
        loop {
            let page = catalog.retention_candidates(after.as_ref(), now, PAGE_ROWS).await?;
            for instance in &page {
                match self.expire_of(instance, now).await {
                    Ok(count) => *expired += count,
                    Err(error) => {
                        tracing::warn!(instance.id = %instance, "Its backups could not be looked through: {}", error.chain());
                        failed = failed.or(Some(error));
                    }
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE_ROWS as usize => after = Some(last.clone()),
                _ => return failed.map_or(Ok(()), Err),
            }
        }
    }

    async fn expire_of(&self, instance: &InstanceId, now: Timestamp) -> Result<usize> {
        let taken = self.service.catalog().retention_apply(instance, now, ACTOR).await?;
        for gone in &taken {
            tracing::info!(backup.id = %gone.backup_id, job.id = %gone.job_id, "A backup's days are over; it is removed.");
        }
        if !taken.is_empty() {
            self.service.inner.measures.add(Measurement::PolicyExpired { count: taken.len() as u64 });
        }
        Ok(taken.len())
    }
}

impl Service {
    /// An automated backup that begins now, and its job.
    fn automated(&self, instance: &Instance, now: Timestamp) -> (Backup, Job) {
        let job = self.job_of(&instance.project_id, JobKind::Backup, Some(&instance.id), json!({}), now);
        let name = automated_name(&instance.name, now);
        let backup = self.new_backup(instance, &job, name, None, BackupType::Auto);
        (backup.clone(), Job { backup_id: Some(backup.id), ..job })
    }

    /// A backup that begins with its job.
    pub(crate) fn new_backup(
        &self,
        instance: &Instance,
        job: &Job,
        name: BackupName,
        description: Option<strongroom_core::text::Description>,
        kind: BackupType,
    ) -> Backup {
        Backup {
            id: BackupId::issue(self.uuid(), instance.engine),
            project_id: instance.project_id.clone(),
            instance_id: instance.id.clone(),
            node_id: instance.node_id.clone(),
            name,
            description,
            kind,
            state: BackupState::Building,
            engine: instance.engine,
            engine_version: instance.version.clone(),
            lineage_id: instance.lineage_id.clone(),
            job_id: job.id.clone(),
            created: job.created,
            finished: None,
            attempt_id: None,
            manifest_digest: None,
            source_bytes: None,
            stored_bytes: None,
            warnings: Vec::new(),
            failure: None,
            verification: None,
        }
    }
}

/// `auto-shop-20260304T010512Z`: by the rule of names, whatever the instance is called.
pub(crate) fn automated_name(instance: &InstanceName, now: Timestamp) -> BackupName {
    let instance: String = instance.as_str().chars().take(INSTANCE_NAME_CHARS).collect();
    BackupName::from_stored(format!("auto-{instance}-{}", now.strftime("%Y%m%dT%H%M%SZ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_automated_backups_keep_the_rule_of_names() {
        let now = from_micros(1_772_600_767_000_000);
        for instance in ["shop", &"s".repeat(limits::NAME_LENGTH_CHARS_MAX)] {
            let name = automated_name(&InstanceName::parse(instance).unwrap(), now);
            assert!(BackupName::parse(name.as_str()).is_ok(), "{name}");
            assert!(name.as_str().ends_with("-20260304T050607Z"), "{name}");
        }
    }
}
