//! Sweeps: one at a time lives in a catalog, and after many deletions there is one.
//!
//! A deletion wishes for a sweep. While one waits, it is the one that was wished for. While one runs
//! it may have looked already, so another one follows it: the running one has a note of that, which
//! it takes away each time it begins to look.

use jiff::Timestamp;
use sqlx::{query, query_scalar};
use strongroom_core::id::JobId;
use strongroom_core::job::{Fence, Job, JobKind, JobState};
use strongroom_core::time::to_micros;
use strongroom_core::{Error, Result};

use super::{fenced_query, insert_if_free_in_tx, insert_in_tx, of_fence};
use crate::audit::AuditEvent;
use crate::fault::{Fault, fenced};
use crate::hints::tell_workers_in_tx;
use crate::row::{Columns, to_json};
use crate::transaction::{reading, writing};
use crate::{Catalog, Inner, Tx};

impl Catalog {
    /// Sees to it that a sweep begins after this: by a sweep that waits, or one that follows the one
    /// that runs, or else `job`. What was deleted must be durable in the repository before.
    pub async fn sweep_wish(&self, job: &Job) -> Result<()> {
        require_sweep(job)?;
        writing!(self, |tx| {
            let note = "UPDATE jobs SET follow_up_at =
                     CASE WHEN follow_up_at IS NULL OR follow_up_at > $1 THEN $1 ELSE follow_up_at END
                 WHERE kind = 'sweep' AND finished IS NULL";
            let noted = query(note).bind(to_micros(job.run_at)).execute(&mut **tx).await?;
            if noted.rows_affected() > 0 {
                return Ok(());
            }
            // One that came at the same moment has not looked yet.
            insert_if_free_in_tx(tx, &self.inner, job).await
        })
    }

    /// Stores a sweep that somebody asks for, and answers its id: that of one that waits, which then
    /// waits no longer and goes by what is asked now, or that of `job`. Refuses while one runs.
    pub async fn sweep_ask(&self, job: &Job, audit: &AuditEvent) -> Result<JobId> {
        require_sweep(job)?;
        writing!(self, |tx| {
            let hurry = "UPDATE jobs SET
                     run_at = $1, input = $2, attempts = 0, cancel_asked = 0, follow_up_at = NULL
                 WHERE kind = 'sweep' AND state = 'ready' RETURNING id";
            let waiting: Option<String> = query_scalar(hurry)
                .bind(to_micros(job.run_at))
                .bind(to_json(&job.input)?)
                .fetch_optional(&mut **tx)
                .await?;
            let id = if let Some(id) = waiting {
                tell_workers_in_tx(tx, &self.inner).await?;
                JobId::from_stored(id)
            } else {
                insert_in_tx(tx, &self.inner, job).await?;
                job.id.clone()
            };
            tx.note(audit)?;
            Ok(id)
        })
    }

    /// A sweep is about to look: whatever was deleted until now is its to sweep, and no longer a
    /// reason for another one.
    pub async fn sweep_begin(&self, fence: &Fence) -> Result<()> {
        writing!(self, |tx| {
            let update = concat!("UPDATE jobs SET follow_up_at = NULL", of_fence!());
            let begun = fenced_query(update, fence).execute(&mut **tx).await?;
            if begun.rows_affected() == 1 { Ok(()) } else { Err(fenced()) }
        })
    }
}

/// What is known of sweeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepStanding {
    /// When the newest one that came to its end did.
    pub last: Option<Timestamp>,
    /// The one that waits or runs, and since or from when.
    pub live: Option<(JobId, JobState, Timestamp)>,
}

impl Catalog {
    pub async fn sweep_standing(&self) -> Result<SweepStanding> {
        reading!(self, |tx| {
            let select = "SELECT id, state, COALESCE(started, run_at) AS due FROM jobs
                 WHERE kind = 'sweep' AND finished IS NULL";
            let live = query(select).fetch_optional(&mut **tx).await?;
            let live = live.map(|row| {
                let id = JobId::from_stored(row.text("id")?);
                Ok::<_, Fault>((id, row.word("state", JobState::from_word)?, row.time("due")?))
            });
            let last = "SELECT MAX(finished) AS finished FROM jobs
                 WHERE kind = 'sweep' AND state = 'succeeded'";
            let last = query(last).fetch_one(&mut **tx).await?.maybe_time("finished")?;
            Ok(SweepStanding { last, live: live.transpose()? })
        })
    }
}

fn require_sweep(job: &Job) -> Result<()> {
    if job.kind == JobKind::Sweep { Ok(()) } else { Err(Error::internal("this is for sweeps")) }
}

/// Stores the sweep that a sweep which has just ended is to be followed by.
pub(super) async fn follow_in_tx(
    tx: &mut Tx,
    inner: &Inner,
    due: Timestamp,
    now: Timestamp,
) -> Result<(), Fault> {
    let id = JobId::issue(inner.random.uuid(now));
    let job = Job { run_at: due, ..Job::ready(id, JobKind::Sweep, now) };
    insert_if_free_in_tx(tx, inner, &job).await
}
