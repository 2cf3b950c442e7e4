//! What a source says of its binary logs when it is asked by statements.

use std::time::Duration;

use strongroom_core::engine::{CancelToken, CheckLine, CheckState, Source};
use strongroom_core::foreign_text::for_people;
use strongroom_core::logs::LogPosition;

use super::event::file_of;
use crate::connection::{Connection, Watch};
use crate::fault::{Fault, Result, code};
use crate::server::{self, Settings, Version};

/// Time for the whole check.
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);
/// The first version that knows the newer name of the statement.
const NEWER_NAMES: Version = Version { major: 8, minor: 2, patch: 0 };

/// Where the log ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The name of its files, without their numbers.
    pub(super) base: String,
    pub(super) position: LogPosition,
}

pub(super) fn end(connection: &mut Connection, watch: &Watch<'_>) -> Result<Place> {
    let is_newer = connection.greeting()?.version >= NEWER_NAMES;
    let statement = if is_newer { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" };
    let rows = connection.query(statement, watch)?;
    let [row] = rows.as_slice() else { return Err(Fault::hostile("a binary log that ends nowhere")) };
    let (base, file) = file_of(row.text(0)?.as_bytes())?;
    let offset = row.number(1)?.ok_or_else(|| Fault::hostile("a binary log that ends nowhere"))?;
    Ok(Place { base: base.to_owned(), position: LogPosition { file, offset } })
}

/// The files that there are.
pub(super) struct Files(Vec<(String, u64, u64)>);

impl Files {
    pub(super) fn list(connection: &mut Connection, watch: &Watch<'_>) -> Result<Self> {
        let mut files = Vec::new();
        for row in connection.query("SHOW BINARY LOGS", watch)? {
            let (base, number) = file_of(row.text(0)?.as_bytes())?;
            files.push((base.to_owned(), number, row.number(1)?.unwrap_or(0)));
        }
        Ok(Self(files))
    }

    /// Whether a file is there with so many bytes.
    pub(super) fn has(&self, base: &str, number: u64, bytes: u64) -> bool {
        self.0.iter().any(|(of, found, size)| of == base && *found == number && *size >= bytes)
    }

    /// The first file that has this number or a later one.
    pub(super) fn first_from(&self, base: &str, number: u64) -> Option<u64> {
        self.0
            .iter()
            .filter(|(of, found, _)| of == base && *found >= number)
            .map(|(_, found, _)| *found)
            .min()
    }
}

/// Why this source's log cannot be captured, whoever asks.
pub(super) fn obstacle(settings: &Settings) -> Option<CheckLine> {
    lines_of(settings).into_iter().find(|line| line.state == CheckState::Missing)
}

fn lines_of(settings: &Settings) -> Vec<CheckLine> {
    let has_log = settings.is_on("log_bin");
    let mode = settings.get("gtid_mode");
    let mut lines = vec![
        CheckLine {
            remedy: (!has_log).then(|| "start the server with --log-bin".to_owned()),
            ..line("binary log", has_log, if has_log { "on" } else { "off" }, "on")
        },
        CheckLine {
            remedy: (mode != "ON").then(|| crate::probe::GTIDS_ON.to_owned()),
            why: Some("By its GTIDs a capture finds where it goes on, and tells what is missing.".to_owned()),
            ..line("gtid_mode", mode == "ON", mode, "ON")
        },
    ];
    let checksum = settings.get("binlog_checksum");
    if checksum != "CRC32" {
        lines.push(CheckLine {
            state: CheckState::Warning,
            remedy: Some("SET PERSIST binlog_checksum = CRC32;".to_owned()),
            why: Some("Without checksums damage on the way into the log is not seen.".to_owned()),
            ..line("checksums of events", false, checksum, "CRC32")
        });
    }
    lines
}

fn line(what: &str, is_ok: bool, found: &str, wanted: &str) -> CheckLine {
    CheckLine {
        what: what.to_owned(),
        state: if is_ok { CheckState::Ok } else { CheckState::Missing },
        found: for_people(found.as_bytes()),
        wanted: wanted.to_owned(),
        remedy: None,
        why: None,
    }
}

pub(super) fn probe(source: &Source, cancel: &CancelToken) -> strongroom_core::Result<Vec<CheckLine>> {
    let watch = Watch::new(cancel).with_deadline(PROBE_TIMEOUT);
    let mut connection = Connection::open(source, &watch)?;
    let settings = Settings::read(&mut connection, &watch)?;
    let account = server::account(&mut connection, &watch)?;
    let mut lines = lines_of(&settings);
    // The server answers whether we may: rights come over roles, too.
    for (right, statement) in
        [("REPLICATION SLAVE", "SHOW BINLOG EVENTS LIMIT 1"), ("REPLICATION CLIENT", "SHOW BINARY LOGS")]
    {
        if !settings.is_on("log_bin") {
            break;
        }
        let is_granted = match connection.query(statement, &watch) {
            Ok(_) => true,
            Err(Fault::Server(error)) if error.code == code::RIGHT_MISSING => false,
            Err(fault) => return Err(fault.into()),
        };
        lines.push(CheckLine {
            remedy: (!is_granted).then(|| account.grant(right, "*.*")),
            ..line(
                &format!("right {right}"),
                is_granted,
                if is_granted { "granted" } else { "not granted" },
                "granted",
            )
        });
    }
    Ok(lines)
}
