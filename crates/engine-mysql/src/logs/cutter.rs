//! What a source sends of its binary log, judged and cut into files: every event in its place, and no
//! byte that was not there.

use std::time::Duration;

use sha2::{Digest, Sha256};
use strongroom_core::foreign_text::for_people;
use strongroom_core::logs::LogSink;
use strongroom_core::{Error, ErrorKind, Retry};

use super::event::{self, HEAD_SIZE_BYTES, Head, Judgement, MAGIC, file_of, kind, name_of};
use super::walk::Held;
use crate::connection::{Connection, Incoming, Watch};
use crate::fault::{Fault, Result, ServerError};

/// Up to this size nothing of an event is stored before its checksum was seen to be right.
const WHOLE_SIZE_BYTES_MAX: u32 = 4 << 20;
/// Of an error report.
const REPORT_SIZE_BYTES_MAX: usize = 16 << 10;

/// Where the log stands, and what of it is held already.
pub(super) struct Cutter {
    base: String,
    number: u64,
    /// Where the next event begins in the source's file.
    position: u64,
    known: Known,
    /// The first event of the file, as it is held. It comes again before log from the file's middle.
    format: Option<Vec<u8>>,
    repeats_format: bool,
    has_checksums: bool,
    event: Vec<u8>,
}

/// Bytes that are held: what comes in their place must be the same.
struct Known {
    left: u64,
    came: Sha256,
    digest: [u8; 32],
}

impl Cutter {
    /// Behind what is held of this file.
    pub(super) fn new(base: &str, number: u64, held: Held) -> Self {
        Self {
            base: base.to_owned(),
            number,
            position: held.whole,
            known: Known { left: held.tail_bytes, came: Sha256::new(), digest: held.tail },
            format: held.format,
            repeats_format: false,
            has_checksums: true,
            event: Vec::new(),
        }
    }

    /// What the source is asked for: a file, and a place in it. Before the first event it sends nothing.
    pub(super) fn wanted(&self) -> (String, u64) {
        (name_of(&self.base, self.number), self.position.max(MAGIC.len() as u64))
    }

    pub(super) fn begin(&mut self, sink: &mut dyn LogSink) -> Result<()> {
        if self.position == 0 {
            self.put(sink, &MAGIC)?;
            self.position = MAGIC.len() as u64;
        }
        Ok(())
    }

    /// Takes one event, when one comes; answers how many bytes it has.
    pub(super) fn look(
        &mut self,
        connection: &mut Connection,
        sink: &mut dyn LogSink,
        limit: Duration,
        watch: &Watch<'_>,
    ) -> Result<u64> {
        let Some(mut body) = connection.incoming(limit, watch)? else { return Ok(0) };
        let mut event = std::mem::take(&mut self.event);
        event.clear();
        connection.gather(&mut body, 1, &mut event, watch)?;
        match event.pop() {
            Some(0) => {}
            Some(0xff) => return Err(refusal(connection, &mut body, watch)?),
            Some(0xfe) => return Err(Fault::lost("The source ended its stream of log.")),
            _ => return Err(Fault::hostile("a packet in its binary log that is none")),
        }
        connection.gather(&mut body, HEAD_SIZE_BYTES, &mut event, watch)?;
        let head = match event.first_chunk() {
            Some(raw) => Head::parse(raw)?,
            None => return Err(Fault::hostile("an event without a head")),
        };
        if head.size <= WHOLE_SIZE_BYTES_MAX {
            connection.gather(&mut body, head.size as usize - HEAD_SIZE_BYTES, &mut event, watch)?;
            self.take(sink, head, &event)?;
        } else {
            self.pass(connection, &mut body, sink, head, &event, watch)?;
        }
        self.event = event;
        if connection.piece(&mut body, 1, watch)?.is_empty() {
            return Ok(u64::from(head.size));
        }
        Err(Fault::hostile("more than an event in a packet"))
    }

    fn take(&mut self, sink: &mut dyn LogSink, head: Head, event: &[u8]) -> Result<()> {
        if head.is_heartbeat() {
            return Ok(());
        }
        if head.kind == kind::ROTATE && head.is_artificial() {
            // It has a checksum when what came before it has.
            let (place, name) = event::rotation(event, event::is_right(event))?;
            return self.turn(sink, place, name);
        }
        if head.kind == kind::FORMAT && std::mem::take(&mut self.repeats_format) {
            return self.compare_format(event);
        }
        self.check_place(head)?;
        if head.kind == kind::FORMAT {
            self.has_checksums = event::format_has_checksums(event)?;
        } else if self.has_checksums && !event::is_right(event) {
            return Err(self.damaged());
        }
        self.put(sink, event)?;
        self.position += u64::from(head.size);
        if head.kind == kind::ROTATE {
            let (_, name) = event::rotation(event, self.has_checksums)?;
            if file_of(name)? != (self.base.as_str(), self.number + 1) {
                return Err(self.unexpected(name));
            }
            self.end_file(sink)?;
        }
        Ok(())
    }

