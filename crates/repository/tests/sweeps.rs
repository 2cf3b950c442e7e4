//! The sweep on a real repository: what it takes, what it must not take, and what happens when it is
//! stopped, met by others, or finds what it cannot read.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

mod room;

use std::collections::BTreeMap;
use std::sync::Arc;

use room::{Members, Room, database, facts, framed, lineage_id, record, small_database, touch, write};
use strongroom_core::ErrorKind;
use strongroom_core::engine::CancelToken;
use strongroom_core::id::AttemptId;
use strongroom_core::progress::Progress;
use strongroom_core::verification::Level;
use strongroom_repository::{
    Begun, LocalStore, MemoryStore, Reasons, SealOutcome, Store, SweepOptions, SweepReport, Verdict,
};
use strongroom_testkit::store::{Edge, Fault, FaultyStore, Operation, Seals, What, When};

const TIGHTEST: SweepOptions = SweepOptions {
    is_dry_run: false,
    dead_percent: SweepOptions::TIGHTEST_PERCENT,
    grace_s: 0,
    abandon_after_s: 0,
};

fn try_sweep(room: &Room, options: &SweepOptions) -> strongroom_core::Result<SweepReport> {
    room.repository.sweep(options, &CancelToken::new(), &Progress::new())
}

fn sweep(room: &Room) -> SweepReport {
    try_sweep(room, &TIGHTEST).unwrap()
}

fn copy(store: &MemoryStore) -> MemoryStore {
    let copy = MemoryStore::new();
    for object in store.list("").unwrap() {
        copy.put_new(&object.key, &store.get(&object.key).unwrap().unwrap()).unwrap();
    }
    copy
}

fn packs(store: &dyn Store) -> Vec<String> {
    let listed = store.list(&format!("l/{}/pk/", lineage_id())).unwrap();
    listed.into_iter().map(|object| object.key).collect()
}

fn pack_bytes(store: &dyn Store) -> u64 {
    store.list(&format!("l/{}/pk/", lineage_id())).unwrap().iter().map(|object| object.size).sum()
}

fn freed(reasons: &Reasons) -> u64 {
    let shares = [reasons.deleted, reasons.abandoned, reasons.unused, reasons.dead_records, reasons.replaced];
    shares.iter().map(|share| share.bytes).sum()
}

fn assert_sound(room: &Room, survivors: &BTreeMap<AttemptId, Members>, what: &str) {
    for (attempt, members) in survivors {
        assert_eq!(&room.read(*attempt).unwrap(), members, "{what}");
    }
    let report = room.repository.check(Level::Decode, &CancelToken::new(), &Progress::new()).unwrap();
    assert!(report.passed(), "{what}: {report:#?}");
}

/// `count` backups, each of a database that changed a little.
fn history(room: &Room, count: u8) -> BTreeMap<AttemptId, Members> {
    let (mut members, mut parent, mut backups) = (small_database(), None, BTreeMap::new());
    for number in 0..count {
        touch(&mut members, number);
        let table = members.get_mut(&b"data/base/1/16384"[..]).unwrap();
        // A chunk that is new each time, beside those that become deltas.
        let fresh = room::pages(u64::from(number) + 100, 131_072);
        table[131_072..262_144].copy_from_slice(&fresh);
        let attempt = room.back_up(&members, parent).unwrap().attempt;
        backups.insert(attempt, members.clone());
        parent = Some(attempt);
    }
    backups
}

/// A history of which some backups are forgotten.
fn with_forgotten(
    room: &Room,
    count: u8,
    is_forgotten: impl Fn(usize) -> bool,
) -> BTreeMap<AttemptId, Members> {
    let mut backups = history(room, count);
    let attempts: Vec<AttemptId> = backups.keys().copied().collect();
    for (number, attempt) in attempts.into_iter().enumerate() {
        if is_forgotten(number) {
            room.lineage.forget(attempt).unwrap();
            backups.remove(&attempt);
        }
    }
    backups
}

