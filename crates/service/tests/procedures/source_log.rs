//! The log of the scripted database: bytes that are a function of their place, of which it may have
//! thrown away the oldest.

use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use strongroom_core::engine::{CheckLine, CheckState, EngineKind};
use strongroom_core::logs::{LogOrder, LogPoint, LogPosition, LogSink, LogStream, LogStreamId};
use strongroom_core::time::from_micros;
use strongroom_core::{Error, ErrorKind, Result};

pub(crate) const FILE_BYTES: u64 = 4096;

#[derive(Debug)]
struct State {
    end: LogPosition,
    /// What is before this file is gone.
    first_kept: u64,
    /// What the source keeps for a capture: it is there, or was released.
    slots: usize,
    releases_fail: bool,
    has_no_bound: bool,
    clock: Timestamp,
}

#[derive(Debug)]
pub(crate) struct SourceLog(Mutex<State>);

impl Default for SourceLog {
    fn default() -> Self {
        Self(Mutex::new(State {
            end: LogPosition { file: 5, offset: 100 },
            first_kept: 0,
            slots: 0,
            releases_fail: false,
            has_no_bound: false,
            clock: from_micros(1_800_000_000_000_000),
        }))
    }
}

pub(crate) fn content(file: u64, first: u64, length: u64) -> Vec<u8> {
    (first..first + length).map(|at| ((at / 64) as u8) ^ (file as u8).wrapping_mul(29)).collect()
}

pub(crate) fn stream() -> LogStream {
    LogStream {
        id: LogStreamId::parse("scripted-1").expect("a plain name"),
        engine: EngineKind::PostgreSql,
        origin: None,
        facts: json!({}),
    }
}

impl SourceLog {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn end(&self) -> LogPosition {
        self.state().end
    }

    pub(crate) fn slots(&self) -> usize {
        self.state().slots
    }

    pub(crate) fn clock(&self) -> Timestamp {
        self.state().clock
    }

    /// From where log leads on from a backup that ends now.
    pub(crate) fn point(&self) -> LogPoint {
        LogPoint { stream: stream().id, position: LogPosition::start_of(self.end().file) }
    }

    /// The database goes on: more log, a later clock.
    pub(crate) fn write(&self, bytes: u64, clock: Timestamp) {
        let mut state = self.state();
        let at = state.end.file * FILE_BYTES + state.end.offset + bytes;
        state.end = LogPosition { file: at / FILE_BYTES, offset: at % FILE_BYTES };
        state.clock = clock;
    }

    /// It throws away all but the newest file.
    pub(crate) fn forget(&self) {
        let mut state = self.state();
        state.first_kept = state.end.file;
    }

    pub(crate) fn fail_releases(&self, fail: bool) {
        self.state().releases_fail = fail;
    }

    pub(crate) fn have_no_bound(&self, none: bool) {
        self.state().has_no_bound = none;
    }

    pub(crate) fn probe(&self) -> Vec<CheckLine> {
        let is_missing = self.state().has_no_bound;
        vec![CheckLine {
            what: "log kept for captures".to_owned(),
            state: if is_missing { CheckState::Missing } else { CheckState::Ok },
            found: "as scripted".to_owned(),
            wanted: "a bound".to_owned(),
            remedy: is_missing.then(|| "SET A BOUND;".to_owned()),
            why: None,
        }]
    }

    pub(crate) fn release(&self) -> Result<()> {
        let mut state = self.state();
        if state.releases_fail {
            return Err(Error::new(ErrorKind::SourceUnreachable, "The source does not answer."));
        }
        state.slots = 0;
        Ok(())
    }

    pub(crate) fn capture(&self, order: &LogOrder<'_>, sink: &mut dyn LogSink) -> Result<Infallible> {
        let held = sink.held()?.into_iter().find(|(about, _)| about.id == stream().id);
        self.state().slots = 1;
        let (end, first_kept) = (self.end(), self.state().first_kept);
        let (mut at, gap) = match held {
            Some((_, range)) if range.until.file >= first_kept => (range.until, None),
            Some(_) => (LogPosition::start_of(first_kept), Some("it was thrown away")),
            None => (LogPosition::start_of(end.file), None),
        };
        sink.begin(&stream(), at, gap)?;
        loop {
            order.cancel.check()?;
            let (end, clock) = (self.end(), self.clock());
            while at < end {
                let until = if at.file == end.file { end.offset } else { FILE_BYTES };
                let length = (until - at.offset).min(700);
                sink.write(&content(at.file, at.offset, length))?;
                at.offset += length;
                if at.offset == FILE_BYTES {
                    sink.finish_file()?;
                    at = LogPosition::start_of(at.file + 1);
                }
            }
            sink.flush()?;
            sink.caught_up(clock)?;
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}
