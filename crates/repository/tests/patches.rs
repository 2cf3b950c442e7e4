//! Members that are the parent's with changes: what nobody touched is taken over unread, what is
//! put together is exact, and a parent that is damaged is not built upon.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

mod room;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use room::{Members, Room, facts, member, pages, record};
use strongroom_core::engine::{BackupSink, CancelToken};
use strongroom_core::id::AttemptId;
use strongroom_core::member::MemberPath;
use strongroom_core::parent::ParentBackup;
use strongroom_core::progress::Progress;
use strongroom_core::verification::Level;
use strongroom_core::{ErrorKind, Result};
use strongroom_repository::{
    Attempt, Listed, MemoryStore, Put, PutStream, SEGMENT_SIZE_BYTES, SealOutcome, SealedSummary, Store,
};

const PATH: &[u8] = b"data/base/1/16384";

/// A member as its changes.
#[derive(Debug, Clone)]
struct Changes {
    size: usize,
    kept: usize,
    writes: Vec<(usize, Vec<u8>)>,
}

impl Changes {
    /// Byte by byte what the port says.
    fn model(&self, parent: &[u8]) -> Vec<u8> {
        let mut content: Vec<u8> = parent.iter().copied().take(self.kept.min(self.size)).collect();
        content.resize(self.size, 0);
        for (offset, bytes) in &self.writes {
            content[*offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        content
    }

    fn send(&self, attempt: &Attempt, path: &[u8]) -> Result<()> {
        let mut writer = attempt.patch(member(path, self.size as u64), self.kept as u64)?;
        for (offset, bytes) in &self.writes {
            for (piece, at) in bytes.chunks(50_000).zip((0..).step_by(50_000)) {
                writer.write_at((offset + at) as u64, piece)?;
            }
        }
        writer.finish()
    }
}

fn sealed(room: &Room, attempt: Attempt, id: AttemptId) -> Result<SealedSummary> {
    match attempt.prove()?.seal(&facts(), &record(id))? {
        SealOutcome::Sealed(summary) => {
            room.lineage.clear_intent(id)?;
            Ok(*summary)
        }
        SealOutcome::Abandoned => panic!("nobody abandoned it"),
    }
}

fn patch(room: &Room, parent: AttemptId, changes: &[(&[u8], Changes)]) -> Result<SealedSummary> {
    let id = room.next_attempt();
    let attempt = room.started(id, Some(parent))?;
    for (path, changes) in changes {
        changes.send(&attempt, path)?;
    }
    sealed(room, attempt, id)
}

fn changes() -> impl Strategy<Value = Changes> {
    let writes = prop::collection::vec((0_usize..200_000, 1_usize..70_000, any::<u8>(), any::<bool>()), 0..5);
    (0_usize..600_000, 0_usize..700_000, writes).prop_map(|(size, kept, wanted)| {
        let (mut writes, mut position) = (Vec::new(), 0);
        for (skip, length, seed, is_flat) in wanted {
            let start: usize = (position + skip).min(size);
            let length = length.min(size - start);
            let bytes = if is_flat { vec![seed; length] } else { pages(u64::from(seed), length) };
            position = start + length;
            writes.push((start, bytes));
        }
        Changes { size, kept: kept.min(size), writes }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_changes_read_back_through_chains_of_backups(
        first in 0_usize..500_000,
        hole in 0_usize..400_000,
        rounds in prop::collection::vec(changes(), 1..7),
    ) {
        let room = Room::new(Arc::new(MemoryStore::new()));
        let mut content = pages(1, first);
        content[hole.min(first)..].fill(0);
        let members = Members::from([(PATH.to_vec(), content.clone())]);
        let mut parent = room.back_up(&members, None).unwrap().attempt;
        let mut kept = vec![(parent, content.clone())];
        for changes in &rounds {
            content = changes.model(&content);
            parent = patch(&room, parent, &[(PATH, changes.clone())]).unwrap().attempt;
            kept.push((parent, content.clone()));
        }
        for (attempt, content) in &kept {
            prop_assert!(&room.read(*attempt).unwrap()[PATH] == content);
        }
        // A backup of the same bytes, read whole, has the same leaves: nothing of it is new.
        let members = Members::from([(PATH.to_vec(), content)]);
        let whole = room.back_up(&members, Some(parent)).unwrap();
        prop_assert_eq!(whole.totals.chunks_full + whole.totals.chunks_delta, 0);
        // What a roster lacks, a check of the whole repository misses.
        let report = room.repository.check(Level::Decode, &CancelToken::new(), &Progress::new()).unwrap();
        prop_assert!(report.passed(), "{:#?}", report);
    }
}

/// Counts what is written and which packs are read.
#[derive(Clone, Default)]
struct Counting {
    inner: MemoryStore,
    written: Arc<AtomicUsize>,
    read: Arc<Mutex<Vec<String>>>,
}

impl Counting {
    fn reset(&self) {
        self.written.store(0, Ordering::SeqCst);
        self.read.lock().unwrap().clear();
    }

    fn written(&self) -> usize {
        self.written.load(Ordering::SeqCst)
    }

    /// Reads of packs with data: byte 12 behind magic, format, kind tells them from those of trees.
    fn data_reads(&self) -> usize {
        let is_data = |key: &&String| {
            key.contains("/pk/") && self.inner.get(key).unwrap().is_some_and(|object| object[12] == 0)
        };
        self.read.lock().unwrap().iter().filter(is_data).count()
    }
}

impl Store for Counting {
    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<Put> {
        self.written.fetch_add(1, Ordering::SeqCst);
        self.inner.put_new(key, bytes)
    }

    fn begin_put(&self, key: &str) -> Result<Box<dyn PutStream>> {
        self.written.fetch_add(1, Ordering::SeqCst);
        self.inner.begin_put(key)
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.read.lock().unwrap().push(key.to_owned());
        self.inner.get(key)
    }

    fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>> {
        self.read.lock().unwrap().push(key.to_owned());
        self.inner.get_range(key, offset, length)
    }

    fn head(&self, key: &str) -> Result<Option<u64>> {
        self.inner.head(key)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        self.inner.list(prefix)
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.inner.delete(key)
    }

    fn free_bytes(&self) -> Result<Option<u64>> {
        self.inner.free_bytes()
    }
}

/// Three segments and a bit, most of it zero so that it costs nothing, with something to read in
/// each of them.
fn large() -> Vec<u8> {
    let segment = SEGMENT_SIZE_BYTES as usize;
    let mut content = vec![0; 3 * segment + 300_000];
    for start in [0, 700_000, segment - 50_000, 2 * segment + 5, 3 * segment] {
        content[start..start + 200_000].copy_from_slice(&pages(start as u64, 200_000));
    }
    content
}

#[test]
fn what_nobody_touched_is_neither_read_nor_written() {
    let store = Counting::default();
    let room = Room::new(Arc::new(store.clone()));
    let mut members = Members::from([(PATH.to_vec(), large())]);
    for number in 0..2000_u32 {
        members.insert(format!("data/base/1/{number}").into_bytes(), pages(u64::from(number), 9000));
    }
    let parent = room.back_up(&members, None).unwrap();
    let unchanged: Vec<(&[u8], Changes)> = members
        .iter()
        .map(|(path, content)| {
            let size = content.len();
            (path.as_slice(), Changes { size, kept: size, writes: Vec::new() })
        })
        .collect();
    store.reset();
    let second = patch(&room, parent.attempt, &unchanged).unwrap();
    assert!(store.written() < 10, "{} objects", store.written());
    assert_eq!(store.data_reads(), 0);
    assert_eq!(second.totals.source_bytes, parent.totals.source_bytes);
    assert!(
        second.stored_bytes * 20 < parent.stored_bytes,
        "{} {}",
        second.stored_bytes,
        parent.stored_bytes
    );
    assert_eq!(second.totals.chunks_delta + second.totals.chunks_full, 0);
    assert!(room.read(second.attempt).unwrap() == members);
    // The counter is one that counts.
    store.reset();
    let _ = room.read(second.attempt).unwrap();
    assert!(store.data_reads() > 0);
}

#[test]
fn a_change_in_one_segment_leaves_the_others_alone() {
    let store = Counting::default();
    let room = Room::new(Arc::new(store.clone()));
    let content = large();
    let parent = room.back_up(&Members::from([(PATH.to_vec(), content.clone())]), None).unwrap();
    let segment = SEGMENT_SIZE_BYTES as usize;
    let at = 2 * segment + 100_000;
    let changes = Changes { size: content.len(), kept: content.len(), writes: vec![(at, vec![7; 8192])] };
    store.reset();
    let second = patch(&room, parent.attempt, &[(PATH, changes.clone())]).unwrap();
    assert_eq!((second.totals.chunks_delta, second.totals.chunks_full), (1, 0));
    assert!(room.read(second.attempt).unwrap()[PATH] == changes.model(&content));
    // Cut inside the second segment, then grown by what nobody wrote.
    for size in [segment + 70_000, 2 * segment + 131_072] {
        let kept = size.min(segment + 70_000);
        let cut = Changes { size, kept, writes: Vec::new() };
        let third = patch(&room, second.attempt, &[(PATH, cut.clone())]).unwrap();
        assert!(room.read(third.attempt).unwrap()[PATH] == cut.model(&changes.model(&content)));
    }
    let report = room.repository.check(Level::Decode, &CancelToken::new(), &Progress::new()).unwrap();
    assert!(report.passed(), "{report:#?}");
}

/// Changes one byte of each data pack, in the middle of its records.
fn damage(store: &MemoryStore, attempt: AttemptId) {
    for object in store.list("l/").unwrap() {
        let mut bytes = store.get(&object.key).unwrap().unwrap();
        if object.key.contains("/pk/") && object.key.contains(&attempt.to_string()) && bytes[12] == 0 {
            bytes[300] ^= 1;
            store.overwrite(&object.key, bytes);
        }
    }
}

#[test]
fn f13_damage_in_a_touched_chunk_voids_the_attempt_and_says_so() {
    let store = MemoryStore::new();
    let room = Room::new(Arc::new(store.clone()));
    let content = pages(1, 100_000);
    let members = Members::from([(PATH.to_vec(), content.clone())]);
    let parent = room.back_up(&members, None).unwrap().attempt;
    damage(&store, parent);
    let id = room.next_attempt();
    let attempt = room.started(id, Some(parent)).unwrap();
    let distrust = attempt.distrust();
    let changes = Changes { size: 100_000, kept: 100_000, writes: vec![(8192, vec![9; 8192])] };
    let ended = changes.send(&attempt, PATH).and_then(|()| attempt.prove().map(|_| ()));
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Damage);
    let found = distrust.found().unwrap();
    assert_eq!(found.reason, "the earlier backup is damaged");
    assert!(found.damage.as_ref().unwrap().contains("/pk/"), "{found:?}");
    // Everything read whole is stored again, damage or not.
    let whole = Members::from([(PATH.to_vec(), changes.model(&content))]);
    let next = room.back_up(&whole, Some(parent)).unwrap();
    assert_eq!(room.read(next.attempt).unwrap(), whole);
}

#[test]
fn changes_of_nothing_are_refused() {
    let room = Room::new(Arc::new(MemoryStore::new()));
    let members = Members::from([(PATH.to_vec(), pages(1, 50_000))]);
    let parent = room.back_up(&members, None).unwrap().attempt;
    for (parent, path, what) in [
        (None, PATH, "no earlier backup"),
        (Some(parent), b"data/base/1/7".as_slice(), "no file data/base/1/7"),
    ] {
        let attempt = room.started(room.next_attempt(), parent).unwrap();
        let distrust = attempt.distrust();
        assert!(attempt.patch(member(path, 10), 10).is_err());
        assert!(distrust.found().unwrap().reason.contains(what), "{distrust:?}");
    }
    // Lies of the caller are no reason to distrust the parent.
    let attempt = room.started(room.next_attempt(), Some(parent)).unwrap();
    let mut writer = attempt.patch(member(PATH, 100), 100).unwrap();
    writer.write_at(50, &[1; 10]).unwrap();
    assert!(writer.write_at(40, &[1; 10]).is_err());
    assert!(writer.write_at(95, &[1; 10]).is_err());
    assert!(writer.write_at(u64::MAX, &[1; 10]).is_err());
    drop(writer);
    assert!(attempt.distrust().found().is_none());
    assert_eq!(attempt.prove().err().unwrap().kind(), ErrorKind::Internal);
}

#[test]
fn the_parent_is_read_as_it_was_stored() {
    let room = Room::new(Arc::new(MemoryStore::new()));
    let content = pages(3, 400_000);
    let members = Members::from([(PATH.to_vec(), content.clone()), (b"data/empty".to_vec(), Vec::new())]);
    let parent = room.back_up(&members, None).unwrap().attempt;
    let attempt = room.started(room.next_attempt(), Some(parent)).unwrap();
    let reader = attempt.parent().unwrap();
    let read = |path: &[u8]| {
        let mut file = reader.open(&MemberPath::parse(path).unwrap()).unwrap()?;
        let mut content = Vec::new();
        while let Some(piece) = file.next_piece().unwrap() {
            content.extend(piece);
        }
        Some(content)
    };
    assert_eq!(reader.facts(), &facts());
    assert!(read(PATH) == Some(content));
    assert_eq!(read(b"data/empty"), Some(Vec::new()));
    assert_eq!(read(b"data/nothing"), None);
    assert!(room.started(room.next_attempt(), None).unwrap().parent().is_none());
}
