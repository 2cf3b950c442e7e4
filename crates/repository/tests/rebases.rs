//! Storing backups anew on a real repository: what they hold, what is left of what they stood on, and what
//! happens when it is stopped anywhere, lied to by its store, or met by deletes, sweeps, backups, readers
//! and holds.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

mod room;
#[path = "room/stored.rs"]
mod stored;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use room::{Members, Room, Rows, framed, lineage_id, rebase, rebase_order, record, touch};
use stored::Stored;
use strongroom_core::engine::CancelToken;
use strongroom_core::id::{AttemptId, BackupId};
use strongroom_core::progress::Progress;
use strongroom_core::verification::Level;
use strongroom_core::{Error, ErrorKind, Result};
use strongroom_repository::{
    BaseCost, MemoryStore, Owner, RebaseReport, RebaseTry, SealedSummary, Stands, Store, SweepOptions,
};
use strongroom_testkit::depth;
use strongroom_testkit::store::{Edge, Fault, FaultyStore, Operation, Seals, What, When};

/// As patient with attempts whose end is not known as a sweep in service.
const TIGHTEST: SweepOptions = SweepOptions {
    is_dry_run: false,
    dead_percent: SweepOptions::TIGHTEST_PERCENT,
    grace_s: 0,
    abandon_after_s: 3600,
};

