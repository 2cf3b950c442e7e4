//! The log of a source, captured as it is written, timeline by timeline.
//!
//! A slot of our own keeps at the source what is not durable here yet; the source hears that log is
//! durable only after the sink has said so. Whatever ends a capture, the next one goes on at the byte
//! where the sink ends, or tells exactly which log is missing.

mod descent;
mod follow;
mod slot;

use std::convert::Infallible;
use std::time::Duration;

use strongroom_core::engine::{CancelToken, CheckLine, CheckState, Source, StopReason};
use strongroom_core::logs::{LogOrder, LogPoint, LogPosition, LogRange, LogSink, LogStream};
use strongroom_core::{Error, ErrorKind, Retry};

use self::descent::{Descent, Resumption, Stretch, position, stream, stream_id};
use self::slot::Found;
use crate::backup::history;
use crate::connection::{Connection, Purpose, Watch};
use crate::fault::{Fault, Result, ServerError};
use crate::lsn::{Lsn, SegmentSize};
use crate::server::{self, Settings, System, Version};

/// Time for what is asked of a source beside the stream.
const ASIDE_TIMEOUT: Duration = Duration::from_secs(30);

/// From where log leads on from a backup whose copy is whole at `stop`: a segment is stored from its
/// beginning, also the one in which the backup ended.
pub(crate) fn point(system: System, began: Lsn, stop: Lsn, size: SegmentSize) -> LogPoint {
    let stretch = Stretch::written_now(system.timeline, began);
    let position = LogPosition::start_of(size.segment_of(stop));
    LogPoint { stream: stream_id(system.identifier, stretch), position }
}

/// Captures until it is told to stop, or cannot go on.
pub(crate) fn capture(order: &LogOrder<'_>, sink: &mut dyn LogSink) -> strongroom_core::Result<Infallible> {
    let watch = Watch::new(order.cancel);
    let mut lost: Option<Lost> = None;
    loop {
        let mut session = Session::open(order, &watch)?;
        let start = session.start(sink, lost.as_ref(), &watch)?;
        let (stream, from) = (start.stream.id.clone(), start.from);
        let fault = match session.follow(sink, start, &watch) {
            Ok(never) => match never {},
            Err(fault) => fault,
        };
        match fault.server() {
            Some(error) if is_log_gone(error) => {
                // Log is missing where the capture stands; the same again means that nobody can tell where
                // there is some.
                let again = lost.is_some_and(|before| before.is_at(&stream, from));
                if again {
                    return Err(fault.into());
                }
                sink.flush()?;
                lost = Some(Lost { stream: stream.to_string(), from, words: error.quoted() });
            }
            _ => {
                session.take_leave(sink);
                return Err(explain(fault).into());
            }
        }
    }
}

/// Takes the slot away.
pub(crate) fn release(source: &Source, owner: &str, cancel: &CancelToken) -> strongroom_core::Result<()> {
    let watch = Watch::new(cancel).with_deadline(ASIDE_TIMEOUT);
    let mut connection = Connection::open(source, Purpose::Replication, &watch)?;
    Ok(slot::drop(&mut connection, &slot::name(owner)?, &watch)?)
}

/// What stands in the way of a capture.
pub(crate) fn probe(source: &Source, cancel: &CancelToken) -> strongroom_core::Result<Vec<CheckLine>> {
    let watch = Watch::new(cancel).with_deadline(ASIDE_TIMEOUT);
    let mut connection = Connection::open(source, Purpose::Replication, &watch)?;
    Settings::read(&mut connection, &watch)?.check_supported()?;
    let bound = slot::server_bound(&mut connection, &watch)?;
    let line = CheckLine {
        what: "log kept for captures".to_owned(),
        state: if bound.is_some() { CheckState::Ok } else { CheckState::Missing },
        found: format!("{} is {}", slot::BOUND, bound.as_deref().unwrap_or("-1: without a bound")),
        wanted: "a bound".to_owned(),
        remedy: bound.is_none().then(slot::bound_remedy),
        why: Some(
            "Log that is not captured yet stays at the source. A bound keeps its disk from filling when \
             nobody captures it; what lies beyond is given up, and told."
                .to_owned(),
        ),
    };
    Ok(vec![line])
}

