//! Every kind of stored object, damaged in every way: flipped, cut short, zeroed, replaced by a
//! sibling, removed. A check names the object and exactly the backups that it touches, accuses
//! nothing else, and no backup is ever read with a wrong byte.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

mod room;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use room::{CountedRandomness, Members, Room, StandingClock, framed, lineage_id, pages, project, touch};
use strongroom_core::ErrorKind;
use strongroom_core::engine::CancelToken;
use strongroom_core::id::AttemptId;
use strongroom_core::progress::Progress;
use strongroom_core::verification::Level;
use strongroom_repository::{CheckReport, LocalStore, MemoryStore, RecoveryKey, Repository, Store, Verdict};
use strongroom_testkit::depth;

/// Kinds of an object, as its frame numbers them.
const TOMBSTONE_END: u16 = 5;
const HOLD: u16 = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    Flipped(usize),
    Cut(usize),
    Zeroed,
    Swapped,
    Removed,
}

/// A repository with something of everything, small enough to be damaged hundreds of times.
struct Specimen {
    store: MemoryStore,
    key: RecoveryKey,
    /// Sealed and visible, oldest first; the second and third stand on the first.
    kept: Vec<(AttemptId, Members)>,
    forgotten: AttemptId,
    abandoned: AttemptId,
    open: AttemptId,
    opened: AtomicU64,
}

fn specimen() -> Specimen {
    let store = MemoryStore::new();
    let room = Room::new(Arc::new(store.clone()));
    let mut members = Members::from([
        (b"data/PG_VERSION".to_vec(), b"15\n".to_vec()),
        (b"data/base/1/16384".to_vec(), pages(1, 300_000)),
        (b"data/base/1/16385".to_vec(), pages(2, 200_000)),
    ]);
    let (mut kept, mut parent) = (Vec::new(), None);
    for round in 0..3 {
        let summary = room.back_up(&members, parent).unwrap();
        parent = Some(summary.attempt);
        kept.push((summary.attempt, members.clone()));
        touch(&mut members, round + 1);
    }
    // The third backup was forgotten and taken back, and lies under a hold.
    let third = kept[2].0;
    room.lineage.forget(third).unwrap();
    let end = format!("l/{}/tb/{third}.0.end", lineage_id());
    store.put_new(&end, &framed(TOMBSTONE_END, &end, &[2])).unwrap();
    let hold = format!("l/{}/hold/{third}.0", lineage_id());
    store.put_new(&hold, &framed(HOLD, &hold, b"")).unwrap();

    let forgotten =
        room.back_up(&Members::from([(b"data/x".to_vec(), pages(5, 9000))]), None).unwrap().attempt;
    room.lineage.forget(forgotten).unwrap();
    let (abandoned, open) = (room.next_attempt(), room.next_attempt());
    for attempt in [abandoned, open] {
        drop(room.started(attempt, None).unwrap());
    }
    assert_eq!(room.lineage.abandon(abandoned).unwrap(), Verdict::Abandoned);
    room.lineage.clear_intent(abandoned).unwrap();
    Specimen { store, key: room.key, kept, forgotten, abandoned, open, opened: AtomicU64::new(0) }
}

impl Specimen {
    /// Opens the repository as a new process would.
    fn opened(&self) -> strongroom_core::Result<Repository> {
        // Each process draws its own numbers.
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        let random = Arc::new(CountedRandomness::starting_at((1 << 32) + (number << 16)));
        Repository::open(Arc::new(self.store.clone()), &self.key, Arc::new(StandingClock), random)
    }

    fn check(&self, level: Level) -> CheckReport {
        self.opened().unwrap().check(level, &CancelToken::new(), &Progress::new()).unwrap()
    }

    fn keys(&self, part: &str) -> Vec<String> {
        let listed = self.store.list("").unwrap();
        listed.into_iter().map(|object| object.key).filter(|key| key.contains(part)).collect()
    }

