//! What a procedure works with. Procedures block; they reach the catalog through here.

use std::sync::Arc;

use serde_json::Value;
use strongroom_catalog::{AuditEvent, Catalog};
use strongroom_core::Result;
use strongroom_core::engine::CancelToken;
use strongroom_core::job::{Fence, Job, JobStep};
use strongroom_core::progress::Progress;
use tokio::runtime::Handle;

use super::{StepEdge, StepGate};
use crate::parts::Service;

/// One claimed job.
pub(crate) struct JobContext {
    pub(crate) service: Service,
    pub(crate) job: Job,
    pub(crate) fence: Fence,
    pub(crate) cancel: CancelToken,
    pub(crate) progress: Arc<Progress>,
    pub(crate) runtime: Handle,
    pub(crate) gate: Arc<dyn StepGate>,
}

impl JobContext {
    /// Runs one catalog call to its end.
    pub(crate) fn catalog<T, F: Future<Output = Result<T>>>(
        &self,
        call: impl FnOnce(Catalog) -> F,
    ) -> Result<T> {
        self.runtime.block_on(call(self.service.catalog().clone()))
    }

    /// Does one step of a procedure, past the gate on both of its sides.
    pub(crate) fn step<T>(&self, name: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.gate.pass(name, StepEdge::Before)?;
        let done = work()?;
        self.gate.pass(name, StepEdge::After)?;
        Ok(done)
    }

    /// Records a step under the fence, unless somebody wants the job to stop: also the proof that
    /// the lease is still ours.
    pub(crate) fn record(&self, name: &str, output: Value) -> Result<()> {
        self.cancel.check()?;
        self.note(name, output)
    }

    /// As [`JobContext::record`] for what has happened already and cannot be stopped any more.
    pub(crate) fn note(&self, name: &str, output: Value) -> Result<()> {
        let step = JobStep {
            attempt: self.job.attempts,
            name: name.to_owned(),
            at: self.service.clock_reading(),
            output,
        };
        tracing::info!(job.id = %self.job.id, job.step = name, lease.epoch = self.fence.epoch.value(), "Step recorded.");
        self.catalog(|catalog| async move { catalog.job_step_record(&self.fence, &step).await })
    }

    pub(crate) fn audit(&self, action: &'static str, object: &str, detail: Value) -> AuditEvent {
        AuditEvent {
            at: self.service.clock_reading(),
            project_id: self.job.project_id.clone(),
            actor: format!("worker {}", self.fence.worker_id),
            action,
            object: object.to_owned(),
            request_id: None,
            detail,
        }
    }
}
