//! Jobs: durable wishes. This module stores and finds them; claiming and renewing is in `lease`,
//! ending in `end`, what is particular of sweeps in `sweep`.

mod end;
mod lease;
mod rebase;
mod slice;
mod sweep;

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, query, query_scalar};
use strongroom_core::backup::BackupState;
use strongroom_core::id::{BackupId, InstanceId, JobId, ProjectId, WorkerId};
use strongroom_core::job::{Fence, Job, JobKind, JobState, JobStep, LeaseEpoch};
use strongroom_core::time::to_micros;
use strongroom_core::{Error, ErrorKind, Result};

use crate::audit::AuditEvent;
use crate::dialect::{Spelled, select_for_update};
use crate::fault::{Fault, damaged};
use crate::hints::tell_workers_in_tx;
use crate::identity::maybe_project_id;
use crate::row::{Columns, to_json};
use crate::transaction::{asking, writing};
use crate::{Catalog, Inner, Tx};

pub use end::CancelAsked;
pub(crate) use end::end_in_tx;
pub use lease::{Claim, Renewal};
pub use rebase::{Move, Moved};
pub use slice::{JobSlice, JobSliceFilter};
pub use sweep::SweepStanding;

macro_rules! job_columns {
    () => {
        "id, project_id, kind, state, backup_id, instance_id, input, result, epoch, worker_id, lease_until,
         taken_over, attempts, run_at, created, started, finished, progress, cancel_asked, failure"
    };
}
macro_rules! insert_job {
    () => {
        "INSERT INTO jobs
             (id, project_id, kind, state, backup_id, instance_id, input, epoch, taken_over, leases_lost,
              attempts, run_at, created, progress, cancel_asked)
         VALUES ($1, $2, $3, 'ready', $4, $5, $6, 0, 0, 0, 0, $7, $8, $9, 0)"
    };
}
/// Who may change a leased job: its claim, and nobody else. Takes $1, $2 and $3.
macro_rules! of_fence {
    () => {
        " WHERE id = $1 AND epoch = $2 AND worker_id = $3 AND state = 'leased'"
    };
}
pub(crate) use {insert_job, job_columns, of_fence};

/// Which jobs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    pub state: Option<JobState>,
    pub kind: Option<JobKind>,
}

const LOCK_BACKUP: Spelled = select_for_update!("SELECT state FROM backups WHERE id = $1");

impl Catalog {
    /// Stores a ready job that has no admission of its own: `Verify` (its backup must be COMPLETED),
    /// `CheckRepository` and `PlanSweep`.
    pub async fn job_admit(&self, job: &Job, audit: &AuditEvent) -> Result<()> {
        match job.kind {
            JobKind::Backup | JobKind::Delete => {
                return Err(Error::internal("backups and deletes are admitted together with their backup"));
            }
            JobKind::Sweep => return Err(Error::internal("a sweep is admitted by `sweep_ask`")),
            JobKind::Verify | JobKind::CheckRepository | JobKind::PlanSweep => {}
        }
        writing!(self, |tx| {
            if let Some(backup) = &job.backup_id {
                let lock = self.inner.dialect.spell(LOCK_BACKUP);
                let state: Option<String> =
                    query_scalar(lock).bind(backup.as_str()).fetch_optional(&mut **tx).await?;
                require_completed(state.as_deref())?;
            }
            insert_in_tx(tx, &self.inner, job).await?;
            tx.note(audit)
        })
    }

    /// A job of the project.
    pub async fn job_find(&self, project: &ProjectId, id: &JobId) -> Result<Option<Job>> {
        asking!(self, |tx| {
            let select = concat!("SELECT ", job_columns!(), " FROM jobs WHERE id = $1 AND project_id = $2");
            let row =
                query(select).bind(id.as_str()).bind(project.as_str()).fetch_optional(&mut **tx).await?;
            row.as_ref().map(job_from_row).transpose()
        })
    }

