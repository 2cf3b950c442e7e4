//! Restoring into a directory: what is written, where it stops, and how it goes on.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use strongroom_core::backup::Backup;
use strongroom_core::engine::{CancelToken, StopReason, Tablespace};
use strongroom_core::progress::Progress;
use strongroom_core::{Error, ErrorKind, Result, Retry};
use strongroom_repository::{BackupReader, Frame};
use strongroom_service::BackupRef;
use strongroom_service::content::ContentEvent;
use strongroom_service::restore::{
    self, ContentSource, MemberInfo, RestoreOptions, RestorePlan, Restored, TargetState,
};
use strongroom_testkit::disk::SmallDisk;
use tempfile::TempDir;

use crate::engine::{Database, Node, directory, file, pages};
use crate::room::Room;

const JOURNAL: &str = ".strongroom-restore";

/// A backup in a room, and a place to restore it to.
pub(crate) struct Bench {
    pub(crate) room: Room,
    pub(crate) backup: Backup,
    pub(crate) reader: Arc<BackupReader>,
    pub(crate) folder: TempDir,
    pub(crate) options: RestoreOptions,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let room = Room::new().await;
        let backup = room.completed("to-restore").await;
        Self::of(room, backup).await
    }

    pub(crate) async fn of(room: Room, backup: Backup) -> Self {
        let wanted = BackupRef::Id(backup.id.clone());
        let opened = room.judge.service.content_open(&room.scope().await, &wanted).await;
        let folder = tempfile::tempdir().unwrap();
        let options = RestoreOptions { target: folder.path().join("target"), ..RestoreOptions::default() };
        Self { room, backup, reader: opened.unwrap().1, folder, options }
    }

    pub(crate) fn target(&self) -> &Path {
        &self.options.target
    }

    pub(crate) fn plan(&self) -> Result<RestorePlan> {
        let summary = self.reader.summary();
        let spaces = self.room.engine.tablespaces.lock().unwrap().clone();
        restore::plan(&self.options, &summary.manifest_digest, summary.totals.source_bytes, &spaces)
    }

    pub(crate) fn run(&self, source: &dyn ContentSource) -> Result<Restored> {
        self.run_with(source, &self.plan()?, &CancelToken::new())
    }

    pub(crate) fn run_with(
        &self,
        source: &dyn ContentSource,
        plan: &RestorePlan,
        cancel: &CancelToken,
    ) -> Result<Restored> {
        let summary = self.reader.summary();
        let meters = (&Progress::new(), cancel);
        let (digest, engine) = (&summary.manifest_digest, &*self.room.engine);
        restore::run(source, plan, &self.options, digest, &summary.facts, Some(engine), meters)
    }

    /// What must lie in the target: everything under `data/` and `wal/`, and the engine's own work.
    pub(crate) fn wanted(&self) -> Database {
        let mut wanted = Database::new();
        for (path, node) in self.room.expected(&self.backup) {
            let place = match path.split(|byte| *byte == b'/').next().unwrap() {
                b"data" => path["data/".len()..].to_vec(),
                b"wal" => [b"pg_wal/", &path["wal/".len()..]].concat(),
                _ => continue,
            };
            wanted.insert(place, node);
        }
        wanted.get_mut(&b"PG_VERSION"[..]).unwrap().content = Some(b"15\nfinished\n".to_vec());
        wanted
    }

    /// Every file is there, and nothing else.
    pub(crate) fn assert_restored(&self) {
        let mut found = read_tree(self.target());
        for (path, node) in self.wanted() {
            let there = found.remove(&path).unwrap_or_else(|| panic!("missing: {}", path.escape_ascii()));
            assert!(there.content == node.content, "another content: {}", path.escape_ascii());
            assert_eq!(there.mode, node.mode, "{}", path.escape_ascii());
            // The engine changed that one after us.
            if path != b"PG_VERSION" {
                assert_eq!(there.mtime_s, node.mtime_s, "{}", path.escape_ascii());
            }
        }
        // Directories that no member names were made for what lies in them.
        found.retain(|_, node| node.content.is_some());
        assert!(found.is_empty(), "too much: {:?}", found.keys().map(|path| path.escape_ascii().to_string()));
    }
}

