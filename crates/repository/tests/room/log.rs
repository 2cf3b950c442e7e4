//! Log in tests: a source whose bytes are a function of their place, and a reader that judges each.

use strongroom_core::Result;
use strongroom_core::engine::{CancelToken, EngineKind};
use strongroom_core::logs::{LogPosition, LogRange, LogStream, LogStreamId};
use strongroom_core::progress::Progress;
use strongroom_core::verification::Level;
use strongroom_repository::CheckReport;

use super::Room;

pub fn id(text: &str) -> LogStreamId {
    LogStreamId::parse(text).unwrap()
}

pub fn stream(name: &str) -> LogStream {
    LogStream {
        id: id(name),
        engine: EngineKind::PostgreSql,
        origin: None,
        facts: serde_json::json!({ "timeline": 1, "system_identifier": "7" }),
    }
}

pub const fn at(file: u64, offset: u64) -> LogPosition {
    LogPosition { file, offset }
}

pub fn range(from: LogPosition, until: LogPosition) -> LogRange {
    LogRange { from, until }
}

/// The log of the source: the same whoever reads it, and whenever.
pub fn content(file: u64, first: u64, length: usize) -> Vec<u8> {
    (first..first + length as u64)
        .map(|at| {
            (((at * 2_654_435_761) >> 11) as u8 & 0x1f) ^ (at / 900) as u8 ^ (file as u8).wrapping_mul(37)
        })
        .collect()
}

/// Everything from one place to the other, each byte looked at.
pub fn read_right(room: &Room, name: &str, range: LogRange) -> Result<u64> {
    let mut bytes = 0;
    let mut next = range.from;
    room.lineage.read_log(&id(name), range, &mut |place, piece| {
        assert!(place == next || place == at(next.file + 1, 0), "{place} after {next}");
        assert_eq!(piece, content(place.file, place.offset, piece.len()), "{place}");
        next = at(place.file, place.offset + piece.len() as u64);
        bytes += piece.len() as u64;
        Ok(())
    })?;
    Ok(bytes)
}

pub fn names(room: &Room) -> Vec<String> {
    let listed = room.store.list("l/").unwrap().into_iter().map(|object| object.key);
    listed.filter(|key| key.contains("/lg/") && key.contains('.')).collect()
}

pub fn check(room: &Room, level: Level) -> CheckReport {
    room.repository.check(level, &CancelToken::new(), &Progress::new()).unwrap()
}
