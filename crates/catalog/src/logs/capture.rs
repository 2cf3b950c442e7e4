//! Who captures: claims, leases and ends, by the rules of jobs.

use jiff::Timestamp;
use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, query, query_scalar};
use strongroom_core::Result;
use strongroom_core::backup::{Backup, BackupState, Failure};
use strongroom_core::id::{InstanceId, JobId, ProjectId, WorkerId};
use strongroom_core::job::{Fence, Job, LeaseEpoch};
use strongroom_core::time::to_micros;

use crate::audit::AuditEvent;
use crate::backup::{admit_in_tx, check_admission};
use crate::dialect::{Spelled, skipping_locked};
use crate::fault::{Fault, fenced};
use crate::identity::project_id;
use crate::instance::require_live_in_tx;
use crate::row::{Columns, to_integer, to_json};
use crate::transaction::writing;
use crate::{Catalog, Renewal, Tx};

/// A capture that is now this worker's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogClaim {
    pub fence: Fence,
    pub project_id: ProjectId,
    pub instance_id: InstanceId,
    /// Tries in a row that failed.
    pub failures: u32,
    /// It was switched off: only what it keeps at the source is to be taken away.
    pub is_ending: bool,
}

/// Who may change a leased capture. Takes $1, $2 and $3.
macro_rules! of_claim {
    () => {
        " WHERE job_id = $1 AND epoch = $2 AND worker_id = $3"
    };
}
pub(super) use of_claim;

const CLAIM: Spelled = skipping_locked!(
    "UPDATE log_captures SET
         epoch = epoch + 1, worker_id = $1, lease_until = $2,
         leases_lost = leases_lost + CASE WHEN worker_id IS NULL THEN 0 ELSE 1 END
     WHERE instance_id = (
         SELECT instance_id FROM log_captures WHERE COALESCE(lease_until, run_at) <= $3
         ORDER BY COALESCE(lease_until, run_at), instance_id LIMIT 1",
    ") RETURNING job_id, epoch, project_id, instance_id, failures, ending"
);

pub(super) fn claimed<'q>(sql: &'static str, fence: &'q Fence) -> Query<'q, Any, AnyArguments> {
    query(sql).bind(fence.job_id.as_str()).bind(fence.epoch.value()).bind(fence.worker_id.as_str())
}

/// Changes the row of a claim that stands; locks it.
pub(super) async fn changed(tx: &mut Tx, change: Query<'_, Any, AnyArguments>) -> Result<(), Fault> {
    let rows = change.execute(&mut **tx).await?.rows_affected();
    if rows == 1 { Ok(()) } else { Err(fenced()) }
}

impl Catalog {
    /// Claims the capture that waits longest, or whose lease has run out.
    pub async fn log_claim(
        &self,
        worker: &WorkerId,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Option<LogClaim>> {
        writing!(self, |tx| {
            let claim = query(self.inner.dialect.spell(CLAIM))
                .bind(worker.as_str())
                .bind(to_micros(lease_until))
                .bind(to_micros(now));
            let Some(row) = claim.fetch_optional(&mut **tx).await? else { return Ok(None) };
            let fence = Fence {
                job_id: JobId::from_stored(row.text("job_id")?),
                epoch: LeaseEpoch::from_stored(row.integer("epoch")?),
                worker_id: worker.clone(),
            };
            Ok(Some(LogClaim {
                fence,
                project_id: project_id(&row, "project_id")?,
                instance_id: InstanceId::from_stored(row.text("instance_id")?),
                failures: u32::try_from(row.unsigned("failures")?).unwrap_or(u32::MAX),
                is_ending: row.maybe_integer("ending")?.is_some(),
            }))
        })
    }

    /// Keeps the capture for longer; answers whether somebody switched it off.
    pub async fn log_renew(
        &self,
        fence: &Fence,
        lease_until: Timestamp,
        retained_bytes: Option<u64>,
    ) -> Result<Renewal> {
        writing!(self, |tx| {
            let update = concat!(
                "UPDATE log_captures SET lease_until = $4, retained_bytes = COALESCE($5, retained_bytes)",
                of_claim!(),
                " RETURNING ending"
            );
            let row = claimed(update, fence)
                .bind(to_micros(lease_until))
                .bind(retained_bytes.map(to_integer).transpose()?)
                .fetch_optional(&mut **tx)
                .await?
                .ok_or_else(fenced)?;
            Ok(Renewal { cancel_asked: row.maybe_integer("ending")?.is_some() })
        })
    }

    /// Gives the capture back, to be taken again from this time on; with a failure, as one that failed
    /// once more.
    pub async fn log_release(
        &self,
        fence: &Fence,
        run_at: Timestamp,
        failure: Option<&Failure>,
    ) -> Result<()> {
        writing!(self, |tx| {
            let update = concat!(
                "UPDATE log_captures SET worker_id = NULL, lease_until = NULL, run_at = $4,
                     failures = failures + CASE WHEN $5 IS NULL THEN 0 ELSE 1 END, failure = COALESCE($5, failure)",
                of_claim!()
            );
            let release =
                claimed(update, fence).bind(to_micros(run_at)).bind(failure.map(to_json).transpose()?);
            changed(tx, release).await
        })
    }

    /// Ends a capture that was switched off, after nothing of it is left at the source.
    pub async fn log_end(&self, fence: &Fence, audit: &AuditEvent) -> Result<()> {
        writing!(self, |tx| {
            let delete = concat!("DELETE FROM log_captures", of_claim!(), " AND ending IS NOT NULL");
            changed(tx, claimed(delete, fence)).await?;
            tx.note(audit)
        })
    }

    /// The source was let go, because it kept too much log.
    pub async fn log_given_up(&self, fence: &Fence, audit: &AuditEvent) -> Result<()> {
        writing!(self, |tx| {
            let update = concat!("UPDATE log_captures SET retained_bytes = 0", of_claim!());
            changed(tx, claimed(update, fence)).await?;
            tx.note(audit)
        })
    }

    /// Begins a backup for the log that is captured, because none leads to it: unless one is being made,
    /// or one was begun for it after `not_since`. Answers whether it was begun.
    pub async fn log_base_admit(
        &self,
        fence: &Fence,
        backup: &Backup,
        job: &Job,
        not_since: Timestamp,
        audit: &AuditEvent,
    ) -> Result<bool> {
        check_admission(backup, job)?;
        writing!(self, |tx| {
            require_live_in_tx(tx, &self.inner, &backup.project_id, &backup.instance_id).await?;
            let select = "SELECT COUNT(*) FROM backups WHERE instance_id = $1 AND state = $2";
            let building: i64 = query_scalar(select)
                .bind(backup.instance_id.as_str())
                .bind(BackupState::Building.word())
                .fetch_one(&mut **tx)
                .await?;
            if building > 0 {
                return Ok(false);
            }
            let update = concat!(
                "UPDATE log_captures SET base_begun = $4",
                of_claim!(),
                " AND is_based = 0 AND (base_begun IS NULL OR base_begun <= $5)"
            );
            let begun = claimed(update, fence).bind(to_micros(job.created)).bind(to_micros(not_since));
            if begun.execute(&mut **tx).await?.rows_affected() == 0 {
                return Ok(false);
            }
            admit_in_tx(tx, &self.inner, backup, job, audit).await?;
            Ok(true)
        })
    }
}
