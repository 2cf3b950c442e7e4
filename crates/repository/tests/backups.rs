//! Backups as a user of the crate sees them: written, read back, forgotten, deltas between them.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

mod room;

use std::sync::Arc;

use room::{Members, Room, database, facts, pages, record, touch, write};
use strongroom_core::ErrorKind;
use strongroom_core::engine::{BackupSink, CancelToken};
use strongroom_core::member::{Member, MemberKind};
use strongroom_core::progress::Progress;
use strongroom_core::verification::Level;
use strongroom_repository::{
    Begun, LocalStore, MemoryStore, RecoveryKey, Repository, SealOutcome, Store, Verdict,
};

fn rooms() -> Vec<(Room, Option<tempfile::TempDir>)> {
    let directory = tempfile::tempdir().unwrap();
    let local = LocalStore::open(&directory.path().join("repository")).unwrap();
    vec![(Room::new(Arc::new(MemoryStore::new())), None), (Room::new(Arc::new(local)), Some(directory))]
}

#[test]
fn what_was_written_is_read_back() {
    for (room, _directory) in rooms() {
        let members = database();
        let summary = room.back_up(&members, None).unwrap();
        assert_eq!(room.read(summary.attempt).unwrap(), members);
        assert_eq!(summary.totals.members, 7);
        assert!(summary.totals.chunks_fill >= 6, "{:?}", summary.totals);
        let report = room.lineage.check(None, Level::Decode, &CancelToken::new(), &Progress::new()).unwrap();
        assert!(report.passed(), "{report:?}");
        assert!(report.objects_checked >= 4);
    }
}

/// The port says that a directory is complete with its `open`; an engine may drop the writer.
#[test]
fn a_directory_needs_no_end() {
    let room = Room::new(Arc::new(MemoryStore::new()));
    let id = room.next_attempt();
    let attempt = room.started(id, None).unwrap();
    let directory = |path: &[u8]| Member { kind: MemberKind::Directory, size: None, ..room::member(path, 0) };
    drop(attempt.open(directory(b"data/pg_wal")).unwrap());
    attempt.open(directory(b"data/pg_stat")).unwrap().finish().unwrap();
    assert!(attempt.open(directory(b"data/base")).unwrap().write(b"x").is_err());
    let SealOutcome::Sealed(summary) = attempt.prove().unwrap().seal(&facts(), &record(id)).unwrap() else {
        panic!("it was abandoned");
    };
    assert_eq!(summary.totals.members, 3);
}

#[test]
fn f18_chains_of_deltas_stay_short_and_exact() {
    let room = Room::new(Arc::new(MemoryStore::new()));
    let mut members = database();
    let mut parent = None;
    let mut kept: Vec<(strongroom_core::id::AttemptId, Members)> = Vec::new();
    for round in 0..9_u8 {
        let summary = room.back_up(&members, parent).unwrap();
        if round > 0 {
            assert!(summary.totals.chunks_delta > 0, "round {round}: {:?}", summary.totals);
            assert!(summary.totals.chunks_equal > 0);
            // In round 5 a new table came, which costs its own size.
            assert!(round == 5 || summary.stored_bytes * 5 < kept_bytes(&room, kept[0].0), "round {round}");
        }
        parent = Some(summary.attempt);
        kept.push((summary.attempt, members.clone()));
        touch(&mut members, round + 1);
        if round == 4 {
            members.insert(b"data/base/1/16390".to_vec(), pages(9, 300_000));
            members.get_mut(&b"data/base/1/16384"[..]).unwrap().truncate(500_000);
        }
    }
    for (attempt, members) in &kept {
        assert_eq!(&room.read(*attempt).unwrap(), members);
    }
}

fn kept_bytes(room: &Room, attempt: strongroom_core::id::AttemptId) -> u64 {
    match room.lineage.verdict(attempt).unwrap() {
        Some(Verdict::Sealed(summary)) => summary.stored_bytes,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_unchanged_backup_shares_the_whole_tree() {
    let room = Room::new(Arc::new(MemoryStore::new()));
    let first = room.back_up(&database(), None).unwrap();
    let second = room.back_up(&database(), Some(first.attempt)).unwrap();
    assert_eq!(second.totals.chunks_full + second.totals.chunks_delta, 0);
    // Only the pack with the roster and the verdict are new.
    assert_eq!(second.totals.packs, 1);
    assert!(second.stored_bytes < 4096, "{} bytes", second.stored_bytes);
    assert_eq!(room.read(second.attempt).unwrap(), database());
}

/// What an unchanged backup costs grows by a bit for each record, and with nothing else.
#[test]
fn an_unchanged_backup_of_more_data_costs_hardly_more() {
    let room = Room::new(Arc::new(MemoryStore::new()));
    let members: Members =
        (0..40_u64).map(|n| (format!("data/base/1/{n}").into_bytes(), pages(n, 400_000))).collect();
    let first = room.back_up(&members, None).unwrap();
    let second = room.back_up(&members, Some(first.attempt)).unwrap();
    assert_eq!(second.totals.chunks_full + second.totals.chunks_delta, 0);
    assert!(second.stored_bytes < 6000 && second.stored_bytes * 1000 < first.stored_bytes, "{second:?}");
}

#[test]
fn f21_forgetting_in_any_order_leaves_the_others_exact() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]] {
        let room = Room::new(Arc::new(MemoryStore::new()));
        let (mut members, mut parent, mut kept) = (database(), None, Vec::new());
        for round in 0..3 {
            let summary = room.back_up(&members, parent).unwrap();
            parent = Some(summary.attempt);
            kept.push((summary.attempt, members.clone()));
            touch(&mut members, round + 1);
        }
        for (step, forgotten) in order.into_iter().enumerate() {
            room.lineage.forget(kept[forgotten].0).unwrap();
            assert_eq!(room.read(kept[forgotten].0).unwrap_err().kind(), ErrorKind::BackupNotFound);
            for left in &order[step + 1..] {
                assert_eq!(room.read(kept[*left].0).unwrap(), kept[*left].1);
            }
        }
        let stat = room.repository.stat().unwrap();
        assert_eq!((stat.backups, stat.forgotten_backups), (0, 3));
        assert!(stat.reclaimable_bytes > 0 && stat.reclaimable_bytes <= stat.bytes);
    }
}

