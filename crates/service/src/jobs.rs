//! Jobs as callers see them: with their steps, and with live progress when they run here.

use serde_json::json;
use strongroom_catalog::JobFilter;
use strongroom_core::engine::StopReason;
use strongroom_core::id::JobId;
use strongroom_core::job::{Job, JobState, JobStep};
use strongroom_core::{Error, ErrorKind, Result};

use crate::identity::{Action, Scope};
use crate::parts::Service;

/// A job with all that is known about it.
#[derive(Debug, Clone)]
pub struct JobDetail {
    pub job: Job,
    pub steps: Vec<JobStep>,
    pub rate_bytes_per_s: u64,
    /// Seconds left, when the whole is known.
    pub eta_s: Option<u64>,
}

impl Service {
    pub async fn job_find(&self, scope: &Scope, id: &JobId) -> Result<JobDetail> {
        scope.require(Action::Read)?;
        let job = self
            .catalog()
            .job_find(scope.project(), id)
            .await?
            .ok_or_else(|| Error::new(ErrorKind::JobNotFound, "There is no such job."))?;
        let steps = self.catalog().job_steps(id).await?;
        Ok(self.detail(job, steps))
    }

    pub async fn job_list(
        &self,
        scope: &Scope,
        state: Option<JobState>,
        limit: u32,
    ) -> Result<Vec<JobDetail>> {
        scope.require(Action::Read)?;
        let filter = JobFilter { state, ..JobFilter::default() };
        let jobs = self.catalog().job_list(scope.project(), &filter, limit).await?;
        Ok(jobs.into_iter().map(|job| self.detail(job, Vec::new())).collect())
    }

    fn detail(&self, mut job: Job, steps: Vec<JobStep>) -> JobDetail {
        let (mut rate, mut eta_s) = (0, None);
        if let Some(live) = self.live_job(&job.id)
            && job.state == JobState::Leased
        {
            job.progress = live.progress.read();
            let elapsed_ms = live.since.elapsed().as_millis().max(1) as u64;
            rate = job.progress.done_bytes.saturating_mul(1000) / elapsed_ms;
            let left = job.progress.total_bytes.saturating_sub(job.progress.done_bytes);
            eta_s = (job.progress.total_bytes > 0 && rate > 0).then(|| left / rate);
        }
        JobDetail { job, steps, rate_bytes_per_s: rate, eta_s }
    }

    /// Asks for the end of a job. A running backup ends as FAILED, its attempt abandoned.
    pub async fn job_cancel(&self, scope: &Scope, id: &JobId) -> Result<()> {
        scope.require(Action::Operate)?;
        let audit = self.audit(scope, "job.cancel", id.as_str(), json!({}));
        let asked = self.catalog().job_cancel_ask(scope.project(), id, &audit, self.now()).await?;
        if !asked.ended {
            self.wake_worker();
        }
        if let Some(live) = self.live_job(id) {
            live.cancel.stop(StopReason::Cancelled);
        }
        Ok(())
    }
}
