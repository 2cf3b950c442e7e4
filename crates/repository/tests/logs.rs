//! The log archive: what was said to be durable is read back as it was written, whatever the store does
//! and wherever the writer ends; what no backup leads to goes with the sweep, and nothing else.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

mod room;

use std::cell::Cell;
use std::sync::Arc;

use proptest::prelude::*;
use room::Room;
use room::log::{at, check, content, id, names, range, read_right, stream};
use strongroom_core::limits::{LOG_PART_BYTES_MAX, LOG_PARTS_MERGED};
use strongroom_core::logs::{LogPosition, LogRange, LogStream};
use strongroom_core::verification::Level;
use strongroom_core::{ErrorKind, Result};
use strongroom_repository::{HeldStream, MemoryStore, Store};
use strongroom_testkit::store::{Edge, Fault, FaultyStore, Lie, Operation, Seals, What, When};

const FILE_BYTES: u64 = 10_000;
const STEP_BYTES: u64 = 500;
const FIRST_FILE: u64 = 7;
/// Two parts that were put together and two that were not.
const END: LogPosition = at(8, 9_000);

/// Captures a source up to the middle of its last file, from wherever the archive is. What was told to
/// the source to be durable stands in `told`.
fn capture(room: &Room, told: &Cell<LogPosition>) -> Result<()> {
    let mut writer = room.lineage.open_log(&stream("s-1"))?;
    let mut place = writer.held().map_or(at(FIRST_FILE, 0), |held| held.until);
    assert!(place >= told.get(), "{place} was held, {} was told", told.get());
    writer.begin(place)?;
    while place < END {
        writer.write(&content(place.file, place.offset, STEP_BYTES as usize))?;
        place.offset += STEP_BYTES;
        if place.offset == FILE_BYTES {
            assert!(writer.finish_file()?);
            place = at(place.file + 1, 0);
        } else {
            writer.flush()?;
        }
        assert_eq!(writer.durable(), place);
        told.set(place);
    }
    Ok(())
}

#[test]
fn parts_become_bigger_parts_and_a_file_becomes_one_object() {
    let store = MemoryStore::new();
    let room = Room::new(Arc::new(store.clone()));
    let told = Cell::new(at(0, 0));
    capture(&room, &told).unwrap();
    let found = names(&room);
    let prefix = format!("l/{}/lg/s-1/000000000000000", room::lineage_id());
    let expected = ["7.10000", "8.0.8000", "8.8000.500", "8.8500.500"].map(|name| format!("{prefix}{name}"));
    assert_eq!((found.as_slice(), LOG_PARTS_MERGED), (&expected[..], 16));
    let held = range(at(FIRST_FILE, 0), END);
    assert_eq!(room.lineage.log_ranges(&id("s-1")).unwrap(), [held]);
    assert_eq!(read_right(&room, "s-1", held).unwrap(), FILE_BYTES + END.offset);
    // Any piece of it, also across the ends of files.
    for (from, until) in [
        (at(7, 1), at(7, 2)),
        (at(7, 9_999), at(8, 1)),
        (at(7, 10_000), at(8, 0)),
        (at(8, 7_999), at(8, 8_501)),
    ] {
        read_right(&room, "s-1", range(from, until)).unwrap();
    }
    for (from, until) in [(at(6, 0), at(7, 1)), (at(8, 0), at(8, 9_001)), (at(8, 9_000), at(9, 1))] {
        let error = read_right(&room, "s-1", range(from, until)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoRestorePoint, "{from} {until}");
    }
    let [HeldStream { about: Some(about), ranges, is_open: true, objects, .. }] =
        &room.lineage.log_streams().unwrap()[..]
    else {
        panic!("one stream that is captured")
    };
    assert_eq!((about, &ranges[..], *objects), (&stream("s-1"), &[held][..], found.len() as u64));
    let stat = room.repository.stat().unwrap();
    assert_eq!(stat.log_objects, found.len() as u64);
    assert!(stat.log_bytes > 0 && stat.log_bytes < FILE_BYTES, "{stat:?}");
    assert!(check(&room, Level::Decode).passed());
}

