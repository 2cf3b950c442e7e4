//! The writer stopped at every call it makes of the store: before the call has an effect, after
//! it, once or for ever. What was sealed before stays exact, nothing is half visible, the next
//! backup works, and no key ever meets the same nonce for two plaintexts.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

mod room;

use std::sync::Arc;

use room::{CountedRandomness, Room, small_database, touch, write};
use strongroom_core::ErrorKind;
use strongroom_core::engine::CancelToken;
use strongroom_core::progress::Progress;
use strongroom_core::time::Randomness;
use strongroom_core::verification::Level;
use strongroom_repository::{MemoryStore, Store, Verdict};
use strongroom_testkit::store::{Edge, Fault, FaultyStore, Seals, What, When};

/// What befalls the writer at one call after the other.
const FAULTS: [(What, Edge); 3] =
    [(What::Fail, Edge::Before), (What::Fail, Edge::After), (What::Die, Edge::Before)];

fn copy(store: &MemoryStore) -> MemoryStore {
    let copy = MemoryStore::new();
    for object in store.list("").unwrap() {
        copy.put_new(&object.key, &store.get(&object.key).unwrap().unwrap()).unwrap();
    }
    copy
}

#[test]
fn f03_f08_stopped_at_every_call_of_the_store() {
    let store = MemoryStore::new();
    let seals = Seals::new();
    let first = Room::new(Arc::new(store.clone()));
    let mut members = small_database();
    let before = first.back_up(&members, None).unwrap().attempt;
    let old = members.clone();
    touch(&mut members, 1);
    let mut calls = 0;
    for (what, edge) in FAULTS {
        for call in 1.. {
            let inner = copy(&store);
            let faulty = FaultyStore::with_seals(Arc::new(inner.clone()), seals.clone());
            let room = Room::opened(Arc::new(faulty.clone()), &first);
            let id = room.next_attempt();
            faulty.arm(Fault { when: When::Call(call), what, edge });
            let outcome = room.attempt(id, &members, Some(before));
            let is_past_the_end = !faulty.has_struck();
            // The process is gone; another one looks.
            let room = Room::opened(Arc::new(inner.clone()), &first);
            let what = format!("{what:?} {edge:?} {call}: {outcome:?}");
            assert_eq!(room.read(before).unwrap(), old, "{what}");
            let verdict = room.lineage.abandon(id).unwrap();
            match &verdict {
                Verdict::Sealed(_) => assert_eq!(room.read(id).unwrap(), members, "{what}"),
                Verdict::Abandoned => {
                    assert!(outcome.is_err(), "{what}");
                    assert_eq!(room.read(id).unwrap_err().kind(), ErrorKind::BackupNotFound, "{what}");
                }
            }
            let report = room.repository.check(Level::Decode, &CancelToken::new(), &Progress::new()).unwrap();
            assert!(report.passed(), "{what}: {report:#?}");
            let parent = room.lineage.latest_parent().unwrap();
            assert_eq!(
                parent,
                Some(if matches!(verdict, Verdict::Sealed(_)) { id } else { before }),
                "{what}"
            );
            let next = room.back_up(&members, parent).unwrap().attempt;
            assert_eq!(room.read(next).unwrap(), members, "{what}");
            if is_past_the_end {
                assert!(outcome.is_ok(), "{what}");
                calls += call;
                break;
            }
        }
    }
    assert!(calls > 60, "{calls} calls were stopped at");
    assert_eq!(seals.reused(), [""; 0]);
}

#[test]
fn f14_no_key_meets_a_nonce_twice_whatever_fails() {
    let faulty = FaultyStore::new(Arc::new(MemoryStore::new()));
    let room = Room::new(Arc::new(faulty.clone()));
    let (mut members, mut parent, mut seed) = (small_database(), None, 88_172_645_463_325_252_u64);
    for round in 0..120_u8 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        // A dead process is another store over the same objects; here it fails on, and lives again.
        let (what, edge) = FAULTS[usize::from(round) % 2];
        faulty.arm(Fault { when: When::Call((seed % 40) as usize + 1), what, edge });
        let id = room.next_attempt();
        let outcome = room.attempt(id, &members, parent);
        faulty.disarm();
        if matches!(room.lineage.abandon(id).unwrap(), Verdict::Sealed(_)) {
            parent = Some(id);
        } else {
            assert!(outcome.is_err());
        }
        touch(&mut members, round);
    }
    assert!(faulty.seals().count() > 500);
    assert_eq!(faulty.seals().reused(), [""; 0]);
}

struct Constant;

impl Randomness for Constant {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

/// The judge of the tests above is shown a writer that reuses: the same attempt twice, with
/// salts that do not differ.
#[test]
fn f14_reuse_is_seen_when_there_is_some() {
    let twice = |random: Arc<dyn Randomness>| {
        let objects = MemoryStore::new();
        let faulty = FaultyStore::new(Arc::new(objects.clone()));
        let room = Room::with_randomness(Arc::new(faulty.clone()), random);
        let (id, mut members) = (room.next_attempt(), small_database());
        for round in 0..2 {
            let attempt = room.started(id, None).unwrap();
            write(&attempt, &members).unwrap();
            drop(attempt.prove());
            // What protects against it in life: the intent of the first try stands.
            assert_eq!(room.begin(id, None).err().unwrap().kind(), ErrorKind::Fenced);
            for object in objects.list("l/").unwrap() {
                objects.delete(&object.key).unwrap();
            }
            touch(&mut members, round);
        }
        faulty.seals().reused()
    };
    assert!(!twice(Arc::new(Constant)).is_empty());
    // And beyond that, the salt of each pack.
    assert_eq!(twice(Arc::new(CountedRandomness::default())), [""; 0]);
}