fn sweep(room: &Room) {
    let report = room.repository.sweep(&TIGHTEST, &CancelToken::new(), &Progress::new()).unwrap();
    assert_eq!(report.doubts, []);
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

fn bases(room: &Room) -> BaseCost {
    room.lineage.base_cost(&CancelToken::new()).unwrap()
}

/// A database with a member of more than one segment's worth of chunks would take long: one of several
/// chunks, one of one chunk, one that is empty, log, and zeroes.
fn first_database() -> Members {
    let mut members = room::database();
    members.insert(b"data/base/1/16387".to_vec(), room::pages(9, 90_000));
    members
}

/// What backups hold, by what they are called.
type Expected = BTreeMap<BackupId, Members>;

/// A history of which some backups are left, standing on the others.
fn history(room: &Room, count: u8, is_left: impl Fn(u8) -> bool) -> (Rows, Expected) {
    let (mut members, mut parent) = (first_database(), None);
    let (rows, mut expected) = (Rows::default(), Expected::new());
    for number in 0..count {
        touch(&mut members, number + 1);
        let small = members.get_mut(&b"data/base/1/16387"[..]).unwrap();
        small[usize::from(number) * 100..][..50].fill(number);
        members
            .insert(b"wal/000000010000000000000001".to_vec(), room::pages(u64::from(number) + 50, 100_000));
        let attempt = room.back_up(&members, parent).unwrap().attempt;
        parent = Some(attempt);
        expected.insert(rows.publish(attempt), members.clone());
    }
    let attempts = rows.attempts();
    for (number, attempt) in (0..count).zip(attempts) {
        if !is_left(number) {
            let id = record(attempt).backup_id;
            rows.delete(&room.lineage, &id);
            expected.remove(&id);
        }
    }
    (rows, expected)
}

/// Every backup is one sealed attempt, the one that its row names, and holds what it is to hold.
fn assert_sound(room: &Room, rows: &Rows, expected: &Expected, what: &str) {
    let mut attempts = rows.attempts();
    for (id, members) in expected {
        let row = rows.get(id).unwrap_or_else(|| panic!("{what}: the row of {id} is gone"));
        assert_eq!(&room.read(row.attempt).unwrap(), members, "{what}");
    }
    let sealed = room.lineage.backups().unwrap().into_iter().filter(|backup| !backup.forgotten);
    let mut sealed: Vec<AttemptId> = sealed.map(|backup| backup.attempt).collect();
    attempts.sort_unstable();
    sealed.sort_unstable();
    assert_eq!(sealed, attempts, "{what}: one backup, one attempt");
    let report = room.repository.check(Level::Decode, &CancelToken::new(), &Progress::new()).unwrap();
    assert!(report.passed(), "{what}: {report:#?}");
    let intents = room.store.list(&format!("l/{}/in/", lineage_id())).unwrap();
    assert_eq!(intents, [], "{what}");
}

#[test]
fn r04_survivors_are_stored_anew_and_hold_what_they_held() {
    let store = MemoryStore::new();
    let room = Room::new(Arc::new(store.clone()));
    let (mut rows, expected) = history(&room, 9, |number| number % 3 == 2);
    sweep(&room);
    assert!(bases(&room).records > 0, "deltas stand on what is gone");
    let before = room.lineage.backups().unwrap();
    let order = rebase_order();
    let mut report = RebaseReport::default();
    room.lineage.rebase(&order, &mut rows, &mut report).unwrap();
    assert_eq!((report.backups, report.stored_anew, report.left), (3, 3, 0), "{report:?}");
    assert_eq!(report.doubts, []);
    assert!(report.chunks > 0 && report.bytes > 0);
    let progress = order.progress.read();
    assert_eq!(progress.done_bytes, progress.total_bytes, "{progress:?}");
    assert!(progress.stored_bytes > 0 && progress.phase == "sealing", "{progress:?}");
    assert_sound(&room, &rows, &expected, "stored anew");
    let swept = pack_bytes(&store);
    sweep(&room);
    assert!(pack_bytes(&store) < swept);
    assert_eq!(bases(&room), BaseCost::default());
    assert_sound(&room, &rows, &expected, "swept");
    // What a backup says of itself is what it said, and the order of backups is theirs.
    let after = room.lineage.backups().unwrap();
    let of = |all: &[SealedSummary], forgotten: bool| -> Vec<SealedSummary> {
        let mut of: Vec<_> = all.iter().filter(|backup| backup.forgotten == forgotten).cloned().collect();
        of.sort_by_key(|backup| backup.attempt);
        of
    };
    for (old, new) in of(&before, false).iter().zip(of(&after, false)) {
        assert_ne!((old.attempt, &old.manifest_digest), (new.attempt, &new.manifest_digest));
        assert_eq!((&old.catalog, &old.facts, old.sealed_at), (&new.catalog, &new.facts, new.sealed_at));
        assert_eq!(old.content_digest, new.content_digest);
        assert_eq!(
            (old.totals.members, old.totals.source_bytes),
            (new.totals.members, new.totals.source_bytes)
        );
    }
    let newest = rows.get(expected.last_key_value().unwrap().0).unwrap().attempt;
    assert_eq!(room.lineage.latest_parent().unwrap(), Some(newest));
    // Nothing is left to be done, and nothing is done.
    let objects = store.list("").unwrap();
    let again = rebase(&room, &mut rows).unwrap();
    assert_eq!((again.backups, again.stored_anew), (3, 0), "{again:?}");
    assert_eq!(store.list("").unwrap(), objects);
    // The next backup stands on what was stored anew, and so does another round.
    let mut members = expected.last_key_value().unwrap().1.clone();
    touch(&mut members, 77);
    let next = room.back_up(&members, Some(newest)).unwrap();
    assert!(next.totals.chunks_delta > 0, "{:?}", next.totals);
    assert_eq!(room.read(next.attempt).unwrap(), members);
}

/// Chunks of backups in which nothing stands on what is gone are not stored anew, nor read.
#[test]
fn r04_what_stands_on_living_backups_stays_as_it_is() {
    let store = MemoryStore::new();
    let room = Room::new(Arc::new(store.clone()));
    let (mut rows, expected) = history(&room, 6, |number| number < 4);
    sweep(&room);
    let objects = store.list("").unwrap();
    let report = rebase(&room, &mut rows).unwrap();
    assert_eq!((report.backups, report.stored_anew), (4, 0), "the deleted ones are newer: {report:?}");
    assert_eq!(store.list("").unwrap(), objects);
    assert_sound(&room, &rows, &expected, "looked at");
    // Of the first one only its own version goes: what did not change since is the second one's now.
    rows.delete(&room.lineage, expected.first_key_value().unwrap().0);
    let report = rebase(&room, &mut rows).unwrap();
    assert_eq!(report.stored_anew, 3, "{report:?}");
    // Of 25 chunks or so of each, those that are touched: six of the table and the small one, in each backup.
    assert!(report.chunks <= 3 * 7, "what did not change is taken over: {report:?}");
}

/// Kills and failures at each call of the store; what was noted is settled, then all is done again.
#[test]
fn f03_r04_a_rebase_stopped_at_every_call_of_the_store() {
    let store = MemoryStore::new();
    let first = Room::new(Arc::new(store.clone()));
    let (rows, expected) = history(&first, 5, |number| number == 2 || number == 4);
    sweep(&first);
    let start: BTreeMap<BackupId, AttemptId> =
        expected.keys().map(|id| (id.clone(), rows.get(id).unwrap().attempt)).collect();
    let clean = {
        let (room, mut rows) = (Room::opened(Arc::new(copy(&store)), &first), Rows::default());
        rows.publish_all(start.values());
        rebase(&room, &mut rows).unwrap();
        sweep(&room);
        Stored::swept(&room, "nobody stopped it")
    };
    clean.assert_is_as_small_as_alone(&expected);
    let (mut calls, mut without_base, seals) = (0, 0, Seals::new());
    for (what, edge) in [(What::Fail, Edge::Before), (What::Fail, Edge::After), (What::Die, Edge::Before)] {
        let mut call = 0;
        loop {
            call += depth::choose(3, 1);
            let (inner, mut rows) = (copy(&store), Rows::default());
            rows.publish_all(start.values());
            let faulty = FaultyStore::with_seals(Arc::new(inner.clone()), seals.clone());
            let room = Room::opened(Arc::new(faulty.clone()), &first);
            faulty.arm(Fault { when: When::Call(call), what, edge });
            let outcome = rebase(&room, &mut rows);
            let is_past_the_end = !faulty.has_struck();
            let what = format!("{what:?} {edge:?} {call}: {outcome:?}");
            let heir = Room::opened(Arc::new(inner.clone()), &first);
            let tries = rows.tries.lock().unwrap().clone();
            for attempt in &tries {
                heir.lineage.settle_rebase(attempt, &mut rows).unwrap();
            }
            let is_reader = |key: &str| key.contains("/in/r-");
            let left = inner.list(&format!("l/{}/in/", lineage_id())).unwrap();
            left.iter().filter(|left| is_reader(&left.key)).for_each(|left| inner.delete(&left.key).unwrap());
            assert_sound(&heir, &rows, &expected, &what);
            let report = rebase(&heir, &mut rows).unwrap();
            assert_eq!(report.doubts, [], "{what}");
            sweep(&heir);
            assert_sound(&heir, &rows, &expected, &what);
            assert_eq!(bases(&heir), BaseCost::default(), "{what}");
            // What it ends with is what one that nobody stopped ends with.
            // A base that could not be read costs a full record, not the work.
            let is_without_base = outcome.is_ok() && !is_past_the_end;
            let stored = Stored::swept(&heir, &what);
            let full_instead = u64::from(is_without_base && stored.chunks != clean.chunks);
            without_base += full_instead;
            stored.assert_is(&clean, full_instead, &what);
            if is_past_the_end {
                calls += call;
                break;
            }
        }
    }
    assert!(calls > 200, "{calls} calls were stopped at");
    depth::report(format_args!("{calls} calls, {without_base} of them to read a base"));
    assert_eq!(seals.reused(), [""; 0]);
}

/// A store that lies costs at most the trouble: no backup is moved to what cannot be read.
#[test]
fn r04_a_store_that_lies_to_a_rebase_loses_nothing_sealed() {
    let store = MemoryStore::new();
    let first = Room::new(Arc::new(store.clone()));
    let (rows, expected) = history(&first, 4, |number| number == 1 || number == 3);
    let start = rows.attempts();
    let operations = [
        Operation::PutNew,
        Operation::Commit,
        Operation::Get,
        Operation::GetRange,
        Operation::Head,
        Operation::Delete,
    ];
    let mut lies = 0;
    for operation in operations {
        for lie in operation.lies() {
            let mut nth = 0;
            loop {
                nth += depth::choose(4, 1);
                let (inner, mut rows) = (copy(&store), Rows::default());
                rows.publish_all(&start);
                let faulty = FaultyStore::new(Arc::new(inner.clone()));
                let room = Room::opened(Arc::new(faulty.clone()), &first);
                let when = When::Nth(nth, operation, "");
                faulty.arm(Fault { when, what: What::Lie(*lie), edge: Edge::Before });
                let outcome = rebase(&room, &mut rows);
                if !faulty.has_struck() {
                    break;
                }
                lies += 1;
                let room = Room::opened(Arc::new(inner.clone()), &first);
                for (id, members) in &expected {
                    let read = room.read(rows.get(id).unwrap().attempt);
                    assert_eq!(read.as_ref().ok(), Some(members), "{lie:?} {operation:?} {nth}: {outcome:?}");
                }
            }
        }
    }
    assert!(lies > 100, "{lies} lies were told");
}

type Act<'a> = Box<dyn FnMut(&RebaseTry) + 'a>;

/// An owner to whom something happens when a backup is about to be begun, or to be moved.
struct Met<'a> {
    rows: Rows,
    at_begin: Option<Act<'a>>,
    at_take: Option<Act<'a>>,
    is_fenced: bool,
}

