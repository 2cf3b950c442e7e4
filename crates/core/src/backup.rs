//! Backups and their states: BUILDING → COMPLETED | FAILED → DELETING → gone.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::EngineKind;
use crate::id::{AttemptId, BackupId, InstanceId, JobId, LineageId, NodeId, ProjectId};
use crate::size::ByteSize;
use crate::text::{BackupName, Description};
use crate::verification::Verification;
use crate::{Error, ErrorKind, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackupState {
    Building,
    /// Sealed and read back; the result of a verification stands beside it.
    Completed,
    Failed,
    Deleting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackupEvent {
    /// The verdict is sealed in the repository.
    Sealed,
    /// All attempts are spent, or the failure is terminal, or the job was cancelled.
    GivenUp,
    DeleteAsked,
}

impl BackupState {
    pub const ALL: [Self; 4] = [Self::Building, Self::Completed, Self::Failed, Self::Deleting];

    /// The word stored in the catalog.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Deleting => "deleting",
        }
    }

    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }

    /// The only way from one state to another.
    pub fn transition(self, event: BackupEvent) -> Result<Self> {
        match (self, event) {
            (Self::Building, BackupEvent::Sealed) => Ok(Self::Completed),
            (Self::Building, BackupEvent::GivenUp) => Ok(Self::Failed),
            // A second delete while DELETING answers as the first (contract 3.3).
            (Self::Completed | Self::Failed | Self::Deleting, BackupEvent::DeleteAsked) => Ok(Self::Deleting),
            (Self::Building, BackupEvent::DeleteAsked) => Err(Error::new(
                ErrorKind::InstanceBusy,
                "The backup is still being built; cancel its job or wait for its end.",
            )),
            (Self::Completed | Self::Failed | Self::Deleting, BackupEvent::Sealed | BackupEvent::GivenUp) => {
                Err(Error::new(ErrorKind::Fenced, "The backup has ended already; nothing was changed."))
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackupType {
    Manual,
    Auto,
}

impl BackupType {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Auto => "auto",
        }
    }

    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Manual, Self::Auto].into_iter().find(|kind| kind.word() == word)
    }
}

/// How a reference to an instance was spelled; the service does not know dialects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstanceRef {
    /// v1: the primary node's id; an instance id is taken too (contract 3.1).
    PrimaryNode(String),
    /// v3: the instance's id; a node id is taken too (contract 3.9).
    Instance(String),
    /// Commands: an id, a node id or a unique name.
    Any(String),
}

impl InstanceRef {
    pub fn text(&self) -> &str {
        match self {
            Self::PrimaryNode(text) | Self::Instance(text) | Self::Any(text) => text,
        }
    }
}

/// A wish for a manual backup, all fields valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBackup {
    pub name: BackupName,
    pub instance: InstanceRef,
    pub description: Option<Description>,
    /// Only these; none = all of them, which is all that most engines can.
    pub databases: Vec<String>,
}

/// Why a backup or a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Stable code, such as `source_unreachable`.
    pub code: String,
    /// What happened, whether data is safe, and the next step.
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// A backup row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    pub id: BackupId,
    pub project_id: ProjectId,
    pub instance_id: InstanceId,
    /// The primary node at the time of the backup.
    pub node_id: NodeId,
    pub name: BackupName,
    pub description: Option<Description>,
    pub kind: BackupType,
    pub state: BackupState,
    pub engine: EngineKind,
    /// Complete engine version, such as `15.18`.
    pub engine_version: String,
    pub lineage_id: LineageId,
    pub job_id: JobId,
    pub created: Timestamp,
    /// Set with COMPLETED and with FAILED, never before (faults.md I7).
    pub finished: Option<Timestamp>,
    /// The sealed attempt.
    pub attempt_id: Option<AttemptId>,
    /// Digest of the sealed manifest, hex.
    pub manifest_digest: Option<String>,
    /// Bytes a restore writes.
    pub source_bytes: Option<ByteSize>,
    /// Bytes this backup added to the repository, everything counted.
    pub stored_bytes: Option<ByteSize>,
    pub warnings: Vec<String>,
    pub failure: Option<Failure>,
    /// The newest verification, when there is one.
    pub verification: Option<Verification>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transition_matrix() {
        use BackupEvent::{DeleteAsked, GivenUp, Sealed};
        use BackupState::{Building, Completed, Deleting, Failed};
        let matrix = [
            (Building, Sealed, Some(Completed)),
            (Building, GivenUp, Some(Failed)),
            (Building, DeleteAsked, None),
            (Completed, Sealed, None),
            (Completed, GivenUp, None),
            (Completed, DeleteAsked, Some(Deleting)),
            (Failed, Sealed, None),
            (Failed, GivenUp, None),
            (Failed, DeleteAsked, Some(Deleting)),
            (Deleting, Sealed, None),
            (Deleting, GivenUp, None),
            (Deleting, DeleteAsked, Some(Deleting)),
        ];
        for (state, event, wanted) in matrix {
            assert_eq!(state.transition(event).ok(), wanted, "{state:?} {event:?}");
        }
    }
}