    /// Whether there ever was a job for this backup. Jobs stay when their backup is gone, so a backup
    /// with a job and without a row was deleted.
    pub async fn backup_had_job(&self, backup: &BackupId) -> Result<bool> {
        asking!(self, |tx| {
            let select = "SELECT COUNT(*) FROM jobs WHERE backup_id = $1";
            let jobs: i64 = query_scalar(select).bind(backup.as_str()).fetch_one(&mut **tx).await?;
            Ok(jobs > 0)
        })
    }

    /// A job that belongs to no project. One of a project is not even read, which takes as long as none.
    pub async fn repository_job_find(&self, id: &JobId) -> Result<Option<Job>> {
        asking!(self, |tx| {
            let select =
                concat!("SELECT ", job_columns!(), " FROM jobs WHERE id = $1 AND project_id IS NULL");
            let row = query(select).bind(id.as_str()).fetch_optional(&mut **tx).await?;
            row.as_ref().map(job_from_row).transpose()
        })
    }

    /// Of any project or none, for workers.
    pub async fn job_by_id(&self, id: &JobId) -> Result<Option<Job>> {
        asking!(self, |tx| {
            let select = concat!("SELECT ", job_columns!(), " FROM jobs WHERE id = $1");
            let row = query(select).bind(id.as_str()).fetch_optional(&mut **tx).await?;
            row.as_ref().map(job_from_row).transpose()
        })
    }

    /// The newest jobs of a project, newest first.
    pub async fn job_list(&self, project: &ProjectId, filter: &JobFilter, limit: u32) -> Result<Vec<Job>> {
        asking!(self, |tx| {
            let select = concat!(
                "SELECT ",
                job_columns!(),
                " FROM jobs
                 WHERE project_id = $1 AND ($2 IS NULL OR state = $2) AND ($3 IS NULL OR kind = $3)
                 ORDER BY created DESC, id DESC LIMIT $4"
            );
            let rows = query(select)
                .bind(project.as_str())
                .bind(filter.state.map(JobState::word))
                .bind(filter.kind.map(JobKind::word))
                .bind(i64::from(limit))
                .fetch_all(&mut **tx)
                .await?;
            rows.iter().map(job_from_row).collect()
        })
    }

    /// The newest jobs that belong to no project, newest first.
    pub async fn repository_job_list(&self, filter: &JobFilter, limit: u32) -> Result<Vec<Job>> {
        asking!(self, |tx| {
            let select = concat!(
                "SELECT ",
                job_columns!(),
                " FROM jobs
                 WHERE project_id IS NULL AND ($1 IS NULL OR state = $1) AND ($2 IS NULL OR kind = $2)
                 ORDER BY created DESC, id DESC LIMIT $3"
            );
            let rows = query(select)
                .bind(filter.state.map(JobState::word))
                .bind(filter.kind.map(JobKind::word))
                .bind(i64::from(limit))
                .fetch_all(&mut **tx)
                .await?;
            rows.iter().map(job_from_row).collect()
        })
    }

    /// The recorded steps of a job, in the order they were recorded.
    pub async fn job_steps(&self, id: &JobId) -> Result<Vec<JobStep>> {
        asking!(self, |tx| {
            let select = "SELECT attempt, name, at, output FROM job_steps WHERE job_id = $1 ORDER BY ordinal";
            let rows = query(select).bind(id.as_str()).fetch_all(&mut **tx).await?;
            rows.iter().map(step_from_row).collect()
        })
    }
}

fn require_completed(state: Option<&str>) -> Result<()> {
    let Some(state) = state else {
        return Err(Error::new(ErrorKind::BackupNotFound, "There is no such backup; nothing was stored."));
    };
    match BackupState::from_word(state) {
        Some(BackupState::Completed) => Ok(()),
        Some(BackupState::Deleting) => Err(Error::new(
            ErrorKind::BackupBeingDeleted,
            "The backup is being deleted and cannot be verified any more.",
        )),
        _ => Err(Error::new(ErrorKind::BackupState, "Only a COMPLETED backup can be verified.")
            .with_hint("Wait until the backup has completed.")),
    }
}

