//! The log of a source (write-ahead log, binary log): what a stream of it is, places in it, and the
//! port through which an engine hands it over as it is written.
//!
//! A stream is files in a row, each with its number; a place is a file and an offset in it. What the
//! bytes mean only the engine knows.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use crate::engine::{CancelToken, EngineKind, Source, SourceIdentity};
use crate::progress::Progress;
use crate::{Result, limits};

/// The name of a stream: one history of one server, given by its engine. Lower-case letters, digits
/// and dashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct LogStreamId(String);

impl LogStreamId {
    /// `None` for what is no name of a stream.
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let is_name = (1..=limits::LOG_STREAM_NAME_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|b| is_plain(b) || b == b'-')
            && text.bytes().next().is_some_and(is_plain);
        is_name.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LogStreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for LogStreamId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not the name of a stream"))
    }
}

/// A place in a stream: before the byte at `offset` of the file with this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogPosition {
    pub file: u64,
    pub offset: u64,
}

impl LogPosition {
    pub const fn start_of(file: u64) -> Self {
        Self { file, offset: 0 }
    }
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}+{}", self.file, self.offset)
    }
}

/// A place in a stream that is named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogPoint {
    pub stream: LogStreamId,
    #[serde(flatten)]
    pub position: LogPosition,
}

/// Log without a gap. The end of a file that is whole is the beginning of the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRange {
    pub from: LogPosition,
    pub until: LogPosition,
}

impl LogRange {
    /// Whether log from this place on, up to the end of the range, is in it.
    pub fn continues(&self, place: LogPosition) -> bool {
        self.from <= place && place <= self.until
    }
}

/// What a stream is: enough to use its log when nothing else is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStream {
    pub id: LogStreamId,
    pub engine: EngineKind,
    /// Where this history left another one.
    pub origin: Option<LogPoint>,
    /// The engine's own facts, a JSON object; the same whenever the stream is looked at.
    pub facts: serde_json::Value,
}

/// A range, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldLog {
    pub stream: LogStreamId,
    pub range: LogRange,
    /// Where the stream left another one.
    pub origin: Option<LogPoint>,
    /// By the source's clock: all log until then is in this range, or leads to it.
    pub until: Option<Timestamp>,
}

/// The ranges that a place leads to without a gap, by their index: its own, those of the streams that
/// left that one within it, and so on.
pub fn leads_to(point: &LogPoint, held: &[HeldLog]) -> Vec<usize> {
    let holds = |one: &HeldLog| one.stream == point.stream && one.range.continues(point.position);
    let mut found: Vec<usize> = held.iter().position(holds).into_iter().collect();
    let mut at = 0;
    while let Some(from) = found.get(at).map(|index| &held[*index]) {
        let follows = |one: &HeldLog| {
            one.origin.as_ref().is_some_and(|origin| {
                origin.stream == from.stream
                    && from.range.continues(origin.position)
                    && one.range.continues(LogPosition::start_of(origin.position.file))
            })
        };
        let next: Vec<usize> =
            (0..held.len()).filter(|index| !found.contains(index) && follows(&held[*index])).collect();
        found.extend(next);
        at += 1;
    }
    found
}

/// The last moment that log leads to from a place.
pub fn leads_until(point: &LogPoint, held: &[HeldLog]) -> Option<Timestamp> {
    leads_to(point, held).into_iter().filter_map(|index| held[index].until).max()
}

/// What an engine is asked to capture, until it is told to stop.
pub struct LogOrder<'a> {
    pub source: &'a Source,
    /// The database that was registered; another one is a terminal failure (faults.md B03).
    pub identity: &'a SourceIdentity,
    /// Names what is kept at the source for this capture: the same at every try, and nobody else's.
    /// Lower-case letters and digits.
    pub owner: &'a str,
    /// How much log the source may keep for us before it is let go (faults.md B08).
    pub retained_bytes_max: u64,
    pub cancel: &'a CancelToken,
    pub progress: &'a Progress,
}

/// Where an engine puts the log of a source. What is durable is told to the source, and not before.
pub trait LogSink {
    /// The streams that are held, each with the newest range of it.
    fn held(&mut self) -> Result<Vec<(LogStream, LogRange)>>;

