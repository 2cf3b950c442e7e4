//! Instances: the source databases somebody registered.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::{EngineKind, TlsMode};
use crate::id::{InstanceId, LineageId, NodeId, ProjectId};
use crate::text::InstanceName;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InstanceState {
    Registering,
    Ready,
    Unreachable,
    /// Removed: not listed; its backups stay listed, restorable and deletable.
    Retired,
}

impl InstanceState {
    pub const ALL: [Self; 4] = [Self::Registering, Self::Ready, Self::Unreachable, Self::Retired];

    pub const fn word(self) -> &'static str {
        match self {
            Self::Registering => "registering",
            Self::Ready => "ready",
            Self::Unreachable => "unreachable",
            Self::Retired => "retired",
        }
    }

    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }
}

/// An instance row, without its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub id: InstanceId,
    pub node_id: NodeId,
    pub project_id: ProjectId,
    pub name: InstanceName,
    pub engine: EngineKind,
    /// Complete version seen at the last check.
    pub version: String,
    pub system_identifier: String,
    pub state: InstanceState,
    pub host: String,
    pub port: u16,
    pub user: String,
    pub tls: TlsMode,
    pub ca_pem: Option<String>,
    pub allow_md5: bool,
    pub lineage_id: LineageId,
    pub created: Timestamp,
    pub updated: Timestamp,
}
