//! Real file systems that are full, out of names or read-only: asked of the kernel, on a volume of
//! their own.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

mod room;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use room::{Members, Room, small_database, touch};
use strongroom_core::ErrorKind;
use strongroom_core::engine::CancelToken;
use strongroom_core::id::AttemptId;
use strongroom_core::progress::Progress;
use strongroom_core::verification::Level;
use strongroom_repository::LocalStore;
use strongroom_testkit::depth;
use strongroom_testkit::disk::SmallDisk;
use strongroom_testkit::store::{Edge, Fault, FaultyStore, Operation, What, When, kind_of};

/// The guard wants two packs' room, 128 MiB, before it begins one.
const VOLUME_BYTES: u64 = 400 << 20;

fn stored(root: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            out.extend(stored(&entry.path()));
        } else {
            out.push(entry.path());
        }
    }
    out
}

/// A repository on a disk of its own, with one backup in it.
struct Ground {
    disk: SmallDisk,
    root: PathBuf,
    room: Room,
    before: AttemptId,
    members: Members,
}

fn ground(disk: SmallDisk) -> Ground {
    let root = disk.path().join("repository");
    let room = Room::new(Arc::new(LocalStore::open(&root).unwrap()));
    let members = small_database();
    let before = room.back_up(&members, None).unwrap().attempt;
    Ground { disk, root, room, before, members }
}

impl Ground {
    /// Nothing half is left, what was sealed restores, and the next backup works.
    fn is_whole(&self, members: &Members, what: &str) {
        assert!(stored(&self.root.join("tmp")).is_empty(), "{what}: half an object");
        let report =
            self.room.repository.check(Level::Decode, &CancelToken::new(), &Progress::new()).unwrap();
        assert!(report.passed(), "{what}: {report:#?}");
        assert_eq!(self.room.read(self.before).unwrap(), self.members, "{what}");
        let parent = self.room.lineage.latest_parent().unwrap();
        let next = self.room.back_up(members, parent).unwrap().attempt;
        assert_eq!(&self.room.read(next).unwrap(), members, "{what}");
    }
}

