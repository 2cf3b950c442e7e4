//! Files that are overwritten while they are read: what is stored is the last word on each byte, what
//! came back to what the parent has costs nothing, and every piece is judged as it is stored.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

mod room;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use room::{Members, Room, facts, member, pages, record};
use strongroom_core::engine::{BackupSink, CancelToken};
use strongroom_core::id::AttemptId;
use strongroom_core::member::{Dedupe, Member, MemberKind, MemberPath};
use strongroom_core::overwrite::ContentJudge;
use strongroom_core::progress::Progress;
use strongroom_core::verification::Level;
use strongroom_core::{ErrorKind, Result, limits};
use strongroom_repository::{
    Attempt, CHUNK_SIZE_BYTES, MemoryStore, SEGMENT_SIZE_BYTES, SealOutcome, SealedSummary, Store,
    SweepOptions,
};

const CHUNK: usize = CHUNK_SIZE_BYTES;

fn path(name: &str) -> MemberPath {
    MemberPath::parse(format!("data/{name}").as_bytes()).unwrap()
}

/// A file whose size the source does not say.
fn growing(name: &str) -> Member {
    Member { size: None, ..member(path(name).as_bytes(), 0) }
}

/// What a source does.
#[derive(Debug, Clone)]
enum Act {
    /// A file, as it is read first.
    Read(String, Vec<u8>),
    Overwrite(String, usize, Vec<u8>),
    Extend(String, usize),
    Rename(String, String),
    Discard(String),
}

fn play(sink: &dyn BackupSink, acts: &[Act]) -> Result<()> {
    for act in acts {
        match act {
            Act::Read(name, content) => {
                let mut writer = sink.overwritable(growing(name), None)?;
                for piece in content.chunks(30_000) {
                    writer.write(piece)?;
                }
                writer.stored()?;
            }
            Act::Overwrite(name, offset, bytes) => sink.overwrite(&path(name), *offset as u64, bytes)?,
            Act::Extend(name, size) => sink.extend(&path(name), *size as u64)?,
            Act::Rename(from, to) => sink.rename(&path(from), &path(to))?,
            Act::Discard(name) => sink.discard(&path(name))?,
        }
    }
    sink.settle()
}