pub(crate) async fn insert_in_tx(tx: &mut Tx, inner: &Inner, job: &Job) -> Result<(), Fault> {
    insert_by_in_tx(tx, inner, job, insert_job!()).await
}

/// As [`insert_in_tx`], unless a job stands in its way that does the same.
async fn insert_if_free_in_tx(tx: &mut Tx, inner: &Inner, job: &Job) -> Result<(), Fault> {
    insert_by_in_tx(tx, inner, job, concat!(insert_job!(), " ON CONFLICT DO NOTHING")).await
}

async fn insert_by_in_tx(tx: &mut Tx, inner: &Inner, job: &Job, insert: &'static str) -> Result<(), Fault> {
    bound(query(insert), job)?.execute(&mut **tx).await?;
    tell_workers_in_tx(tx, inner).await
}

/// With the values of [`insert_job`], nine of them.
pub(crate) fn bound<'q>(
    insert: Query<'q, Any, AnyArguments>,
    job: &'q Job,
) -> Result<Query<'q, Any, AnyArguments>, Fault> {
    if job.state != JobState::Ready {
        return Err(Error::internal("a job begins ready").into());
    }
    Ok(insert
        .bind(job.id.as_str())
        .bind(job.project_id.as_ref().map(ProjectId::as_str))
        .bind(job.kind.word())
        .bind(job.backup_id.as_ref().map(BackupId::as_str))
        .bind(job.instance_id.as_ref().map(InstanceId::as_str))
        .bind(to_json(&job.input)?)
        .bind(to_micros(job.run_at))
        .bind(to_micros(job.created))
        .bind(to_json(&job.progress)?))
}

/// A statement whose first three parameters are the fence.
pub(crate) fn fenced_query<'q>(sql: &'static str, fence: &'q Fence) -> Query<'q, Any, AnyArguments> {
    query(sql).bind(fence.job_id.as_str()).bind(fence.epoch.value()).bind(fence.worker_id.as_str())
}

pub(crate) fn job_from_row(row: &AnyRow) -> Result<Job, Fault> {
    let attempts = row.integer("attempts")?;
    Ok(Job {
        id: JobId::from_stored(row.text("id")?),
        project_id: maybe_project_id(row, "project_id")?,
        kind: row.word("kind", JobKind::from_word)?,
        state: row.word("state", JobState::from_word)?,
        backup_id: row.maybe_text("backup_id")?.map(BackupId::from_stored),
        instance_id: row.maybe_text("instance_id")?.map(InstanceId::from_stored),
        input: row.json("input")?,
        result: row.maybe_json("result")?,
        epoch: LeaseEpoch::from_stored(row.integer("epoch")?),
        worker_id: row.maybe_text("worker_id")?.map(WorkerId::from_stored),
        lease_until: row.maybe_time("lease_until")?,
        attempts: u32::try_from(attempts).map_err(|_| damaged("attempts", &attempts.to_string()))?,
        run_at: row.time("run_at")?,
        created: row.time("created")?,
        started: row.maybe_time("started")?,
        finished: row.maybe_time("finished")?,
        progress: row.json("progress")?,
        cancel_asked: row.flag("cancel_asked")?,
        failure: row.maybe_json("failure")?,
    })
}

fn step_from_row(row: &AnyRow) -> Result<JobStep, Fault> {
    let attempt = row.integer("attempt")?;
    Ok(JobStep {
        attempt: u32::try_from(attempt).map_err(|_| damaged("attempt", &attempt.to_string()))?,
        name: row.text("name")?,
        at: row.time("at")?,
        output: row.json("output")?,
    })
}