    /// Passes on an event that is too large to be held back, and judges it at its end.
    fn pass(
        &mut self,
        connection: &mut Connection,
        body: &mut Incoming,
        sink: &mut dyn LogSink,
        head: Head,
        begun: &[u8],
        watch: &Watch<'_>,
    ) -> Result<()> {
        if matches!(head.kind, kind::ROTATE | kind::FORMAT) || head.is_heartbeat() {
            return Err(Fault::hostile("an event that is too large for its kind"));
        }
        self.check_place(head)?;
        self.put(sink, begun)?;
        let mut judgement = Judgement::new(head.size);
        judgement.add(begun);
        let mut left = head.size as usize - HEAD_SIZE_BYTES;
        while left > 0 {
            let piece = connection.piece(body, left, watch)?;
            if piece.is_empty() {
                return Err(Fault::hostile("a packet that is shorter than its event"));
            }
            judgement.add(piece);
            left -= piece.len();
            self.put(sink, piece)?;
        }
        if self.has_checksums && !judgement.is_right() {
            return Err(self.damaged());
        }
        self.position += u64::from(head.size);
        Ok(())
    }

    /// The source says which file it sends from now on.
    fn turn(&mut self, sink: &mut dyn LogSink, place: u64, name: &[u8]) -> Result<()> {
        let begin = MAGIC.len() as u64;
        match file_of(name)? {
            (base, number) if base == self.base && number == self.number && place == self.position => {
                self.repeats_format = place > begin;
                Ok(())
            }
            // A file that ended without a word of the next one: the server was stopped, or it crashed.
            (base, number) if base == self.base && number == self.number + 1 && place == begin => {
                self.end_file(sink)
            }
            _ => Err(self.unexpected(name)),
        }
    }

    fn end_file(&mut self, sink: &mut dyn LogSink) -> Result<()> {
        if self.known.left > 0 {
            return Err(other_log(&name_of(&self.base, self.number)));
        }
        sink.finish_file()?;
        self.number += 1;
        (self.position, self.format) = (0, None);
        self.begin(sink)
    }

    fn check_place(&self, head: Head) -> Result<()> {
        let end = self.position + u64::from(head.size);
        // The place stands in four bytes, and a file may be larger than they can say.
        if !head.is_artificial() && u64::from(head.end) == end & u64::from(u32::MAX) {
            return Ok(());
        }
        Err(Fault::hostile(format!(
            "an event of {} bytes that ends at {} of {}, where one from {} on follows",
            head.size,
            head.end,
            name_of(&self.base, self.number),
            self.position
        )))
    }

    /// No two files begin with the same event: it says when they were begun.
    fn compare_format(&mut self, event: &[u8]) -> Result<()> {
        if self.format.as_deref().is_some_and(|held| held != event) {
            return Err(other_log(&name_of(&self.base, self.number)));
        }
        self.has_checksums = event::format_has_checksums(event)?;
        Ok(())
    }

    /// Hands on what is not held yet.
    fn put(&mut self, sink: &mut dyn LogSink, bytes: &[u8]) -> Result<()> {
        let known = &mut self.known;
        let count = usize::try_from(known.left).unwrap_or(usize::MAX).min(bytes.len());
        if count > 0 {
            known.came.update(&bytes[..count]);
            known.left -= count as u64;
            if known.left == 0 && known.came.finalize_reset()[..] != known.digest {
                return Err(other_log(&name_of(&self.base, self.number)));
            }
        }
        if count < bytes.len() {
            sink.write(&bytes[count..])?;
        }
        Ok(())
    }

    fn damaged(&self) -> Fault {
        let (file, place) = self.wanted();
        let next = name_of(&self.base, self.number + 1);
        Fault::Domain(
            Error::new(
                ErrorKind::SourceRefused,
                format!("The binary log of the source is damaged: the event of {file} at {place} has a wrong checksum. No log after it is captured."),
            )
            .with_hint(format!(
                "Look at it with mysqlbinlog --verify-binlog-checksum. PURGE BINARY LOGS TO '{next}' gives it up: \
                 the gap is told, and a full backup begins by itself."
            ))
            .with_retry(Retry::Later),
        )
    }