#[test]
fn a_file_that_comes_fast_is_stored_once() {
    let (store, told) = (MemoryStore::new(), at(1, 0));
    let faulty = FaultyStore::new(Arc::new(store));
    let room = Room::new(Arc::new(faulty.clone()));
    let mut writer = room.lineage.open_log(&stream("s-1")).unwrap();
    writer.begin(told).unwrap();
    faulty.disarm();
    let bytes = content(1, 0, LOG_PART_BYTES_MAX);
    bytes.chunks(1 << 17).for_each(|piece| writer.write(piece).unwrap());
    assert_eq!(writer.waiting_bytes(), LOG_PART_BYTES_MAX);
    assert!(writer.finish_file().unwrap());
    let puts = faulty.calls().iter().filter(|call| call.operation == Operation::BeginPut).count();
    assert_eq!(puts, 1);
    // One byte more, and what has gathered is stored before.
    writer.write(&content(2, 0, LOG_PART_BYTES_MAX)).unwrap();
    writer.write(&content(2, LOG_PART_BYTES_MAX as u64, 1)).unwrap();
    assert_eq!((writer.waiting_bytes(), writer.durable()), (1, at(2, LOG_PART_BYTES_MAX as u64)));
    assert!(writer.finish_file().unwrap());
    let held = range(at(1, 0), at(3, 0));
    assert_eq!(read_right(&room, "s-1", held).unwrap(), 2 * LOG_PART_BYTES_MAX as u64 + 1);
}

/// What befalls the writer at one call after the other. A store that stores other bytes of the same
/// length is found by a check, not by the writer.
const FAULTS: [(What, Edge); 8] = [
    (What::Fail, Edge::Before),
    (What::Fail, Edge::After),
    (What::Die, Edge::Before),
    (What::Die, Edge::After),
    (What::Lie(Lie::Torn), Edge::Before),
    (What::Lie(Lie::Truncated), Edge::Before),
    (What::Lie(Lie::Lost), Edge::Before),
    (What::Lie(Lie::Taken), Edge::Before),
];

#[test]
fn f03_f08_a_capture_stopped_at_every_call_of_the_store() {
    let (seals, mut struck) = (Seals::new(), 0);
    let first = Room::new(Arc::new(MemoryStore::new()));
    let empty = first.store.list("").unwrap();
    for (what, edge) in FAULTS {
        for call in 1.. {
            let inner = MemoryStore::new();
            for object in &empty {
                inner.put_new(&object.key, &first.store.get(&object.key).unwrap().unwrap()).unwrap();
            }
            let faulty = FaultyStore::with_seals(Arc::new(inner.clone()), seals.clone());
            let room = Room::opened(Arc::new(faulty.clone()), &first);
            faulty.arm(Fault { when: When::Call(call), what, edge });
            let told = Cell::new(at(0, 0));
            let outcome = capture(&room, &told);
            let is_past_the_end = !faulty.has_struck();
            // The process is gone; another one looks, and goes on.
            let room = Room::opened(Arc::new(inner.clone()), &first);
            let what = format!("{what:?} {edge:?} {call}: {outcome:?}");
            // Of a lie nothing is told before it was seen through.
            for held in room.lineage.log_ranges(&id("s-1")).unwrap() {
                assert_eq!(held.from, at(FIRST_FILE, 0), "{what}");
                assert!(held.until >= told.get(), "{what}: {held:?}");
                read_right(&room, "s-1", held).unwrap();
            }
            capture(&room, &told).unwrap();
            let whole = range(at(FIRST_FILE, 0), END);
            assert_eq!(room.lineage.log_ranges(&id("s-1")).unwrap(), [whole], "{what}");
            read_right(&room, "s-1", whole).unwrap();
            // Leftovers go when the stream is opened.
            drop(room.lineage.open_log(&stream("s-1")).unwrap());
            let wholes = names(&room).iter().filter(|name| name.contains("/0000000000000007.")).count();
            assert_eq!(wholes, 1, "{what}: {:?}", names(&room));
            let report = check(&room, Level::Decode);
            assert!(report.passed(), "{what}: {report:#?}");
            if is_past_the_end {
                outcome.unwrap();
                break;
            }
            struck += 1;
        }
    }
    assert!(struck > 800, "{struck} calls were struck");
    assert!(seals.count() > 1000);
    assert_eq!(seals.reused(), [""; 0]);
}

