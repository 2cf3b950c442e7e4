//! How jobs end: succeeded, failed, cancelled — always together with what they were for.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use sqlx::{query, query_scalar};
use strongroom_core::backup::Failure;
use strongroom_core::id::{BackupId, JobId, ProjectId};
use strongroom_core::job::{Fence, JobKind, JobState};
use strongroom_core::time::to_micros;
use strongroom_core::{Error, ErrorKind, Result};

use super::lease::retry_in_tx;
use super::sweep::follow_in_tx;
use super::{fenced_query, job_columns, job_from_row, of_fence};
use crate::audit::AuditEvent;
use crate::backup::fail_in_tx;
use crate::dialect::{Spelled, select_for_update};
use crate::fault::{Fault, damaged, fenced};
use crate::hints::tell_workers_in_tx;
use crate::row::{Columns, to_json};
use crate::transaction::writing;
use crate::{Catalog, Inner, Tx};

/// A delete that failed is tried again after this time, for as long as it takes: what was asked
/// to go must go.
const DELETE_RETRY_DELAY: SignedDuration = SignedDuration::from_secs(60);

/// The answer to a wish to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CancelAsked {
    /// The job has ended; else its worker was asked to stop.
    pub ended: bool,
}

/// A job that has just ended.
pub(crate) struct Ended {
    pub(crate) kind: JobKind,
    pub(crate) backup_id: Option<BackupId>,
    /// When a sweep is to be followed by another one.
    follow_up_at: Option<Timestamp>,
}

const LOCK: Spelled =
    select_for_update!("SELECT ", job_columns!(), " FROM jobs WHERE id = $1 AND project_id = $2");
const LOCK_OF_NONE: Spelled =
    select_for_update!("SELECT ", job_columns!(), " FROM jobs WHERE id = $1 AND project_id IS NULL");
const LOCK_HELD: Spelled = select_for_update!("SELECT kind FROM jobs", of_fence!());

impl Catalog {
    /// Ends a job that has only a result, such as a check of the repository. Backups, deletes and
    /// verifications end with [`Catalog::backup_publish`], [`Catalog::backup_remove`] and
    /// [`Catalog::verification_record`].
    pub async fn job_succeed(
        &self,
        fence: &Fence,
        result: &Value,
        now: Timestamp,
        audit: &AuditEvent,
    ) -> Result<()> {
        writing!(self, |tx| {
            let ended = end_in_tx(tx, fence, JobState::Succeeded, Some(result), None, now).await?;
            if matches!(ended.kind, JobKind::Backup | JobKind::Delete) {
                return Err(Error::internal("backups and deletes succeed together with their backup").into());
            }
            follow_up_in_tx(tx, &self.inner, &ended, now).await?;
            tx.note(audit)
        })
    }

    /// Ends a job for good as `Failed` or `Cancelled`, and its backup as FAILED. A delete does not
    /// end so: its backup stays DELETING and the job is tried again later.
    pub async fn job_fail(
        &self,
        fence: &Fence,
        failure: &Failure,
        state: JobState,
        now: Timestamp,
        audit: &AuditEvent,
    ) -> Result<()> {
        if !matches!(state, JobState::Failed | JobState::Cancelled) {
            return Err(Error::internal("a job fails or is cancelled"));
        }
        writing!(self, |tx| {
            if held_kind_in_tx(tx, &self.inner, fence).await? == JobKind::Delete {
                let run_at = now.saturating_add(DELETE_RETRY_DELAY).map_err(Error::internal)?;
                retry_in_tx(tx, fence, run_at, Some(failure), true).await?;
                return tx.note(audit);
            }
            let ended = end_in_tx(tx, fence, state, None, Some(failure), now).await?;
            if let (JobKind::Backup, Some(backup)) = (ended.kind, &ended.backup_id) {
                fail_in_tx(tx, backup, &fence.job_id, failure, now).await?;
            }
            follow_up_in_tx(tx, &self.inner, &ended, now).await?;
            tx.note(audit)
        })
    }

    /// Asks for the end of a job: a ready one ends at once, together with its backup; a leased
    /// one is marked for its worker; an ended one stays as it is. A backup or a sweep that was tried
    /// before is marked and due at once: an earlier try may have sealed an attempt, which only a worker
    /// can tell.
    pub async fn job_cancel_ask(
        &self,
        project: &ProjectId,
        id: &JobId,
        audit: &AuditEvent,
        now: Timestamp,
    ) -> Result<CancelAsked> {
        self.cancel_ask(Some(project), id, audit, now).await
    }

    /// As [`Catalog::job_cancel_ask`], of a job that belongs to no project.
    pub async fn repository_job_cancel_ask(
        &self,
        id: &JobId,
        audit: &AuditEvent,
        now: Timestamp,
    ) -> Result<CancelAsked> {
        self.cancel_ask(None, id, audit, now).await
    }