impl Owner for Met<'_> {
    fn may_move(&mut self, backup: &SealedSummary) -> Result<bool> {
        self.rows.may_move(backup)
    }

    fn begin(&mut self, attempt: &RebaseTry) -> Result<()> {
        self.rows.begin(attempt)?;
        if let Some(act) = &mut self.at_begin {
            act(attempt);
        }
        Ok(())
    }

    fn take(&mut self, attempt: &RebaseTry, new: &SealedSummary) -> Result<Stands> {
        if let Some(mut act) = self.at_take.take() {
            act(attempt);
        }
        if self.is_fenced {
            return Err(Error::new(ErrorKind::Fenced, "Another worker has the job."));
        }
        self.rows.take(attempt, new)
    }
}

fn met(rows: &Rows) -> Met<'_> {
    Met { rows: rows.clone(), at_begin: None, at_take: None, is_fenced: false }
}

#[test]
fn f01_a_backup_that_is_deleted_before_it_is_moved_is_gone() {
    for is_row_gone in [false, true] {
        let room = Room::new(Arc::new(MemoryStore::new()));
        let (rows, mut expected) = history(&room, 5, |number| number % 2 == 1);
        let mut owner = met(&rows);
        owner.at_take = Some(Box::new(|attempt| {
            if is_row_gone {
                rows.delete(&room.lineage, &attempt.backup);
            } else {
                assert_eq!(rows.leave(&attempt.backup), attempt.old, "the delete is for what it was");
            }
        }));
        let report = rebase(&room, &mut owner).unwrap();
        assert_eq!(report.doubts, []);
        let gone = rows.tries.lock().unwrap()[0].clone();
        assert!(room.lineage.is_forgotten(gone.new).unwrap(), "what it was to be moved to is gone as well");
        if !is_row_gone {
            assert!(!room.lineage.is_forgotten(gone.old).unwrap(), "the delete does that");
            room.lineage.forget(gone.old).unwrap();
            rows.remove(&gone.backup);
        }
        drop(owner);
        expected.remove(&gone.backup);
        sweep(&room);
        assert_sound(&room, &rows, &expected, "deleted");
    }
}

