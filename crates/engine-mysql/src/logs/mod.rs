//! The binary log of a source, captured as it is written: its own files, byte for byte.
//!
//! The server keeps no log for whoever listens; it purges by its own rules. A capture asks for what
//! comes behind the last whole event that is held, in the file that has it, and says which transactions
//! it has. What the server no longer has is told exactly, by transactions.

mod checksum;
mod cutter;
mod event;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod gtid;
mod look;
mod walk;

use std::convert::Infallible;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use strongroom_core::engine::{CancelToken, CheckLine, EngineKind, Source, StopReason};
use strongroom_core::logs::{LogOrder, LogPoint, LogPosition, LogRange, LogSink, LogStream, LogStreamId};
use strongroom_core::time::from_micros;
use strongroom_core::{Error, ErrorKind, Retry};

use self::cutter::Cutter;
use self::gtid::GtidSet;
use self::look::{Files, Place};
use self::walk::{Held, Walk};
use crate::connection::{Connection, Watch};
use crate::fault::{Fault, Result, ServerError, code};
use crate::server::{self, Settings};

/// How long one look at the stream lasts: what gathered must become durable meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How often the source is asked where its log ends, and has to say that it lives.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);
/// A transaction has its time a little before its log is written: what the source says of now is held
/// to be so of a moment ago.
const SETTLED_S: i64 = 1;
/// How often in a row a file may be gone where the capture was to go on.
const GONE_MAX: u32 = 3;
/// The longest list of missing transactions that is told.
const MISSING_LENGTH_MAX: usize = 2_000;

/// Captures until it is told to stop, or cannot go on.
pub(crate) fn capture(order: &LogOrder<'_>, sink: &mut dyn LogSink) -> strongroom_core::Result<Infallible> {
    let watch = Watch::new(order.cancel);
    let (mut refused, mut gone) = (None, 0);
    loop {
        let mut session = Session::open(order, &watch)?;
        let start = session.start(sink, refused.take(), &watch)?;
        match session.follow(sink, start, &watch) {
            Ok(never) => match never {},
            // What was to come is gone, or the server has another reason: the next start tells them apart.
            Err(Fault::Server(error)) if error.code == code::LOG_NOT_READABLE && gone < GONE_MAX => {
                sink.flush()?;
                (refused, gone) = (Some(error), gone + 1);
            }
            Err(fault) => {
                take_leave(order, sink);
                return Err(fault.into());
            }
        }
    }
}

/// Makes durable what came, when there is time for it.
fn take_leave(order: &LogOrder<'_>, sink: &mut dyn LogSink) {
    let is_asked = matches!(order.cancel.reason(), Some(StopReason::Draining | StopReason::Cancelled));
    if is_asked && let Err(error) = sink.flush() {
        tracing::debug!("the last log was not made durable: {}", error.chain());
    }
}

/// What stands in the way of a capture.
pub(crate) fn probe(source: &Source, cancel: &CancelToken) -> strongroom_core::Result<Vec<CheckLine>> {
    look::probe(source, cancel)
}

