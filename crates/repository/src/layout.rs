//! Where each object lies. The only place that builds object keys.

use strongroom_core::id::{AttemptId, LineageId, ProjectId};
use strongroom_core::logs::LogStreamId;

use crate::pack::PackId;

pub(crate) const FORMAT_KEY: &str = "format";
pub(crate) const FORMAT_DOCUMENT_KEY: &str = "FORMAT.md";
pub(crate) const FORMAT_DOCUMENT_DIGEST_KEY: &str = "FORMAT.md.b3";

/// Where all wrapped keys lie.
pub(crate) const KEYS_PREFIX: &str = "keys/";

pub(crate) fn project_key(project: &ProjectId, key_epoch: u32) -> String {
    format!("keys/{project}/{key_epoch}.1")
}

pub(crate) fn lineage_key(project: &ProjectId, lineage: &LineageId, key_epoch: u32) -> String {
    format!("keys/{project}/l/{lineage}.{key_epoch}")
}

/// Where the keys of a project's lineages lie.
pub(crate) fn lineage_keys_prefix(project: &ProjectId) -> String {
    format!("keys/{project}/l/")
}

/// The project and lineage of a lineage key's object key.
pub(crate) fn parse_lineage_key(key: &str) -> Option<(ProjectId, LineageId)> {
    let (project, file) = key.strip_prefix("keys/")?.split_once("/l/")?;
    let (lineage, _epoch) = file.rsplit_once('.')?;
    Some((ProjectId::parse(project).ok()?, LineageId::parse(lineage).ok()?))
}

/// Where everything of all lineages lies, their keys excepted.
pub(crate) const LINEAGES_PREFIX: &str = "l/";

/// The lineage that an object belongs to.
pub(crate) fn lineage_of(key: &str) -> Option<LineageId> {
    let (lineage, _rest) = key.strip_prefix(LINEAGES_PREFIX)?.split_once('/')?;
    LineageId::parse(lineage).ok()
}

pub(crate) fn lineage_prefix(lineage: &LineageId) -> String {
    format!("l/{lineage}/")
}

pub(crate) fn pack_prefix(lineage: &LineageId) -> String {
    format!("l/{lineage}/pk/")
}

pub(crate) fn pack(lineage: &LineageId, pack: PackId, generation: u32) -> String {
    format!("l/{lineage}/pk/{}/{}.{generation}", pack.attempt, pack.n)
}

/// Where the generations of one pack lie.
pub(crate) fn pack_generations(lineage: &LineageId, pack: PackId) -> String {
    format!("l/{lineage}/pk/{}/{}.", pack.attempt, pack.n)
}

/// The pack and generation of a pack's object key. As for every key, one spelling is understood:
/// an object under another one is not ours, and would not be found again.
pub(crate) fn parse_pack(lineage: &LineageId, key: &str) -> Option<(PackId, u32)> {
    let (attempt, file) = key.strip_prefix(&pack_prefix(lineage))?.split_once('/')?;
    let (n, generation) = file.split_once('.')?;
    let found = PackId { attempt: AttemptId::parse(attempt).ok()?, n: n.parse().ok()? };
    let generation = generation.parse().ok()?;
    (pack(lineage, found, generation) == key).then_some((found, generation))
}

pub(crate) fn verdict_prefix(lineage: &LineageId) -> String {
    format!("l/{lineage}/at/")
}

pub(crate) fn verdict(lineage: &LineageId, attempt: AttemptId) -> String {
    format!("l/{lineage}/at/{attempt}")
}

pub(crate) fn parse_verdict(lineage: &LineageId, key: &str) -> Option<AttemptId> {
    let attempt = AttemptId::parse(key.strip_prefix(&verdict_prefix(lineage))?).ok()?;
    (verdict(lineage, attempt) == key).then_some(attempt)
}

pub(crate) fn intent(lineage: &LineageId, attempt: AttemptId) -> String {
    format!("l/{lineage}/in/{attempt}")
}

pub(crate) fn intent_prefix(lineage: &LineageId) -> String {
    format!("l/{lineage}/in/")
}

/// Whose intent it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IntentOf<'a> {
    Writer(AttemptId),
    /// The reader's own name.
    Reader(&'a str),
}