#[test]
fn f01_what_is_forgotten_and_swept_before_the_intents_is_not_built_on() {
    for is_before in [false, true] {
        let room = Room::new(Arc::new(MemoryStore::new()));
        let (rows, mut expected) = history(&room, 6, |number| number % 2 == 1);
        // The second and the third stand on the first, which goes.
        rebase(&room, &mut rows.clone()).unwrap();
        let ids: Vec<BackupId> = expected.keys().cloned().collect();
        rows.delete(&room.lineage, &ids[0]);
        expected.remove(&ids[0]);
        let victim = ids[if is_before { 1 } else { 2 }].clone();
        let mut begun = 0;
        let mut owner = met(&rows);
        owner.at_begin = Some(Box::new(|attempt| {
            if attempt.backup == ids[2] {
                begun += 1;
                if begun == 1 {
                    rows.delete(&room.lineage, &victim);
                    sweep(&room);
                }
            }
        }));
        let report = rebase(&room, &mut owner).unwrap();
        assert_eq!(report.doubts, []);
        drop(owner);
        assert_eq!(begun, if is_before { 2 } else { 1 }, "the third is begun again upon nothing");
        expected.remove(&victim);
        sweep(&room);
        assert_sound(&room, &rows, &expected, "swept under it");
        rebase(&room, &mut rows.clone()).unwrap();
        sweep(&room);
        assert_eq!(bases(&room), BaseCost::default());
        assert_sound(&room, &rows, &expected, "again");
    }
}