/// Log that the source no longer has.
struct Lost {
    stream: String,
    from: Lsn,
    /// The source's own.
    words: String,
}

impl Lost {
    fn is_at(&self, stream: &strongroom_core::logs::LogStreamId, from: Lsn) -> bool {
        self.stream == stream.as_str() && self.from == from
    }
}

/// What was asked for is removed, or the slot is: by the server's own bound, or by a person.
fn is_log_gone(error: &ServerError) -> bool {
    matches!(error.code.as_str(), "58P01" | "42704" | "55000")
}

fn explain(fault: Fault) -> Fault {
    match fault.server() {
        Some(server) if server.code == "55006" => Fault::Domain(
            Error::new(
                ErrorKind::SourceUnreachable,
                format!(
                    "The source still streams log to a capture before this one: {}. It is asked again.",
                    server.quoted()
                ),
            )
            .with_retry(Retry::Later),
        ),
        _ => fault,
    }
}

/// Where a capture begins.
struct Start {
    stream: LogStream,
    stretch: Stretch,
    from: Lsn,
    gap: Option<String>,
}

/// A connection to the source, and what is known of it.
struct Session<'o> {
    order: &'o LogOrder<'o>,
    connection: Connection,
    system: System,
    version: Version,
    size: SegmentSize,
    slot: String,
    /// What was last received and last heard of the source's clock.
    received: Lsn,
    clock: i64,
}

impl<'o> Session<'o> {
    fn open(order: &'o LogOrder<'o>, watch: &Watch<'_>) -> Result<Self> {
        order.progress.set_phase("connecting");
        let mut connection = Connection::open(order.source, Purpose::Replication, watch)?;
        let system = server::identify(&mut connection, watch)?;
        refuse_another(order, system)?;
        let settings = Settings::read(&mut connection, watch)?;
        settings.check_supported()?;
        slot::refuse_boundless(&mut connection, watch)?;
        Ok(Self {
            order,
            connection,
            system,
            version: settings.version()?,
            size: settings.log_segment_size()?,
            slot: slot::name(order.owner)?,
            received: Lsn(0),
            clock: 0,
        })
    }

    fn start(&mut self, sink: &mut dyn LogSink, lost: Option<&Lost>, watch: &Watch<'_>) -> Result<Start> {
        let mut found = slot::look(&mut self.connection, &self.slot, self.version, watch)?;
        if let Found::Holding(from) = found {
            self.refuse_beyond_bound(sink, from, watch)?;
        }
        // Before a slot is made: one that nothing can be captured with would only fill the source.
        let held = sink.held()?;
        if lost.is_some() || found == Found::Lost {
            slot::drop(&mut self.connection, &self.slot, watch)?;
            found = Found::Absent;
        }
        let reserved = match found {
            Found::Holding(from) => Some(from),
            Found::Absent | Found::Lost | Found::Unknown => {
                slot::create(&mut self.connection, &self.slot, self.version, watch)?
            }
        };
        let descent = self.descent(watch)?;
        let resumed = descent.resume(self.size, |stretch| self.held_until(&held, stretch));
        if let (Some(Resumption { stretch, from }), None) = (resumed, lost) {
            return Ok(Start { stream: self.stream(&descent, stretch, watch)?, stretch, from, gap: None });
        }
        let gap = match (lost, held.is_empty()) {
            (Some(lost), _) => Some(format!("the source no longer has it: {}", lost.words)),
            (None, true) => None,
            (None, false) => Some("the source went on from a state before it".to_owned()),
        };
        let stretch = descent.current();
        let from = self.size.start_of(self.size.segment_of(reserved.unwrap_or(self.system.position)));
        Ok(Start { stream: self.stream(&descent, stretch, watch)?, stretch, from, gap })
    }

