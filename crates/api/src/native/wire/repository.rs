//! The repository as a whole, and its sweeps.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RepositoryView {
    pub schema: u32,
    pub repository_id: String,
    /// `file:///…` without credentials
    pub location: String,
    pub format: u32,
    pub packs: u64,
    pub bytes: u64,
    pub backups: u64,
    /// All that were ever deleted
    pub forgotten_backups: u64,
    /// Those of them that no sweep has taken up yet
    pub pending_backups: u64,
    /// Bytes in packs that backups need
    pub live_bytes: u64,
    /// Packs that nobody needs any more: the next sweep removes them
    pub dead_packs: u64,
    pub dead_pack_bytes: u64,
    /// Packs that hold records nobody needs beside others, and the bytes of those records. A sweep
    /// writes a pack anew once enough of it is dead
    pub partly_dead_packs: u64,
    pub dead_record_bytes: u64,
    /// Bytes of backups that run, or whose end is not known yet
    pub unfinished_bytes: u64,
    /// What a sweep could give back at its tightest
    pub reclaimable_bytes: u64,
    /// Objects of the log archive, and their bytes
    #[serde(default)]
    pub log_objects: u64,
    #[serde(default)]
    pub log_bytes: u64,
    pub free_bytes: Option<u64>,
    /// When the newest sweep ended
    pub last_sweep: Option<String>,
    /// The sweep that waits or runs
    pub next_sweep: Option<NextSweepView>,
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct NextSweepView {
    pub job_id: String,
    /// `ready` or `leased`
    pub state: String,
    /// When it begins or began
    pub at: String,
}

/// `POST /repository/sweep`
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SweepRequest {
    /// Only say what would go, and why
    #[serde(default)]
    pub dry_run: bool,
    /// From which share of dead bytes on a pack is written anew, 1 to 100; 25 when absent
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold_percent: Option<u8>,
    /// First store backups anew whose changes stand on backups that were deleted, each upon the backup
    /// before it. Not with `dry_run`
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rebase: bool,
}