    /// Log of a stream as it is held, in its order, each piece with its place: for an engine that finds in
    /// it where to go on.
    fn read(
        &mut self,
        stream: &LogStreamId,
        range: LogRange,
        take: &mut dyn FnMut(LogPosition, &[u8]) -> Result<()>,
    ) -> Result<()>;

    /// From now on bytes of this stream follow, from here on. When that is not where the newest range of
    /// the stream ends, a new range begins, at the beginning of a file; `gap` says why.
    fn begin(&mut self, stream: &LogStream, from: LogPosition, gap: Option<&str>) -> Result<()>;

    /// The next bytes of the current file. May block, and may make durable what came before.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// The current file ends here, and is durable when this returns.
    fn finish_file(&mut self) -> Result<()>;

    /// All that was written is durable when this returns.
    fn flush(&mut self) -> Result<()>;

    /// Whether something waits that [`LogSink::flush`] should make durable now.
    fn is_flush_due(&self) -> bool;

    /// Up to where the current stream is durable.
    fn durable(&self) -> LogPosition;

    /// When the source's clock stood at `at`, its log ended where `durable` is now.
    fn caught_up(&mut self, at: Timestamp) -> Result<()>;

    /// The source keeps so much log for this capture.
    fn retained(&mut self, bytes: u64);

    /// The source was let go, because it kept so much log for this capture.
    fn given_up(&mut self, bytes: u64) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_streams_are_plain() {
        for good in ["a", "7", "0a-1", &"x".repeat(limits::LOG_STREAM_NAME_BYTES_MAX)] {
            assert_eq!(LogStreamId::parse(good).map(|id| id.to_string()).as_deref(), Some(good));
        }
        let long = "x".repeat(limits::LOG_STREAM_NAME_BYTES_MAX + 1);
        for bad in ["", "-a", "A", "a/b", "..", "a.b", "ä", "a b", &long] {
            assert_eq!(LogStreamId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn v03_log_leads_on_along_the_histories_that_left_one_another() {
        let at = |file, offset| LogPosition { file, offset };
        let id = |name: &str| LogStreamId::parse(name).unwrap();
        let point = |name: &str, position| LogPoint { stream: id(name), position };
        let held = |name: &str, from, until, origin, second| HeldLog {
            stream: id(name),
            range: LogRange { from, until },
            origin,
            until: Some(Timestamp::from_second(second).unwrap()),
        };
        let one = [
            held("a", at(1, 0), at(3, 5), None, 10),
            // Behind a gap.
            held("a", at(6, 0), at(9, 5), None, 20),
            held("b", at(8, 0), at(12, 0), Some(point("a", at(8, 7))), 30),
            held("c", at(11, 0), at(13, 0), Some(point("b", at(11, 3))), 40),
            // Begun too late to follow.
            held("d", at(9, 0), at(50, 0), Some(point("a", at(8, 7))), 90),
        ];
        assert_eq!(leads_to(&point("a", at(2, 0)), &one), [0]);
        assert_eq!(leads_to(&point("a", at(7, 0)), &one), [1, 2, 3]);
        assert_eq!(leads_to(&point("b", at(12, 0)), &one), [2, 3]);
        assert_eq!(leads_to(&point("a", at(4, 0)), &one), [0_usize; 0]);
        assert_eq!(leads_until(&point("a", at(7, 0)), &one), Timestamp::from_second(40).ok());
        assert_eq!(leads_until(&point("x", at(7, 0)), &one), None);
    }

    #[test]
    fn places_follow_one_another_as_files_and_offsets_do() {
        let at = |file, offset| LogPosition { file, offset };
        let range = LogRange { from: at(3, 0), until: at(5, 7) };
        for place in [at(3, 0), at(4, u64::MAX), at(5, 7)] {
            assert!(range.continues(place), "{place}");
        }
        for place in [at(2, u64::MAX), at(5, 8), at(6, 0)] {
            assert!(!range.continues(place), "{place}");
        }
        let stored = r#"{"stream":"a-1","file":3,"offset":9}"#;
        let point: LogPoint = serde_json::from_str(stored).unwrap();
        assert_eq!(point, LogPoint { stream: LogStreamId::parse("a-1").unwrap(), position: at(3, 9) });
        assert_eq!(serde_json::to_string(&point).unwrap(), stored);
        assert!(serde_json::from_str::<LogPoint>(r#"{"stream":"A","file":3,"offset":9}"#).is_err());
    }
}