#[test]
fn f21_r04_what_only_forgotten_backups_need_goes_and_the_rest_stays_exact() {
    let store = MemoryStore::new();
    let room = Room::new(Arc::new(store.clone()));
    let survivors = with_forgotten(&room, 7, |number| number % 3 != 1);
    let before = packs(&store).len();
    let before_sweep = room.repository.stat().unwrap();
    let dry = try_sweep(&room, &SweepOptions { is_dry_run: true, ..TIGHTEST }).unwrap();
    assert_eq!(packs(&store).len(), before, "a dry run touches nothing");
    let report = sweep(&room);
    assert!(report.packs_removed > 0 && report.packs_rewritten > 0, "{report:?}");
    assert_eq!(
        (dry.packs_removed, dry.packs_rewritten, dry.bytes_freed),
        (report.packs_removed, report.packs_rewritten, report.bytes_freed)
    );
    assert_eq!(report.doubts, []);
    assert_sound(&room, &survivors, "swept");
    assert_eq!(report.bytes_freed, freed(&report.reasons), "each byte has its reason");
    let after = room.repository.stat().unwrap();
    assert_eq!(before_sweep.reclaimable_bytes, report.bytes_freed);
    assert_eq!((before_sweep.backups, before_sweep.pending_backups), (2, 5));
    assert_eq!(
        (before_sweep.dead_packs.packs, before_sweep.partly_dead_packs.packs),
        (report.packs_removed, report.packs_rewritten)
    );
    assert_eq!((after.pending_backups, after.reclaimable_bytes, after.forgotten_backups), (0, 0, 5));
    assert_eq!(after.live_bytes, pack_bytes(&store));
    let again = sweep(&room);
    assert_eq!((again.bytes_freed, again.packs_rewritten, again.dead_kept.bytes), (0, 0, 0));
    // The next backup stands on what was swept.
    let (newest, members) = survivors.last_key_value().unwrap();
    let mut members = members.clone();
    touch(&mut members, 77);
    let next = room.back_up(&members, Some(*newest)).unwrap().attempt;
    assert_eq!(room.read(next).unwrap(), members);
    assert_eq!(room.lineage.latest_parent().unwrap(), Some(next));
}

#[test]
fn r04_nothing_forgotten_nothing_removed() {
    let store = MemoryStore::new();
    let room = Room::new(Arc::new(store.clone()));
    let survivors = history(&room, 4);
    let before = store.list("").unwrap();
    let report = sweep(&room);
    assert_eq!((report.packs_removed, report.bytes_freed), (0, 0));
    assert_eq!(store.list("").unwrap(), before);
    assert_sound(&room, &survivors, "swept");
}

#[test]
fn f03_f08_r04_a_sweep_stopped_at_every_call_of_the_store() {
    let store = MemoryStore::new();
    let first = Room::new(Arc::new(store.clone()));
    let survivors = with_forgotten(&first, 5, |number| number != 1 && number != 4);
    let done = copy(&store);
    sweep(&Room::opened(Arc::new(done.clone()), &first));
    let bytes = |store: &MemoryStore| store.list("").unwrap().iter().map(|object| object.size).sum::<u64>();
    let mut calls = 0;
    for (what, edge) in [(What::Fail, Edge::Before), (What::Fail, Edge::After), (What::Die, Edge::Before)] {
        for call in 1.. {
            let inner = copy(&store);
            let faulty = FaultyStore::new(Arc::new(inner.clone()));
            let room = Room::opened(Arc::new(faulty.clone()), &first);
            faulty.arm(Fault { when: When::Call(call), what, edge });
            let outcome = try_sweep(&room, &TIGHTEST);
            let is_past_the_end = !faulty.has_struck();
            let what = format!("{what:?} {edge:?} {call}: {outcome:?}");
            let room = Room::opened(Arc::new(inner.clone()), &first);
            assert_sound(&room, &survivors, &what);
            let again = sweep(&room);
            assert_eq!(again.doubts, [], "{what}");
            assert_sound(&room, &survivors, &what);
            // A generation more has a name as long: nothing is left of what was begun.
            assert_eq!(bytes(&inner), bytes(&done), "{what}");
            assert_eq!(packs(&inner).len(), packs(&done).len(), "{what}");
            if is_past_the_end {
                calls += call;
                break;
            }
        }
    }
    assert!(calls > 200, "{calls} calls were stopped at");
}

