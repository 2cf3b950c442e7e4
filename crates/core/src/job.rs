//! Durable work: jobs, leases, fences.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::backup::Failure;
use crate::id::{BackupId, InstanceId, JobId, ProjectId, WorkerId};
use crate::progress::ProgressReading;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    Backup,
    /// Forget one backup: tombstone, then the row goes.
    Delete,
    /// Check one backup at a level.
    Verify,
    /// Check the whole repository at a level.
    CheckRepository,
    /// Take away what no backup needs any more.
    Sweep,
    /// Say what a sweep would take away.
    PlanSweep,
}

impl JobKind {
    pub const ALL: [Self; 6] =
        [Self::Backup, Self::Delete, Self::Verify, Self::CheckRepository, Self::Sweep, Self::PlanSweep];

    pub const fn word(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Delete => "delete",
            Self::Verify => "verify",
            Self::CheckRepository => "check_repository",
            Self::Sweep => "sweep",
            Self::PlanSweep => "plan_sweep",
        }
    }

    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    Ready,
    Leased,
    Succeeded,
    Failed,
    Cancelled,
}

impl JobState {
    pub const ALL: [Self; 5] = [Self::Ready, Self::Leased, Self::Succeeded, Self::Failed, Self::Cancelled];

    pub const fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Leased => "leased",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }

    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// Grows with every claim of a job, never else. No arithmetic outside the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseEpoch(i64);

impl LeaseEpoch {
    pub const fn from_stored(epoch: i64) -> Self {
        Self(epoch)
    }

    pub const fn value(self) -> i64 {
        self.0
    }
}

/// Proof of a claim. Every update of a job-owned row carries it and must change exactly one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    pub job_id: JobId,
    pub epoch: LeaseEpoch,
    pub worker_id: WorkerId,
}

/// A job row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub id: JobId,
    /// `None` for work on the whole repository.
    pub project_id: Option<ProjectId>,
    pub kind: JobKind,
    pub state: JobState,
    pub backup_id: Option<BackupId>,
    pub instance_id: Option<InstanceId>,
    /// Parameters of the kind, a JSON object (for example `{"level":"decode"}`).
    pub input: serde_json::Value,
    /// What came of it, a JSON object, when it has ended well.
    pub result: Option<serde_json::Value>,
    pub epoch: LeaseEpoch,
    pub worker_id: Option<WorkerId>,
    pub lease_until: Option<Timestamp>,
    /// Tries that counted, 1 while the first runs.
    pub attempts: u32,
    pub run_at: Timestamp,
    pub created: Timestamp,
    pub started: Option<Timestamp>,
    pub finished: Option<Timestamp>,
    pub progress: ProgressReading,
    pub cancel_asked: bool,
    pub failure: Option<Failure>,
}

impl Job {
    /// A job that nobody has tried yet, due now, of no project and without any input.
    pub fn ready(id: JobId, kind: JobKind, now: Timestamp) -> Self {
        Self {
            id,
            project_id: None,
            kind,
            state: JobState::Ready,
            backup_id: None,
            instance_id: None,
            input: serde_json::json!({}),
            result: None,
            epoch: LeaseEpoch::from_stored(0),
            worker_id: None,
            lease_until: None,
            attempts: 0,
            run_at: now,
            created: now,
            started: None,
            finished: None,
            progress: ProgressReading::default(),
            cancel_asked: false,
            failure: None,
        }
    }
}

/// A recorded step of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStep {
    /// The try it belongs to.
    pub attempt: u32,
    /// `plan`, `open`, `stream`, `logs`, `prove`, `seal`, `publish` …
    pub name: String,
    pub at: Timestamp,
    /// What the step recorded, a JSON object.
    pub output: serde_json::Value,
}