    fn key(&self, part: &str) -> String {
        let found = self.keys(part);
        let [only] = &found[..] else { panic!("{part}: {found:?}") };
        only.clone()
    }

    fn bytes(&self, key: &str) -> Vec<u8> {
        self.store.get(key).unwrap().unwrap()
    }

    fn visible(&self) -> BTreeSet<AttemptId> {
        self.kept.iter().map(|(attempt, _)| *attempt).collect()
    }

    fn damage(&self, key: &str, damage: Damage, sibling: Option<&str>) {
        let mut bytes = self.bytes(key);
        match damage {
            Damage::Flipped(at) => bytes[at] ^= 0x10,
            Damage::Cut(length) => bytes.truncate(length),
            Damage::Zeroed => bytes.fill(0),
            Damage::Swapped => bytes = self.bytes(sibling.unwrap()),
            Damage::Removed => return self.store.delete(key).unwrap(),
        }
        self.store.overwrite(key, bytes);
    }

    /// Every backup reads exactly, or not at all; answers those that do not read.
    fn unreadable(&self, what: &str) -> BTreeSet<AttemptId> {
        let mut unreadable = BTreeSet::new();
        let room =
            self.opened().map(|repository| (repository.lineage(&project(), &lineage_id()), repository));
        for (attempt, members) in &self.kept {
            let read = match &room {
                Ok((Ok(lineage), _)) => room::read(lineage, *attempt),
                Ok((Err(error), _)) | Err(error) => Err(error.again()),
            };
            match read {
                Ok(read) => assert_eq!(&read, members, "{what}"),
                Err(error) => {
                    let kinds = [ErrorKind::Damage, ErrorKind::BackupNotFound, ErrorKind::Unavailable];
                    assert!(kinds.contains(&error.kind()), "{what}: {error:?}");
                    unreadable.insert(*attempt);
                }
            }
        }
        unreadable
    }

    /// Damages the object in every way, looks, and mends it again.
    fn ruin(&self, key: &str, sibling: Option<&str>, touched: &dyn Fn(&Self, &str) -> BTreeSet<AttemptId>) {
        let good = self.bytes(key);
        let mut damages = vec![Damage::Zeroed];
        damages.extend([0, 1, good.len() / 2, good.len() - 1].map(Damage::Cut));
        damages.extend([0, 9, 11, good.len() / 2, good.len() - 1].map(Damage::Flipped));
        damages.extend(sibling.map(|_| Damage::Swapped));
        for damage in damages {
            let what = format!("{key} {damage:?}");
            self.damage(key, damage, sibling);
            let report = self.check(Level::Decode);
            let [finding] = &report.findings[..] else { panic!("{what}: {report:#?}") };
            assert_eq!(finding.object, key, "{what}");
            assert!(!finding.problem.is_empty());
            assert_eq!(finding.attempts.len(), finding.backups.len());
            let found: BTreeSet<AttemptId> = finding.attempts.iter().copied().collect();
            let unreadable = self.unreadable(&what);
            assert!(unreadable.is_subset(&found), "{what}: {unreadable:?} {found:?}");
            let expected = touched(self, key);
            // A flipped byte of a record touches the backups that need that record, no others.
            let is_exact = !matches!(damage, Damage::Flipped(_)) || !key.contains("/pk/");
            assert!(found.is_subset(&expected) && (!is_exact || found == expected), "{what}: {found:?}");
            self.store.overwrite(key, good.clone());
        }
        assert!(self.check(Level::Decode).passed(), "{key} was mended");
    }

    /// What a listing shows when the object is gone.
    fn remove(&self, key: &str, look: impl FnOnce(&CheckReport, &BTreeSet<AttemptId>)) {
        let good = self.bytes(key);
        self.damage(key, Damage::Removed, None);
        let report = self.check(Level::Presence);
        look(&report, &self.unreadable(key));
        self.store.overwrite(key, good);
    }