/// A disk that fills while a pack is written anew: the pack stays, the others have their turn, and
/// nothing half is left.
#[test]
fn d01_f07_r04_a_disk_that_fills_at_any_write_of_a_pack() {
    let store = MemoryStore::new();
    let first = Room::new(Arc::new(store.clone()));
    let survivors = with_forgotten(&first, 7, |number| number % 3 != 1);
    let done = copy(&store);
    let clean = sweep(&Room::opened(Arc::new(done.clone()), &first));
    assert!(clean.packs_rewritten > 1);
    let mut cases = 0;
    for operation in [Operation::BeginPut, Operation::Append, Operation::Commit] {
        for nth in 1.. {
            let inner = copy(&store);
            let faulty = FaultyStore::new(Arc::new(inner.clone()));
            let room = Room::opened(Arc::new(faulty.clone()), &first);
            let when = When::Nth(nth, operation, "/pk/");
            faulty.arm(Fault { when, what: What::FailAs(ErrorKind::DiskFull), edge: Edge::Before });
            let report = try_sweep(&room, &TIGHTEST).unwrap();
            let what = format!("{operation:?} {nth}: {report:?}");
            if !faulty.has_struck() {
                break;
            }
            cases += 1;
            assert_eq!(report.packs_without_room, 1, "{what}");
            assert_eq!(report.packs_removed, clean.packs_removed, "{what}");
            assert_eq!(report.packs_rewritten, clean.packs_rewritten - 1, "{what}");
            let room = Room::opened(Arc::new(inner.clone()), &first);
            assert_sound(&room, &survivors, &what);
            let again = sweep(&room);
            assert_eq!((again.packs_rewritten, again.packs_without_room), (1, 0), "{what}");
            assert_sound(&room, &survivors, &what);
            assert_eq!(packs(&inner).len(), packs(&done).len(), "{what}");
        }
    }
    assert!(cases > 5, "{cases} writes");
}

#[test]
fn r04_a_store_that_lies_to_a_sweep_loses_nothing_sealed() {
    let store = MemoryStore::new();
    let first = Room::new(Arc::new(store.clone()));
    let survivors = with_forgotten(&first, 4, |number| number == 0 || number == 2);
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
            for nth in 1..400 {
                let inner = copy(&store);
                let faulty = FaultyStore::new(Arc::new(inner.clone()));
                let room = Room::opened(Arc::new(faulty.clone()), &first);
                let when = When::Nth(nth, operation, "");
                faulty.arm(Fault { when, what: What::Lie(*lie), edge: Edge::Before });
                let outcome = try_sweep(&room, &TIGHTEST);
                if !faulty.has_struck() {
                    break;
                }
                lies += 1;
                let room = Room::opened(Arc::new(inner.clone()), &first);
                for (attempt, members) in &survivors {
                    let read = room.read(*attempt);
                    assert_eq!(read.as_ref().ok(), Some(members), "{lie:?} {operation:?} {nth}: {outcome:?}");
                }
            }
        }
    }
    assert!(lies > 200, "{lies} lies were told");
}

#[test]
fn r06_on_any_doubt_nothing_is_removed() {
    let store = MemoryStore::new();
    let room = Room::new(Arc::new(store.clone()));
    let survivors = with_forgotten(&room, 4, |number| number == 0 || number == 2);
    let (survivor, _) = survivors.first_key_value().unwrap();
    let verdict = format!("l/{}/at/{survivor}", lineage_id());
    let roster = packs(&store).into_iter().rfind(|key| key.contains(&survivor.to_string())).unwrap();
    let intent = format!("l/{}/in/{}", lineage_id(), room.next_attempt());
    let odd = format!("l/{}/at/x", lineage_id());
    for key in [verdict, roster, intent, odd] {
        let inner = copy(&store);
        let mut bytes = inner.get(&key).unwrap().unwrap_or_else(|| vec![1; 90]);
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        inner.overwrite(&key, bytes);
        let room = Room::opened(Arc::new(inner.clone()), &room);
        let before = packs(&inner);
        let report = sweep(&room);
        assert_eq!(report.lineages_kept, 1, "{key}");
        assert_eq!(report.doubts[0].object, key);
        assert!(report.doubts[0].advice.contains("sweep again"), "{report:?}");
        assert_eq!(packs(&inner), before, "{key}");
    }
}

#[test]
fn r06_objects_that_nobody_knows_stay_and_are_told() {
    let store = MemoryStore::new();
    let room = Room::new(Arc::new(store.clone()));
    with_forgotten(&room, 2, |number| number == 0);
    let (odd, orphan) = (
        format!("l/{}/pk/what is this", lineage_id()),
        format!("l/{}/pk/{}/0.0", lineage_id(), AttemptId::new(uuid(99))),
    );
    for key in [&odd, &orphan] {
        store.put_new(key, b"something").unwrap();
    }
    let report = sweep(&room);
    assert!(report.packs_removed > 0);
    assert_eq!(report.doubts.len(), 2, "{report:?}");
    assert!(packs(&store).contains(&odd) && packs(&store).contains(&orphan));
}

fn uuid(number: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(number)
}