/// A directory as it lies on the disk.
pub(crate) fn read_tree(root: &Path) -> Database {
    fn walk(root: &Path, at: &Path, out: &mut Database) {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let content = if metadata.is_file() { Some(fs::read(&path).unwrap()) } else { None };
            let key = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
            let mode = metadata.permissions().mode() & 0o7777;
            out.insert(key, Node { content, mode, mtime_s: metadata.mtime() });
            if metadata.is_dir() {
                walk(root, &path, out);
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(root, root, &mut out);
    out
}

/// A connection that breaks after so many events, and tells what was asked for.
pub(crate) struct Breaking<'a> {
    pub(crate) inner: &'a dyn ContentSource,
    pub(crate) after: usize,
    pub(crate) error: fn() -> Error,
    pub(crate) events: AtomicUsize,
    pub(crate) asked: Mutex<Vec<(u64, u32)>>,
}

impl<'a> Breaking<'a> {
    pub(crate) fn new(inner: &'a dyn ContentSource, after: usize, error: fn() -> Error) -> Self {
        Self { inner, after, error, events: AtomicUsize::new(0), asked: Mutex::default() }
    }

    fn event(&self) -> Result<()> {
        if self.events.fetch_add(1, Ordering::SeqCst) == self.after { Err((self.error)()) } else { Ok(()) }
    }
}

impl ContentSource for Breaking<'_> {
    fn members(&self, out: &mut dyn FnMut(MemberInfo) -> Result<()>) -> Result<()> {
        self.inner.members(&mut |member| {
            self.event()?;
            out(member)
        })
    }

    fn content(
        &self,
        segments: &[(u64, u32)],
        out: &mut dyn FnMut(ContentEvent) -> Result<()>,
    ) -> Result<()> {
        self.asked.lock().unwrap().extend(segments);
        self.inner.content(segments, &mut |event| {
            self.event()?;
            out(event)
        })
    }
}

/// Ends the command as a kill would: nothing is tried again.
fn killed() -> Error {
    Error::new(ErrorKind::Internal, "The command was killed.")
}

#[tokio::test(flavor = "multi_thread")]
async fn b16_a_restore_writes_every_member_in_its_place() {
    let bench = Bench::new().await;
    assert_eq!(bench.plan().unwrap().state, TargetState::Absent);
    let restored = bench.run(&*bench.reader).unwrap();
    assert!(!restored.resumed);
    assert_eq!(restored.notes, ["A note of the engine."]);
    assert_eq!(restored.members, bench.wanted().len() as u64, "meta/ is not counted");
    bench.assert_restored();
    let name = OsStr::from_bytes(b"base/\xff\xfe");
    assert!(bench.target().join(name).is_file());
    assert_eq!(fs::metadata(bench.target()).unwrap().permissions().mode() & 0o777, 0o700);
    // Zeroes are holes.
    assert!(fs::metadata(bench.target().join("base/1/16385")).unwrap().blocks() * 512 < 100_000);
    assert!(bench.room.keys("/in/r-").len() <= 1, "this reader's only");
}

#[tokio::test(flavor = "multi_thread")]
async fn h03_modes_lose_their_special_bits() {
    let room = Room::new().await;
    let mut database = room.engine.database();
    database.insert(b"data/special".to_vec(), Node { mode: 0o6755, ..file(b"x".to_vec()) });
    database.insert(b"data/open".to_vec(), Node { mode: 0o3750, ..directory() });
    room.engine.set_database(database);
    let backup = room.completed("special").await;
    let bench = Bench::of(room, backup).await;
    bench.run(&*bench.reader).unwrap();
    let found = read_tree(bench.target());
    assert_eq!(found[&b"special"[..]].mode, 0o755);
    assert_eq!(found[&b"open"[..]].mode, 0o750);
}

/// The command ends after each event in turn; the same command goes on there.
#[tokio::test(flavor = "multi_thread")]
async fn p06_v09_a_restore_goes_on_wherever_it_was_cut() {
    let mut bench = Bench::new().await;
    let mut resumed = 0;
    for after in 0.. {
        bench.options.target = bench.folder.path().join(format!("cut-{after}"));
        let source = Breaking::new(&*bench.reader, after, killed);
        if bench.run(&source).is_ok() {
            assert!(after > 20, "a restore has more events than {after}");
            break;
        }
        let begun = bench.target().exists();
        assert!(!begun || bench.target().join(JOURNAL).exists(), "{after}: marked as unfinished");
        let again = Breaking::new(&*bench.reader, usize::MAX, killed);
        let restored = bench.run(&again).unwrap();
        assert_eq!(restored.resumed, begun, "{after}");
        resumed += usize::from(begun);
        bench.assert_restored();
    }
    assert!(resumed > 10);
}

