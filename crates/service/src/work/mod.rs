//! Durable work: a worker claims jobs under a lease, keeps the lease while it works, and ends
//! every job it holds. Whatever happens to a worker, the catalog's lease and the repository's
//! verdict decide; a worker that lost its lease changes nothing.

mod captures;
mod context;
mod gate;
mod lease_keeper;
mod outcome;
mod worker;

pub(crate) use captures::CaptureContext;
pub(crate) use context::JobContext;
pub use gate::{StepEdge, StepGate};
pub use worker::Worker;
