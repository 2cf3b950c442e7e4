//! Replication commands that ask a server who it is and how it is set up.

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;

use std::collections::BTreeMap;

use strongroom_core::engine::{EngineKind, SourceIdentity};
use strongroom_core::{Error, ErrorKind};

use crate::connection::{Connection, Watch};
use crate::fault::{Fault, Result};
use crate::lsn::{Lsn, SegmentSize};
use crate::relation::PAGE_SIZE_BYTES;

/// Answer of `IDENTIFY_SYSTEM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct System {
    pub(crate) identifier: u64,
    pub(crate) timeline: u32,
    pub(crate) position: Lsn,
}

pub(crate) fn identify(connection: &mut Connection, watch: &Watch<'_>) -> Result<System> {
    let rows = connection.query("IDENTIFY_SYSTEM", watch)?;
    let [row] = rows.as_slice() else { return Err(Fault::hostile("no answer to IDENTIFY_SYSTEM")) };
    Ok(System {
        identifier: row.parse(0)?,
        timeline: row.parse(1)?,
        position: Lsn::parse(row.text(2)?).ok_or_else(|| Fault::hostile("a malformed log position"))?,
    })
}

pub(crate) fn show(connection: &mut Connection, setting: &str, watch: &Watch<'_>) -> Result<String> {
    connection.query_value(&format!("SHOW {setting}"), watch)
}

/// Settings that a restore needs, that explain a backup, or that must be equal on the target.
const RECORDED: [&str; 17] = [
    "block_size",
    "data_checksums",
    "data_directory_mode",
    "full_page_writes",
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_wal_senders",
    "max_worker_processes",
    "segment_size",
    "server_version",
    "server_version_num",
    "TimeZone",
    "wal_block_size",
    "wal_level",
    "wal_log_hints",
    "wal_segment_size",
];

/// Recorded too, from the first version on that knows it: whether the server follows another, and
/// whether it notes which blocks its log changes.
const RECORDED_SINCE: [(u32, &str); 2] = [(14, "in_hot_standby"), (SUMMARIES_MAJOR, "summarize_wal")];
pub(crate) const SUMMARIES_MAJOR: u32 = 17;

/// How the server is set up.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    values: BTreeMap<String, String>,
}

impl Settings {
    pub(crate) fn read(connection: &mut Connection, watch: &Watch<'_>) -> Result<Self> {
        let mut values = BTreeMap::new();
        for name in RECORDED {
            values.insert(name.to_owned(), show(connection, name, watch)?);
        }
        let mut settings = Self { values };
        let major = settings.version()?.major();
        for (_, name) in RECORDED_SINCE.into_iter().filter(|(since, _)| major >= *since) {
            let value = show(connection, name, watch)?;
            settings.values.insert(name.to_owned(), value);
        }
        Ok(settings)
    }

    pub(crate) fn values(&self) -> &BTreeMap<String, String> {
        &self.values
    }

    pub(crate) fn get(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.get(name) == "on"
    }

    pub(crate) fn version(&self) -> Result<Version> {
        Version::parse(self.get("server_version_num"))
    }

    pub(crate) fn log_segment_size(&self) -> Result<SegmentSize> {
        Ok(SegmentSize::new(parse_size(self.get("wal_segment_size"))?)?)
    }

    /// Blocks in one file of a large relation.
    pub(crate) fn blocks_per_segment(&self) -> Result<u32> {
        let blocks = parse_size(self.get("segment_size"))? / PAGE_SIZE_BYTES as u64;
        u32::try_from(blocks)
            .ok()
            .filter(|blocks| *blocks > 0)
            .ok_or_else(|| Fault::hostile("a wrong segment_size"))
    }

    /// Servers built with other page sizes exist; their files would be misread.
    pub(crate) fn check_supported(&self) -> Result<()> {
        self.version()?.check_supported()?;
        for name in ["block_size", "wal_block_size"] {
            if self.get(name) != PAGE_SIZE_BYTES.to_string() {
                return Err(Fault::Domain(Error::new(
                    ErrorKind::NotSupported,
                    format!("The source was built with {name} {}; only 8192 is supported.", self.get(name)),
                )));
            }
        }
        Ok(())
    }
}

/// A server version as one number: `150018` for 15.18.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32);

impl Version {
    pub(crate) const OLDEST_MAJOR: u32 = 13;
    pub(crate) const NEWEST_MAJOR: u32 = 18;

    pub(crate) fn parse(text: &str) -> Result<Self> {
        text.trim().parse().map(Self).map_err(|_| Fault::hostile("a server version that is not a number"))
    }

    pub(crate) fn major(self) -> u32 {
        if self.0 >= 100_000 { self.0 / 10_000 } else { self.0 / 10_000 * 100 + self.0 / 100 % 100 }
    }

    /// `15.18`
    pub(crate) fn text(self) -> String {
        if self.0 >= 100_000 {
            format!("{}.{}", self.0 / 10_000, self.0 % 10_000)
        } else {
            format!("{}.{}.{}", self.0 / 10_000, self.0 / 100 % 100, self.0 % 100)
        }
    }

    /// What stands in the way of backing up this version, when something does.
    pub(crate) fn obstacle(self) -> Option<&'static str> {
        match self.major() {
            Self::OLDEST_MAJOR..=Self::NEWEST_MAJOR => None,
            major if major > Self::NEWEST_MAJOR => Some("This version is newer than what was tested with."),
            _ => Some("This version is no longer maintained by its project."),
        }
    }

    fn check_supported(self) -> Result<()> {
        match self.obstacle() {
            None => Ok(()),
            Some(obstacle) => Err(Fault::Domain(Error::new(
                ErrorKind::NotSupported,
                format!("PostgreSQL {} cannot be backed up. {obstacle} Supported are 13 to 18.", self.text()),
            ))),
        }
    }
}

pub(crate) fn source_identity(system: System, version: Version) -> SourceIdentity {
    SourceIdentity {
        engine: EngineKind::PostgreSql,
        version: version.text(),
        system_identifier: system.identifier.to_string(),
    }
}

/// A size as `SHOW` prints it: a number and a unit.
fn parse_size(text: &str) -> Result<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" | "B" => 0,
        "kB" => 10,
        "MB" => 20,
        "GB" => 30,
        "TB" => 40,
        _ => return Err(Fault::hostile("a size in an unknown unit")),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| Fault::hostile("a size that is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_named_as_people_name_them() {
        assert_eq!(Version(150_018).text(), "15.18");
        assert_eq!(Version(180_006).major(), 18);
        assert_eq!(Version(90_624).text(), "9.6.24");
        assert_eq!(Version(90_624).major(), 906);
        assert!(Version(130_000).obstacle().is_none() && Version(180_099).obstacle().is_none());
        assert!(Version(190_000).obstacle().is_some() && Version(120_000).obstacle().is_some());
    }

    #[test]
    fn sizes_are_read_as_the_server_prints_them() {
        assert_eq!(parse_size("16MB").unwrap(), 16 << 20);
        assert_eq!(parse_size("1GB").unwrap(), 1 << 30);
        assert_eq!(parse_size("8192").unwrap(), 8192);
        for bad in ["", "MB", "1XB", "-1MB", "99999999999999TB"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
