//! Following the log: bytes into the sink, what is durable back to the source, from timeline to
//! timeline.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use strongroom_core::logs::{LogPoint, LogSink};
use strongroom_core::time::from_micros;

use super::descent::{Stretch, place, position, stream};
use super::{Session, Start};
use crate::backup::wal::{LogMessage, SECONDS_TO_2000, SEGMENT_HEAD_SIZE_BYTES, is_head_of, status_update};
use crate::connection::{Asides, Row, Watch};
use crate::fault::{Fault, Result};
use crate::lsn::{Lsn, SegmentSize};
use crate::remedy::quote_identifier;

/// How long one look at the connection lasts: what gathered must become durable meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How often the source hears from us, and is asked to answer: a silent one still tells its clock.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);
/// A transaction has its time a little before its log is written: what the source says of now is held
/// to be so of a moment ago.
const SETTLED_US: i64 = 1_000_000;

/// Where a timeline ended, and which one follows.
struct Switch {
    timeline: u32,
    position: Lsn,
}

/// Where the source's log ended at some time.
#[derive(Debug, Clone, Copy)]
struct Horizon {
    end: Lsn,
    clock: i64,
}

impl Session<'_> {
    pub(super) fn follow(
        &mut self,
        sink: &mut dyn LogSink,
        mut at: Start,
        watch: &Watch<'_>,
    ) -> Result<Infallible> {
        self.order.progress.set_phase("capturing");
        loop {
            sink.begin(&at.stream, place(self.size, at.from), at.gap.as_deref())?;
            let switch = self.stream_timeline(sink, &at, watch)?;
            tracing::info!(
                timeline = switch.timeline, position = %switch.position, "The source went on to another timeline."
            );
            sink.flush()?;
            at = self.next(&at, &switch, watch)?;
        }
    }

    /// The timeline after this one, from the segment on in which it begins.
    fn next(&mut self, at: &Start, switch: &Switch, watch: &Watch<'_>) -> Result<Start> {
        if switch.timeline <= at.stretch.timeline {
            return Err(Fault::hostile("a timeline that follows a later one"));
        }
        let (system, size) = (self.system.identifier, self.size);
        let stretch = Stretch::written_now(switch.timeline, switch.position);
        let origin = LogPoint { stream: at.stream.id.clone(), position: place(size, switch.position) };
        let history = self.history(switch.timeline, watch)?;
        let from = size.start_of(size.segment_of(switch.position));
        let stream = stream(system, stretch, Some(origin), size, history.as_deref());
        Ok(Start { stream, stretch, from, gap: None })
    }

    fn stream_timeline(&mut self, sink: &mut dyn LogSink, at: &Start, watch: &Watch<'_>) -> Result<Switch> {
        let command = format!(
            "START_REPLICATION SLOT {} PHYSICAL {} TIMELINE {}",
            quote_identifier(&self.slot),
            at.from,
            at.stretch.timeline
        );
        self.connection.start_command(&command, watch)?;
        match self.connection.peek(watch)? {
            b'W' => {
                self.connection.receive(watch)?;
            }
            // There is nothing of it that is not here: only what follows is told.
            b'T' => return self.read_switch(watch),
            tag => return Err(Fault::hostile(format!("a message of type 0x{tag:02x} where the log begins"))),
        }
        self.connection.set_tick(LOOK_INTERVAL);
        let mut cutter = Cutter::new(self.size, self.system.identifier, at.from);
        let (mut told, mut told_at) = (Lsn(0), Instant::now());
        let mut horizon: Option<Horizon> = None;
        loop {
            let look = self.look(sink, &mut cutter, watch)?;
            if look.has_ended {
                return self.leave_timeline(watch);
            }
            if sink.is_flush_due() {
                sink.flush()?;
            }
            let durable = self.durable(sink);
            // One at a time: under load the newest is always ahead of what is durable.
            if horizon.is_none() {
                horizon = look.horizon;
            }
            if let Some(Horizon { clock, .. }) = horizon.filter(|horizon| horizon.end <= durable) {
                let micros = clock.saturating_add(SECONDS_TO_2000 * 1_000_000).saturating_sub(SETTLED_US);
                sink.caught_up(from_micros(micros))?;
                horizon = None;
            }
            let retained = cutter.source_end.0.saturating_sub(durable.0);
            sink.retained(retained);
            if retained > self.order.retained_bytes_max {
                return self.give_up(sink, retained, watch).map(|never| match never {});
            }
            let is_due = told_at.elapsed() >= STATUS_INTERVAL;
            if look.wants_status || is_due || durable > told {
                self.tell(sink, is_due, watch)?;
                told = durable;
                if is_due {
                    told_at = Instant::now();
                }
            }
        }
    }

    /// Takes one message, when one is there.
    fn look(&mut self, sink: &mut dyn LogSink, cutter: &mut Cutter, watch: &Watch<'_>) -> Result<Look> {
        let mut look = Look::default();
        let Some(message) = self.connection.poll(LOOK_INTERVAL, watch)? else { return Ok(look) };
        if message.tag == b'c' {
            look.has_ended = true;
            return Ok(look);
        }
        match LogMessage::parse(message.tag, message.body)? {
            LogMessage::Data { start, end, clock, bytes } => {
                cutter.write(sink, start, bytes)?;
                cutter.source_end = cutter.source_end.max(end);
                look.horizon = Some(Horizon { end, clock });
                self.order.progress.add_done(bytes.len() as u64);
                (self.received, self.clock) = (cutter.position, clock);
            }
            LogMessage::Keepalive { end, clock, wants_reply } => {
                look.wants_status = wants_reply;
                // It tells how far log was sent. That is where it ends, unless more was known before.
                if end >= cutter.source_end && end == cutter.position {
                    look.horizon = Some(Horizon { end, clock });
                }
                (self.received, self.clock) = (cutter.position, clock);
            }
        }
        Ok(look)
    }

    fn durable(&self, sink: &dyn LogSink) -> Lsn {
        position(self.size, sink.durable()).unwrap_or(Lsn(0))
    }

    /// Says what came, and what of it is durable: only that lets the source take its log away.
    pub(super) fn tell(&mut self, sink: &dyn LogSink, wants_reply: bool, watch: &Watch<'_>) -> Result<()> {
        let durable = self.durable(sink);
        let update = status_update(self.received.max(durable), durable, self.clock, wants_reply);
        self.connection.send(&update, watch)
    }

    /// The source has ended the stream: the timeline is over.
    fn leave_timeline(&mut self, watch: &Watch<'_>) -> Result<Switch> {
        let mut done = BytesMut::new();
        frontend::copy_done(&mut done);
        self.connection.send(&done, watch)?;
        self.read_switch(watch)
    }

    fn read_switch(&mut self, watch: &Watch<'_>) -> Result<Switch> {
        let (mut switch, mut asides) = (None, Asides::default());
        // What was on its way when the stream was ended may still come, and no more than that.
        let watch = &watch.with_deadline(watch.silence_max);
        loop {
            let message = self.connection.receive(watch)?;
            match message.tag {
                b'D' => {
                    let row = Row::decode(message.body)?;
                    let position =
                        Lsn::parse(row.text(1)?).ok_or_else(|| Fault::hostile("a malformed log position"))?;
                    switch = Some(Switch { timeline: row.parse(0)?, position });
                    asides.count()?;
                }
                b'Z' => break,
                b'T' | b'C' | b'c' => asides.count()?,
                b'd' => {}
                tag => {
                    let what = format!("a message of type 0x{tag:02x} at the end of a timeline");
                    return Err(Fault::hostile(what));
                }
            }
        }
        switch.ok_or_else(|| Fault::unreachable("The source ended its stream of log."))
    }
}