    fn removal_is_found(&self, key: &str, touched: &BTreeSet<AttemptId>) {
        self.remove(key, |report, unreadable| {
            let [finding] = &report.findings[..] else { panic!("{key}: {report:#?}") };
            assert_eq!((finding.object.as_str(), finding.problem.contains("missing")), (key, true));
            let found: BTreeSet<AttemptId> = finding.attempts.iter().copied().collect();
            assert_eq!(&found, touched, "{key}");
            assert!(unreadable.is_subset(&found), "{key}");
        });
    }
}

/// The backups that need an object, told without asking the check: those that do not read
/// without it, and the owner of a pack, whose roster may lie there.
fn needing(specimen: &Specimen, key: &str) -> BTreeSet<AttemptId> {
    let there = specimen.bytes(key);
    specimen.store.delete(key).unwrap();
    let mut needing = specimen.unreadable(key);
    specimen.store.overwrite(key, there);
    let owner = specimen.kept.iter().map(|(attempt, _)| *attempt).find(|own| key.contains(&own.to_string()));
    needing.extend(owner);
    needing
}

#[test]
fn nothing_is_accused_in_a_sound_repository() {
    let specimen = specimen();
    for level in [Level::Presence, Level::Digest, Level::Decode] {
        let report = specimen.check(level);
        assert!(report.passed(), "{report:#?}");
        assert!(report.objects_checked > 10);
    }
    assert!(specimen.unreadable("sound").is_empty());
}

#[test]
fn f11_f12_rot_in_packs_is_found_with_exactly_the_backups_it_touches() {
    let specimen = specimen();
    let forgotten = specimen.forgotten.to_string();
    let packs: Vec<String> =
        specimen.keys("/pk/").into_iter().filter(|key| !key.contains(&forgotten)).collect();
    // Data, meta and roster packs of three attempts.
    assert!(packs.len() >= 8, "{packs:?}");
    for (at, pack) in packs.iter().enumerate() {
        let sibling = &packs[(at + 1) % packs.len()];
        specimen.ruin(pack, Some(sibling), &needing);
        specimen.removal_is_found(pack, &needing(&specimen, pack));
    }
}

#[test]
fn f11_a_rotten_record_accuses_only_the_backups_that_need_it() {
    let store = MemoryStore::new();
    let room = Room::new(Arc::new(store.clone()));
    let mut members = Members::from([
        (b"data/base/1/1".to_vec(), pages(1, 100_000)),
        (b"data/base/1/2".to_vec(), pages(2, 100_000)),
    ]);
    let first = room.back_up(&members, None).unwrap().attempt;
    // The second backup has nothing of the first file any more, and all of the second one.
    members.insert(b"data/base/1/1".to_vec(), pages(3, 100_000));
    let second = room.back_up(&members, Some(first)).unwrap().attempt;
    let pack = format!("l/{}/pk/{first}/0.0", lineage_id());
    let good = store.get(&pack).unwrap().unwrap();
    let length = good.len();
    for (at, touched) in [(200, vec![first]), (length / 2 + 5000, vec![first, second])] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        store.overwrite(&pack, bad);
        let report = room.repository.check(Level::Decode, &CancelToken::new(), &Progress::new()).unwrap();
        let [finding] = &report.findings[..] else { panic!("{report:#?}") };
        assert_eq!((&finding.object, &finding.attempts), (&pack, &touched));
        for attempt in [first, second] {
            assert_eq!(room.read(attempt).is_ok(), !touched.contains(&attempt));
        }
    }
}