/// Only this judge sees a capture that does not look at what was stored.
#[test]
fn s06_a_part_that_was_cut_short_is_stored_again() {
    let store = MemoryStore::new();
    let faulty = FaultyStore::new(Arc::new(store.clone()));
    let room = Room::new(Arc::new(faulty.clone()));
    let mut writer = room.lineage.open_log(&stream("s-1")).unwrap();
    writer.begin(at(1, 0)).unwrap();
    writer.write(&content(1, 0, 5_000)).unwrap();
    let when = When::On(Operation::Commit, "/lg/");
    faulty.arm(Fault { when, what: What::Lie(Lie::Truncated), edge: Edge::Before });
    writer.flush().unwrap();
    assert!(faulty.has_struck());
    assert_eq!(read_right(&room, "s-1", range(at(1, 0), at(1, 5_000))).unwrap(), 5_000);
}

#[test]
fn b03_other_log_in_the_place_of_stored_log_is_refused() {
    let room = Room::new(Arc::new(MemoryStore::new()));
    let mut writer = room.lineage.open_log(&stream("s-1")).unwrap();
    // Both were begun before either has stored anything.
    let mut other = room.lineage.open_log(&stream("s-1")).unwrap();
    for writer in [&mut writer, &mut other] {
        writer.begin(at(1, 0)).unwrap();
    }
    writer.write(&content(1, 0, 900)).unwrap();
    writer.flush().unwrap();
    let mut fork = content(1, 0, 900);
    fork[899] ^= 1;
    other.write(&fork).unwrap();
    let error = other.flush().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceHostile, "{error}");
    read_right(&room, "s-1", range(at(1, 0), at(1, 900))).unwrap();
    // So is another history in the name of the stream.
    let twin = LogStream { facts: serde_json::json!({ "timeline": 2 }), ..stream("s-1") };
    assert_eq!(room.lineage.open_log(&twin).err().unwrap().kind(), ErrorKind::SourceHostile);
}

#[test]
fn p07_a_writer_that_slept_changes_nothing() {
    let room = Room::new(Arc::new(MemoryStore::new()));
    let mut asleep = room.lineage.open_log(&stream("s-1")).unwrap();
    asleep.begin(at(1, 0)).unwrap();
    for step in 0..10 {
        asleep.write(&content(1, step * 100, 100)).unwrap();
        asleep.flush().unwrap();
    }
    asleep.write(&content(1, 1000, 500)).unwrap();
    let mut awake = room.lineage.open_log(&stream("s-1")).unwrap();
    awake.begin(at(1, 1000)).unwrap();
    for step in 10..30 {
        awake.write(&content(1, step * 100, 100)).unwrap();
        awake.flush().unwrap();
    }
    // Its parts are in bigger ones by now; what it adds is in them too.
    asleep.flush().unwrap();
    awake.write(&content(1, 3000, 100)).unwrap();
    assert!(awake.finish_file().unwrap());
    asleep.write(&content(1, 1500, 1600)).unwrap();
    assert!(asleep.finish_file().unwrap());
    drop(room.lineage.open_log(&stream("s-1")).unwrap());
    assert_eq!(names(&room).len(), 1, "{:?}", names(&room));
    assert_eq!(read_right(&room, "s-1", range(at(1, 0), at(2, 0))).unwrap(), 3100);
    assert!(check(&room, Level::Decode).passed());
}

