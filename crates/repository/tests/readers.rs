//! Readers beside the sweep: what somebody reads stays, and who was silent for too long hears of it.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

mod room;

use std::collections::BTreeMap;
use std::sync::Arc;

use room::{Members, Room, lineage_id, small_database, touch};
use strongroom_core::ErrorKind;
use strongroom_core::engine::CancelToken;
use strongroom_core::id::AttemptId;
use strongroom_core::progress::Progress;
use strongroom_core::verification::Level;
use strongroom_repository::{MemoryStore, Store, SweepOptions, SweepReport};

const TIGHTEST: SweepOptions = SweepOptions {
    is_dry_run: false,
    dead_percent: SweepOptions::TIGHTEST_PERCENT,
    grace_s: 0,
    abandon_after_s: 0,
};

fn sweep(room: &Room) -> SweepReport {
    room.repository.sweep(&TIGHTEST, &CancelToken::new(), &Progress::new()).unwrap()
}

fn copy(store: &MemoryStore) -> MemoryStore {
    let copy = MemoryStore::new();
    for object in store.list("").unwrap() {
        copy.put_new(&object.key, &store.get(&object.key).unwrap().unwrap()).unwrap();
    }
    copy
}

fn pack_bytes(store: &dyn Store) -> u64 {
    store.list(&format!("l/{}/pk/", lineage_id())).unwrap().iter().map(|object| object.size).sum()
}

/// Four backups, each with chunks of its own beside those that became deltas.
fn history(room: &Room) -> BTreeMap<AttemptId, Members> {
    let (mut members, mut parent, mut backups) = (small_database(), None, BTreeMap::new());
    for number in 0..4 {
        touch(&mut members, number);
        let table = members.get_mut(&b"data/base/1/16384"[..]).unwrap();
        table[131_072..262_144].copy_from_slice(&room::pages(u64::from(number) + 100, 131_072));
        let attempt = room.back_up(&members, parent).unwrap().attempt;
        backups.insert(attempt, members.clone());
        parent = Some(attempt);
    }
    backups
}

fn assert_sound(room: &Room, survivors: &BTreeMap<AttemptId, Members>) {
    for (attempt, members) in survivors {
        assert_eq!(&room.read(*attempt).unwrap(), members);
    }
    let report = room.repository.check(Level::Decode, &CancelToken::new(), &Progress::new()).unwrap();
    assert!(report.passed(), "{report:#?}");
}

/// A backup is deleted, and swept, while somebody reads it.
#[test]
fn r03_a_reader_keeps_what_it_reads_from_the_sweep() {
    let store = MemoryStore::new();
    let room = Room::new(Arc::new(store.clone()));
    let mut backups = history(&room);
    let (attempt, members) = backups.pop_last().unwrap();
    let reader = room.lineage.open_backup(attempt).unwrap();
    room.lineage.forget(attempt).unwrap();
    let (before, report) = (pack_bytes(&store), sweep(&room));
    assert_eq!((report.backups_decided, report.doubts.len()), (1, 0), "{report:?}");
    // It is gone for everybody else.
    assert_eq!(
        room.lineage.open_backup(attempt).err().map(|error| error.kind()),
        Some(ErrorKind::BackupNotFound)
    );
    assert_eq!(room::read_by(&reader).unwrap(), members, "to the last byte");
    drop(reader);
    assert!(sweep(&room).bytes_freed > 0, "then it goes");
    assert!(pack_bytes(&store) < before);
    assert_sound(&room, &backups);
}

/// A reader that said nothing for an hour is taken for dead. It hears that, and never a wrong byte.
#[test]
fn r03_a_reader_whose_intent_is_over_fails_clearly() {
    let store = MemoryStore::new();
    let room = Room::new(Arc::new(store.clone()));
    let mut backups = history(&room);
    let (attempt, members) = backups.pop_last().unwrap();
    for (silent_s, is_lost) in [(3_599, false), (3_600, true)] {
        let store = copy(&store);
        let (slow, room) = (
            Room::opened_at(Arc::new(store.clone()), &room, -silent_s),
            Room::opened(Arc::new(store.clone()), &room),
        );
        let reader = slow.lineage.open_backup(attempt).unwrap();
        room.lineage.forget(attempt).unwrap();
        // The first one takes the intent away, the next one what nobody names any more.
        let freed = sweep(&room).bytes_freed + sweep(&room).bytes_freed;
        assert_eq!(freed > 0, is_lost, "{silent_s}");
        match room::read_by(&reader) {
            Ok(found) => assert_eq!((found, is_lost), (members.clone(), false)),
            Err(failed) => {
                assert_eq!((failed.kind(), is_lost), (ErrorKind::Unavailable, true), "{failed:?}");
                assert!(failed.public().contains("the sweep no longer knew of it"), "{failed:?}");
                assert!(failed.hint().is_some());
            }
        }
        assert_sound(&room, &backups);
    }
}