/// Both backups to which the new attempt refers go, and are swept, while it is written: its intents keep
/// what it needs, and what it becomes is whole until it is forgotten, as its backup was.
#[test]
fn f01_intents_keep_what_is_referred_to_while_it_is_written() {
    let inner = MemoryStore::new();
    let first = Room::new(Arc::new(inner.clone()));
    let (rows, expected) = history(&first, 6, |number| number % 2 == 1);
    sweep(&first);
    let faulty = FaultyStore::new(Arc::new(inner.clone()));
    let room = Room::opened(Arc::new(faulty.clone()), &first);
    // The packs of the second one: it refers to the first as it is now, and to itself as it was.
    let (gate, begun) = (faulty.gate(), AtomicBool::new(false));
    let mut owner = met(&rows);
    let store = faulty.clone();
    owner.at_take = Some(Box::new(move |_| {
        store.arm(Fault {
            when: When::On(Operation::BeginPut, "/pk/"),
            what: What::Freeze,
            edge: Edge::Before,
        });
    }));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            gate.arrived();
            begun.store(true, Ordering::Relaxed);
            let tries = rows.tries.lock().unwrap().clone();
            for attempt in &tries {
                rows.delete(&first.lineage, &attempt.backup);
            }
            assert_eq!(tries.len(), 2);
            sweep(&first);
            gate.release();
        });
        let report = rebase(&room, &mut owner).unwrap();
        assert_eq!(report.doubts, []);
    });
    assert!(begun.into_inner());
    let tries = rows.tries.lock().unwrap().clone();
    let second = &tries[1];
    let members = &expected[&second.backup];
    let reader = first.lineage.open_backup_even_forgotten(second.new).unwrap();
    drop(reader);
    assert!(first.lineage.is_forgotten(second.new).unwrap());
    let report = first.lineage.check(None, Level::Decode, &CancelToken::new(), &Progress::new()).unwrap();
    assert!(report.passed(), "{report:#?}");
    // Nothing was missing of it when it was sealed: it still reads as what its backup held.
    assert_eq!(&room::read_even_forgotten(&first.lineage, second.new).unwrap(), members);
}

#[test]
fn p07_a_worker_that_lost_its_job_moves_and_forgets_nothing() {
    let room = Room::new(Arc::new(MemoryStore::new()));
    let (rows, expected) = history(&room, 4, |number| number == 3);
    let mut owner = Met { is_fenced: true, ..met(&rows) };
    assert_eq!(rebase(&room, &mut owner).unwrap_err().kind(), ErrorKind::Fenced);
    let tries = rows.tries.lock().unwrap().clone();
    let [attempt] = &tries[..] else { panic!("{tries:?}") };
    for side in [attempt.old, attempt.new] {
        assert!(!room.lineage.is_forgotten(side).unwrap());
    }
    // Whoever has the job now brings it to its end.
    room.lineage.settle_rebase(attempt, &mut rows.clone()).unwrap();
    assert_eq!(rows.get(&attempt.backup).unwrap().attempt, attempt.new);
    assert_sound(&room, &rows, &expected, "settled");
    // Once more is fine, also after a delete.
    rows.delete(&room.lineage, &attempt.backup);
    room.lineage.settle_rebase(attempt, &mut rows.clone()).unwrap();
    assert_sound(&room, &rows, &Expected::new(), "deleted");
}

#[test]
fn r05_a_backup_under_a_hold_stays_as_it_is() {
    let store = MemoryStore::new();
    let room = Room::new(Arc::new(store.clone()));
    let (mut rows, expected) = history(&room, 6, |number| number % 2 == 1);
    let held = rows.attempts()[1];
    let hold = format!("l/{}/hold/{held}.1", lineage_id());
    store.put_new(&hold, &framed(6, &hold, b"a judge")).unwrap();
    let report = rebase(&room, &mut rows).unwrap();
    // The third stands on what is held, and so on what that one stands on: that stays anyway.
    assert_eq!((report.stored_anew, report.left), (1, 1), "{report:?}");
    assert!(rows.attempts().contains(&held));
    sweep(&room);
    assert_sound(&room, &rows, &expected, "held");
}

/// A hold that comes when its backup was moved already: what was held stays beside it.
#[test]
fn r05_a_hold_that_comes_late_keeps_what_was_held() {
    let store = MemoryStore::new();
    let room = Room::new(Arc::new(store.clone()));
    let (rows, expected) = history(&room, 4, |number| number == 3);
    let mut owner = met(&rows);
    let objects = store.clone();
    owner.at_take = Some(Box::new(move |attempt| {
        let hold = format!("l/{}/hold/{}.1", lineage_id(), attempt.old);
        objects.put_new(&hold, &framed(6, &hold, b"a judge")).unwrap();
    }));
    rebase(&room, &mut owner).unwrap();
    drop(owner);
    sweep(&room);
    let attempt = rows.tries.lock().unwrap()[0].clone();
    for side in [attempt.old, attempt.new] {
        assert_eq!(room.read(side).unwrap(), expected[&attempt.backup]);
    }
}

