//! Identifiers. Issued ids carry the engine's suffix (contract section 1); on input any text of
//! 1–64 printable ASCII characters is looked up, and no row means "not found".

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::engine::EngineKind;
use crate::{Error, Field, Result, limits};

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $field:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Accepts what may be looked up: 1–64 printable ASCII characters.
            pub fn parse(text: &str) -> Result<Self> {
                if text.is_empty()
                    || text.len() > limits::ID_LENGTH_CHARS_MAX
                    || !text.bytes().all(|b| (0x21..=0x7e).contains(&b))
                {
                    return Err(Error::parameter(
                        $field,
                        "an id must have 1 to 64 printable ASCII characters",
                    ));
                }
                Ok(Self(text.to_owned()))
            }

            /// An id read back from our own catalog or repository.
            pub fn from_stored(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// An instance: 32 hex digits + `in` + engine number.
    InstanceId, Field::InstanceRef
);
text_id!(
    /// A node of an instance: 32 hex digits + `no` + engine number. The `instance` of v1.
    NodeId, Field::InstanceRef
);
text_id!(
    /// A backup: 32 hex digits + `br` + engine number, the same in every dialect.
    BackupId, Field::BackupId
);
text_id!(
    /// A job: 32 lower hex digits.
    JobId, Field::JobId
);
text_id!(
    /// A lineage of backups: 32 lower hex digits (repository.md section 1).
    LineageId, Field::Other
);
text_id!(
    /// A worker process, new at each start.
    WorkerId, Field::Other
);
text_id!(
    /// A user who can log in or hold tokens.
    UserId, Field::Other
);
text_id!(
    /// One HTTP request: 32 lower hex digits.
    RequestId, Field::Other
);

impl InstanceId {
    pub fn issue(raw: Uuid, engine: EngineKind) -> Self {
        Self(format!("{}in{}", raw.simple(), engine.number()))
    }
}

impl NodeId {
    pub fn issue(raw: Uuid, engine: EngineKind) -> Self {
        Self(format!("{}no{}", raw.simple(), engine.number()))
    }
}

impl BackupId {
    pub fn issue(raw: Uuid, engine: EngineKind) -> Self {
        Self(format!("{}br{}", raw.simple(), engine.number()))
    }
}

impl JobId {
    pub fn issue(raw: Uuid) -> Self {
        Self(raw.simple().to_string())
    }

    /// As [`JobId::parse`], and the dashed form of a UUID is taken for the plain one.
    pub fn parse_lenient(text: &str) -> Result<Self> {
        if text.len() == 36
            && let Ok(raw) = Uuid::try_parse(text)
        {
            return Ok(Self::issue(raw));
        }
        Self::parse(text)
    }
}

impl LineageId {
    pub fn issue(raw: Uuid) -> Self {
        Self(raw.simple().to_string())
    }
}

impl WorkerId {
    pub fn issue(raw: Uuid) -> Self {
        Self(raw.simple().to_string())
    }
}

impl UserId {
    pub fn issue(raw: Uuid) -> Self {
        Self(raw.simple().to_string())
    }
}

impl RequestId {
    pub fn issue(raw: Uuid) -> Self {
        Self(raw.simple().to_string())
    }
}

/// A project (tenant): 32 lower hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProjectId(String);

impl ProjectId {
    pub fn parse(text: &str) -> Result<Self> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 32 && text.bytes().all(hex) {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::parameter(Field::Other, "a project id has 32 lower-case hex digits"))
    }

    pub fn issue(raw: Uuid) -> Self {
        Self(raw.simple().to_string())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One try of one backup job. Part of every object key, so a stale writer cannot hit a live key.
/// Never on the wire of a dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttemptId(Uuid);

impl AttemptId {
    pub fn new(raw: Uuid) -> Self {
        Self(raw)
    }

    pub fn parse(text: &str) -> Result<Self> {
        Uuid::try_parse(text)
            .map(Self)
            .map_err(|_| Error::parameter(Field::Other, "an attempt id is a UUID in hex"))
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.simple())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a04_ids_at_the_edges_of_their_length() {
        assert!(InstanceId::parse("").is_err());
        assert!(InstanceId::parse("x").is_ok());
        assert!(InstanceId::parse(&"x".repeat(64)).is_ok());
        assert!(InstanceId::parse(&"x".repeat(65)).is_err());
        assert!(InstanceId::parse("a b").is_err());
        assert!(InstanceId::parse("a\n").is_err());
        assert!(InstanceId::parse("ä").is_err());
    }

    #[test]
    fn issued_ids_carry_the_engine() {
        let raw = Uuid::nil();
        assert_eq!(BackupId::issue(raw, EngineKind::PostgreSql).as_str().len(), 36);
        assert!(BackupId::issue(raw, EngineKind::PostgreSql).as_str().ends_with("br03"));
        assert!(NodeId::issue(raw, EngineKind::MySql).as_str().ends_with("no01"));
    }

    #[test]
    fn dashed_job_ids_are_taken_for_plain_ones() {
        let raw = Uuid::from_u128(7);
        assert_eq!(JobId::parse_lenient(&raw.to_string()).unwrap(), JobId::issue(raw));
    }
}
