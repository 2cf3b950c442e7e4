//! Jobs as callers see them: with their steps, and with the progress of the moment when they run
//! here, of the last heartbeat when they run elsewhere.

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
        let job = match self.catalog().job_find(scope.project(), id).await? {
            Some(job) => job,
            None => self
                .repository_job(scope, id)
                .await?
                .ok_or_else(|| Error::new(ErrorKind::JobNotFound, "There is no such job."))?,
        };
        let steps = self.catalog().job_steps(id).await?;
        Ok(self.detail(job, steps))
    }

    /// A job of the repository, which belongs to no project, for those who may see all of it.
    async fn repository_job(&self, scope: &Scope, id: &JobId) -> Result<Option<Job>> {
        if scope.require(Action::Govern).is_err() {
            return Ok(None);
        }
        Ok(self.catalog().job_by_id(id).await?.filter(|job| job.project_id.is_none()))
    }

    pub async fn job_list(
        &self,
        scope: &Scope,
        state: Option<JobState>,
        limit: u32,
    ) -> Result<Vec<JobDetail>> {
        scope.require(Action::Read)?;
        let filter = JobFilter { state, ..JobFilter::default() };
        let mut jobs = self.catalog().job_list(scope.project(), &filter, limit).await?;
        if scope.require(Action::Govern).is_ok() {
            jobs.extend(self.catalog().repository_job_list(&filter, limit).await?);
            jobs.sort_by(|one, other| (other.created, &other.id).cmp(&(one.created, &one.id)));
            jobs.truncate(limit as usize);
        }
        Ok(jobs.into_iter().map(|job| self.detail(job, Vec::new())).collect())
    }

    fn detail(&self, mut job: Job, steps: Vec<JobStep>) -> JobDetail {
        if job.state != JobState::Leased {
            return JobDetail { job, steps, rate_bytes_per_s: 0, eta_s: None };
        }
        // A job that runs elsewhere is as far as its last heartbeat said.
        if let Some(live) = self.live_job(&job.id)
            && live.epoch == job.epoch
        {
            job.progress = live.reading();
        }
        let (rate_bytes_per_s, eta_s) = (job.progress.rate_bytes_per_s(), job.progress.eta_s());
        JobDetail { job, steps, rate_bytes_per_s, eta_s }
    }

    /// Asks for the end of a job. A running backup ends as FAILED, its attempt abandoned. One that
    /// runs elsewhere hears it with its next heartbeat.
    pub async fn job_cancel(&self, scope: &Scope, id: &JobId) -> Result<()> {
        scope.require(Action::Operate)?;
        let audit = self.audit(scope, "job.cancel", id.as_str(), json!({}));
        let asked = match self.repository_job(scope, id).await? {
            Some(_) => self.catalog().repository_job_cancel_ask(id, &audit, self.now()).await?,
            None => self.catalog().job_cancel_ask(scope.project(), id, &audit, self.now()).await?,
        };
        if !asked.ended {
            self.wake_worker();
        }
        if let Some(live) = self.live_job(id) {
            live.cancel.stop(StopReason::Cancelled);
        }
        Ok(())
    }
}