#[test]
fn rot_slot_table_is_found_before_anybody_needs_it() {
    let specimen = specimen();
    for pack in specimen.keys("/pk/").into_iter().filter(|key| key.contains(&specimen.kept[0].0.to_string()))
    {
        let good = specimen.bytes(&pack);
        let trailer = &good[good.len() - 64..];
        let table = u64::from_le_bytes(trailer[..8].try_into().unwrap()) as usize;
        let length = u32::from_le_bytes(trailer[8..12].try_into().unwrap()) as usize;
        for at in (table..table + length).chain(good.len() - 64..good.len() - 32) {
            specimen.damage(&pack, Damage::Flipped(at), None);
            // Its own digest repaired, so that only the table's authenticity can tell.
            let mut bytes = specimen.bytes(&pack);
            let body = bytes.len() - 32;
            let digest = *blake3::hash(&bytes[..body]).as_bytes();
            bytes[body..].copy_from_slice(&digest);
            specimen.store.overwrite(&pack, bytes);
            let is_reserved = at >= good.len() - 48;
            let report = specimen.check(Level::Digest);
            assert_eq!(report.passed(), is_reserved, "{pack} {at}: {report:#?}");
            assert!(specimen.unreadable(&pack).is_empty(), "a read plans from the tree, not from the table");
            specimen.store.overwrite(&pack, good.clone());
        }
    }
}

#[test]
fn rot_verdict_sealed_and_abandoned() {
    let specimen = specimen();
    let of = |attempt: AttemptId| specimen.key(&format!("/at/{attempt}"));
    let sealed: Vec<String> = specimen.kept.iter().map(|(attempt, _)| of(*attempt)).collect();
    for (at, (attempt, _)) in specimen.kept.iter().enumerate() {
        let own = BTreeSet::from([*attempt]);
        // The manifest of a sibling, and the sign that it was abandoned.
        for sibling in [&sealed[(at + 1) % 3], &of(specimen.abandoned)] {
            specimen.ruin(&sealed[at], Some(sibling), &|_, _| own.clone());
        }
        specimen.removal_is_found(&sealed[at], &own);
    }
    let own = BTreeSet::from([specimen.abandoned]);
    specimen.ruin(&of(specimen.abandoned), Some(&sealed[0]), &|_, _| own.clone());
    // Without packs and without an intent nothing is left that would miss it.
    specimen.remove(&of(specimen.abandoned), |report, unreadable| {
        assert!(report.passed() && unreadable.is_empty());
    });
}

#[test]
fn rot_intent_of_a_writer_and_of_a_reader() {
    let specimen = specimen();
    let intent = specimen.key(&format!("/in/{}", specimen.open));
    let repository = specimen.opened().unwrap();
    let lineage = repository.lineage(&project(), &lineage_id()).unwrap();
    let reader = lineage.open_backup(specimen.kept[0].0).unwrap();
    let reading = specimen.key("/in/r-");
    let own = BTreeSet::from([specimen.open]);
    specimen.ruin(&intent, Some(&reading), &|_, _| own.clone());
    specimen.ruin(&reading, Some(&intent), &|_, _| BTreeSet::new());
    drop(reader);
    specimen.remove(&intent, |report, _| assert!(report.passed(), "it owns no pack: {report:#?}"));
    // With a pack, its owner must be known.
    let pack = specimen.keys("/pk/").remove(0);
    let orphan = format!("l/{}/pk/{}/0.0", lineage_id(), specimen.open);
    specimen.store.put_new(&orphan, &specimen.bytes(&pack)).unwrap();
    assert!(specimen.check(Level::Presence).passed());
    specimen.remove(&intent, |report, _| {
        let [finding] = &report.findings[..] else { panic!("{report:#?}") };
        assert_eq!(finding.attempts, [specimen.open]);
    });
}

