//! Overwritten files on stores that fail at every call, on disks that are full, and in attempts that
//! end in their midst: what was sealed before stays exact, and nothing is half visible.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

mod room;

use std::sync::Arc;

use room::{Members, Room, facts, member, pages, record};
use strongroom_core::engine::{BackupSink, CancelToken, StopReason};
use strongroom_core::id::AttemptId;
use strongroom_core::member::{Member, MemberPath};
use strongroom_core::progress::Progress;
use strongroom_core::verification::Level;
use strongroom_core::{ErrorKind, Result, limits};
use strongroom_repository::{AttemptStart, Begun, MemoryStore, SealOutcome, Store, Verdict, WriterOptions};
use strongroom_testkit::disk::SmallDisk;
use strongroom_testkit::store::{Edge, Fault, FaultyStore, Lie, Operation, Seals, What, When};

fn path(name: &str) -> MemberPath {
    MemberPath::parse(format!("data/{name}").as_bytes()).unwrap()
}

fn growing(name: &str) -> Member {
    Member { size: None, ..member(path(name).as_bytes(), 0) }
}

/// A table that is torn, mended and changed; one that comes and goes; one that grows.
fn play(sink: &dyn BackupSink, seed: u8) -> Result<()> {
    let read = |name: &str, content: &[u8]| -> Result<()> {
        let mut writer = sink.overwritable(growing(name), None)?;
        writer.write(content)?;
        writer.stored()
    };
    let mut torn = table(0);
    torn[200_000..210_000].fill(seed);
    read("a", &torn)?;
    read("gone", &pages(u64::from(seed) + 50, 150_000))?;
    read("log", &pages(3, 10_000))?;
    sink.overwrite(&path("a"), 200_000, &table(0)[200_000..210_000])?;
    for at in changed_places() {
        sink.overwrite(&path("a"), at as u64, &[seed; 300])?;
    }
    sink.discard(&path("gone"))?;
    let tail = vec![seed; 20_000];
    sink.overwrite(&path("log"), 140_000, &tail)?;
    sink.extend(&path("log"), 300_000)?;
    sink.rename(&path("log"), &path("log2"))?;
    sink.settle()
}

fn table(seed: u8) -> Vec<u8> {
    pages(1 + u64::from(seed), 600_000)
}

fn changed_places() -> impl Iterator<Item = usize> {
    [5_000, 131_000, 450_000].into_iter()
}

fn content(seed: u8) -> Members {
    let mut a = table(0);
    for at in changed_places() {
        a[at..at + 300].fill(seed);
    }
    let mut log = pages(3, 10_000);
    log.resize(300_000, 0);
    log[140_000..160_000].fill(seed);
    Members::from([(path("a").as_bytes().to_vec(), a), (path("log2").as_bytes().to_vec(), log)])
}

fn attempt(room: &Room, id: AttemptId, parent: Option<AttemptId>, seed: u8) -> Result<()> {
    let Begun::Started(attempt) = room.begin(id, parent)? else { return Ok(()) };
    play(&attempt, seed)?;
    match attempt.prove()?.seal(&facts(), &record(id))? {
        SealOutcome::Sealed(_) => room.lineage.clear_intent(id),
        SealOutcome::Abandoned => Ok(()),
    }
}

fn copy(store: &MemoryStore) -> MemoryStore {
    let copy = MemoryStore::new();
    for object in store.list("").unwrap() {
        copy.put_new(&object.key, &store.get(&object.key).unwrap().unwrap()).unwrap();
    }
    copy
}

/// A repository with one backup in it.
fn ground(seals: &Seals) -> (MemoryStore, Room, AttemptId) {
    let store = MemoryStore::new();
    let room = Room::new(Arc::new(FaultyStore::with_seals(Arc::new(store.clone()), seals.clone())));
    let before = room.next_attempt();
    attempt(&room, before, None, 1).unwrap();
    (store, room, before)
}

/// What a process finds that comes after one that ended so.
fn is_whole(
    inner: &MemoryStore,
    ground: &Room,
    before: AttemptId,
    id: AttemptId,
    outcome: &Result<()>,
    what: &str,
) {
    let room = Room::opened(Arc::new(inner.clone()), ground);
    assert_eq!(room.read(before).unwrap(), content(1), "{what}");
    let verdict = room.lineage.abandon(id).unwrap();
    match &verdict {
        Verdict::Sealed(_) => assert_eq!(room.read(id).unwrap(), content(2), "{what}"),
        Verdict::Abandoned => assert!(outcome.is_err(), "{what}"),
    }
    let report = room.repository.check(Level::Decode, &CancelToken::new(), &Progress::new()).unwrap();
    assert!(report.passed(), "{what}: {report:#?}");
    let next = room.next_attempt();
    attempt(&room, next, room.lineage.latest_parent().unwrap(), 2).unwrap();
    assert_eq!(room.read(next).unwrap(), content(2), "{what}");
}

