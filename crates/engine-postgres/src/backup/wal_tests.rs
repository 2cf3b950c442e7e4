//! Segments cut out of the log stream, and messages that are none.

use std::sync::Mutex;

use proptest::prelude::*;
use strongroom_core::Result as CoreResult;
use strongroom_core::engine::PatchWriter;

use super::*;

/// Keeps members in memory.
#[derive(Default)]
struct MemorySink(Mutex<Vec<(String, Vec<u8>)>>);

struct MemoryWriter<'s> {
    sink: &'s MemorySink,
    name: String,
    bytes: Vec<u8>,
}

impl BackupSink for MemorySink {
    fn open(&self, member: Member) -> CoreResult<Box<dyn MemberWriter + '_>> {
        assert_eq!(member.size, Some(1 << 20));
        Ok(Box::new(MemoryWriter { sink: self, name: member.path.to_string(), bytes: Vec::new() }))
    }

    fn patch(&self, member: Member, _kept: u64) -> CoreResult<Box<dyn PatchWriter + '_>> {
        panic!("log is never a change of something: {}", member.path)
    }
}

impl MemberWriter for MemoryWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> CoreResult<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> CoreResult<()> {
        self.sink.0.lock().unwrap().push((self.name, self.bytes));
        Ok(())
    }
}

const SYSTEM: u64 = 0x1122_3344_5566_7788;

/// One megabyte of log with the header that every segment begins with.
fn segment(number: u64) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(number).unwrap(); 1 << 20];
    bytes[8..16].copy_from_slice(&(number << 20).to_le_bytes());
    bytes[24..32].copy_from_slice(&SYSTEM.to_le_bytes());
    bytes[32..36].copy_from_slice(&(1_u32 << 20).to_le_bytes());
    bytes
}

fn order(needed: &AtomicU64) -> LogOrder<'_> {
    LogOrder {
        slot: "x",
        system_identifier: SYSTEM,
        timeline: 1,
        segment_size: SegmentSize::new(1 << 20).unwrap(),
        first_segment: 5,
        needed_up_to: needed,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn segments_do_not_depend_on_the_cut(cuts in prop::collection::vec(1_usize..300_000, 1..12)) {
        let sink = MemorySink::default();
        let needed = AtomicU64::new(0);
        let stream = [segment(5), segment(6), segment(7)[..100_000].to_vec()].concat();
        let mut log = SegmentWriter::new(&sink, &order(&needed), Lsn(5 << 20));
        let mut rest = stream.as_slice();
        for cut in cuts.iter().cycle() {
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            log.write(log.position, piece, 0).unwrap();
            rest = after;
            if rest.is_empty() { break; }
        }
        prop_assert!(log.has_finished_segment() && !log.has_finished_segment());
        prop_assert_eq!(log.position, Lsn((7 << 20) + 100_000));
        prop_assert_eq!(log.finish().unwrap(), 3);
        let members = sink.0.into_inner().unwrap();
        prop_assert_eq!(&members[0], &("wal/000000010000000000000005".to_owned(), segment(5)));
        prop_assert_eq!(&members[1].1, &segment(6));
        let mut padded = segment(7)[..100_000].to_vec();
        padded.resize(1 << 20, 0);
        prop_assert_eq!(&members[2].1, &padded);
    }
}

#[test]
fn b07_a_gap_in_the_log_is_refused() {
    let (sink, needed) = (MemorySink::default(), AtomicU64::new(0));
    let mut log = SegmentWriter::new(&sink, &order(&needed), Lsn(5 << 20));
    log.write(Lsn(5 << 20), &segment(5)[..1000], 0).unwrap();
    assert!(log.write(Lsn((5 << 20) + 1001), &[0; 10], 0).is_err());
}

#[test]
fn b02_log_of_another_system_is_refused() {
    let (sink, needed) = (MemorySink::default(), AtomicU64::new(0));
    for at in [8, 24, 34] {
        let mut foreign = segment(5);
        foreign[at] ^= 1;
        let mut log = SegmentWriter::new(&sink, &order(&needed), Lsn(5 << 20));
        assert!(log.write(Lsn(5 << 20), &foreign[..8192], 0).is_err(), "{at}");
    }
}

#[test]
fn h06_malformed_log_messages_are_refused() {
    let data = [&b"w"[..], &[0; 24], b"log"].concat();
    assert!(matches!(LogMessage::parse(b'd', &data), Ok(LogMessage::Data { bytes: b"log", .. })));
    for length in 0..25 {
        assert!(LogMessage::parse(b'd', &data[..length]).is_err(), "{length}");
    }
    assert!(LogMessage::parse(b'd', b"x").is_err());
    assert!(LogMessage::parse(b'T', &data).is_err());
    assert!(LogMessage::parse(b'c', b"").is_err());
}

#[test]
fn the_servers_clock_begins_in_2000() {
    assert_eq!(seconds_since_epoch(0), 946_684_800);
    assert_eq!(seconds_since_epoch(-1), 946_684_799);
    assert!(seconds_since_epoch(i64::MAX) > 0 && seconds_since_epoch(i64::MIN) < 0);
}
