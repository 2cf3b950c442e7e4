//! Leases: who works on a job, until when, and how it goes back.
//!
//! A claim raises the job's epoch. Whoever holds an older epoch changes nothing any more, however
//! late it wakes up.

use jiff::Timestamp;
use sqlx::query;
use sqlx::query::Query;
use strongroom_core::Result;
use strongroom_core::backup::Failure;
use strongroom_core::id::WorkerId;
use strongroom_core::job::{Fence, Job, JobKind, JobStep};
use strongroom_core::progress::ProgressReading;
use strongroom_core::time::to_micros;

use super::{fenced_query, job_columns, job_from_row, of_fence};
use crate::dialect::{Spelled, skipping_locked};
use crate::fault::{Fault, fenced};
use crate::hints::tell_workers_in_tx;
use crate::row::{Columns, to_json};
use crate::transaction::writing_work;
use crate::{Catalog, Tx};

/// A job that is now this worker's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub job: Job,
    pub fence: Fence,
    /// The job was found with an expired lease: another worker may have left something behind.
    pub taken_over: bool,
}

/// The answer to a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal {
    /// Somebody wants the job to end.
    pub cancel_asked: bool,
}

/// The oldest job that may be taken, be it ready or left behind. In `SET` the old values count,
/// so `state` still tells what was found.
const CLAIM: Spelled = skipping_locked!(
    "UPDATE jobs SET
         state = 'leased', epoch = epoch + 1, attempts = attempts + 1,
         worker_id = $1, lease_until = $2, started = COALESCE(started, $3),
         taken_over = CASE WHEN state = 'leased' THEN 1 ELSE 0 END,
         leases_lost = leases_lost + CASE WHEN state = 'leased' THEN 1 ELSE 0 END
     WHERE id = (
         SELECT id FROM jobs
         WHERE finished IS NULL AND COALESCE(lease_until, run_at) <= $3 AND kind IN ($4, $5, $6, $7, $8, $9)
         ORDER BY COALESCE(lease_until, run_at), id LIMIT 1",
    concat!(") RETURNING ", job_columns!())
);

impl Catalog {
    /// Claims the oldest job of these kinds that is ready at `now` or whose lease has run out.
    pub async fn job_claim(
        &self,
        worker: &WorkerId,
        kinds: &[JobKind],
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Option<Claim>> {
        // One parameter a kind, so that the statement stays one text; no kind is called ''.
        let wanted = JobKind::ALL.map(|kind| if kinds.contains(&kind) { kind.word() } else { "" });
        writing_work!(self, |tx| {
            let claim = query(self.inner.dialect.spell(CLAIM))
                .bind(worker.as_str())
                .bind(to_micros(lease_until))
                .bind(to_micros(now));
            let claim = wanted.into_iter().fold(claim, Query::bind);
            let claimed = claim.fetch_optional(&mut **tx).await?;
            let Some(row) = claimed else { return Ok(None) };
            let job = job_from_row(&row)?;
            let fence = Fence { job_id: job.id.clone(), epoch: job.epoch, worker_id: worker.clone() };
            Ok(Some(Claim { job, fence, taken_over: row.flag("taken_over")? }))
        })
    }

    /// Ends the leases of all jobs and captures at `now` and answers how many there were. Right only in a
    /// process that has just begun and knows that no other one works on this catalog: who held them is
    /// gone, and waiting for their ends would help nobody.
    pub async fn leases_end(&self, now: Timestamp) -> Result<u64> {
        writing_work!(self, |tx| {
            let mut ended = 0;
            for update in [
                "UPDATE jobs SET lease_until = $1 WHERE finished IS NULL AND lease_until > $1",
                "UPDATE log_captures SET lease_until = $1 WHERE lease_until > $1",
            ] {
                ended += query(update).bind(to_micros(now)).execute(&mut **tx).await?.rows_affected();
            }
            Ok(ended)
        })
    }

    /// Keeps the job for longer and stores how far it is.
    pub async fn job_renew(
        &self,
        fence: &Fence,
        lease_until: Timestamp,
        progress: &ProgressReading,
    ) -> Result<Renewal> {
        writing_work!(self, |tx| {
            let update = concat!(
                "UPDATE jobs SET lease_until = $4, progress = $5",
                of_fence!(),
                " RETURNING cancel_asked"
            );
            let renewed = fenced_query(update, fence)
                .bind(to_micros(lease_until))
                .bind(to_json(progress)?)
                .fetch_optional(&mut **tx)
                .await?
                .ok_or_else(fenced)?;
            Ok(Renewal { cancel_asked: renewed.flag("cancel_asked")? })
        })
    }

    /// Records what a step did. The same step of the same claim again replaces its record.
    pub async fn job_step_record(&self, fence: &Fence, step: &JobStep) -> Result<()> {
        writing_work!(self, |tx| {
            hold_in_tx(tx, fence).await?;
            query(
                "INSERT INTO job_steps (job_id, ordinal, epoch, attempt, name, at, output)
                 SELECT $1, COALESCE(MAX(ordinal), 0) + 1, $2, $3, $4, $5, $6
                 FROM job_steps WHERE job_id = $1
                 ON CONFLICT (job_id, epoch, name) DO UPDATE SET at = excluded.at, output = excluded.output",
            )
            .bind(fence.job_id.as_str())
            .bind(fence.epoch.value())
            .bind(i64::from(step.attempt))
            .bind(step.name.as_str())
            .bind(to_micros(step.at))
            .bind(to_json(&step.output)?)
            .execute(&mut **tx)
            .await?;
            Ok(())
        })
    }

    /// Gives the job back after a failure, to be tried again at `run_at`. A try that is not
    /// `counted` does not bring the job closer to its last one.
    pub async fn job_retry(
        &self,
        fence: &Fence,
        run_at: Timestamp,
        failure: &Failure,
        counted: bool,
    ) -> Result<()> {
        writing_work!(self, |tx| retry_in_tx(tx, fence, run_at, Some(failure), counted).await)
    }

    /// Gives the job back because the worker stops: ready at once, the try not counted.
    pub async fn job_release(&self, fence: &Fence, now: Timestamp) -> Result<()> {
        writing_work!(self, |tx| {
            retry_in_tx(tx, fence, now, None, false).await?;
            tell_workers_in_tx(tx, &self.inner).await
        })
    }
}

/// Proves the claim and locks the job's row until the transaction ends.
async fn hold_in_tx(tx: &mut Tx, fence: &Fence) -> Result<(), Fault> {
    let update = concat!("UPDATE jobs SET epoch = epoch", of_fence!());
    let held = fenced_query(update, fence).execute(&mut **tx).await?;
    if held.rows_affected() == 1 { Ok(()) } else { Err(fenced()) }
}

/// Leased → ready. A job somebody wants to end stays marked, and its next claim sees that.
pub(super) async fn retry_in_tx(
    tx: &mut Tx,
    fence: &Fence,
    run_at: Timestamp,
    failure: Option<&Failure>,
    counted: bool,
) -> Result<(), Fault> {
    let update = concat!(
        "UPDATE jobs SET
             state = 'ready', worker_id = NULL, lease_until = NULL, taken_over = 0,
             run_at = $4, failure = COALESCE($5, failure), attempts = attempts - $6",
        of_fence!()
    );
    let changed = fenced_query(update, fence)
        .bind(to_micros(run_at))
        .bind(failure.map(to_json).transpose()?)
        .bind(i64::from(!counted))
        .execute(&mut **tx)
        .await?;
    if changed.rows_affected() == 1 { Ok(()) } else { Err(fenced()) }
}

#[cfg(test)]
mod tests {
    use super::CLAIM;
    use crate::dialect::{Dialect, query_plan};

    /// With 100,000 jobs due at one moment a claim must not sort them.
    #[tokio::test]
    async fn t04_a_claim_walks_the_index_of_due_jobs() {
        let (pool, _) = Dialect::Sqlite.connect("sqlite::memory:").await.unwrap();
        crate::migration::run(&pool).await.unwrap();
        let plan = query_plan(&pool, CLAIM.sqlite, 9).await;
        assert!(plan.iter().any(|line| line.contains("jobs USING INDEX job_due (<expr><?)")), "{plan:#?}");
        assert!(!plan.iter().any(|line| line.contains("TEMP B-TREE")), "{plan:#?}");
    }
}