#[test]
fn p07_r04_leftovers_of_dead_attempts_go_and_their_writer_cannot_commit() {
    let store = MemoryStore::new();
    let room = Room::new(Arc::new(store.clone()));
    let survivors = with_forgotten(&room, 2, |_| false);
    let (parent, members) = survivors.last_key_value().unwrap();
    let before = packs(&store);
    let id = room.next_attempt();
    let attempt = room.started(id, Some(*parent)).unwrap();
    let mut changed = members.clone();
    touch(&mut changed, 9);
    write(&attempt, &changed).unwrap();
    let proven = attempt.prove().unwrap();
    // Nobody knows yet whether it goes on.
    let patient = SweepOptions { abandon_after_s: 3600, ..TIGHTEST };
    assert_eq!(try_sweep(&room, &patient).unwrap().packs_removed, 0);
    assert!(packs(&store).len() > before.len());
    let report = sweep(&room);
    assert_eq!((report.attempts_abandoned, report.intents_removed), (1, 1));
    assert_eq!(packs(&store), before);
    assert!(matches!(proven.seal(&facts(), &record(id)).unwrap(), SealOutcome::Abandoned));
    assert_sound(&room, &survivors, "swept");
}

#[test]
fn f01_a_writer_on_a_backup_that_is_forgotten_finds_it_whole() {
    let store = MemoryStore::new();
    let room = Room::new(Arc::new(store.clone()));
    let backups = history(&room, 3);
    let (parent, members) = backups.last_key_value().unwrap();
    let id = room.next_attempt();
    let attempt = room.started(id, Some(*parent)).unwrap();
    for forgotten in backups.keys() {
        room.lineage.forget(*forgotten).unwrap();
    }
    let patient = SweepOptions { abandon_after_s: 3600, ..TIGHTEST };
    try_sweep(&room, &patient).unwrap();
    let mut changed = members.clone();
    touch(&mut changed, 9);
    write(&attempt, &changed).unwrap();
    let sealed = attempt.prove().unwrap().seal(&facts(), &record(id)).unwrap();
    assert!(matches!(sealed, SealOutcome::Sealed(_)));
    room.lineage.clear_intent(id).unwrap();
    let survivors = BTreeMap::from([(id, changed)]);
    assert_sound(&room, &survivors, "sealed");
    assert!(sweep(&room).bytes_freed > 0);
    assert_sound(&room, &survivors, "swept");
}

#[test]
fn r04_an_intent_on_a_backup_that_is_gone_neither_blocks_nor_commits() {
    let store = MemoryStore::new();
    let room = Room::new(Arc::new(store.clone()));
    let survivors = with_forgotten(&room, 3, |number| number == 0);
    sweep(&room);
    let gone = AttemptId::new(uuid(1 << 64));
    // A writer that was killed between its intent and its second look.
    let id = room.next_attempt();
    let key = format!("l/{}/in/{id}", lineage_id());
    let mut payload = gone.as_bytes().to_vec();
    payload.extend_from_slice(&1_i64.to_le_bytes());
    payload.extend_from_slice(&1_790_000_000_000_000_i64.to_le_bytes());
    payload.extend_from_slice(&[0, 0]);
    store.put_new(&key, &framed(3, &key, &payload)).unwrap();
    room.lineage.forget(*survivors.first_key_value().unwrap().0).unwrap();
    let patient = SweepOptions { abandon_after_s: 3600, ..TIGHTEST };
    let report = try_sweep(&room, &patient).unwrap();
    assert_eq!(report.doubts, []);
    assert!(report.bytes_freed > 0);
    assert!(matches!(room.lineage.verdict(id).unwrap(), Some(Verdict::Abandoned)));
    assert!(matches!(room.begin(room.next_attempt(), Some(gone)).unwrap(), Begun::ParentGone));
}

#[test]
fn r04_the_grace_and_holds_keep_a_forgotten_backup() {
    let store = MemoryStore::new();
    let room = Room::new(Arc::new(store.clone()));
    let backups = history(&room, 2);
    let first = *backups.first_key_value().unwrap().0;
    room.lineage.forget(first).unwrap();
    let patient = SweepOptions { grace_s: 1, ..TIGHTEST };
    assert_eq!(try_sweep(&room, &patient).unwrap().backups_decided, 0);
    let hold = format!("l/{}/hold/{first}.1", lineage_id());
    store.put_new(&hold, &framed(6, &hold, b"a judge")).unwrap();
    assert_eq!(sweep(&room).backups_decided, 0);
    store.delete(&hold).unwrap();
    assert_eq!(sweep(&room).backups_decided, 1);
}

