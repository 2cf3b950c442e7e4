//! Jobs as callers see them: with their steps, and with the progress of the moment when they run
//! here, of the last heartbeat when they run elsewhere.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;
use strongroom_catalog::{JobFilter, JobSlice, JobSliceFilter};
use strongroom_core::backup::Backup;
use strongroom_core::engine::{EngineKind, StopReason};
use strongroom_core::id::{InstanceId, JobId};
use strongroom_core::instance::Instance;
use strongroom_core::job::{Job, JobKind, JobState, JobStep};
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

/// Which part of a list by places is wanted. Ids are texts of any shape.
#[derive(Debug, Clone, Default)]
pub struct JobsWanted {
    pub id: Option<String>,
    pub instance: Option<String>,
    pub kind: Option<JobKind>,
    pub engine: Option<EngineKind>,
    pub states: Option<[JobState; 2]>,
    /// Inclusive bounds of the time of creation.
    pub created_from: Option<Timestamp>,
    pub created_until: Option<Timestamp>,
    pub offset: u64,
    pub limit: u32,
}

/// A job with what it is about, as far as that is still there.
#[derive(Debug, Clone)]
pub struct JobRow {
    pub detail: JobDetail,
    pub instance: Option<Instance>,
    pub backup: Option<Backup>,
}

/// A part of a list of jobs, and the length of the list.
#[derive(Debug, Clone, Default)]
pub struct JobRows {
    pub rows: Vec<JobRow>,
    pub total: u64,
}

impl Service {
    /// A part of the list of jobs by its place, newest first.
    pub async fn job_slice(&self, scope: &Scope, wanted: &JobsWanted) -> Result<JobRows> {
        scope.require(Action::Read)?;
        let instance = match &wanted.instance {
            None => None,
            Some(id) => match self.instance_known(scope, id).await {
                Ok(instance) => Some(instance.id),
                Err(error) if error.kind() == ErrorKind::InstanceNotFound => return Ok(JobRows::default()),
                Err(error) => return Err(error),
            },
        };
        let filter = JobSliceFilter {
            instance,
            kind: wanted.kind,
            engine: wanted.engine,
            states: wanted.states,
            created_from: wanted.created_from,
            created_until: wanted.created_until,
        };
        let slice = match &wanted.id {
            None => self.catalog().job_slice(scope.project(), &filter, wanted.offset, wanted.limit).await?,
            Some(id) => self.job_alone(scope, id, &filter, wanted.offset).await?,
        };
        let mut rows = Vec::with_capacity(slice.rows.len());
        let mut known: BTreeMap<InstanceId, Option<Instance>> = BTreeMap::new();
        for job in slice.rows {
            let instance = match &job.instance_id {
                None => None,
                Some(id) if known.contains_key(id) => known.get(id).cloned().flatten(),
                Some(id) => {
                    let found = self.catalog().instance_find_any(scope.project(), id.as_str()).await?;
                    known.insert(id.clone(), found.clone());
                    found
                }
            };
            let backup = match &job.backup_id {
                None => None,
                Some(id) => self.catalog().backup_find(scope.project(), id).await?,
            };
            rows.push(JobRow { detail: self.detail(job, Vec::new()), instance, backup });
        }
        Ok(JobRows { rows, total: slice.total })
    }

    /// The list of at most one job.
    async fn job_alone(
        &self,
        scope: &Scope,
        id: &str,
        filter: &JobSliceFilter,
        offset: u64,
    ) -> Result<JobSlice> {
        let found = match JobId::parse_lenient(id) {
            Ok(id) => self.catalog().job_find(scope.project(), &id).await?,
            Err(_) => None,
        };
        let engine = match (&found, filter.engine) {
            (Some(Job { instance_id: Some(id), .. }), Some(_)) => {
                self.catalog().instance_find_any(scope.project(), id.as_str()).await?.map(|one| one.engine)
            }
            _ => None,
        };
        let rows: Vec<Job> = found.into_iter().filter(|job| filter.admits(job, engine)).collect();
        let total = rows.len() as u64;
        Ok(JobSlice { rows: if offset == 0 { rows } else { Vec::new() }, total })
    }

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
        self.catalog().repository_job_find(id).await
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
