//! Writes one attempt: members come in on the engine's threads, records go out in file order.
//!
//! ```text
//! member writers ─ chunks ─► k workers (id, compare, delta or zstd) ─► packer (order, seal, packs)
//!        ▲                                                                │
//!        └──────────────── empty buffers, a fixed number ◄────────────────┘
//! ```
//!
//! The number of buffers bounds the memory of the whole pipeline, whatever the size of the
//! database; a writer that finds none waits.
//!
//! Files that are overwritten while they are read go through it twice: what is read first is stored
//! and its leaves wait on local disk, beside what comes over it; `settle` then sends the touched
//! chunks through once more. Records that nothing refers to then are in no roster: dead from birth.

mod attempt;
mod decide;
mod leaves;
mod member;
mod overwriting;
mod packer;
mod page_spool;
mod parent;
mod patch;
mod pipeline;
mod rebase;
mod settle;
mod spool;
mod work_file;

pub use attempt::{Attempt, Proven, SealOutcome};
pub use parent::{Distrust, Distrusted, ParentReader};
pub(crate) use pipeline::KnownTrees;
pub(crate) use rebase::is_due;

use serde::{Deserialize, Serialize};

use crate::record;

/// How an attempt works. The defaults suit a local store on a small machine.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// zstd level of full records.
    pub full_level: i32,
    /// Threads that compress.
    pub threads: usize,
    /// Chunks on their way at once (128 KiB each, twice).
    pub chunks_in_flight: usize,
    /// Decode one new record in so many before its pack is stored.
    pub verify_every: u64,
}

impl Default for WriterOptions {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(1, 8);
        Self {
            full_level: record::FULL_LEVEL,
            threads,
            chunks_in_flight: 64 + 16 * threads,
            verify_every: 64,
        }
    }
}

/// What an attempt did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub members: u64,
    pub source_bytes: u64,
    pub stored_bytes: u64,
    pub packs: u64,
    pub chunks_equal: u64,
    pub chunks_delta: u64,
    pub chunks_full: u64,
    pub chunks_fill: u64,
}