    fn held_until(&self, held: &[(LogStream, LogRange)], stretch: Stretch) -> Option<Lsn> {
        let id = stream_id(self.system.identifier, stretch);
        let (_, range) = held.iter().find(|(stream, _)| stream.id == id)?;
        position(self.size, range.until)
    }

    fn descent(&mut self, watch: &Watch<'_>) -> Result<Descent> {
        let timeline = self.system.timeline;
        let switches = match self.history(timeline, watch)? {
            Some(content) => history::switches(&content),
            None => Vec::new(),
        };
        Ok(Descent::new(&switches, timeline))
    }

    /// The history file of a timeline; the first one has none.
    fn history(&mut self, timeline: u32, watch: &Watch<'_>) -> Result<Option<Vec<u8>>> {
        if timeline <= 1 {
            return Ok(None);
        }
        history::fetch(&mut self.connection, timeline, watch).map(Some)
    }

    fn stream(&mut self, descent: &Descent, stretch: Stretch, watch: &Watch<'_>) -> Result<LogStream> {
        let (system, size) = (self.system.identifier, self.size);
        let history = self.history(stretch.timeline, watch)?;
        Ok(stream(system, stretch, descent.origin(system, stretch, size), size, history.as_deref()))
    }

    fn refuse_beyond_bound(&mut self, sink: &mut dyn LogSink, from: Lsn, watch: &Watch<'_>) -> Result<()> {
        let retained = self.system.position.0.saturating_sub(from.0);
        sink.retained(retained);
        if retained <= self.order.retained_bytes_max {
            return Ok(());
        }
        self.give_up(sink, retained, watch).map(|never| match never {})
    }

    /// Lets go of the log that the source keeps: its disk comes before what could be restored.
    fn give_up(&mut self, sink: &mut dyn LogSink, retained: u64, watch: &Watch<'_>) -> Result<Infallible> {
        // The stream's own connection may hang behind all that log.
        let mut aside = Connection::open(self.order.source, Purpose::Replication, watch)?;
        std::mem::swap(&mut aside, &mut self.connection);
        std::mem::drop(aside);
        slot::drop(&mut self.connection, &self.slot, watch)?;
        sink.given_up(retained)?;
        Err(Fault::Domain(
            Error::new(
                ErrorKind::SourceRefused,
                format!(
                    "The source kept {retained} bytes of log that could not be stored in time, more than the {} that it may. \
                     It was let go, so that the source's disk does not fill; what it held is missing from the log archive.",
                    self.order.retained_bytes_max
                ),
            )
            .with_hint("look why the repository is slow or away; a new full backup begins by itself when log is captured again")
            .with_retry(Retry::Later),
        ))
    }

    /// Makes durable what came, and says so, when there is time for it.
    fn take_leave(&mut self, sink: &mut dyn LogSink) {
        let is_asked =
            matches!(self.order.cancel.reason(), Some(StopReason::Draining | StopReason::Cancelled));
        if !is_asked || self.received.0 == 0 {
            return;
        }
        let told = sink
            .flush()
            .map_err(Fault::from)
            .and_then(|()| self.tell(sink, false, &Watch::new(&CancelToken::new())));
        if let Err(fault) = told {
            tracing::debug!("the last log was not told to be durable: {}", Error::from(fault).chain());
        }
    }
}

/// The registered database, and no other (faults.md B03).
fn refuse_another(order: &LogOrder<'_>, system: System) -> Result<()> {
    let (found, known) = (system.identifier.to_string(), &order.identity.system_identifier);
    if found == *known {
        return Ok(());
    }
    Err(Fault::Domain(
        Error::new(
            ErrorKind::SourceRefused,
            format!(
                "Another database answers at this address: its system identifier is {found}, the registered one has {known}. \
                 No log is captured."
            ),
        )
        .with_hint("Correct the address, or register the new database as an instance of its own."),
    ))
}