#[test]
fn a_forgotten_parent_is_not_built_upon() {
    let room = Room::new(Arc::new(MemoryStore::new()));
    let first = room.back_up(&database(), None).unwrap();
    room.lineage.forget(first.attempt).unwrap();
    assert!(matches!(room.begin(room.next_attempt(), Some(first.attempt)).unwrap(), Begun::ParentGone));
    assert_eq!(room.lineage.latest_parent().unwrap(), None);
}

#[test]
fn p07_an_abandoned_attempt_cannot_commit() {
    let room = Room::new(Arc::new(MemoryStore::new()));
    let id = room.next_attempt();
    let attempt = room.started(id, None).unwrap();
    write(&attempt, &database()).unwrap();
    let proven = attempt.prove().unwrap();
    assert_eq!(room.lineage.abandon(id).unwrap(), Verdict::Abandoned);
    assert!(matches!(proven.seal(&facts(), &record(id)).unwrap(), SealOutcome::Abandoned));
    assert!(room.lineage.backups().unwrap().is_empty());
    assert!(room.read(id).is_err());
}

#[test]
fn f10_sixteen_race_for_one_verdict() {
    let room = Room::new(Arc::new(MemoryStore::new()));
    for _ in 0..20 {
        let id = room.next_attempt();
        let attempt = room.started(id, None).unwrap();
        write(&attempt, &Members::from([(b"data/x".to_vec(), b"1".to_vec())])).unwrap();
        let proven = attempt.prove().unwrap();
        let lineage = room.lineage.clone();
        let sealed = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..15).map(|_| scope.spawn(|| lineage.abandon(id).unwrap())).collect();
            let sealed = matches!(proven.seal(&facts(), &record(id)).unwrap(), SealOutcome::Sealed(_));
            for racer in racers {
                assert_eq!(matches!(racer.join().unwrap(), Verdict::Sealed(_)), sealed);
            }
            sealed
        });
        assert_eq!(room.read(id).is_ok(), sealed);
    }
}

#[test]
fn a_member_that_is_not_finished_ends_the_attempt() {
    let room = Room::new(Arc::new(MemoryStore::new()));
    let attempt = room.started(room.next_attempt(), None).unwrap();
    let mut writer = attempt.open(room::member(b"data/x", 10)).unwrap();
    writer.write(b"12345").unwrap();
    drop(writer);
    assert!(attempt.prove().is_err());
}

#[test]
fn h03_a_size_that_lies_ends_the_attempt() {
    let room = Room::new(Arc::new(MemoryStore::new()));
    for content in [&b"123"[..], b"12345678901"] {
        let attempt = room.started(room.next_attempt(), None).unwrap();
        let mut writer = attempt.open(room::member(b"data/x", 10)).unwrap();
        let result = writer.write(content).and_then(|()| writer.finish());
        assert_eq!(result.unwrap_err().kind(), ErrorKind::SourceHostile);
        assert!(attempt.prove().is_err());
    }
}

#[test]
fn h01_one_path_twice_ends_the_attempt() {
    let room = Room::new(Arc::new(MemoryStore::new()));
    let attempt = room.started(room.next_attempt(), None).unwrap();
    for _ in 0..2 {
        let mut writer = attempt.open(room::member(b"data/x", 3)).unwrap();
        writer.write(b"abc").unwrap();
        writer.finish().unwrap();
    }
    assert_eq!(attempt.prove().err().unwrap().kind(), ErrorKind::SourceHostile);
}

#[test]
fn k01_a_wrong_key_is_not_damage() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let room = Room::new(store.clone());
    room.back_up(&database(), None).unwrap();
    let random: Arc<dyn strongroom_core::time::Randomness> = Arc::new(room::CountedRandomness::default());
    let mut other = [0; 40];
    random.fill(&mut other);
    let other = RecoveryKey::generate(&*random);
    let opened = Repository::open(store, &other, Arc::new(room::StandingClock), random);
    assert_eq!(opened.err().unwrap().kind(), ErrorKind::WrongKey);
}

#[test]
fn d06_a_vanished_repository_is_not_written_to() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("repository");
    let room = Room::new(Arc::new(LocalStore::open(&path).unwrap()));
    room.back_up(&database(), None).unwrap();
    std::fs::rename(&path, directory.path().join("elsewhere")).unwrap();
    std::fs::create_dir(&path).unwrap();
    let refused = room.begin(room.next_attempt(), None).err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
}
