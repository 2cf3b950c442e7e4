//! The writer stopped at every call it makes of the store: before the call has an effect, after
//! it, once or for ever. What was sealed before stays exact, nothing is half visible, the next
//! backup works, and no key ever meets the same nonce for two plaintexts.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

mod room;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use room::{CountedRandomness, Members, Room, facts, pages, record, touch, write};
use strongroom_core::engine::CancelToken;
use strongroom_core::id::AttemptId;
use strongroom_core::progress::Progress;
use strongroom_core::time::Randomness;
use strongroom_core::verification::Level;
use strongroom_core::{Error, ErrorKind, Result};
use strongroom_repository::{Begun, Listed, MemoryStore, Put, PutStream, SealOutcome, Store, Verdict};

/// What happens at the chosen call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The call fails and has no effect; the next ones work.
    Refused,
    /// The call has its effect, and fails all the same.
    Unanswered,
    /// The process dies before the call: nothing works any more.
    Dead,
}

/// Everything that was sealed: which key and nonce, and the digest of the ciphertext.
type Sealed = Arc<Mutex<Vec<(String, [u8; 32])>>>;

/// A store that fails at one call, and keeps book of every seal it sees, lost ones included.
#[derive(Clone)]
struct FaultyStore {
    inner: MemoryStore,
    calls: Arc<AtomicU64>,
    plan: Arc<Mutex<Option<(u64, Fault)>>>,
    sealed: Sealed,
}

impl FaultyStore {
    fn new(inner: MemoryStore, sealed: Sealed) -> Self {
        Self { inner, calls: Arc::default(), plan: Arc::default(), sealed }
    }

    fn fail_at(&self, call: u64, fault: Fault) {
        *self.plan.lock().unwrap() = Some((call, fault));
        self.calls.store(0, Ordering::Relaxed);
    }

    fn run<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let refused = || Error::new(ErrorKind::Unavailable, "The store does not answer.");
        match *self.plan.lock().unwrap() {
            Some((at, Fault::Refused)) if call == at => Err(refused()),
            Some((at, Fault::Dead)) if call >= at => Err(refused()),
            Some((at, Fault::Unanswered)) if call == at => act().and(Err(refused())),
            _ => act(),
        }
    }

    /// Objects that are sealed as a whole: manifests and wrapped keys.
    fn note(&self, key: &str, bytes: &[u8]) {
        let payload = bytes.len().checked_sub(32).and_then(|end| bytes.get(14 + key.len()..end));
        let Some(payload) = payload else { return };
        let unit = if key.contains("/at/") && payload[0] == 1 {
            format!("manifest {key}")
        } else if key.starts_with("keys/") {
            // All project keys are wrapped by one key, all lineage keys of a project by another.
            let wrapping = key.split_once("/l/").map_or("recovery", |(project, _)| project);
            format!("wrapped by {wrapping} {}", hex::encode(&payload[..12]))
        } else {
            return;
        };
        self.sealed.lock().unwrap().push((unit, *blake3::hash(payload).as_bytes()));
    }
}

impl Store for FaultyStore {
    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<Put> {
        self.note(key, bytes);
        self.run(|| self.inner.put_new(key, bytes))
    }

    fn begin_put(&self, key: &str) -> Result<Box<dyn PutStream>> {
        let inner = self.run(|| self.inner.begin_put(key))?;
        Ok(Box::new(FaultyPut { store: self.clone(), inner: Some(inner), header: Vec::new(), slot: 0 }))
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.run(|| self.inner.get(key))
    }

    fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>> {
        self.run(|| self.inner.get_range(key, offset, length))
    }

    fn head(&self, key: &str) -> Result<Option<u64>> {
        self.run(|| self.inner.head(key))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        self.run(|| self.inner.list(prefix))
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.run(|| self.inner.delete(key))
    }

    fn free_bytes(&self) -> Result<Option<u64>> {
        Ok(None)
    }
}

struct FaultyPut {
    store: FaultyStore,
    inner: Option<Box<dyn PutStream>>,
    /// The pack's header: kind, owner and number, salts.
    header: Vec<u8>,
    slot: u32,
}

impl PutStream for FaultyPut {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.header.is_empty() {
            self.header = bytes.to_vec();
        } else {
            // A record, or at last the slot table, which has a key of its own from another salt.
            let (kind, pack, salt) = (self.header[12], &self.header[52..72], &self.header[76..92]);
            let unit = format!("pack {kind} {} {} slot {}", hex::encode(pack), hex::encode(salt), self.slot);
            self.slot += 1;
            self.store.sealed.lock().unwrap().push((unit, *blake3::hash(bytes).as_bytes()));
        }
        let inner = self.inner.as_mut().unwrap();
        self.store.run(|| inner.append(bytes))
    }

    fn commit(mut self: Box<Self>) -> Result<Put> {
        let inner = self.inner.take().unwrap();
        self.store.run(|| inner.commit())
    }
}