/// The writing calls of one backup, each by its number among its like.
fn writes(ground: &Ground, members: &Members) -> Vec<When> {
    let faulty = FaultyStore::new(Arc::new(LocalStore::open(&ground.root).unwrap()));
    let room = Room::opened(Arc::new(faulty.clone()), &ground.room);
    faulty.disarm();
    room.attempt(room.next_attempt(), members, Some(ground.before)).unwrap();
    let mut numbers: BTreeMap<(Operation, &'static str), usize> = BTreeMap::new();
    for call in faulty.calls().iter().filter(|call| call.operation.is_write()) {
        *numbers.entry((call.operation, kind_of(&call.key))).or_default() += 1;
    }
    let each = numbers.into_iter().filter(|((operation, _), _)| *operation != Operation::Delete);
    each.flat_map(|((operation, kind), count)| {
        (1..=count).map(move |number| When::NthOfKind(number, operation, kind))
    })
    .collect()
}

#[test]
fn d01_f07_a_disk_that_fills_at_any_write_of_a_backup() {
    let Some(disk) = SmallDisk::volume(VOLUME_BYTES) else { return };
    let ground = ground(disk);
    let mut members = ground.members.clone();
    touch(&mut members, 1);
    let places = writes(&ground, &members);
    assert!(places.len() > 15, "{places:?}");
    let (mut refused, count) = (0, places.len());
    for (number, when) in depth::thin(places, 24).into_iter().enumerate() {
        touch(&mut members, number as u8 + 2);
        let faulty = FaultyStore::new(Arc::new(LocalStore::open(&ground.root).unwrap()));
        let room = Room::opened(Arc::new(faulty.clone()), &ground.room);
        let id = room.next_attempt();
        faulty.arm(Fault { when, what: What::Freeze, edge: Edge::Before });
        let outcome = std::thread::scope(|scope| {
            let writer = scope.spawn(|| room.attempt(id, &members, Some(ground.before)));
            faulty.gate().arrived();
            let ballast = ground.disk.fill(0).unwrap();
            faulty.gate().release();
            let outcome = writer.join().unwrap();
            drop(ballast);
            outcome
        });
        // The last piece of a file may still fit into its last block.
        if let Err(error) = outcome {
            refused += 1;
            assert_eq!(error.kind(), ErrorKind::DiskFull, "{when:?}: {error:?}");
            let said = error.public();
            let says_which = said.contains(&ground.root.display().to_string());
            // Told by the kernel, or by the guard when the next pack was not begun any more.
            let has_figures = said.contains("had to be written") && says_which
                || said.contains("the next pack needs 128.0 MiB");
            let is_clear = has_figures && said.contains("is safe");
            assert!(is_clear, "{when:?}: {said}");
            assert!(error.hint().is_some_and(|hint| hint.contains("free room")));
        }
        let _ = room.lineage.abandon(id).unwrap();
        ground.is_whole(&members, &format!("{when:?}"));
    }
    depth::report(format_args!("{count} writing calls; {refused} runs were refused for lack of room"));
    assert!(refused > 8, "{refused} of {count}");
}

#[test]
fn d01_the_guard_stops_before_the_disk_is_full() {
    let Some(disk) = SmallDisk::volume(VOLUME_BYTES) else { return };
    let ground = ground(disk);
    let mut members = ground.members.clone();
    touch(&mut members, 9);
    let ballast = ground.disk.fill(100 << 20).unwrap();
    let objects = stored(&ground.root.join("l")).len();
    let id = ground.room.next_attempt();
    let error = ground.room.attempt(id, &members, Some(ground.before)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DiskFull);
    assert!(error.public().contains("left") && error.public().contains("128"), "{}", error.public());
    assert!(ground.disk.free_bytes().unwrap() > 90 << 20, "it did not eat what was left");
    assert_eq!(stored(&ground.root.join("l")).len(), objects + 1, "the intent, and no pack");
    // Deleting needs room for one small object only.
    ground.room.lineage.abandon(id).unwrap();
    ground.room.lineage.clear_intent(id).unwrap();
    drop(ballast);
    ground.is_whole(&members, "after the guard");
}

#[test]
fn d09_a_disk_without_names_left_says_so() {
    let Some(disk) = SmallDisk::with_inodes(120) else { return };
    let ground = ground(disk);
    let mut members = ground.members.clone();
    touch(&mut members, 5);
    let folder = ground.disk.path().join("names");
    fs::create_dir(&folder).unwrap();
    while fs::write(folder.join(stored(&folder).len().to_string()), b"").is_ok() {}
    let id = ground.room.next_attempt();
    let error = ground.room.attempt(id, &members, Some(ground.before)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DiskFull, "{error:?}");
    assert!(error.public().contains("inodes"), "{}", error.public());
    fs::remove_dir_all(&folder).unwrap();
    ground.is_whole(&members, "after names were given back");
}

#[test]
fn d08_a_read_only_disk_still_restores() {
    let Some(disk) = SmallDisk::volume(VOLUME_BYTES) else { return };
    let ground = ground(disk);
    let mut members = ground.members.clone();
    touch(&mut members, 5);
    ground.disk.read_only(true).unwrap();
    let id = ground.room.next_attempt();
    let error = ground.room.attempt(id, &members, Some(ground.before)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.public().contains("is safe"), "{}", error.public());
    // A process that begins now, and one that has the repository open.
    let anew = Room::opened(Arc::new(LocalStore::open(&ground.root).unwrap()), &ground.room);
    for room in [&anew, &ground.room] {
        assert_eq!(room.read(ground.before).unwrap(), ground.members);
        let report = room.repository.check(Level::Decode, &CancelToken::new(), &Progress::new()).unwrap();
        assert!(report.passed(), "{report:#?}");
    }
    ground.disk.read_only(false).unwrap();
    ground.is_whole(&members, "writable again");
}