#[derive(Debug, Clone)]
enum Step {
    Write(u16),
    Flush,
    Finish,
    /// The process ends; the next one goes on from what is held.
    Crash,
    /// Log was lost: a later file begins a new range.
    Gap(u8),
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_u16..3000).prop_map(Step::Write),
        6 => Just(Step::Flush),
        2 => Just(Step::Finish),
        2 => Just(Step::Crash),
        1 => (1_u8..4).prop_map(Step::Gap),
        1 => Just(Step::Expire),
    ]
}

/// The archive in its simplest form.
#[derive(Debug)]
struct Model {
    ranges: Vec<LogRange>,
    /// Where the next byte belongs, and what of it is not durable.
    next: LogPosition,
    waiting: u64,
}

impl Model {
    fn flush(&mut self) {
        if self.waiting > 0 {
            self.grow(at(self.next.file, self.next.offset - self.waiting), self.next);
            self.waiting = 0;
        }
    }

    fn grow(&mut self, from: LogPosition, until: LogPosition) {
        match self.ranges.last_mut() {
            Some(last) if last.until == from => last.until = until,
            _ => self.ranges.push(range(from, until)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn f02_the_archive_against_a_model(steps in prop::collection::vec(step(), 1..120)) {
        let room = Room::new(Arc::new(MemoryStore::new()));
        let mut writer = room.lineage.open_log(&stream("s-1")).unwrap();
        let mut model = Model { ranges: Vec::new(), next: at(1, 0), waiting: 0 };
        writer.begin(model.next).unwrap();
        for step in steps {
            match step {
                Step::Write(length) => {
                    let bytes = content(model.next.file, model.next.offset, usize::from(length));
                    writer.write(&bytes).unwrap();
                    model.next.offset += u64::from(length);
                    model.waiting += u64::from(length);
                }
                Step::Flush => {
                    writer.flush().unwrap();
                    model.flush();
                }
                Step::Finish if model.next.offset == 0 => {}
                Step::Finish => {
                    prop_assert!(writer.finish_file().unwrap());
                    model.flush();
                    let next = at(model.next.file + 1, 0);
                    model.grow(model.next, next);
                    model.next = next;
                }
                Step::Crash => {
                    writer = room.lineage.open_log(&stream("s-1")).unwrap();
                    model.next.offset -= model.waiting;
                    model.waiting = 0;
                    let held = writer.held();
                    prop_assert_eq!(held, model.ranges.last().copied());
                    // A range that nothing was stored of is begun again.
                    writer.begin(if held.is_some_and(|held| held.until == model.next) { model.next } else {
                        at(model.next.file, 0)
                    }).unwrap();
                }
                Step::Gap(files) => {
                    writer.flush().unwrap();
                    model.flush();
                    model.next = at(model.next.file + u64::from(files), 0);
                    writer.begin(model.next).unwrap();
                }
                Step::Expire => {
                    let Some(last) = model.ranges.last().copied() else { continue };
                    room.lineage.expire_log(&id("s-1"), at(last.until.file.saturating_sub(1), 5)).unwrap();
                    let before = at(last.until.file.saturating_sub(1), 0);
                    model.ranges.retain(|range| range.until.file > before.file || (range.until.file == before.file && range.until.offset > 0));
                    model.ranges.iter_mut().for_each(|range| range.from = range.from.max(before));
                }
            }
            prop_assert_eq!(&room.lineage.log_ranges(&id("s-1")).unwrap(), &model.ranges);
        }
        for held in &model.ranges {
            read_right(&room, "s-1", *held).unwrap();
        }
        prop_assert!(check(&room, Level::Decode).passed());
    }
}

/// Every object of the archive, damaged in every way: a check names it, and reading gives what was
/// written or an error.
#[test]
fn rot_log_object_each_damage_is_found_and_nothing_wrong_is_read() {
    let store = MemoryStore::new();
    let room = Room::new(Arc::new(store.clone()));
    capture(&room, &Cell::new(at(0, 0))).unwrap();
    let mut other = room.lineage.open_log(&stream("s-2")).unwrap();
    other.begin(at(FIRST_FILE, 0)).unwrap();
    other.write(&content(FIRST_FILE, 0, FILE_BYTES as usize)).unwrap();
    other.finish_file().unwrap();
    let held = range(at(FIRST_FILE, 0), END);
    let keys: Vec<String> = store.list("l/").unwrap().into_iter().map(|object| object.key).collect();
    assert!(keys.iter().filter(|key| key.contains("/lg/s-1/")).count() == 6);
    for key in keys.iter().filter(|key| key.contains("/lg/s-1/")) {
        let good = store.get(key).unwrap().unwrap();
        let mut bad: Vec<Vec<u8>> = vec![vec![0; good.len()]];
        bad.extend(
            [0, 1, 11, 13, good.len() / 2, good.len() - 32, good.len() - 1].map(|end| good[..end].to_vec()),
        );
        bad.extend((0..good.len()).step_by(1 + good.len() / 200).map(|place| {
            let mut flipped = good.clone();
            flipped[place] ^= 0x10;
            flipped
        }));
        bad.push([&good[..], b"x"].concat());
        // Another object under this name: a sibling, and the same one of another stream.
        bad.extend(
            keys.iter()
                .filter(|sibling| sibling.contains("/lg/") && *sibling != key)
                .map(|sibling| store.get(sibling).unwrap().unwrap()),
        );
        for bytes in bad {
            store.overwrite(key, bytes);
            let report = check(&room, Level::Digest);
            let [finding] = &report.findings[..] else { panic!("{key}: {report:#?}") };
            assert_eq!((&finding.object, finding.attempts.len()), (key, 0));
            if !key.ends_with("about") && !key.ends_with("open") {
                let error = read_right(&room, "s-1", held).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Damage, "{key}");
            }
        }
        store.delete(key).unwrap();
        let report = check(&room, Level::Digest);
        if key.ends_with("about") {
            assert_eq!(report.findings[0].object, *key);
        } else if !key.ends_with("open") {
            // That is what a range is for: it ends here.
            assert!(report.passed());
            assert_ne!(room.lineage.log_ranges(&id("s-1")).unwrap(), [held]);
            assert_eq!(read_right(&room, "s-1", held).unwrap_err().kind(), ErrorKind::NoRestorePoint);
        }
        store.overwrite(key, good);
        assert!(check(&room, Level::Decode).passed(), "{key} was mended");
    }
    let stranger = format!("l/{}/lg/s-1/07.10000", room::lineage_id());
    store.put_new(&stranger, b"?").unwrap();
    assert_eq!(check(&room, Level::Presence).findings[0].object, stranger);
    assert_eq!(room.lineage.log_ranges(&id("s-1")).unwrap(), [held]);
}

#[test]
fn a_damaged_part_costs_its_own_file_and_no_other() {
    let store = MemoryStore::new();
    let room = Room::new(Arc::new(store.clone()));
    let mut writer = room.lineage.open_log(&stream("s-1")).unwrap();
    writer.begin(at(1, 0)).unwrap();
    for file in 1..4 {
        for step in 0..20 {
            writer.write(&content(file, step * 100, 100)).unwrap();
            writer.flush().unwrap();
            if (file, step) == (2, 3) {
                let part = names(&room).pop().unwrap();
                let mut bytes = store.get(&part).unwrap().unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                store.overwrite(&part, bytes);
            }
        }
        assert_eq!(writer.finish_file().unwrap(), file != 2);
    }
    let ranges = room.lineage.log_ranges(&id("s-1")).unwrap();
    assert_eq!(ranges, [range(at(1, 0), at(2, 2000)), range(at(3, 0), at(4, 0))]);
    assert_eq!(writer.held(), Some(ranges[1]));
    assert_eq!(check(&room, Level::Digest).findings.len(), 1);
    read_right(&room, "s-1", range(at(1, 0), at(2, 300))).unwrap();
    assert_eq!(read_right(&room, "s-1", ranges[0]).unwrap_err().kind(), ErrorKind::Damage);
}