#[test]
fn f22_eight_readers_while_their_packs_are_rewritten() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(LocalStore::open(directory.path()).unwrap());
    let room = Room::new(store);
    let (mut members, mut parent, mut survivors) = (database(), None, Vec::new());
    for number in 0..6 {
        touch(&mut members, number);
        let attempt = room.back_up(&members, parent).unwrap().attempt;
        parent = Some(attempt);
        survivors.push((attempt, members.clone()));
    }
    for number in [4, 2, 0] {
        room.lineage.forget(survivors.remove(number).0).unwrap();
    }
    std::thread::scope(|scope| {
        for reader in 0..8 {
            let (room, (attempt, members)) = (&room, &survivors[reader % survivors.len()]);
            scope.spawn(move || {
                for _ in 0..20 {
                    assert_eq!(&room.read(*attempt).unwrap(), members);
                }
            });
        }
        scope.spawn(|| sweep(&room));
        scope.spawn(|| sweep(&room));
    });
    sweep(&room);
    assert_sound(&room, &survivors.into_iter().collect(), "swept");
}

#[test]
fn r04_backups_forgets_and_two_sweepers_at_once() {
    let store = Arc::new(MemoryStore::new());
    let seals = Seals::new();
    let store = Arc::new(FaultyStore::with_seals(store, seals.clone()));
    let room = Room::new(store.clone());
    let patient = SweepOptions { abandon_after_s: 3600, ..TIGHTEST };
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let survivors = std::thread::scope(|scope| {
        let sweepers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mine = Room::opened(store.clone(), &room);
                    let mut freed = 0;
                    while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                        let report = try_sweep(&mine, &patient).unwrap();
                        assert_eq!(report.doubts, []);
                        freed += report.bytes_freed;
                    }
                    freed
                })
            })
            .collect();
        let (mut members, mut parent, mut survivors) = (small_database(), None, BTreeMap::new());
        for number in 0..40_u8 {
            touch(&mut members, number);
            let attempt = room.back_up(&members, parent).unwrap().attempt;
            parent = Some(attempt);
            survivors.insert(attempt, members.clone());
            if survivors.len() > 5 {
                let at = usize::from(number) * 7 % 5;
                let (victim, _) = survivors.iter().nth(at).map(|(id, members)| (*id, members.len())).unwrap();
                room.lineage.forget(victim).unwrap();
                survivors.remove(&victim);
            }
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        let freed: u64 = sweepers.into_iter().map(|sweeper| sweeper.join().unwrap()).sum();
        assert!(freed > 0);
        survivors
    });
    assert_sound(&room, &survivors, "swept");
    sweep(&room);
    assert_sound(&room, &survivors, "swept");
    assert_eq!(seals.reused(), [""; 0]);
}

#[test]
fn d08_a_read_only_store_is_not_swept() {
    struct ReadOnly(MemoryStore);
    impl Store for ReadOnly {
        fn put_new(&self, key: &str, bytes: &[u8]) -> strongroom_core::Result<strongroom_repository::Put> {
            self.0.put_new(key, bytes)
        }
        fn begin_put(&self, key: &str) -> strongroom_core::Result<Box<dyn strongroom_repository::PutStream>> {
            self.0.begin_put(key)
        }
        fn get(&self, key: &str) -> strongroom_core::Result<Option<Vec<u8>>> {
            self.0.get(key)
        }
        fn get_range(
            &self,
            key: &str,
            offset: u64,
            length: usize,
        ) -> strongroom_core::Result<Option<Vec<u8>>> {
            self.0.get_range(key, offset, length)
        }
        fn head(&self, key: &str) -> strongroom_core::Result<Option<u64>> {
            self.0.head(key)
        }
        fn list(&self, prefix: &str) -> strongroom_core::Result<Vec<strongroom_repository::Listed>> {
            self.0.list(prefix)
        }
        fn delete(&self, key: &str) -> strongroom_core::Result<()> {
            self.0.delete(key)
        }
        fn free_bytes(&self) -> strongroom_core::Result<Option<u64>> {
            Ok(None)
        }
        fn is_read_only(&self) -> bool {
            true
        }
    }
    let store = MemoryStore::new();
    let first = Room::new(Arc::new(store.clone()));
    with_forgotten(&first, 2, |number| number == 0);
    let before = store.list("").unwrap();
    let room = Room::opened(Arc::new(ReadOnly(store.clone())), &first);
    let refused = try_sweep(&room, &TIGHTEST).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(refused.public().contains("read-only"), "{refused}");
    assert_eq!(store.list("").unwrap(), before);
}