/// From where log leads on from a copy that is begun after this: the file that is written now, whole.
/// `None` where there is no log, or the account may not see where it ends.
pub(crate) fn point(
    connection: &mut Connection,
    settings: &Settings,
    watch: &Watch<'_>,
) -> Result<Option<LogPoint>> {
    if look::obstacle(settings).is_some() {
        return Ok(None);
    }
    match look::end(connection, watch) {
        Ok(end) => {
            let stream = stream(settings, &end.base)?.id;
            Ok(Some(LogPoint { stream, position: LogPosition::start_of(end.position.file) }))
        }
        Err(Fault::Server(error)) if error.code == code::RIGHT_MISSING => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// One history: a server, and the name of its files, with which their numbers begin anew.
fn stream(settings: &Settings, base: &str) -> Result<LogStream> {
    let uuid = settings.identity()?.system_identifier.to_ascii_lowercase();
    let digest = hex::encode(Sha256::digest(base.as_bytes()));
    let id = LogStreamId::parse(&format!("{uuid}-{}", &digest[..8]))
        .ok_or_else(|| Error::internal("a stream of a server has a plain name"))?;
    Ok(LogStream {
        id,
        engine: EngineKind::MySql,
        origin: None,
        facts: serde_json::json!({ "server_uuid": uuid, "base": base }),
    })
}

/// Where a capture begins.
struct Start {
    from: LogPosition,
    held: Held,
    gap: Option<String>,
}

impl Start {
    /// At the beginning of a file, with nothing of it.
    fn at(file: u64, gap: Option<String>) -> Self {
        Self { from: LogPosition::start_of(file), held: Walk::new().end(), gap }
    }
}

/// A connection beside the stream, and what is known of the source.
struct Session<'o> {
    order: &'o LogOrder<'o>,
    aside: Connection,
    stream: LogStream,
    end: Place,
    /// Where the log ended when the source's clock stood so, in seconds; not all of that is durable yet.
    horizon: Option<(LogPosition, i64)>,
    asked: Instant,
}

impl<'o> Session<'o> {
    fn open(order: &'o LogOrder<'o>, watch: &Watch<'_>) -> Result<Self> {
        order.progress.set_phase("connecting");
        let mut aside = Connection::open(order.source, watch)?;
        let settings = Settings::read(&mut aside, watch)?;
        server::check_identity(Some(order.identity), &settings.identity()?)?;
        if let Some(obstacle) = look::obstacle(&settings) {
            return Err(unfit(&obstacle));
        }
        let end = look::end(&mut aside, watch)?;
        let stream = stream(&settings, &end.base)?;
        Ok(Self { order, aside, stream, end, horizon: None, asked: Instant::now() })
    }

    fn start(
        &mut self,
        sink: &mut dyn LogSink,
        refused: Option<Box<ServerError>>,
        watch: &Watch<'_>,
    ) -> Result<Start> {
        let streams = sink.held()?;
        let Some((_, range)) = streams.iter().find(|(stream, _)| stream.id == self.stream.id) else {
            let gap =
                (!streams.is_empty()).then(|| "the source gives its binary logs another name".to_owned());
            return Ok(Start::at(self.end.position.file, gap));
        };
        let Some(held) = self.walk(sink, *range)? else {
            return self.anew(
                range.until,
                "the beginning of the last stored file is damaged".to_owned(),
                None,
                watch,
            );
        };
        if let Some(lost) = self.difference(&held.set, "@@GLOBAL.gtid_executed", true, watch)? {
            let words = format!("the source went on from a state before it: it has not executed {lost}");
            return self.anew(range.until, words, refused, watch);
        }
        let Some(refused) = refused else { return Ok(Start { from: range.until, held, gap: None }) };
        let files = Files::list(&mut self.aside, watch)?;
        if files.has(&self.end.base, range.until.file, held.whole) {
            return Err(Fault::Server(refused));
        }
        let missing = self.difference(&held.set, "@@GLOBAL.gtid_purged", false, watch)?;
        let missing = missing.unwrap_or_else(|| "no transaction".to_owned());
        let words = format!("the source no longer has it; missing: {missing} ({})", refused.quoted());
        self.anew(range.until, words, Some(refused), watch)
    }

    /// Begins a new range, with the first file that is there behind what is held.
    fn anew(
        &mut self,
        until: LogPosition,
        words: String,
        refused: Option<Box<ServerError>>,
        watch: &Watch<'_>,
    ) -> Result<Start> {
        let files = Files::list(&mut self.aside, watch)?;
        // A file that was not begun is no part of what is held.
        let behind = if until.offset == 0 { until.file } else { until.file + 1 };
        match (files.first_from(&self.end.base, behind), refused) {
            (Some(file), _) => Ok(Start::at(file, Some(words))),
            (None, Some(refused)) => Err(Fault::Server(refused)),
            (None, None) => Err(Fault::Domain(
                Error::new(
                    ErrorKind::SourceRefused,
                    format!("No log is captured: {words}, and its binary logs do not go past those that are stored. What is stored was kept."),
                )
                .with_hint(format!(
                    "Capture goes on by itself when their numbers are past {until}: FLUSH BINARY LOGS, or \
                     RESET BINARY LOGS AND GTIDS TO n; or remove the instance and add it again."
                ))
                .with_retry(Retry::Later),
            )),
        }
    }

    /// What is held of the file in which the capture goes on. `None` where its beginning is not.
    fn walk(&self, sink: &mut dyn LogSink, range: LogRange) -> Result<Option<Held>> {
        let until = range.until;
        // What came before a file stands at its beginning, or else at the end of the one before it.
        let file = if until.offset == 0 { until.file.saturating_sub(1) } else { until.file };
        let from = LogPosition::start_of(file);
        if range.from > from {
            return Ok(None);
        }
        let (mut walk, mut fault) = (Walk::new(), None);
        let taken = sink.read(&self.stream.id, LogRange { from, until }, &mut |_, bytes| {
            walk.take(bytes).map_err(|found| {
                fault = Some(found);
                Error::internal("what is held is no binary log")
            })
        });
        match fault {
            None => taken?,
            Some(_) => return Ok(None),
        }
        let held = walk.end();
        if until.offset > 0 {
            return Ok(Some(held));
        }
        Ok(Some(Held { set: held.set, ..Walk::new().end() }))
    }

    /// What one set has more than the other, when that is something: ours against the server's, or the
    /// other way round.
    fn difference(
        &mut self,
        ours: &GtidSet,
        theirs: &str,
        is_ours: bool,
        watch: &Watch<'_>,
    ) -> Result<Option<String>> {
        let ours = format!("'{}'", ours.text());
        let (more, less) = if is_ours { (ours.as_str(), theirs) } else { (theirs, ours.as_str()) };
        let statement = format!("SELECT GTID_SUBTRACT({more}, {less})");
        let mut found = self.aside.query_value(&statement, watch)?.replace('\n', "");
        if found.len() > MISSING_LENGTH_MAX {
            found.truncate(found.floor_char_boundary(MISSING_LENGTH_MAX));
            found.push('…');
        }
        Ok((!found.is_empty()).then_some(found))
    }

    fn follow(&mut self, sink: &mut dyn LogSink, start: Start, watch: &Watch<'_>) -> Result<Infallible> {
        let set = start.held.set.encode();
        let mut cutter = Cutter::new(&self.end.base, start.from.file, start.held);
        let mut dump = self.ask_for_log(&cutter, &set, watch)?;
        sink.begin(&self.stream, start.from, start.gap.as_deref())?;
        cutter.begin(sink)?;
        self.order.progress.set_phase("capturing");
        loop {
            let came = cutter.look(&mut dump, sink, LOOK_INTERVAL, watch)?;
            self.order.progress.add_done(came);
            if sink.is_flush_due() {
                sink.flush()?;
            }
            self.settle(sink, watch)?;
        }
    }

    /// A connection on which log comes from now on.
    fn ask_for_log(&self, cutter: &Cutter, set: &[u8], watch: &Watch<'_>) -> Result<Connection> {
        let mut dump = Connection::open(self.order.source, watch)?;
        // A listener of the same name sends away one that was left behind.
        let name = Sha256::digest(self.order.owner.as_bytes());
        let uuid = hex::encode(&name[..16]);
        let uuid = [&uuid[..8], &uuid[8..12], &uuid[12..16], &uuid[16..20], &uuid[20..]].join("-");
        let beat_ns = STATUS_INTERVAL.as_nanos();
        let statement = format!(
            "SET @source_binlog_checksum = 'CRC32', @master_binlog_checksum = 'CRC32', \
             @source_heartbeat_period = {beat_ns}, @master_heartbeat_period = {beat_ns}, \
             @replica_uuid = '{uuid}', @slave_uuid = '{uuid}', SESSION net_write_timeout = 600"
        );
        dump.query(&statement, watch)?;
        let number = u32::from_le_bytes([name[16], name[17], name[18], name[19]]) | 1 << 31;
        let (file, place) = cutter.wanted();
        dump.ask_for_log(number, &file, place, set, watch)?;
        Ok(dump)
    }

    /// Tells the sink that all log is durable which there was at a moment, and asks for the next one.
    fn settle(&mut self, sink: &mut dyn LogSink, watch: &Watch<'_>) -> Result<()> {
        // One at a time: under load the newest is always ahead of what is durable.
        if self.horizon.is_none() && self.asked.elapsed() >= STATUS_INTERVAL {
            // The clock first: what was committed until then is in the log before its end now.
            let clock_s = server::now_s(&mut self.aside, watch)?;
            self.horizon = Some((look::end(&mut self.aside, watch)?.position, clock_s));
            self.asked = Instant::now();
        }
        let durable = sink.durable();
        if let Some((_, clock_s)) = self.horizon.take_if(|(end, _)| *end <= durable) {
            sink.caught_up(from_micros(clock_s.saturating_sub(SETTLED_S).saturating_mul(1_000_000)))?;
        }
        Ok(())
    }
}

fn unfit(line: &CheckLine) -> Fault {
    let error = Error::new(
        ErrorKind::SourceRefused,
        format!("The log cannot be captured: {} ({}).", line.what, line.found),
    );
    Fault::Domain(match &line.remedy {
        Some(remedy) => error.with_hint(format!("at the source: {remedy}")),
        None => error,
    })
}
