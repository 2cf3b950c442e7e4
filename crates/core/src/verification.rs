//! Proof that a backup is good: levels and results (repository.md section 9).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Error, Field, Result};

/// How deep a check goes; each level includes the ones before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// V0: every object is there with its size.
    Presence,
    /// V1: object and slot digests, needs no data key.
    Digest,
    /// V2: every chunk decoded, every id checked up to the root.
    Decode,
    /// V3: the engine starts from a restored copy.
    Engine,
}

impl Level {
    pub const ALL: [Self; 4] = [Self::Presence, Self::Digest, Self::Decode, Self::Engine];

    pub const fn word(self) -> &'static str {
        match self {
            Self::Presence => "presence",
            Self::Digest => "digest",
            Self::Decode => "decode",
            Self::Engine => "engine",
        }
    }

    pub fn parse(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|level| level.word() == text).ok_or_else(|| {
            Error::parameter(Field::Other, "level: must be presence, digest, decode or engine")
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Passed,
    Failed,
    /// Could not be tried; the reason is recorded.
    NotRun,
}

impl Outcome {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::NotRun => "not_run",
        }
    }

    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Passed, Self::Failed, Self::NotRun].into_iter().find(|outcome| outcome.word() == word)
    }
}

/// The result of one check of one backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    pub level: Level,
    pub outcome: Outcome,
    pub at: Timestamp,
    /// What was found, whole sentences; for `not_run` the reason.
    pub findings: Vec<String>,
    /// What was measured, when a restored server accepted connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<Drill>,
}

/// What a drill measured: a restore as long as it really takes, and what the server then said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drill {
    pub server_version: String,
    pub restored_bytes: u64,
    /// From the first byte read to the last one durable.
    pub restore_ms: u64,
    /// From the start of the server to its first answer, replay of the log included.
    pub start_ms: u64,
    /// All checks together.
    pub check_ms: u64,
    pub databases: u64,
    pub tables: u64,
    pub rows: u64,
    pub checks: Vec<DrillCheck>,
}

impl Drill {
    /// How long somebody would have waited for this database.
    pub const fn time_to_restore_ms(&self) -> u64 {
        self.restore_ms.saturating_add(self.start_ms)
    }
}

/// One check of a drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillCheck {
    /// Its name in a word: `tables`, `pg_amcheck`, `pg_checksums`.
    pub what: String,
    pub outcome: Outcome,
    /// What it looked at, or why it was not done.
    pub detail: String,
}
