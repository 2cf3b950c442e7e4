//! Log that leads on from no backup goes with the sweep, and no other.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

mod room;

use std::sync::Arc;

use room::log::{at, check, content, id, names, stream};
use room::{Room, facts, record, small_database, write};
use strongroom_core::engine::{BackupFacts, CancelToken};
use strongroom_core::id::AttemptId;
use strongroom_core::logs::{LogPoint, LogPosition, LogStream};
use strongroom_core::progress::Progress;
use strongroom_core::verification::Level;
use strongroom_repository::{MemoryStore, SealOutcome, Store, SweepOptions, SweepReport};

/// A backup from which log leads on at this place.
fn back_up(room: &Room, point: Option<LogPoint>) -> AttemptId {
    let id = room.next_attempt();
    let attempt = room.started(id, None).unwrap();
    write(&attempt, &small_database()).unwrap();
    let facts = BackupFacts { log: point, ..facts() };
    let SealOutcome::Sealed(_) = attempt.prove().unwrap().seal(&facts, &record(id)).unwrap() else {
        panic!("nobody abandoned it")
    };
    room.lineage.clear_intent(id).unwrap();
    id
}

fn point(name: &str, position: LogPosition) -> LogPoint {
    LogPoint { stream: id(name), position }
}

fn sweep(room: &Room, is_dry_run: bool) -> SweepReport {
    let options = SweepOptions { is_dry_run, ..SweepOptions::default() };
    let report = room.repository.sweep(&options, &CancelToken::new(), &Progress::new()).unwrap();
    assert_eq!(report.doubts, []);
    report
}

/// Files of one byte each.
fn fill(room: &Room, stream: &LogStream, files: std::ops::Range<u64>) {
    let mut writer = room.lineage.open_log(stream).unwrap();
    writer.begin(at(files.start, 0)).unwrap();
    for file in files {
        writer.write(&content(file, 0, 1)).unwrap();
        writer.finish_file().unwrap();
    }
    writer.write(&content(1, 0, 9)).unwrap();
    writer.flush().unwrap();
}

fn held_from(room: &Room, name: &str) -> Option<u64> {
    room.lineage.log_ranges(&id(name)).unwrap().first().map(|range| range.from.file)
}

#[test]
fn r06_log_goes_when_the_last_backup_goes_that_leads_to_it() {
    let room = Room::new(Arc::new(MemoryStore::new()));
    fill(&room, &stream("s-1"), 1..20);
    // Nothing stands on it yet, and it is captured.
    assert_eq!(sweep(&room, false).log_objects_removed, 0);
    let first = back_up(&room, Some(point("s-1", at(5, 100))));
    let second = back_up(&room, Some(point("s-1", at(12, 0))));
    back_up(&room, None);
    let planned = sweep(&room, true);
    assert_eq!((planned.log_objects_removed, held_from(&room, "s-1")), (4, Some(1)));
    let report = sweep(&room, false);
    assert_eq!((report.log_objects_removed, report.log_bytes_freed), (4, planned.log_bytes_freed));
    assert_eq!(held_from(&room, "s-1"), Some(5));
    // Forgotten, and not decided yet because somebody makes a backup: then nothing goes.
    room.lineage.forget(first).unwrap();
    let open = room.next_attempt();
    drop(room.started(open, None).unwrap());
    let report = sweep(&room, false);
    assert_eq!((report.log_objects_removed, report.log_waiting), (0, 1));
    room.lineage.abandon(open).unwrap();
    assert_eq!(sweep(&room, false).log_objects_removed, 7);
    assert_eq!(held_from(&room, "s-1"), Some(12));
    // Without a backup it stays as long as it is captured, for the one that is to come.
    room.lineage.forget(second).unwrap();
    assert_eq!(sweep(&room, false).log_objects_removed, 0);
    room.lineage.close_log(&id("s-1")).unwrap();
    assert_eq!(sweep(&room, false).log_objects_removed, 9);
    assert_eq!((held_from(&room, "s-1"), names(&room).len()), (None, 0));
    assert!(check(&room, Level::Decode).passed());
    // What the stream is stays, so that whoever begins again finds it.
    fill(&room, &stream("s-1"), 30..32);
    assert_eq!(held_from(&room, "s-1"), Some(30));
}

#[test]
fn r03_log_stays_for_whoever_reads_the_backup_that_leads_to_it() {
    let room = Room::new(Arc::new(MemoryStore::new()));
    fill(&room, &stream("s-1"), 1..20);
    let first = back_up(&room, Some(point("s-1", at(5, 100))));
    back_up(&room, Some(point("s-1", at(12, 0))));
    let reader = room.lineage.open_backup(first).unwrap();
    room.lineage.forget(first).unwrap();
    sweep(&room, false);
    assert_eq!(held_from(&room, "s-1"), Some(5));
    drop(reader);
    sweep(&room, false);
    assert_eq!(held_from(&room, "s-1"), Some(12));
}

#[test]
fn v03_log_of_a_history_stays_for_backups_of_the_one_that_it_left() {
    let room = Room::new(Arc::new(MemoryStore::new()));
    let origin = |name: &str, position| Some(point(name, position));
    let second = LogStream { origin: origin("s-1", at(8, 50)), ..stream("s-2") };
    let third = LogStream { origin: origin("s-2", at(15, 0)), ..stream("s-3") };
    fill(&room, &stream("s-1"), 1..10);
    fill(&room, &second, 8..20);
    fill(&room, &third, 15..30);
    for name in ["s-1", "s-2"] {
        room.lineage.close_log(&id(name)).unwrap();
    }
    let on_first = back_up(&room, Some(point("s-1", at(3, 0))));
    back_up(&room, Some(point("s-3", at(22, 0))));
    sweep(&room, false);
    assert_eq!(["s-1", "s-2", "s-3"].map(|name| held_from(&room, name)), [Some(3), Some(8), Some(15)]);
    // One that stands on the first history behind the fork leads to nothing of the others.
    let behind = back_up(&room, Some(point("s-1", at(8, 51))));
    room.lineage.forget(on_first).unwrap();
    sweep(&room, false);
    assert_eq!(["s-1", "s-2", "s-3"].map(|name| held_from(&room, name)), [Some(8), None, Some(22)]);
    room.lineage.forget(behind).unwrap();
    sweep(&room, false);
    assert_eq!(["s-1", "s-2", "s-3"].map(|name| held_from(&room, name)), [None, None, Some(22)]);
}

#[test]
fn log_of_a_stream_that_nobody_knows_stays_and_is_told() {
    let store = MemoryStore::new();
    let room = Room::new(Arc::new(store.clone()));
    fill(&room, &stream("s-1"), 1..9);
    room.lineage.close_log(&id("s-1")).unwrap();
    let about = format!("l/{}/lg/s-1/about", room::lineage_id());
    let good = store.get(&about).unwrap().unwrap();
    store.overwrite(&about, good[..50].to_vec());
    let report =
        room.repository.sweep(&SweepOptions::default(), &CancelToken::new(), &Progress::new()).unwrap();
    assert_eq!((report.log_objects_removed, &report.doubts[0].object), (0, &about));
    store.overwrite(&about, good);
    assert!(sweep(&room, false).log_objects_removed > 0);
}