#[test]
fn rot_tombstone_and_its_end() {
    let specimen = specimen();
    let (third, forgotten) = (specimen.kept[2].0, specimen.forgotten);
    let end = specimen.key(&format!("/tb/{third}.0.end"));
    let undone = end.trim_end_matches(".end").to_owned();
    let tombstone = specimen.key(&format!("/tb/{forgotten}.0"));
    specimen.ruin(&undone, Some(&tombstone), &|_, _| BTreeSet::from([third]));
    specimen.ruin(&tombstone, Some(&undone), &|_, _| BTreeSet::from([forgotten]));
    specimen.removal_is_found(&undone, &BTreeSet::from([third]));
    // A rotten end is no `undone`: the backup is hidden, and the check says why.
    let good = specimen.bytes(&end);
    for damage in [Damage::Zeroed, Damage::Cut(5), Damage::Flipped(8), Damage::Flipped(good.len() - 33)] {
        specimen.damage(&end, damage, None);
        let report = specimen.check(Level::Digest);
        let [finding] = &report.findings[..] else { panic!("{damage:?}: {report:#?}") };
        assert_eq!((finding.object.as_str(), &finding.attempts[..]), (end.as_str(), &[third][..]));
        assert_eq!(specimen.unreadable("rotten end"), BTreeSet::from([third]));
        specimen.store.overwrite(&end, good.clone());
    }
    // What only a name tells is gone with the name: neither of these can be found.
    for silent in [&tombstone, &end] {
        specimen.remove(silent, |report, _| assert!(report.passed(), "{report:#?}"));
    }
}

#[test]
fn rot_hold() {
    let specimen = specimen();
    let hold = specimen.key("/hold/");
    let tombstone = specimen.key(&format!("/tb/{}.0", specimen.forgotten));
    specimen.ruin(&hold, Some(&tombstone), &|specimen, _| BTreeSet::from([specimen.kept[2].0]));
}

#[test]
fn rot_project_key_and_lineage_key() {
    let specimen = specimen();
    let (lineage, project) =
        (format!("keys/{}/l/{}.1", project(), lineage_id()), format!("keys/{}/1.1", project()));
    specimen.ruin(&project, Some(&lineage), &|specimen, _| specimen.visible());
    specimen.ruin(&lineage, Some(&project), &|specimen, _| specimen.visible());
    // No new key is made in the place of a lost one: it would open nothing and hide the loss.
    specimen.removal_is_found(&project, &specimen.visible());
    let good = specimen.bytes(&lineage);
    specimen.store.delete(&lineage).unwrap();
    let repository = specimen.opened().unwrap();
    let refused = repository.lineage(&room::project(), &lineage_id()).err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Damage);
    assert_eq!(specimen.store.get(&lineage).unwrap(), None);
    let report = specimen.check(Level::Presence);
    let [finding] = &report.findings[..] else { panic!("{report:#?}") };
    assert!(finding.object.contains(lineage_id().as_str()) && finding.problem.contains("missing"));
    assert_eq!(finding.attempts.iter().copied().collect::<BTreeSet<_>>(), specimen.visible());
    specimen.store.overwrite(&lineage, good);
    assert!(specimen.check(Level::Decode).passed());
}

/// Deleting the wrapped key shreds a lineage: nothing that is left, nor new keys for the same
/// recovery key, project and lineage, gives a byte back.
#[test]
fn f16_without_its_key_a_lineage_is_noise() {
    let specimen = specimen();
    for object in specimen.store.list("l/").unwrap() {
        let bytes = specimen.bytes(&object.key);
        for (path, content) in &specimen.kept[0].1 {
            let sample = &content[..content.len().min(16)];
            let is_told =
                |bytes: &[u8], secret: &[u8]| bytes.windows(secret.len()).any(|found| found == secret);
            assert!(!is_told(&bytes, path), "{}", object.key);
            assert!(sample.len() < 8 || !is_told(&bytes, sample), "{}", object.key);
        }
    }
    let other = MemoryStore::new();
    let random = Arc::new(CountedRandomness::starting_at(1 << 50));
    let made = Repository::create(Arc::new(other.clone()), &specimen.key, Arc::new(StandingClock), random);
    made.unwrap().lineage(&project(), &lineage_id()).unwrap();
    let keys = specimen.keys("keys/");
    // The lineage's key alone is wrapped by another project key; both together open, and fit nothing.
    for replaced in [&keys[1..], &keys[..]] {
        for key in replaced {
            specimen.store.overwrite(key, other.get(key).unwrap().unwrap());
        }
        assert_eq!(specimen.unreadable("new keys"), specimen.visible());
        assert!(!specimen.check(Level::Presence).passed());
    }
}