/// What was durable is not asked for again.
#[tokio::test(flavor = "multi_thread")]
async fn v09_a_resumed_restore_asks_only_for_what_is_missing() {
    let bench = Bench::new().await;
    let whole = Breaking::new(&*bench.reader, usize::MAX, killed);
    let mut members = 0;
    whole
        .members(&mut |_| {
            members += 1;
            Ok(())
        })
        .unwrap();
    let first = Breaking::new(&*bench.reader, members + 8, killed);
    bench.run(&first).unwrap_err();
    let second = Breaking::new(&*bench.reader, usize::MAX, killed);
    bench.run(&second).unwrap();
    let (first, second) = (first.asked.into_inner().unwrap(), second.asked.into_inner().unwrap());
    assert!(!second.is_empty() && second.len() < first.len(), "{first:?} then {second:?}");
    bench.assert_restored();
}

/// The engine may be killed in the middle of finishing, after it changed what was restored.
#[tokio::test(flavor = "multi_thread")]
async fn p06_a_restore_goes_on_when_the_engine_was_cut() {
    let bench = Bench::new().await;
    bench.room.engine.bad_finishes.store(2, Ordering::SeqCst);
    for _ in 0..2 {
        bench.run(&*bench.reader).unwrap_err();
        assert!(bench.target().join(JOURNAL).exists());
    }
    let source = Breaking::new(&*bench.reader, usize::MAX, killed);
    assert!(bench.run(&source).unwrap().resumed);
    assert!(source.asked.into_inner().unwrap().is_empty(), "every byte was there already");
    bench.assert_restored();
}

#[tokio::test(flavor = "multi_thread")]
async fn p06_a_restore_that_was_cut_before_its_first_line_begins_anew() {
    let bench = Bench::new().await;
    fs::create_dir(bench.target()).unwrap();
    fs::write(bench.target().join(JOURNAL), b"{\"schema\":1,\"mani").unwrap();
    assert_eq!(bench.plan().unwrap().state, TargetState::Empty);
    assert!(!bench.run(&*bench.reader).unwrap().resumed);
    bench.assert_restored();
}

/// A connection that breaks is tried again, and only what is missing is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn s05_a_broken_connection_is_tried_again() {
    let bench = Bench::new().await;
    let broken = || Error::new(ErrorKind::Unavailable, "The connection broke.").with_retry(Retry::Later);
    let source = Breaking::new(&*bench.reader, 15, broken);
    bench.run(&source).unwrap();
    bench.assert_restored();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_restore_stops_and_can_go_on() {
    let bench = Bench::new().await;
    let cancel = CancelToken::new();
    cancel.stop(StopReason::Cancelled);
    let stopped = bench.run_with(&*bench.reader, &bench.plan().unwrap(), &cancel).unwrap_err();
    assert_eq!(stopped.kind(), ErrorKind::Cancelled);
    assert!(bench.run(&*bench.reader).unwrap().resumed);
    bench.assert_restored();
}

#[tokio::test(flavor = "multi_thread")]
async fn v01_a_target_that_is_not_empty_is_refused_and_left_alone() {
    let bench = Bench::new().await;
    let outside = bench.folder.path().join("precious");
    fs::write(&outside, b"precious").unwrap();
    let occupied: [&dyn Fn(&Path); 5] = [
        &|target| fs::write(target.join("x"), b"mine").unwrap(),
        &|target| fs::create_dir(target.join("base")).unwrap(),
        &|target| symlink("/nowhere", target.join("dangling")).unwrap(),
        &|target| fs::write(target.join(JOURNAL), b"not a journal\n").unwrap(),
        &|target| symlink(&outside, target.join(JOURNAL)).unwrap(),
    ];
    for occupy in occupied {
        fs::create_dir(bench.target()).unwrap();
        occupy(bench.target());
        let before = read_tree(bench.target());
        assert_eq!(bench.run(&*bench.reader).unwrap_err().kind(), ErrorKind::TargetNotEmpty);
        assert!(read_tree(bench.target()) == before);
        fs::remove_dir_all(bench.target()).unwrap();
    }
    // A file, and a link to a directory, are no empty directory either.
    fs::write(bench.target(), b"mine").unwrap();
    assert_eq!(bench.run(&*bench.reader).unwrap_err().kind(), ErrorKind::TargetNotEmpty);
    fs::remove_file(bench.target()).unwrap();
    let empty = bench.folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    symlink(&empty, bench.target()).unwrap();
    assert_eq!(bench.run(&*bench.reader).unwrap_err().kind(), ErrorKind::TargetNotEmpty);
    assert!(fs::read_dir(&empty).unwrap().next().is_none());
    assert_eq!(fs::read(&outside).unwrap(), b"precious");
}