#[test]
fn f03_f08_stopped_at_every_call_of_the_store_while_files_are_overwritten() {
    let seals = Seals::new();
    let (store, first, before) = ground(&seals);
    let mut calls = 0;
    for (what, edge) in [(What::Fail, Edge::Before), (What::Fail, Edge::After), (What::Die, Edge::Before)] {
        for call in 1.. {
            let inner = copy(&store);
            let faulty = FaultyStore::with_seals(Arc::new(inner.clone()), seals.clone());
            let room = Room::opened(Arc::new(faulty.clone()), &first);
            let id = room.next_attempt();
            faulty.arm(Fault { when: When::Call(call), what, edge });
            let outcome = attempt(&room, id, Some(before), 2);
            let is_past_the_end = !faulty.has_struck();
            is_whole(&inner, &first, before, id, &outcome, &format!("{what:?} {edge:?} {call}: {outcome:?}"));
            if is_past_the_end {
                assert!(outcome.is_ok(), "{outcome:?}");
                calls += call;
                break;
            }
        }
    }
    assert!(calls > 90, "{calls} calls were stopped at");
    assert_eq!(seals.reused(), [""; 0]);
}

/// A chunk is read back to be overwritten: a store that answers with something else is found.
#[test]
fn f13_a_store_that_lies_when_it_is_read_back_is_found() {
    let (store, first, before) = ground(&Seals::new());
    let mut found = 0;
    for lie in [Lie::Short, Lie::Flipped, Lie::Zeroed, Lie::Absent] {
        for number in 1..40 {
            let inner = copy(&store);
            let faulty = FaultyStore::new(Arc::new(inner.clone()));
            let room = Room::opened(Arc::new(faulty.clone()), &first);
            let id = room.next_attempt();
            let when = When::Nth(number, Operation::GetRange, "/pk/");
            faulty.arm(Fault { when, what: What::Lie(lie), edge: Edge::Before });
            let outcome = attempt(&room, id, Some(before), 2);
            if !faulty.has_struck() {
                break;
            }
            found += usize::from(outcome.is_err());
            is_whole(&inner, &first, before, id, &outcome, &format!("{lie:?} {number}: {outcome:?}"));
        }
    }
    assert!(found > 8, "{found} lies ended an attempt");
}

#[test]
fn d01_pages_that_do_not_fit_on_the_local_disk_stop_the_backup_and_leave_room() {
    let Some(disk) = SmallDisk::in_memory(limits::WORK_FILE_ROOM_KEPT_BYTES + (40 << 20)) else { return };
    let (_, room, before) = ground(&Seals::new());
    let begin = |id| {
        let start = AttemptStart {
            attempt: id,
            parent: Some(before),
            lease_epoch: 1,
            worker: "test".to_owned(),
            scratch_dir: disk.path().to_owned(),
            options: WriterOptions::default(),
            cancel: CancelToken::new(),
            progress: Arc::new(Progress::new()),
        };
        match room.lineage.begin(start).unwrap() {
            Begun::Started(attempt) => attempt,
            Begun::ParentGone => panic!("the parent is gone"),
        }
    };
    let id = room.next_attempt();
    let attempt = begin(id);
    attempt.overwritable(growing("a"), None).unwrap().stored().unwrap();
    let page = pages(5, 16_384);
    let mut written = 0_u64;
    let error = loop {
        match attempt.overwrite(&path("a"), written, &page) {
            Ok(()) => written += 16_384,
            Err(error) => break error,
        }
        assert!(written < 100 << 20, "the disk never filled");
    };
    assert_eq!(error.kind(), ErrorKind::DiskFull);
    let said = error.public();
    assert!(said.contains("128.0 MiB are kept free") && said.contains("is safe"), "{said}");
    assert!(written >= 16 << 20, "what fits is taken: {written}");
    assert!(disk.free_bytes().unwrap() >= limits::WORK_FILE_ROOM_KEPT_BYTES);
    // Whoever goes on all the same does not get a backup without these pages.
    assert!(attempt.settle().is_err());
    assert_eq!(attempt.prove().err().unwrap().kind(), ErrorKind::DiskFull);
    // Nothing of it is left on that disk, and the next backup works.
    assert!(disk.free_bytes().unwrap() >= limits::WORK_FILE_ROOM_KEPT_BYTES + (39 << 20));
    room.lineage.abandon(id).unwrap();
    let id = room.next_attempt();
    let attempt = begin(id);
    play(&attempt, 2).unwrap();
    assert!(matches!(attempt.prove().unwrap().seal(&facts(), &record(id)).unwrap(), SealOutcome::Sealed(_)));
    assert_eq!(room.read(id).unwrap(), content(2));
}

#[test]
fn a_cancelled_backup_does_not_settle() {
    let (_, room, before) = ground(&Seals::new());
    let cancel = CancelToken::new();
    let id = room.next_attempt();
    let start = AttemptStart {
        attempt: id,
        parent: Some(before),
        lease_epoch: 1,
        worker: "test".to_owned(),
        scratch_dir: std::env::temp_dir(),
        options: WriterOptions::default(),
        cancel: cancel.clone(),
        progress: Arc::new(Progress::new()),
    };
    let Begun::Started(attempt) = room.lineage.begin(start).unwrap() else { panic!("the parent is there") };
    let mut writer = attempt.overwritable(growing("a"), None).unwrap();
    writer.write(&table(0)).unwrap();
    writer.stored().unwrap();
    cancel.stop(StopReason::Cancelled);
    assert_eq!(attempt.overwrite(&path("a"), 0, &[1]).unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(attempt.settle().unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(attempt.prove().is_err());
}