/// The keys and nonces that met two plaintexts.
fn reused(sealed: &Sealed) -> Vec<String> {
    let mut seen: HashMap<String, [u8; 32]> = HashMap::new();
    let units = sealed.lock().unwrap();
    units
        .iter()
        .filter(|(unit, digest)| seen.insert(unit.clone(), *digest).is_some_and(|known| known != *digest))
        .map(|(unit, _)| unit.clone())
        .collect()
}

fn copy(store: &MemoryStore) -> MemoryStore {
    let copy = MemoryStore::new();
    for object in store.list("").unwrap() {
        copy.put_new(&object.key, &store.get(&object.key).unwrap().unwrap()).unwrap();
    }
    copy
}

fn small_database() -> Members {
    Members::from([
        (b"data/PG_VERSION".to_vec(), b"15\n".to_vec()),
        (b"data/base/1/16384".to_vec(), pages(1, 300_000)),
    ])
}

/// One attempt, as far as the store lets it come.
fn attempt(room: &Room, id: AttemptId, members: &Members, parent: Option<AttemptId>) -> Result<()> {
    let Begun::Started(attempt) = room.begin(id, parent)? else { return Ok(()) };
    write(&attempt, members)?;
    match attempt.prove()?.seal(&facts(), &record(id))? {
        SealOutcome::Sealed(_) => room.lineage.clear_intent(id),
        SealOutcome::Abandoned => Ok(()),
    }
}

#[test]
fn f03_f08_stopped_at_every_call_of_the_store() {
    let store = MemoryStore::new();
    let sealed = Sealed::default();
    let first = Room::new(Arc::new(store.clone()));
    let mut members = small_database();
    let before = first.back_up(&members, None).unwrap().attempt;
    let old = members.clone();
    touch(&mut members, 1);
    let mut calls = 0;
    for fault in [Fault::Refused, Fault::Unanswered, Fault::Dead] {
        for call in 0.. {
            let inner = copy(&store);
            let faulty = FaultyStore::new(inner.clone(), sealed.clone());
            let room = Room::opened(Arc::new(faulty.clone()), &first);
            let id = room.next_attempt();
            faulty.fail_at(call, fault);
            let outcome = attempt(&room, id, &members, Some(before));
            let is_past_the_end = faulty.calls.load(Ordering::Relaxed) <= call;
            // The process is gone; another one looks.
            let room = Room::opened(Arc::new(inner.clone()), &first);
            let what = format!("{fault:?} at {call}: {outcome:?}");
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
    assert_eq!(reused(&sealed), [""; 0]);
}

#[test]
fn f14_no_key_meets_a_nonce_twice_whatever_fails() {
    let (store, sealed) = (MemoryStore::new(), Sealed::default());
    let faulty = FaultyStore::new(store, sealed.clone());
    let room = Room::new(Arc::new(faulty.clone()));
    let (mut members, mut parent, mut seed) = (small_database(), None, 88_172_645_463_325_252_u64);
    for round in 0..120_u8 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let fault = [Fault::Refused, Fault::Unanswered, Fault::Dead][usize::from(round) % 3];
        faulty.fail_at(seed % 40, fault);
        let id = room.next_attempt();
        let outcome = attempt(&room, id, &members, parent);
        *faulty.plan.lock().unwrap() = None;
        if matches!(room.lineage.abandon(id).unwrap(), Verdict::Sealed(_)) {
            parent = Some(id);
        } else {
            assert!(outcome.is_err());
        }
        touch(&mut members, round);
    }
    assert!(sealed.lock().unwrap().len() > 500);
    assert_eq!(reused(&sealed), [""; 0]);
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
        let sealed = Sealed::default();
        let faulty = FaultyStore::new(MemoryStore::new(), sealed.clone());
        let room = Room::with_randomness(Arc::new(faulty.clone()), random);
        let (id, mut members) = (room.next_attempt(), small_database());
        for round in 0..2 {
            let attempt = room.started(id, None).unwrap();
            write(&attempt, &members).unwrap();
            drop(attempt.prove());
            // What protects against it in life: the intent of the first try stands.
            assert_eq!(room.begin(id, None).err().unwrap().kind(), ErrorKind::Fenced);
            for object in faulty.inner.list("l/").unwrap() {
                faulty.inner.delete(&object.key).unwrap();
            }
            touch(&mut members, round);
        }
        reused(&sealed)
    };
    assert!(!twice(Arc::new(Constant)).is_empty());
    // And beyond that, the salt of each pack.
    assert_eq!(twice(Arc::new(CountedRandomness::default())), [""; 0]);
}