#[tokio::test(flavor = "multi_thread")]
async fn v01_the_journal_of_another_backup_is_refused() {
    let room = Room::new().await;
    let first = room.completed("first").await;
    room.engine.touch(1);
    let second = room.completed("second").await;
    let bench = Bench::of(room, first).await;
    bench.run(&Breaking::new(&*bench.reader, 15, killed)).unwrap_err();
    let before = read_tree(bench.target());
    let target = bench.options.target.clone();
    let Bench { room, folder, .. } = bench;
    let mut other = Bench::of(room, second).await;
    other.options.target = target;
    assert_eq!(other.run(&*other.reader).unwrap_err().kind(), ErrorKind::TargetNotEmpty);
    assert!(read_tree(other.target()) == before);
    drop(folder);
}

fn space(id: &str, source_path: &str) -> Tablespace {
    Tablespace { id: id.to_owned(), source_path: source_path.to_owned() }
}

async fn with_tablespaces() -> Bench {
    let room = Room::new().await;
    let mut database = room.engine.database();
    for id in ["17000", "17001"] {
        let path = |rest: &str| format!("tablespace/{id}{rest}").into_bytes();
        database.insert(path(""), directory());
        database.insert(path("/PG_15/5/1"), file(pages(id.len() as u64, 50_000)));
    }
    room.engine.set_database(database);
    *room.engine.tablespaces.lock().unwrap() = vec![space("17000", "/srv/fast"), space("17001", "/srv/big")];
    let backup = room.completed("spaces").await;
    Bench::of(room, backup).await
}

