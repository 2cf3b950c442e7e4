//! The log that a backup needs: streamed beside the copy, on a connection of its own, and
//! written as whole segments.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use postgres_protocol::message::frontend;
use strongroom_core::engine::{BackupSink, MemberWriter};
use strongroom_core::member::{Dedupe, Member, MemberKind, MemberPath};
use strongroom_core::{Error, ErrorKind, Retry};

use crate::connection::{Connection, Watch};
use crate::fault::{Fault, Result};
use crate::lsn::{Lsn, SegmentSize};
use crate::remedy::quote_identifier;

/// How often a stream that is silent looks whether all the log that is needed is here. A backup of
/// little is over in a tenth of a second; it must not wait half a one for a log it has already.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// How often the server hears from us, and is asked to answer: silence then means it is gone.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);
/// Time for the server to end a stream that we have ended.
const ENDING_TIMEOUT: Duration = Duration::from_secs(10);

/// What is streamed.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogOrder<'a> {
    pub(super) slot: &'a str,
    pub(super) system_identifier: u64,
    pub(super) timeline: u32,
    pub(super) segment_size: SegmentSize,
    pub(super) first_segment: u64,
    /// The position up to which log is needed; 0 until the copy has ended.
    pub(super) needed_up_to: &'a AtomicU64,
}

/// What was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogCapture {
    pub(super) segments: u64,
}

/// Streams from the start of the first segment until everything needed is stored, then lets go
/// of the stream and the slot.
pub(super) fn capture(
    connection: &mut Connection,
    sink: &dyn BackupSink,
    order: &LogOrder<'_>,
    watch: &Watch<'_>,
) -> Result<LogCapture> {
    let start = order.segment_size.start_of(order.first_segment);
    let command = format!(
        "START_REPLICATION SLOT {} PHYSICAL {start} TIMELINE {}",
        quote_identifier(order.slot),
        order.timeline
    );
    connection.start_command(&command, watch)?;
    match connection.receive(watch).map_err(explain_missing_log)?.tag {
        b'W' => {}
        tag => return Err(Fault::hostile(format!("a message of type 0x{tag:02x} where the log begins"))),
    }
    let mut log = SegmentWriter::new(sink, order, start);
    stream(connection, &mut log, order, watch)?;
    let capture = LogCapture { segments: log.finish()? };
    if let Err(fault) = release(connection, order.slot, watch) {
        // The slot is temporary: it goes with the connection at the latest.
        tracing::debug!("the log stream was not ended in good order: {}", Error::from(fault).chain());
    }
    Ok(capture)
}

fn stream(
    connection: &mut Connection,
    log: &mut SegmentWriter<'_>,
    order: &LogOrder<'_>,
    watch: &Watch<'_>,
) -> Result<()> {
    connection.set_tick(LOOK_INTERVAL);
    let mut status_sent = Instant::now();
    let mut advanced = Instant::now();
    let mut server_clock = 0;
    loop {
        let mut wants_status = false;
        if let Some(message) = connection.poll(LOOK_INTERVAL, watch).map_err(explain_missing_log)? {
            match LogMessage::parse(message.tag, message.body)? {
                LogMessage::Data { start, clock, bytes, .. } => {
                    log.write(start, bytes, clock)?;
                    if !bytes.is_empty() {
                        advanced = Instant::now();
                    }
                    server_clock = clock;
                }
                LogMessage::Keepalive { clock, wants_reply, .. } => {
                    wants_status = wants_reply;
                    server_clock = clock;
                }
            }
        }
        let needed = order.needed_up_to.load(Ordering::Acquire);
        if needed > 0 {
            if log.position.0 >= needed {
                return Ok(());
            }
            if advanced.elapsed() > watch.silence_max {
                return Err(log_does_not_come(Lsn(needed), log.position));
            }
        } else {
            // Before the end is known, no log may simply mean that nobody writes.
            advanced = Instant::now();
        }
        let is_due = status_sent.elapsed() >= STATUS_INTERVAL;
        if wants_status || is_due || log.has_finished_segment() {
            connection.send(&status_update(log.position, log.position, server_clock, is_due), watch)?;
            status_sent = Instant::now();
        }
    }
}

/// Ends the stream and drops the slot while somebody still listens.
fn release(connection: &mut Connection, slot: &str, watch: &Watch<'_>) -> Result<()> {
    let watch = &watch.with_deadline(ENDING_TIMEOUT);
    let mut done = BytesMut::new();
    frontend::copy_done(&mut done);
    connection.send(&done, watch)?;
    while connection.receive(watch)?.tag != b'Z' {}
    connection.query(&format!("DROP_REPLICATION_SLOT {}", quote_identifier(slot)), watch)?;
    Ok(())
}