/// What an intent's name says.
pub(crate) fn parse_intent<'a>(lineage: &LineageId, key: &'a str) -> Option<IntentOf<'a>> {
    let name = key.strip_prefix(&intent_prefix(lineage))?;
    if let Some(reader) = name.strip_prefix("r-") {
        let (reader, number) = reader.split_once('.')?;
        return (reader.len() == 32 && number.parse::<u32>().is_ok()).then_some(IntentOf::Reader(reader));
    }
    let attempt = AttemptId::parse(name).ok()?;
    (intent(lineage, attempt) == key).then_some(IntentOf::Writer(attempt))
}

pub(crate) fn reader_intent(lineage: &LineageId, reader: &str, number: u32) -> String {
    format!("l/{lineage}/in/r-{reader}.{number}")
}

pub(crate) fn tombstone_prefix(lineage: &LineageId) -> String {
    format!("l/{lineage}/tb/")
}

pub(crate) fn tombstone(lineage: &LineageId, attempt: AttemptId, number: u32) -> String {
    format!("l/{lineage}/tb/{attempt}.{number}")
}

/// Attempt, number, and whether it is the tombstone's end.
pub(crate) fn parse_tombstone(lineage: &LineageId, key: &str) -> Option<(AttemptId, u32, bool)> {
    let rest = key.strip_prefix(&tombstone_prefix(lineage))?;
    let (rest, is_end) = match rest.strip_suffix(".end") {
        Some(name) => (name, true),
        None => (rest, false),
    };
    let (attempt, number) = rest.split_once('.')?;
    let (attempt, number) = (AttemptId::parse(attempt).ok()?, number.parse().ok()?);
    let name = tombstone(lineage, attempt, number);
    (key.strip_suffix(".end").filter(|_| is_end).unwrap_or(key) == name).then_some((attempt, number, is_end))
}

pub(crate) fn holds_prefix(lineage: &LineageId) -> String {
    format!("l/{lineage}/hold/")
}

/// The attempt a hold protects.
pub(crate) fn parse_hold(lineage: &LineageId, key: &str) -> Option<AttemptId> {
    let (attempt, _number) = key.strip_prefix(&holds_prefix(lineage))?.split_once('.')?;
    let attempt = AttemptId::parse(attempt).ok()?;
    key.starts_with(&hold_prefix(lineage, attempt)).then_some(attempt)
}

pub(crate) fn hold_prefix(lineage: &LineageId, attempt: AttemptId) -> String {
    format!("l/{lineage}/hold/{attempt}.")
}

/// What an object of a stream of log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LogName {
    /// What the stream is.
    About,
    /// Somebody captures it.
    Open,
    /// A file from its first byte to its last.
    Whole { file: u64, length: u64 },
    /// Bytes of a file, from `first` on.
    Part { file: u64, first: u64, length: u64 },
}

/// Where all log of a lineage lies.
pub(crate) fn logs_prefix(lineage: &LineageId) -> String {
    format!("l/{lineage}/lg/")
}

pub(crate) fn log_stream_prefix(lineage: &LineageId, stream: &LogStreamId) -> String {
    format!("l/{lineage}/lg/{stream}/")
}

/// Numbers of files have sixteen digits, so that a listing has them in their order.
pub(crate) fn log(lineage: &LineageId, stream: &LogStreamId, name: LogName) -> String {
    let prefix = log_stream_prefix(lineage, stream);
    match name {
        LogName::About => format!("{prefix}about"),
        LogName::Open => format!("{prefix}open"),
        LogName::Whole { file, length } => format!("{prefix}{file:016x}.{length}"),
        LogName::Part { file, first, length } => format!("{prefix}{file:016x}.{first}.{length}"),
    }
}

pub(crate) fn parse_log(lineage: &LineageId, key: &str) -> Option<(LogStreamId, LogName)> {
    let (stream, name) = key.strip_prefix(&logs_prefix(lineage))?.split_once('/')?;
    let stream = LogStreamId::parse(stream)?;
    let found = match name {
        "about" => LogName::About,
        "open" => LogName::Open,
        name => {
            let (file, rest) = name.split_once('.')?;
            let file = u64::from_str_radix(file, 16).ok()?;
            match rest.split_once('.') {
                Some((first, length)) => {
                    LogName::Part { file, first: first.parse().ok()?, length: length.parse().ok()? }
                }
                None => LogName::Whole { file, length: rest.parse().ok()? },
            }
        }
    };
    let is_possible = match found {
        LogName::About | LogName::Open => true,
        LogName::Whole { length, .. } => length > 0,
        LogName::Part { first, length, .. } => length > 0 && first.checked_add(length).is_some(),
    };
    (is_possible && log(lineage, &stream, found) == key).then_some((stream, found))
}