/// What must come of it, byte by byte.
fn model(files: &mut BTreeMap<String, Vec<u8>>, act: &Act) {
    match act {
        Act::Read(name, content) => {
            files.insert(name.clone(), content.clone());
        }
        Act::Overwrite(name, offset, bytes) => {
            let content = files.get_mut(name).unwrap();
            content.resize(content.len().max(offset + bytes.len()), 0);
            content[*offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        Act::Extend(name, size) => {
            let content = files.get_mut(name).unwrap();
            content.resize(content.len().max(*size), 0);
        }
        Act::Rename(from, to) => {
            let content = files.remove(from).unwrap();
            assert!(files.insert(to.clone(), content).is_none());
        }
        Act::Discard(name) => {
            files.remove(name).unwrap();
        }
    }
}

fn members(files: &BTreeMap<String, Vec<u8>>) -> Members {
    files.iter().map(|(name, content)| (path(name).as_bytes().to_vec(), content.clone())).collect()
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

fn back_up(room: &Room, parent: Option<AttemptId>, acts: &[Act]) -> Result<SealedSummary> {
    let id = room.next_attempt();
    let attempt = room.started(id, parent)?;
    play(&attempt, acts)?;
    sealed(room, attempt, id)
}

fn is_sound(room: &Room) {
    let report = room.repository.check(Level::Decode, &CancelToken::new(), &Progress::new()).unwrap();
    assert!(report.passed(), "{report:#?}");
}

/// What may happen, before it is known which files there are.
#[derive(Debug, Clone)]
struct Wish {
    kind: u8,
    file: usize,
    offset: usize,
    length: usize,
    seed: u8,
}

fn wish() -> impl Strategy<Value = Wish> {
    (0..20_u8, any::<usize>(), 0..500_000_usize, 1..60_000_usize, any::<u8>())
        .prop_map(|(kind, file, offset, length, seed)| Wish { kind, file, offset, length, seed })
}

fn bytes_of(wish: &Wish) -> Vec<u8> {
    match wish.seed % 4 {
        0 => vec![0; wish.length],
        1 => vec![wish.seed; wish.length],
        _ => pages(u64::from(wish.seed), wish.length),
    }
}

/// One backup: every file is read, torn here and there, then the wishes come true, and what was torn
/// is overwritten by what it should have been.
fn acts(
    before: &BTreeMap<String, Vec<u8>>,
    wishes: &[Wish],
    fresh: &mut usize,
) -> (Vec<Act>, BTreeMap<String, Vec<u8>>) {
    let (mut acts, mut files, mut mends) = (Vec::new(), BTreeMap::new(), Vec::new());
    let mut act = |act: Act, files: &mut BTreeMap<String, Vec<u8>>| {
        model(files, &act);
        acts.push(act);
    };
    for (number, (name, content)) in before.iter().enumerate() {
        let mut torn = content.clone();
        if let Some(wish) = wishes.get(number).filter(|_| !content.is_empty()) {
            let start = wish.offset % content.len();
            let end = (start + 5_000).min(content.len());
            torn[start..end].fill(wish.seed);
            mends.push((name.clone(), start, content[start..end].to_vec()));
        }
        act(Act::Read(name.clone(), torn), &mut files);
    }
    for (name, start, bytes) in mends {
        act(Act::Overwrite(name, start, bytes), &mut files);
    }
    for wish in wishes {
        let known = files.keys().nth(wish.file % files.len().max(1)).cloned();
        let mut new_name = || {
            *fresh += 1;
            format!("t{fresh}")
        };
        match (wish.kind, known) {
            (0..3, _) | (_, None) => {
                let (name, mut content) = (new_name(), bytes_of(wish));
                content.extend(pages(9, wish.offset / 2));
                act(Act::Read(name, content), &mut files);
            }
            (3, Some(name)) => act(Act::Rename(name, new_name()), &mut files),
            (4, Some(name)) => act(Act::Discard(name), &mut files),
            (5..7, Some(name)) => act(Act::Extend(name, wish.offset), &mut files),
            (_, Some(name)) => act(Act::Overwrite(name, wish.offset, bytes_of(wish)), &mut files),
        }
    }
    (acts, files)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn the_last_word_on_each_byte_is_stored_through_chains_of_backups(
        rounds in prop::collection::vec(prop::collection::vec(wish(), 0..14), 2..7)
    ) {
        let room = Room::new(Arc::new(MemoryStore::new()));
        let (mut files, mut parent, mut kept, mut fresh) = (BTreeMap::new(), None, Vec::new(), 0);
        for wishes in &rounds {
            let (acts, after) = acts(&files, wishes, &mut fresh);
            let summary = back_up(&room, parent, &acts).unwrap();
            let size: usize = after.values().map(Vec::len).sum();
            prop_assert_eq!(summary.totals.source_bytes, size as u64);
            prop_assert_eq!(summary.totals.members, after.len() as u64);
            parent = Some(summary.attempt);
            files = after;
            kept.push((summary.attempt, files.clone()));
        }
        for (attempt, files) in &kept {
            prop_assert!(room.read(*attempt).unwrap() == members(files));
        }
        // A backup of the same bytes, read whole, has the same leaves: nothing of it is new.
        let whole = room.back_up(&members(&files), parent).unwrap();
        prop_assert_eq!(whole.totals.chunks_full + whole.totals.chunks_delta, 0);
        is_sound(&room);
    }
}

/// Three segments and a bit, most of it zero so that it costs nothing.
fn large() -> Vec<u8> {
    let segment = SEGMENT_SIZE_BYTES as usize;
    let mut content = vec![0; 2 * segment + 300_000];
    for start in [0, 700_000, segment - 50_000, 2 * segment + 5] {
        content[start..start + 200_000].copy_from_slice(&pages(start as u64, 200_000));
    }
    content
}

#[test]
fn what_came_back_to_the_parents_bytes_is_the_parents() {
    let room = Room::new(Arc::new(MemoryStore::new()));
    let content = large();
    let read = |content: &[u8]| Act::Read("t".to_owned(), content.to_vec());
    let first = back_up(&room, None, &[read(&content)]).unwrap();
    // Torn in each of its segments, and mended.
    let segment = SEGMENT_SIZE_BYTES as usize;
    let (mut torn, mut acts) = (content.clone(), Vec::new());
    for at in [16_384, 720_000, segment - 16_384, segment + 5, 2 * segment + 90_000] {
        torn[at..at + 9_000].fill(0xEE);
        acts.push(Act::Overwrite("t".to_owned(), at, content[at..at + 9_000].to_vec()));
    }
    acts.insert(0, read(&torn));
    let second = back_up(&room, Some(first.attempt), &acts).unwrap();
    assert_eq!(room.read(second.attempt).unwrap(), room.read(first.attempt).unwrap());
    assert_eq!((second.totals.chunks_delta, second.totals.chunks_full), (0, 0));
    assert_eq!(second.totals.chunks_equal + second.totals.chunks_fill, content.len().div_ceil(CHUNK) as u64);
    // Without a parent the base is what was read first: a page costs a delta, and no second chunk.
    let alone = Room::new(Arc::new(MemoryStore::new()));
    let only = back_up(&alone, None, &[read(&content), Act::Overwrite("t".to_owned(), 30_000, vec![7; 500])])
        .unwrap();
    assert_eq!(only.totals.chunks_delta, 1);
    assert_eq!(alone.read(only.attempt).unwrap()[path("t").as_bytes()][30_000..30_500], [7; 500]);
    is_sound(&room);
    is_sound(&alone);
}

#[test]
fn a_renamed_file_is_still_compared_with_what_it_was() {
    let room = Room::new(Arc::new(MemoryStore::new()));
    let content = pages(1, 400_000);
    let first = back_up(&room, None, &[Act::Read("shop/a".to_owned(), content.clone())]).unwrap();
    let acts = [
        Act::Read("shop/a".to_owned(), content.clone()),
        Act::Rename("shop/a".to_owned(), "shop/a.renamed".to_owned()),
        Act::Overwrite("shop/a.renamed".to_owned(), 200_000, vec![1; 100]),
        Act::Rename("shop/a.renamed".to_owned(), "shop/b".to_owned()),
        // Its old name is free.
        Act::Read("shop/a".to_owned(), pages(2, 1000)),
    ];
    let second = back_up(&room, Some(first.attempt), &acts).unwrap();
    assert_eq!((second.totals.chunks_delta, second.totals.chunks_equal), (1, 3 - 1 + 1));
    let mut files = BTreeMap::new();
    for act in &acts {
        model(&mut files, act);
    }
    assert!(room.read(second.attempt).unwrap() == members(&files));
}

#[test]
fn log_that_is_written_once_is_neither_compared_nor_a_delta() {
    let room = Room::new(Arc::new(MemoryStore::new()));
    let log = Member { dedupe: Dedupe::Never, ..growing("log/redo0") };
    let content = pages(4, 300_000);
    let mut parent = None;
    for _ in 0..2 {
        let id = room.next_attempt();
        let attempt = room.started(id, parent).unwrap();
        let mut writer = attempt.overwritable(log.clone(), None).unwrap();
        writer.write(&[0; 2048]).unwrap();
        writer.write(&content).unwrap();
        writer.stored().unwrap();
        attempt.overwrite(&log.path, 0, &[9; 2048]).unwrap();
        attempt.extend(&log.path, 1 << 20).unwrap();
        attempt.settle().unwrap();
        let summary = sealed(&room, attempt, id).unwrap();
        assert_eq!((summary.totals.chunks_delta, summary.totals.chunks_full), (0, 3));
        let read = room.read(summary.attempt).unwrap();
        let read = &read[log.path.as_bytes()];
        assert!(read.len() == 1 << 20 && read[..2048] == [9; 2048] && read[2048..302_048] == content);
        parent = Some(summary.attempt);
    }
    is_sound(&room);
}

#[test]
fn overwrites_win_over_the_reading_that_is_still_going_on() {
    let room = Room::new(Arc::new(MemoryStore::new()));
    let id = room.next_attempt();
    let attempt = room.started(id, None).unwrap();
    let mut writer = attempt.overwritable(growing("t"), None).unwrap();
    attempt.overwrite(&path("t"), 150_000, &[1; 100]).unwrap();
    writer.write(&pages(1, 400_000)).unwrap();
    writer.stored().unwrap();
    attempt.settle().unwrap();
    let summary = sealed(&room, attempt, id).unwrap();
    let mut wanted = pages(1, 400_000);
    wanted[150_000..150_100].fill(1);
    assert!(room.read(summary.attempt).unwrap()[path("t").as_bytes()] == wanted);
}

/// What was read first and is no more is in no roster: a sweep takes it away.
#[test]
fn records_that_nothing_refers_to_are_dead_from_birth() {
    let store = MemoryStore::new();
    let room = Room::new(Arc::new(store.clone()));
    let noise = |seed: u8| {
        let mut noise = vec![0; 4 << 20];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut noise);
        noise
    };
    let acts = [
        Act::Read("gone".to_owned(), noise(1)),
        Act::Read("t".to_owned(), noise(2)),
        Act::Overwrite("t".to_owned(), 0, noise(3)),
        Act::Discard("gone".to_owned()),
    ];
    let summary = back_up(&room, None, &acts).unwrap();
    assert_eq!(summary.totals.source_bytes, 4 << 20);
    let bytes = || -> u64 { store.list("l/").unwrap().iter().map(|object| object.size).sum() };
    let before = bytes();
    assert!(before > 12 << 20, "{before}");
    let options = SweepOptions { is_dry_run: false, dead_percent: 1, grace_s: 0, abandon_after_s: 0 };
    room.repository.sweep(&options, &CancelToken::new(), &Progress::new()).unwrap();
    assert!(bytes() < 5 << 20, "{} of {before}", bytes());
    assert!(room.read(summary.attempt).unwrap()[path("t").as_bytes()] == noise(3));
    is_sound(&room);
}

/// A piece is wrong when this stands in it.
const WRONG: [u8; 16] = [0xBD; 16];

#[derive(Default)]
struct Judge {
    suspected: Mutex<BTreeSet<u64>>,
    judged: Mutex<Vec<(String, u64, bool)>>,
}

fn is_wrong(bytes: &[u8]) -> bool {
    bytes.windows(WRONG.len()).any(|window| window == WRONG)
}

impl ContentJudge for Judge {
    fn suspects(&self, offset: u64, bytes: &[u8]) -> bool {
        let is_suspect = is_wrong(bytes);
        if is_suspect {
            self.suspected.lock().unwrap().insert(offset);
        }
        is_suspect
    }

    fn judge(&self, path: &MemberPath, offset: u64, bytes: &[u8]) {
        self.judged.lock().unwrap().push((path.to_string(), offset, is_wrong(bytes)));
    }
}

#[test]
fn b13_every_piece_is_judged_as_it_is_stored() {
    let room = Room::new(Arc::new(MemoryStore::new()));
    let judge = Arc::new(Judge::default());
    let id = room.next_attempt();
    let attempt = room.started(id, None).unwrap();
    let mut content = pages(1, 5 * CHUNK);
    for wrong in [1, 2] {
        content[wrong * CHUNK + 500..wrong * CHUNK + 516].copy_from_slice(&WRONG);
    }
    let mut writer = attempt.overwritable(growing("t"), Some(judge.clone())).unwrap();
    writer.write(&content).unwrap();
    writer.stored().unwrap();
    // Mended, made wrong, grown by what is wrong, touched and right.
    for (at, bytes) in
        [(CHUNK + 490, [0; 30].as_slice()), (3 * CHUNK, &WRONG), (6 * CHUNK, &WRONG), (4 * CHUNK, &[1])]
    {
        attempt.overwrite(&path("t"), at as u64, bytes).unwrap();
    }
    attempt.rename(&path("t"), &path("u")).unwrap();
    attempt.settle().unwrap();
    // All of it was seen when this returned.
    let mut judged = judge.judged.lock().unwrap().clone();
    judged.sort();
    let found: Vec<_> = judged.iter().map(|(_, offset, wrong)| (*offset as usize / CHUNK, *wrong)).collect();
    assert_eq!(found, [(1, false), (2, true), (3, true), (4, false), (6, true)]);
    assert!(judged.iter().all(|(name, ..)| name == "data/u"));
    assert_eq!(*judge.suspected.lock().unwrap(), BTreeSet::from([CHUNK as u64, 2 * CHUNK as u64]));
    let summary = sealed(&room, attempt, id).unwrap();
    assert_eq!(summary.totals.source_bytes as usize, 6 * CHUNK + WRONG.len());
}

type Deed<'d> = &'d dyn Fn(&Attempt) -> Result<()>;

#[test]
fn what_does_not_fit_is_refused_and_voids_the_attempt() {
    let room = Room::new(Arc::new(MemoryStore::new()));
    let begin = || {
        let id = room.next_attempt();
        let attempt = room.started(id, None).unwrap();
        let mut writer = attempt.overwritable(growing("t"), None).unwrap();
        writer.write(&[1; 1000]).unwrap();
        writer.stored().unwrap();
        attempt
    };
    let (known, unknown, free) = (path("t"), path("u"), path("v"));
    let limit = limits::MEMBER_SIZE_BYTES_MAX;
    let deeds: [(&str, ErrorKind, Deed<'_>); 7] = [
        ("unknown", ErrorKind::Internal, &|attempt| attempt.overwrite(&unknown, 0, &[1])),
        ("rename unknown", ErrorKind::Internal, &|attempt| attempt.rename(&unknown, &free)),
        ("discard unknown", ErrorKind::Internal, &|attempt| attempt.discard(&unknown)),
        ("taken name", ErrorKind::SourceHostile, &|attempt| attempt.rename(&known, &known)),
        ("too large", ErrorKind::SourceHostile, &|attempt| attempt.overwrite(&known, limit, &[1])),
        ("beyond numbers", ErrorKind::SourceHostile, &|attempt| attempt.overwrite(&known, u64::MAX, &[1])),
        ("grown too large", ErrorKind::SourceHostile, &|attempt| attempt.extend(&known, limit + 1)),
    ];
    for (what, kind, deed) in deeds {
        let attempt = begin();
        assert_eq!(deed(&attempt).unwrap_err().kind(), kind, "{what}");
        assert!(attempt.settle().is_err() && attempt.prove().is_err(), "{what}: the attempt is void");
    }
    let attempt = begin();
    assert_eq!(attempt.overwritable(growing("t"), None).err().unwrap().kind(), ErrorKind::SourceHostile);
    let folder = Member { kind: MemberKind::Directory, ..growing("d") };
    assert!(attempt.overwritable(folder, None).is_err());
    // Nobody settled it.
    assert_eq!(begin().prove().err().unwrap().kind(), ErrorKind::Internal);
    // A file that is still being read; one that was given up and discarded is no part of it.
    let attempt = begin();
    let writer = attempt.overwritable(growing("x"), None).unwrap();
    assert_eq!(attempt.settle().unwrap_err().kind(), ErrorKind::Internal);
    drop(writer);
    let attempt = begin();
    let mut writer = attempt.overwritable(growing("x"), None).unwrap();
    let gone = vec![5; 300_000];
    writer.write(&gone).unwrap();
    attempt.discard(&path("x")).unwrap();
    writer.write(&gone).unwrap();
    drop(writer);
    attempt.settle().unwrap();
    assert!(attempt.settle().is_err(), "once");
    let attempt = begin();
    drop(attempt.overwritable(growing("x"), None).unwrap());
    assert!(attempt.settle().is_err());
    // The same path, as a file that is not overwritten.
    let attempt = begin();
    let mut writer = attempt.open(member(path("t").as_bytes(), 1)).unwrap();
    writer.write(&[1]).unwrap();
    writer.finish().unwrap();
    attempt.settle().unwrap();
    assert_eq!(attempt.prove().err().unwrap().kind(), ErrorKind::SourceHostile);
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
fn f13_a_damaged_parent_under_a_touched_chunk_voids_the_attempt_and_says_so() {
    let store = MemoryStore::new();
    let room = Room::new(Arc::new(store.clone()));
    let acts =
        [Act::Read("t".to_owned(), pages(1, 100_000)), Act::Overwrite("t".to_owned(), 16_384, vec![9; 8192])];
    let parent = back_up(&room, None, &acts[..1]).unwrap().attempt;
    damage(&store, parent);
    let id = room.next_attempt();
    let attempt = room.started(id, Some(parent)).unwrap();
    let distrust = attempt.distrust();
    let ended = play(&attempt, &acts).unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::Damage);
    let found = distrust.found().unwrap();
    assert!(found.damage.as_ref().unwrap().contains("/pk/"), "{found:?}");
    // The next one reads everything.
    let next = back_up(&room, None, &acts).unwrap();
    assert_eq!(room.read(next.attempt).unwrap()[path("t").as_bytes()][16_384..24_576], [9; 8192]);
}