#[tokio::test(flavor = "multi_thread")]
async fn b17_tablespaces_go_where_they_were_mapped_and_beside_the_target() {
    let mut bench = with_tablespaces().await;
    let fast = bench.folder.path().join("new fast");
    bench.options.tablespace_map = vec![("/srv/fast".to_owned(), fast.clone())];
    let plan = bench.plan().unwrap();
    let beside = bench.folder.path().join("target.tablespaces/17001");
    let targets: Vec<(&Path, bool)> =
        plan.tablespaces.iter().map(|space| (space.target.as_path(), space.by_default)).collect();
    assert_eq!(targets, [(fast.as_path(), false), (beside.as_path(), true)]);
    bench.run(&Breaking::new(&*bench.reader, 25, killed)).unwrap_err();

    // Another map is another restore.
    bench.options.tablespace_map = vec![("17000".to_owned(), bench.folder.path().join("elsewhere"))];
    assert_eq!(bench.run(&*bench.reader).unwrap_err().kind(), ErrorKind::TargetNotEmpty);
    assert!(!bench.folder.path().join("elsewhere").exists());
    // The same one by another name is the same.
    bench.options.tablespace_map = vec![("17000".to_owned(), fast.clone())];
    assert!(bench.run(&*bench.reader).unwrap().resumed);
    bench.assert_restored();
    for (id, directory) in [("17000", fast), ("17001", beside)] {
        let path = format!("tablespace/{id}/PG_15/5/1").into_bytes();
        let wanted = bench.room.expected(&bench.backup)[&path].content.clone();
        assert_eq!(read_tree(&directory)[&b"PG_15/5/1"[..]].content, wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b17_maps_that_would_mix_or_overwrite_are_refused() {
    let mut bench = with_tablespaces().await;
    let (inside, above) = (bench.target().join("pg_tblspc/x"), bench.folder.path().to_owned());
    let full = bench.folder.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("x"), b"mine").unwrap();
    let one = |old: &str, new: &Path| vec![(old.to_owned(), new.to_owned())];
    let same = bench.folder.path().join("same");
    for (map, wanted) in [
        (one("18000", Path::new("/tmp/x")), None),
        (one("17000", Path::new("relative")), None),
        (one("17000", &inside), None),
        (one("17000", bench.target()), None),
        (one("17000", &above), None),
        ([one("17000", &same), one("17001", &same)].concat(), None),
        ([one("17000", &same), one("17001", &same.join("below"))].concat(), None),
        ([one("17000", &same), one("/srv/fast", &full)].concat(), None),
        (one("17000", &full), Some(ErrorKind::TargetNotEmpty)),
    ] {
        bench.options.tablespace_map = map.clone();
        let refused = bench.run(&*bench.reader).unwrap_err();
        match wanted {
            Some(kind) => assert_eq!(refused.kind(), kind, "{map:?}"),
            None => assert!(matches!(refused.kind(), ErrorKind::Parameter(_)), "{map:?}: {refused:?}"),
        }
        assert!(!bench.target().exists() && !same.exists(), "nothing was written: {map:?}");
    }
    assert_eq!(fs::read(full.join("x")).unwrap(), b"mine");
}

/// Fills the disk when the content begins to come.
struct Filling<'a>(&'a dyn ContentSource, &'a Path);
impl ContentSource for Filling<'_> {
    fn members(&self, out: &mut dyn FnMut(MemberInfo) -> Result<()>) -> Result<()> {
        self.0.members(out)
    }
    fn content(
        &self,
        segments: &[(u64, u32)],
        out: &mut dyn FnMut(ContentEvent) -> Result<()>,
    ) -> Result<()> {
        let _ = fs::write(self.1, vec![1; 1_900_000]);
        self.0.content(segments, out)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d03_a_full_disk_is_refused_by_estimate_and_survived_when_it_comes() {
    let Some(disk) = SmallDisk::in_memory(2 << 20) else { return };
    let mut bench = Bench::new().await;
    bench.options.target = disk.path().join("target");
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 1_700_000]).unwrap();
    let refused = bench.run(&*bench.reader).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::DiskFull);
    assert!(refused.public().contains("Nothing was written"), "{}", refused.public());
    assert!(!bench.target().exists());
    fs::remove_file(&ballast).unwrap();

    // Somebody else fills it while the restore runs.
    let full = bench.run(&Filling(&*bench.reader, &ballast)).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::DiskFull, "{full:?}");
    assert!(bench.target().join(JOURNAL).exists(), "marked as unfinished");
    fs::remove_file(&ballast).unwrap();
    assert!(bench.run(&*bench.reader).unwrap().resumed);
    bench.assert_restored();
}

/// Room is counted where bytes go: a large tablespace on a large disk does not need it at the target.
#[tokio::test(flavor = "multi_thread")]
async fn d03_room_is_counted_on_each_disk() {
    let Some(disk) = SmallDisk::in_memory(2 << 20) else { return };
    let room = Room::new().await;
    let mut database = room.engine.database();
    database.insert(b"tablespace/17000".to_vec(), directory());
    database.insert(b"tablespace/17000/big".to_vec(), file(pages(8, 3_000_000)));
    room.engine.set_database(database);
    *room.engine.tablespaces.lock().unwrap() = vec![space("17000", "/srv/big")];
    let backup = room.completed("spaces").await;
    let mut bench = Bench::of(room, backup).await;
    bench.options.target = disk.path().join("target");
    assert_eq!(bench.run(&*bench.reader).unwrap_err().kind(), ErrorKind::DiskFull, "beside the target");
    let elsewhere = bench.folder.path().join("big");
    bench.options.tablespace_map = vec![("17000".to_owned(), elsewhere.clone())];
    bench.run(&*bench.reader).unwrap();
    bench.assert_restored();
    assert_eq!(fs::metadata(elsewhere.join("big")).unwrap().len(), 3_000_000);
}

/// Frames that were not asked for, for hostile sources.
pub(crate) fn frame(member: u64, segment: u32, offset: u64, data: &[u8]) -> ContentEvent {
    let body = strongroom_repository::FrameBody::Data(data.to_vec());
    ContentEvent::Frame(Frame { member, segment, offset, body })
}
