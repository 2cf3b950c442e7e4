//! The repository: stored formats and object storage.
//!
//! Owns every object key and every stored byte; `docs/formats/repository.md` describes them. Must
//! never know a database engine, the catalog or the network API: it takes members (paths and
//! bytes), gives them back, and says what is damaged.
//!
//! ```text
//! let repository = Repository::open(store, &recovery_key, clock, random)?;
//! let lineage = repository.lineage(&project, &lineage_id)?;
//! let attempt = lineage.begin(start)?;      // an engine writes members into it
//! attempt.prove()?.seal(&facts, &record)?;  // the verdict is the one commit point
//! ```

mod aead;
mod binary;
mod chains;
mod check;
mod frame;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod generations;
mod keys;
mod layout;
mod lineage;
mod logs;
mod marks;
mod pack;
mod reader;
mod rebase;
mod record;
mod repository;
mod roster;
mod stat;
mod store;
mod sweep;
mod tree;
mod verdict;
mod writer;

pub use chains::BaseCost;
pub use check::{CheckReport, Finding};
pub use keys::RecoveryKey;
pub use lineage::{AttemptStart, Begun, Lineage};
pub use logs::{HeldStream, LogWriter};
pub use reader::{
    BackupReader, ChunkShape, Frame, FrameBody, Lost, LostPage, MemberEntry, Shape, ShapedChunk,
};
pub use rebase::{Owner, RebaseOrder, RebaseReport, RebaseTry, Stands};
pub use repository::Repository;
pub use stat::RepositoryStat;
pub use store::{Listed, LocalStore, MemoryStore, Put, PutStream, Store};
pub use sweep::{Doubt, Reasons, Share, SweepOptions, SweepReport};
pub use verdict::{CatalogRecord, SealedSummary, Totals, Verdict};
pub use writer::{Attempt, Counters, Distrust, Distrusted, ParentReader, Proven, SealOutcome, WriterOptions};

/// The format number in every object.
pub const FORMAT: u16 = 1;
/// log2 of the chunk size in bytes: 128 KiB. A constant of the repository's format.
pub const CHUNK_LOG2: u32 = 17;
/// Bytes of a full chunk.
pub const CHUNK_SIZE_BYTES: usize = 1 << CHUNK_LOG2;
/// Consecutive chunks of one member that share a segment (128 MiB).
pub const SEGMENT_CHUNKS: usize = 1024;
/// Bytes of a member that one full segment covers.
pub const SEGMENT_SIZE_BYTES: u64 = (CHUNK_SIZE_BYTES * SEGMENT_CHUNKS) as u64;