#[test]
fn r06_a_backup_that_cannot_be_read_stays_as_it_is_and_is_told() {
    let store = MemoryStore::new();
    let room = Room::new(Arc::new(store.clone()));
    let (mut rows, mut expected) = history(&room, 6, |number| number % 2 == 1);
    sweep(&room);
    // The last record of the second one's data is its own: nobody else is touched.
    let victim = rows.attempts()[1];
    let pack = format!("l/{}/pk/{victim}/0.", lineage_id());
    let pack = store.list(&pack).unwrap().pop().unwrap().key;
    let mut bytes = store.get(&pack).unwrap().unwrap();
    bytes[200] ^= 1;
    store.overwrite(&pack, bytes);
    let report = rebase(&room, &mut rows).unwrap();
    assert!(!report.doubts.is_empty(), "{report:?}");
    assert!(report.doubts[0].object.contains(&victim.to_string()), "{report:?}");
    assert!(report.doubts[0].advice.contains("stays as it is"), "{report:?}");
    assert!(rows.attempts().contains(&victim));
    assert!(report.stored_anew > 0, "others have their turn: {report:?}");
    expected.remove(&record(victim).backup_id);
    for (id, members) in &expected {
        let read = room.read(rows.get(id).unwrap().attempt);
        // Those that stood on it are as they were, too.
        assert!(
            read.as_ref().is_ok_and(|read| read == members)
                || rows.get(id).unwrap().attempt == record_attempt(id)
        );
    }
}

fn record_attempt(id: &BackupId) -> AttemptId {
    AttemptId::parse(id.as_str().strip_prefix("backup-").unwrap()).unwrap()
}

/// A reader that began before its backup was moved reads on to its end, whatever is swept meanwhile.
#[test]
fn f22_readers_sweeps_and_a_rebase_at_once() {
    let store = Arc::new(MemoryStore::new());
    let room = Room::new(store.clone());
    let (rows, expected) = history(&room, 9, |number| number % 3 == 2);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..4 {
            let (id, members) = expected.iter().nth(reader % expected.len()).unwrap();
            let (room, rows, is_over) = (&room, &rows, &is_over);
            scope.spawn(move || {
                let mut reads = 0;
                while reads < 5 || !is_over.load(Ordering::Relaxed) {
                    match room.read(rows.get(id).unwrap().attempt) {
                        Ok(read) => assert!(&read == members),
                        // It was moved between the look at its row and the reader's intent.
                        Err(error) => assert_eq!(error.kind(), ErrorKind::BackupNotFound, "{error}"),
                    }
                    reads += 1;
                }
            });
        }
        scope.spawn(|| {
            let mine = Room::opened(store.clone(), &room);
            while !is_over.load(Ordering::Relaxed) {
                sweep(&mine);
            }
        });
        let mine = Room::opened(store.clone(), &room);
        let report = rebase(&mine, &mut rows.clone()).unwrap();
        is_over.store(true, Ordering::Relaxed);
        assert_eq!((report.stored_anew, report.doubts.len()), (3, 0), "{report:?}");
    });
    sweep(&room);
    assert_sound(&room, &rows, &expected, "at once");
    assert_eq!(bases(&room), BaseCost::default());
}

/// A backup that runs upon one that is stored anew meanwhile stands on what that one was.
#[test]
fn f01_a_backup_begun_before_its_parent_was_moved_is_whole() {
    let room = Room::new(Arc::new(MemoryStore::new()));
    let (mut rows, mut expected) = history(&room, 5, |number| number % 2 == 0);
    let (newest, members) =
        expected.last_key_value().map(|(id, members)| (id.clone(), members.clone())).unwrap();
    let parent = rows.get(&newest).unwrap().attempt;
    let id = room.next_attempt();
    let attempt = room.started(id, Some(parent)).unwrap();
    assert!(rebase(&room, &mut rows).unwrap().stored_anew > 0);
    assert!(room.lineage.is_forgotten(parent).unwrap());
    sweep(&room);
    let mut changed = members;
    touch(&mut changed, 99);
    room::write(&attempt, &changed).unwrap();
    attempt.prove().unwrap().seal(&room::facts(), &record(id)).unwrap();
    room.lineage.clear_intent(id).unwrap();
    expected.insert(rows.publish(id), changed);
    sweep(&room);
    assert_sound(&room, &rows, &expected, "sealed");
    rebase(&room, &mut rows).unwrap();
    sweep(&room);
    assert_sound(&room, &rows, &expected, "stored anew");
    assert_eq!(bases(&room), BaseCost::default());
}
