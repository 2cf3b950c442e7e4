//! What a backup says about itself: the engine's part of `BackupFacts`, as stored.
//!
//! The shape is documented in `docs/formats/postgresql-facts.md`; a restore needs nothing else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use strongroom_core::engine::{BackupFacts, Tablespace};
use strongroom_core::{Error, ErrorKind, Result};

use crate::lsn::{Lsn, SegmentSize};

/// Version of this shape.
pub(crate) const FACTS_FORMAT: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PostgresFacts {
    pub(crate) format: u32,
    pub(crate) server_version_num: u32,
    pub(crate) pg_control_version: u32,
    pub(crate) catalog_version: u32,
    pub(crate) source_role: SourceRole,
    pub(crate) timeline: u32,
    /// Where replay begins.
    pub(crate) start_lsn: Lsn,
    /// Where the copy is consistent; the log up to here is part of the backup.
    pub(crate) stop_lsn: Lsn,
    pub(crate) log: LogSegments,
    /// History files of the timelines before this one.
    pub(crate) history_files: Vec<String>,
    pub(crate) backup_label: Text,
    pub(crate) tablespace_map: Text,
    pub(crate) tablespaces: Vec<TablespaceFact>,
    pub(crate) data_directory_mode: String,
    pub(crate) data_checksums: bool,
    pub(crate) pages: PageCounts,
    pub(crate) settings: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SourceRole {
    Primary,
    Standby,
}

/// The log segments of a backup: all from the first to the last, without a gap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogSegments {
    pub(crate) segment_size_bytes: SegmentSize,
    pub(crate) first: String,
    pub(crate) last: String,
    pub(crate) count: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TablespaceFact {
    pub(crate) id: String,
    /// Where it was at the source; bytes that are not UTF-8 are replaced.
    pub(crate) source_path: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PageCounts {
    /// Pages whose checksum was computed.
    pub(crate) checked: u64,
    /// Pages that were being written while they were read; replay of the log makes them whole.
    pub(crate) torn: u64,
    /// Pages that were wrong before the backup began.
    pub(crate) damaged: u64,
}

/// Bytes that are text, as good as always.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Text {
    Utf8(String),
    Raw { hex: String },
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Utf8(text.to_owned()),
            Err(_) => Self::Raw { hex: hex::encode(bytes) },
        }
    }
}

impl PostgresFacts {
    pub(crate) fn of(facts: &BackupFacts) -> Result<Self> {
        let unreadable = |source: String| {
            Error::new(
                ErrorKind::Damage,
                "The facts stored with the backup are not those of a PostgreSQL backup.",
            )
            .with_source(source)
        };
        let read = Self::deserialize(&facts.engine).map_err(|error| unreadable(error.to_string()))?;
        if read.format != FACTS_FORMAT {
            return Err(unreadable(format!("format {}", read.format)));
        }
        Ok(read)
    }

    pub(crate) fn tablespaces(&self) -> Vec<Tablespace> {
        self.tablespaces
            .iter()
            .map(|fact| Tablespace { id: fact.id.clone(), source_path: fact.source_path.clone() })
            .collect()
    }

    /// Names of all log segments, in order.
    pub(crate) fn segment_names(&self) -> impl Iterator<Item = String> {
        let size = self.log.segment_size_bytes;
        let first = size.segment_of(self.start_lsn);
        (first..first + self.log.count).map(move |segment| size.file_name(self.timeline, segment))
    }

    /// A setting of the source that was recorded.
    pub(crate) fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    pub(crate) fn major_version(&self) -> u32 {
        self.server_version_num / 10_000
    }
}