pub(crate) enum LogMessage<'a> {
    /// `end` is where the server's log ended when its clock stood at `clock`.
    Data { start: Lsn, end: Lsn, clock: i64, bytes: &'a [u8] },
    /// `end` is how far log was sent.
    Keepalive { end: Lsn, clock: i64, wants_reply: bool },
}

impl<'a> LogMessage<'a> {
    pub(crate) fn parse(tag: u8, body: &'a [u8]) -> Result<Self> {
        let malformed = || Fault::hostile("a malformed message in the log stream");
        let content = match tag {
            b'd' => body,
            b'c' => return Err(timeline_ended()),
            // The farewell of a server that shuts down in good order.
            b'C' => return Err(Fault::unreachable("The source is shutting down.")),
            tag => return Err(Fault::hostile(format!("a message of type 0x{tag:02x} in the log stream"))),
        };
        let (kind, rest) = content.split_first().ok_or_else(malformed)?;
        match kind {
            b'w' => {
                let (start, rest) = rest.split_first_chunk().ok_or_else(malformed)?;
                let (end, rest) = rest.split_first_chunk().ok_or_else(malformed)?;
                let (clock, bytes) = rest.split_first_chunk().ok_or_else(malformed)?;
                let (start, end) = (Lsn(u64::from_be_bytes(*start)), Lsn(u64::from_be_bytes(*end)));
                Ok(Self::Data { start, end, clock: i64::from_be_bytes(*clock), bytes })
            }
            b'k' => {
                let (end, rest) = rest.split_first_chunk().ok_or_else(malformed)?;
                let (clock, rest) = rest.split_first_chunk().ok_or_else(malformed)?;
                let (end, clock) = (Lsn(u64::from_be_bytes(*end)), i64::from_be_bytes(*clock));
                let wants_reply = rest.first().is_some_and(|flag| *flag != 0);
                Ok(Self::Keepalive { end, clock, wants_reply })
            }
            _ => Err(malformed()),
        }
    }
}

/// A standby status update: written, flushed, applied, clock, and whether we want an answer.
/// Flushed lets the server delete log, and a server that shuts down waits until all of it is
/// flushed. A broken attempt of a backup is thrown away whole, so everything that was handed to its
/// sink counts. The clock is the server's own, sent back.
pub(crate) fn status_update(written: Lsn, flushed: Lsn, clock: i64, wants_reply: bool) -> BytesMut {
    let mut body = BytesMut::with_capacity(34);
    body.put_u8(b'r');
    body.put_u64(written.0);
    body.put_u64(flushed.0);
    body.put_u64(0);
    body.put_i64(clock);
    body.put_u8(u8::from(wants_reply));
    let mut message = BytesMut::with_capacity(39);
    frontend::CopyData::new(body).expect("34 bytes fit a message").write(&mut message);
    message
}

/// The header of a segment's first page, as far as it is looked at.
pub(crate) const SEGMENT_HEAD_SIZE_BYTES: usize = 36;

/// Whether a segment's first page says that it is of this system, begins here and has this size.
pub(crate) fn is_head_of(
    head: &[u8; SEGMENT_HEAD_SIZE_BYTES],
    system_identifier: u64,
    start: Lsn,
    size: SegmentSize,
) -> bool {
    let quad =
        |at: usize| head[at..at + 8].iter().rev().fold(0_u64, |value, byte| (value << 8) | u64::from(*byte));
    let bytes = u64::from_le_bytes([head[32], head[33], head[34], head[35], 0, 0, 0, 0]);
    quad(8) == start.0 && quad(24) == system_identifier && bytes == size.bytes()
}

/// Cuts the stream into segments and stores each as a member.
struct SegmentWriter<'s> {
    sink: &'s dyn BackupSink,
    system_identifier: u64,
    timeline: u32,
    size: SegmentSize,
    /// Where the next byte belongs.
    position: Lsn,
    current: Option<Box<dyn MemberWriter + 's>>,
    head: Vec<u8>,
    finished: u64,
    /// Finished segments that the server has heard of.
    reported: u64,
}

impl<'s> SegmentWriter<'s> {
    fn new(sink: &'s dyn BackupSink, order: &LogOrder<'_>, start: Lsn) -> Self {
        Self {
            sink,
            system_identifier: order.system_identifier,
            timeline: order.timeline,
            size: order.segment_size,
            position: start,
            current: None,
            head: Vec::with_capacity(SEGMENT_HEAD_SIZE_BYTES),
            finished: 0,
            reported: 0,
        }
    }