/// What one look at the connection brought.
#[derive(Default)]
struct Look {
    has_ended: bool,
    wants_status: bool,
    horizon: Option<Horizon>,
}

/// Cuts the stream into segments.
struct Cutter {
    size: SegmentSize,
    system_identifier: u64,
    /// Where the next byte belongs.
    position: Lsn,
    /// Where the source's log ended when it was last heard of.
    source_end: Lsn,
    head: Vec<u8>,
}

impl Cutter {
    fn new(size: SegmentSize, system_identifier: u64, from: Lsn) -> Self {
        let head = Vec::with_capacity(SEGMENT_HEAD_SIZE_BYTES);
        Self { size, system_identifier, position: from, source_end: from, head }
    }

    fn write(&mut self, sink: &mut dyn LogSink, start: Lsn, mut bytes: &[u8]) -> Result<()> {
        if start != self.position {
            return Err(Fault::hostile(format!("log from {start} where log from {} follows", self.position)));
        }
        if start.0.checked_add(bytes.len() as u64).is_none() {
            return Err(Fault::hostile("log beyond the last position there is"));
        }
        while !bytes.is_empty() {
            let left = self.size.left_in(self.position);
            let (piece, rest) = bytes.split_at(bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
            self.check_head(piece)?;
            sink.write(piece)?;
            self.position.0 += piece.len() as u64;
            if piece.len() as u64 == left {
                sink.finish_file()?;
            }
            bytes = rest;
        }
        Ok(())
    }

    /// As a backup does (faults.md B02). What begins in the middle of a segment has no head.
    fn check_head(&mut self, piece: &[u8]) -> Result<()> {
        let offset = self.position.0 % self.size.bytes();
        if offset == 0 {
            self.head.clear();
        }
        let missing = SEGMENT_HEAD_SIZE_BYTES - self.head.len();
        if missing == 0 || offset != self.head.len() as u64 {
            return Ok(());
        }
        self.head.extend_from_slice(&piece[..piece.len().min(missing)]);
        let Some((head, _)) = self.head.split_first_chunk::<SEGMENT_HEAD_SIZE_BYTES>() else { return Ok(()) };
        let start = self.size.start_of(self.size.segment_of(self.position));
        if is_head_of(head, self.system_identifier, start, self.size) {
            return Ok(());
        }
        Err(Fault::hostile("a log segment of another system or place"))
    }
}