    async fn cancel_ask(
        &self,
        project: Option<&ProjectId>,
        id: &JobId,
        audit: &AuditEvent,
        now: Timestamp,
    ) -> Result<CancelAsked> {
        writing!(self, |tx| {
            let dialect = self.inner.dialect;
            let lock = match project {
                Some(project) => query(dialect.spell(LOCK)).bind(id.as_str()).bind(project.as_str()),
                None => query(dialect.spell(LOCK_OF_NONE)).bind(id.as_str()),
            };
            let row = lock.fetch_optional(&mut **tx).await?;
            let job = job_from_row(&row.ok_or_else(not_found)?)?;
            if job.state.is_terminal() {
                return Ok(CancelAsked { ended: true });
            }
            if job.kind == JobKind::Delete {
                return Err(Error::new(
                    ErrorKind::NotSupported,
                    "A delete cannot be cancelled; the backup will be removed.",
                )
                .into());
            }
            let may_leave = matches!(job.kind, JobKind::Backup | JobKind::Sweep);
            let was_tried = may_leave && job.epoch.value() > 0;
            let ended = job.state == JobState::Ready && !was_tried;
            if ended {
                cancel_ready_in_tx(tx, id, now).await?;
                if let (JobKind::Backup, Some(backup)) = (job.kind, &job.backup_id) {
                    fail_in_tx(tx, backup, id, &cancelled(), now).await?;
                }
            } else {
                let mark =
                    "UPDATE jobs SET cancel_asked = 1, run_at = CASE WHEN run_at > $2 THEN $2 ELSE run_at END
                            WHERE id = $1";
                query(mark).bind(id.as_str()).bind(to_micros(now)).execute(&mut **tx).await?;
                tell_workers_in_tx(tx, &self.inner).await?;
            }
            tx.note(audit)?;
            Ok(CancelAsked { ended })
        })
    }
}

fn not_found() -> Error {
    Error::new(ErrorKind::JobNotFound, "There is no such job in the project.")
}

fn cancelled() -> Failure {
    Failure {
        code: "cancelled".to_owned(),
        message: "The job was cancelled before it ran; nothing was read from the source.".to_owned(),
        hint: None,
    }
}

/// Leased → ended, under the fence.
pub(crate) async fn end_in_tx(
    tx: &mut Tx,
    fence: &Fence,
    state: JobState,
    result: Option<&Value>,
    failure: Option<&Failure>,
    now: Timestamp,
) -> Result<Ended, Fault> {
    let update = concat!(
        "UPDATE jobs SET
             state = $4, worker_id = NULL, lease_until = NULL, finished = $5, result = $6, failure = $7",
        of_fence!(),
        " RETURNING kind, backup_id, follow_up_at"
    );
    let row = fenced_query(update, fence)
        .bind(state.word())
        .bind(to_micros(now))
        .bind(result.map(to_json).transpose()?)
        .bind(failure.map(to_json).transpose()?)
        .fetch_optional(&mut **tx)
        .await?
        .ok_or_else(fenced)?;
    Ok(Ended {
        kind: row.word("kind", JobKind::from_word)?,
        backup_id: row.maybe_text("backup_id")?.map(BackupId::from_stored),
        follow_up_at: row.maybe_time("follow_up_at")?,
    })
}

async fn follow_up_in_tx(tx: &mut Tx, inner: &Inner, ended: &Ended, now: Timestamp) -> Result<(), Fault> {
    match ended.follow_up_at {
        Some(due) => follow_in_tx(tx, inner, due, now).await,
        None => Ok(()),
    }
}

/// The kind of a job this fence still holds; locks it.
async fn held_kind_in_tx(tx: &mut Tx, inner: &Inner, fence: &Fence) -> Result<JobKind, Fault> {
    let word: Option<String> = query_scalar(inner.dialect.spell(LOCK_HELD))
        .bind(fence.job_id.as_str())
        .bind(fence.epoch.value())
        .bind(fence.worker_id.as_str())
        .fetch_optional(&mut **tx)
        .await?;
    let word = word.ok_or_else(fenced)?;
    JobKind::from_word(&word).ok_or_else(|| damaged("kind", &word))
}

/// Ready → cancelled; the caller holds the row's lock.
async fn cancel_ready_in_tx(tx: &mut Tx, id: &JobId, now: Timestamp) -> Result<(), Fault> {
    query(
        "UPDATE jobs SET state = 'cancelled', cancel_asked = 1, finished = $2, failure = $3
         WHERE id = $1 AND state = 'ready'",
    )
    .bind(id.as_str())
    .bind(to_micros(now))
    .bind(to_json(&cancelled())?)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