    fn write(&mut self, start: Lsn, mut bytes: &[u8], clock: i64) -> Result<()> {
        if start != self.position {
            return Err(Fault::hostile(format!("log from {start} where log from {} follows", self.position)));
        }
        if start.0.checked_add(bytes.len() as u64).is_none() {
            return Err(Fault::hostile("log beyond the last position there is"));
        }
        while !bytes.is_empty() {
            let segment = self.size.segment_of(self.position);
            let left = self.size.left_in(self.position);
            let (piece, rest) = bytes.split_at(bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
            if self.current.is_none() {
                self.current = Some(self.open(segment, clock)?);
            }
            self.check_head(segment, piece)?;
            if let Some(writer) = &mut self.current {
                writer.write(piece)?;
            }
            self.position.0 += piece.len() as u64;
            if piece.len() as u64 == left {
                self.finish_segment()?;
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Whether a segment was finished since this was last asked.
    fn has_finished_segment(&mut self) -> bool {
        let has_finished = self.finished > self.reported;
        self.reported = self.finished;
        has_finished
    }

    fn open(&mut self, segment: u64, clock: i64) -> Result<Box<dyn MemberWriter + 's>> {
        self.head.clear();
        let name = self.size.file_name(self.timeline, segment);
        let path = MemberPath::parse(format!("wal/{name}").as_bytes())?;
        Ok(self.sink.open(Member {
            path,
            kind: MemberKind::File,
            size: Some(self.size.bytes()),
            mode: 0o600,
            mtime_s: seconds_since_epoch(clock),
            page_size: 0,
            dedupe: Dedupe::Never,
        })?)
    }

    /// The first page of every segment names its system, its place and its size: a proxy that
    /// changed to another server under our feet is noticed here (faults.md B02).
    fn check_head(&mut self, segment: u64, piece: &[u8]) -> Result<()> {
        let missing = SEGMENT_HEAD_SIZE_BYTES - self.head.len();
        if missing == 0 {
            return Ok(());
        }
        self.head.extend_from_slice(&piece[..piece.len().min(missing)]);
        let Some((head, _)) = self.head.split_first_chunk::<SEGMENT_HEAD_SIZE_BYTES>() else { return Ok(()) };
        let is_right = is_head_of(head, self.system_identifier, self.size.start_of(segment), self.size);
        if is_right {
            return Ok(());
        }
        Err(Fault::hostile("a log segment of another system or place"))
    }

    fn finish_segment(&mut self) -> Result<()> {
        if let Some(writer) = self.current.take() {
            writer.finish()?;
            self.finished += 1;
        }
        Ok(())
    }

    /// Pads the segment that is being written with zeros, as the server itself would, and
    /// answers with the number of segments.
    fn finish(mut self) -> Result<u64> {
        static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
        if let Some(writer) = &mut self.current {
            let left = self.size.left_in(self.position);
            let mut left = usize::try_from(left).expect("a segment has at most 1 GiB");
            while left > 0 {
                let piece = left.min(ZEROS.len());
                writer.write(&ZEROS[..piece])?;
                left -= piece;
            }
        }
        self.finish_segment()?;
        Ok(self.finished)
    }
}

/// From the epoch to where the server begins to count microseconds.
pub(crate) const SECONDS_TO_2000: i64 = 946_684_800;

/// The server counts microseconds from the year 2000.
fn seconds_since_epoch(clock: i64) -> i64 {
    clock.div_euclid(1_000_000).saturating_add(SECONDS_TO_2000)
}

fn timeline_ended() -> Fault {
    Fault::Domain(
        Error::new(
            ErrorKind::SourceUnreachable,
            "The source ended its timeline during the backup (it was promoted, or follows a new primary). This copy is void.",
        )
        .with_retry(Retry::Later),
    )
}

fn log_does_not_come(needed: Lsn, position: Lsn) -> Fault {
    Fault::Domain(
        Error::new(
            ErrorKind::SourceUnreachable,
            format!(
                "The copy is complete, but its log is needed up to {needed} and came only up to {position}. \
                 This copy is void."
            ),
        )
        .with_hint("If the source is a standby, check that it still receives log from its primary."),
    )
}

/// "Requested WAL segment has already been removed" is the one refusal that needs advice.
fn explain_missing_log(fault: Fault) -> Fault {
    match fault.server() {
        Some(server) if server.code == "58P01" => Fault::Domain(
            Error::new(
                ErrorKind::SourceRefused,
                format!(
                    "The source no longer has log that the backup needs: {}. This copy is void.",
                    server.quoted()
                ),
            )
            .with_hint("Raise max_slot_wal_keep_size on the source, or set it to -1 (no limit).")
            .with_retry(Retry::Later),
        ),
        _ => fault,
    }
}

#[cfg(test)]
#[path = "wal_tests.rs"]
mod tests;