#[test]
fn rot_key_of_one_lineage_leaves_the_others_alone() {
    let specimen = specimen();
    let other = room::other_lineage_id();
    let repository = specimen.opened().unwrap();
    repository.lineage(&project(), &other).unwrap();
    let mine = format!("keys/{}/l/{}.1", project(), lineage_id());
    let others = format!("keys/{}/l/{other}.1", project());
    specimen.ruin(&mine, Some(&others), &|specimen, _| specimen.visible());
    let good = specimen.bytes(&others);
    specimen.damage(&others, Damage::Flipped(60), None);
    let report = specimen.check(Level::Decode);
    let [finding] = &report.findings[..] else { panic!("{report:#?}") };
    assert_eq!((finding.object.as_str(), finding.attempts.len()), (others.as_str(), 0));
    assert!(specimen.unreadable("another's key").is_empty());
    assert!(repository.stat().unwrap().backups == 3);
    specimen.store.overwrite(&others, good);
}

#[test]
fn rot_format_and_its_document() {
    let specimen = specimen();
    let good = specimen.bytes("format");
    for at in 0..good.len() {
        specimen.damage("format", Damage::Flipped(at), None);
        let report = specimen.check(Level::Presence);
        let [finding] = &report.findings[..] else { panic!("byte {at}: {report:#?}") };
        assert_eq!(finding.object, "format", "byte {at}");
        specimen.store.overwrite("format", good.clone());
    }
    for key in ["format", "FORMAT.md"] {
        let good = specimen.bytes(key);
        for damage in [Damage::Zeroed, Damage::Cut(0), Damage::Cut(good.len() - 1), Damage::Flipped(3)] {
            specimen.damage(key, damage, None);
            let report = specimen.check(Level::Presence);
            assert_eq!(report.findings.iter().map(|found| found.object.as_str()).collect::<Vec<_>>(), [key]);
            // The key opens a project key, so this file does not stand in the way of a restore.
            assert!(specimen.unreadable(key).is_empty());
            specimen.store.overwrite(key, good.clone());
        }
    }
    specimen.remove("FORMAT.md", |report, _| assert_eq!(report.findings[0].object, "FORMAT.md"));
    // Without the identity nobody writes: this may be an empty mount point.
    specimen.store.delete("format").unwrap();
    assert_eq!(specimen.opened().err().unwrap().kind(), ErrorKind::Unavailable);
    specimen.store.overwrite("format", good);
    // A rotten format file does not let a wrong key in.
    specimen.damage("format", Damage::Flipped(3), None);
    let wrong = RecoveryKey::generate(&CountedRandomness::starting_at(50));
    let random = Arc::new(CountedRandomness::default());
    let opened = Repository::open(Arc::new(specimen.store.clone()), &wrong, Arc::new(StandingClock), random);
    assert_eq!(opened.err().unwrap().kind(), ErrorKind::Damage);
}

