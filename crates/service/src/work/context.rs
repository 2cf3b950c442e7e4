//! What a procedure works with. Procedures block; they reach the catalog through here.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use strongroom_catalog::{AuditEvent, Catalog};
use strongroom_core::engine::CancelToken;
use strongroom_core::job::{Fence, Job, JobStep};
use strongroom_core::progress::Progress;
use strongroom_core::{ErrorKind, Result};
use tokio::runtime::Handle;

use super::{StepEdge, StepGate};
use crate::parts::Service;

/// Between two calls of a catalog that does not answer.
const CATALOG_PAUSE: Duration = Duration::from_millis(500);

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
    /// Runs one catalog call to its end. A catalog that is away is waited for as long as the lease
    /// stands: the keeper ends the wait before the lease does. A call may therefore be made twice
    /// although the first one was answered by nothing but silence; under the fence the second one
    /// then changes nothing, or the same.
    pub(crate) fn catalog<T, F: Future<Output = Result<T>>>(&self, call: impl Fn(Catalog) -> F) -> Result<T> {
        let catalog = self.service.catalog();
        loop {
            match self.runtime.block_on(call(catalog.clone())) {
                Err(error)
                    if error.kind() == ErrorKind::Unavailable
                        && self.cancel.reason().is_none()
                        && !catalog.is_closed() =>
                {
                    tracing::warn!(job.id = %self.job.id, "The catalog is away, the job waits: {}", error.chain());
                    self.runtime.block_on(tokio::time::sleep(CATALOG_PAUSE));
                }
                answered => return answered,
            }
        }
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
        let step = &step;
        self.catalog(|catalog| async move { catalog.job_step_record(&self.fence, step).await })
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