    fn unexpected(&self, name: &[u8]) -> Fault {
        Fault::hostile(format!("{} where {} goes on", for_people(name), name_of(&self.base, self.number)))
    }
}

/// The source has other log in the place of what is held.
fn other_log(file: &str) -> Fault {
    Fault::Domain(
        Error::new(
            ErrorKind::SourceRefused,
            format!("The source has another {file} than the one that is stored. What is stored was kept; no log is captured."),
        )
        .with_hint(
            "Its binary logs were reset. Capture goes on by itself when their numbers are past those that are stored: \
             RESET BINARY LOGS AND GTIDS TO n, or remove the instance and add it again.",
        )
        .with_retry(Retry::Later),
    )
}

/// What the source says instead of log.
fn refusal(connection: &mut Connection, body: &mut Incoming, watch: &Watch<'_>) -> Result<Fault> {
    let mut report = vec![0xff];
    while report.len() < REPORT_SIZE_BYTES_MAX {
        let piece = connection.piece(body, REPORT_SIZE_BYTES_MAX - report.len(), watch)?;
        if piece.is_empty() {
            break;
        }
        report.extend_from_slice(piece);
    }
    Ok(Fault::Server(Box::new(ServerError::decode(&report))))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use strongroom_core::logs::{LogPosition, LogRange, LogStream, LogStreamId};

    use super::super::checksum::Checksum;
    use super::super::fuzzing::made;
    use super::super::walk::Walk;
    use super::*;

    /// What a sink was given, file by file.
    struct Given(Vec<Vec<u8>>);

    impl LogSink for Given {
        fn held(&mut self) -> strongroom_core::Result<Vec<(LogStream, LogRange)>> {
            Ok(Vec::new())
        }

        fn read(
            &mut self,
            _stream: &LogStreamId,
            _range: LogRange,
            _take: &mut dyn FnMut(LogPosition, &[u8]) -> strongroom_core::Result<()>,
        ) -> strongroom_core::Result<()> {
            Ok(())
        }

        fn begin(&mut self, _: &LogStream, _: LogPosition, _: Option<&str>) -> strongroom_core::Result<()> {
            Ok(())
        }

        fn write(&mut self, bytes: &[u8]) -> strongroom_core::Result<()> {
            self.0.last_mut().unwrap().extend_from_slice(bytes);
            Ok(())
        }

        fn finish_file(&mut self) -> strongroom_core::Result<()> {
            self.0.push(Vec::new());
            Ok(())
        }

        fn flush(&mut self) -> strongroom_core::Result<()> {
            Ok(())
        }

        fn is_flush_due(&self) -> bool {
            false
        }

        fn durable(&self) -> LogPosition {
            LogPosition::start_of(0)
        }

        fn caught_up(&mut self, _: Timestamp) -> strongroom_core::Result<()> {
            Ok(())
        }

        fn retained(&mut self, _: u64) {}

        fn given_up(&mut self, _: u64) -> strongroom_core::Result<()> {
            Ok(())
        }
    }

    fn give(cutter: &mut Cutter, sink: &mut Given, event: &[u8]) -> Result<()> {
        cutter.take(sink, Head::parse(event.first_chunk().unwrap()).unwrap(), event)
    }

    fn format(seconds: u8) -> Vec<u8> {
        made(kind::FORMAT, &[&[4, 0][..], &[seconds; 90], &[1]].concat(), 4)
    }

    /// A word about the file that follows; it is in no file.
    fn told(place: u64, name: &str) -> Vec<u8> {
        let mut event = made(kind::ROTATE, &[&place.to_le_bytes(), name.as_bytes()].concat(), 0);
        event.truncate(event.len() - 4);
        event[17] = 0x20;
        event.extend_from_slice(&Checksum::of(&event).to_le_bytes());
        event
    }

    /// Held is a file with its first event, another, and the beginning of a third.
    fn held(beginning: &[u8]) -> (Held, Vec<u8>) {
        let mut file = [&MAGIC[..], &format(1)].concat();
        file.extend_from_slice(&made(30, &[5; 50], file.len() as u64));
        let mut walk = Walk::new();
        walk.take(&file).unwrap();
        walk.take(beginning).unwrap();
        (walk.end(), file)
    }

    #[test]
    fn log_goes_on_in_the_middle_of_an_event_and_over_files() {
        let (_, file) = held(&[]);
        let third = made(30, &[6; 70], file.len() as u64);
        let (known, _) = held(&third[..40]);
        let mut cutter = Cutter::new("b", 7, known);
        assert_eq!(cutter.wanted(), ("b.000007".to_owned(), file.len() as u64));
        let mut sink = Given(vec![Vec::new()]);
        cutter.begin(&mut sink).unwrap();
        give(&mut cutter, &mut sink, &told(file.len() as u64, "b.000007")).unwrap();
        give(&mut cutter, &mut sink, &format(1)).unwrap();
        assert_eq!(sink.0, [Vec::<u8>::new()], "it is held");
        give(&mut cutter, &mut sink, &third).unwrap();
        assert_eq!(sink.0, [third[40..].to_vec()]);
        // The server was stopped: nothing in the file names the next.
        give(&mut cutter, &mut sink, &told(4, "b.000008")).unwrap();
        give(&mut cutter, &mut sink, &format(2)).unwrap();
        let rotate =
            made(kind::ROTATE, &[&4_u64.to_le_bytes()[..], b"b.000009"].concat(), 4 + format(2).len() as u64);
        give(&mut cutter, &mut sink, &rotate).unwrap();
        give(&mut cutter, &mut sink, &told(4, "b.000009")).unwrap();
        assert_eq!(sink.0[1..], [[&MAGIC[..], &format(2), &rotate].concat(), MAGIC.to_vec()]);
    }

    #[test]
    fn h06_what_does_not_follow_is_not_stored() {
        let (_, file) = held(&[]);
        let at = file.len() as u64;
        let mut torn = made(30, &[6; 70], at);
        torn[30] ^= 1;
        let next = |name: &str| made(kind::ROTATE, &[&4_u64.to_le_bytes()[..], name.as_bytes()].concat(), at);
        let mut strange = made(30, &[6; 70], at);
        strange[17] = 0x20;
        let cases = [
            torn,
            made(30, &[6; 70], at + 1),
            made(30, &[6; 70], 4),
            strange,
            told(4, "b.000009"),
            told(at + 1, "b.000007"),
            told(at, "c.000007"),
            told(at, "b"),
            next("b.000007"),
            next("c.000008"),
        ];
        for (case, event) in cases.iter().enumerate() {
            let (known, _) = held(&[]);
            let (mut cutter, mut sink) = (Cutter::new("b", 7, known), Given(vec![Vec::new()]));
            assert!(give(&mut cutter, &mut sink, event).is_err(), "{case}");
            // The one that names another file is itself in its place.
            assert!(sink.0.len() == 1 && (sink.0[0].is_empty() || case >= 8), "{case}");
        }
    }

    #[test]
    fn v03_other_log_in_the_place_of_what_is_held_is_refused() {
        let (known, file) = held(&[]);
        let (mut cutter, mut sink) = (Cutter::new("b", 7, known), Given(vec![Vec::new()]));
        give(&mut cutter, &mut sink, &told(file.len() as u64, "b.000007")).unwrap();
        let refused = Error::from(give(&mut cutter, &mut sink, &format(9)).unwrap_err());
        assert!(refused.public().contains("another b.000007"), "{refused}");
        // What is held begins otherwise than what comes.
        let at = file.len() as u64;
        let (known, _) = held(&made(30, &[7; 70], at)[..60]);
        let mut cutter = Cutter::new("b", 7, known);
        assert!(give(&mut cutter, &mut sink, &made(30, &[6; 70], at)).is_err());
        // And it may not end before what is held has come.
        let (known, _) = held(&made(30, &[7; 70], at)[..60]);
        let mut cutter = Cutter::new("b", 7, known);
        assert!(give(&mut cutter, &mut sink, &told(4, "b.000008")).is_err());
        assert_eq!(sink.0, [Vec::<u8>::new()]);
    }

    #[test]
    fn places_beyond_four_bytes_are_known_by_their_lower_half() {
        let (known, _) = held(&[]);
        let (mut cutter, mut sink) = (Cutter::new("b", 7, known), Given(vec![Vec::new()]));
        cutter.position = (1 << 32) - 10;
        give(&mut cutter, &mut sink, &made(30, &[6; 70], (1 << 32) - 10)).unwrap();
        give(&mut cutter, &mut sink, &made(30, &[6; 70], (1 << 32) + 83)).unwrap();
        assert_eq!(sink.0[0].len(), 2 * 93);
    }
}