/// Replayed: any object of the repository, older or newer, of the same kind or another, in the
/// place of any other. Found by the name it lies under, and nothing else is accused.
#[test]
fn f12_s22_any_object_in_the_place_of_any_other_is_found() {
    let specimen = specimen();
    let keys: Vec<String> = specimen.keys("").into_iter().filter(|key| !key.starts_with("FORMAT")).collect();
    let forgotten = specimen.forgotten.to_string();
    // The data of a forgotten backup is nobody's any more, and is not looked at.
    let watched =
        |key: &String| *key != "format" && !(key.contains("/pk/") && key.contains(&forgotten)) && is_own(key);
    let places: Vec<&String> = keys.iter().filter(|key| watched(key)).collect();
    let mut pairs = Vec::new();
    for place in &places {
        pairs.extend(keys.iter().filter(|other| other != place).map(|other| (*place, other)));
    }
    let (count, pairs) = (pairs.len(), depth::thin(pairs, 120));
    for (place, other) in &pairs {
        let good = specimen.bytes(place);
        specimen.store.overwrite(place, specimen.bytes(other));
        let report = specimen.check(Level::Digest);
        let [finding] = &report.findings[..] else { panic!("{other} as {place}: {report:#?}") };
        assert_eq!(&finding.object, *place, "{other} was put there");
        let found: BTreeSet<AttemptId> = finding.attempts.iter().copied().collect();
        let unreadable = specimen.unreadable(place);
        assert!(unreadable.is_subset(&found), "{other} as {place}: {unreadable:?} {found:?}");
        specimen.store.overwrite(place, good);
    }
    assert!(specimen.check(Level::Decode).passed());
    depth::report(format_args!("{} of {count} replays over {} objects", pairs.len(), places.len()));
}

/// An end decides whether its backup is visible, so what it hides is judged by a test of its own.
fn is_own(key: &str) -> bool {
    !key.contains("/tb/")
}

#[test]
fn rot_format_the_digest_of_its_document_is_named_by_itself() {
    let specimen = specimen();
    let digest = "FORMAT.md.b3";
    let good = specimen.bytes(digest);
    for damage in [Damage::Flipped(3), Damage::Cut(0), Damage::Cut(40), Damage::Zeroed, Damage::Removed] {
        specimen.damage(digest, damage, None);
        let report = specimen.check(Level::Presence);
        let [finding] = &report.findings[..] else { panic!("{damage:?}: {report:#?}") };
        assert_eq!(finding.object, digest, "{damage:?}");
        specimen.store.overwrite(digest, good.clone());
    }
    assert!(specimen.check(Level::Decode).passed());
}

#[test]
fn damage_of_one_backup_hides_no_other() {
    let specimen = specimen();
    let repository = specimen.opened().unwrap();
    let lineage = repository.lineage(&project(), &lineage_id()).unwrap();
    let verdict = specimen.key(&format!("/at/{}", specimen.kept[1].0));
    let good = specimen.bytes(&verdict);
    specimen.damage(&verdict, Damage::Flipped(100), None);
    let listed: BTreeSet<AttemptId> =
        lineage.backups().unwrap().iter().map(|summary| summary.attempt).collect();
    assert!(listed.contains(&specimen.kept[0].0) && !listed.contains(&specimen.kept[1].0));
    let stat = repository.stat().unwrap();
    // What the damaged manifest needs is not known, so nothing is called free.
    assert_eq!((stat.backups, stat.reclaimable_bytes), (2, 0));
    specimen.store.overwrite(&verdict, good);
    assert!(repository.stat().unwrap().reclaimable_bytes > 0);
}

#[test]
fn f11_rot_on_a_real_disk_is_found_as_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("repository");
    let room = Room::new(Arc::new(LocalStore::open(&root).unwrap()));
    let members = room::database();
    let sealed = room.back_up(&members, None).unwrap();
    let listed = room.store.list("l/").unwrap();
    for object in listed {
        let path = root.join(&object.key);
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[good.len() / 2] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        let report = room.repository.check(Level::Digest, &CancelToken::new(), &Progress::new()).unwrap();
        let [finding] = &report.findings[..] else { panic!("{}: {report:#?}", object.key) };
        assert_eq!((&finding.object, &finding.attempts[..]), (&object.key, &[sealed.attempt][..]));
        if let Ok(read) = room.read(sealed.attempt) {
            assert_eq!(read, members);
        }
        std::fs::write(&path, &good).unwrap();
    }
}
