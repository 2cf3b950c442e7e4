//! The seam around each step of a procedure, where a test kills, freezes or fails a worker.

use strongroom_core::Result;

/// On which side of a step the worker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepEdge {
    /// Nothing of the step has happened.
    Before,
    /// All of it has happened, and nothing after it.
    After,
}

/// Asked on both sides of every step of a job.
pub trait StepGate: Send + Sync {
    /// An error ends the procedure here, as if the step had failed.
    fn pass(&self, step: &'static str, edge: StepEdge) -> Result<()>;
}

/// The gate of every worker that is not under test.
pub(super) struct Open;

impl StepGate for Open {
    fn pass(&self, _step: &'static str, _edge: StepEdge) -> Result<()> {
        Ok(())
    }
}
