//! What a sweep, and storing backups anew, take of memory: measured as the peak of a process that does
//! nothing else, over repositories of different sizes.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

mod room;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use room::{CountedRandomness, Members, Room, Rows, StandingClock, lineage_id, project, touch};
use strongroom_core::engine::CancelToken;
use strongroom_core::progress::Progress;
use strongroom_repository::{
    LocalStore, MemoryStore, RebaseReport, RecoveryKey, Repository, Store, SweepOptions,
};
use strongroom_testkit::depth;

/// Names the directory, and what is to be done there, to the process that is measured.
const CHILD: &str = "STRONGROOM_TEST_MEASURED";
const KIB: u64 = 1 << 10;
/// What a sweep may add to the peak of its process: code and buffers that any sweep uses, and for each pack
/// its name and sizes, a slot table's worth of rosters, and the listing.
const SWEEP_KIB_MAX: u64 = 24 * KIB;
const PACK_BYTES_MAX: u64 = 2 * KIB;
/// Pipeline, three trees and what was read back: nothing of it grows with the repository.
const REBASE_KIB_MAX: u64 = 96 * KIB;

/// A repository in a directory, of so many backups of which every second is deleted.
fn furnish(directory: &Path, backups: u32) -> u64 {
    let store = MemoryStore::new();
    let room = Room::new(Arc::new(store.clone()));
    let mut members = Members::from([(b"data/base/1/16384".to_vec(), room::pages(1, 300_000))]);
    let (mut parent, mut left) = (None, 0);
    for number in 0..backups {
        touch(&mut members, number as u8);
        members.insert(b"data/base/1/16385".to_vec(), room::pages(u64::from(number) + 7, 60_000));
        let attempt = room.back_up(&members, parent).unwrap().attempt;
        if let Some(victim) = parent.filter(|_| number % 2 == 1) {
            room.lineage.forget(victim).unwrap();
        } else {
            left += 1;
        }
        parent = Some(attempt);
    }
    for object in store.list("").unwrap() {
        let path = directory.join(&object.key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, store.get(&object.key).unwrap().unwrap()).unwrap();
    }
    assert!(left > 0);
    store.list(&format!("l/{}/pk/", lineage_id())).unwrap().len() as u64
}

fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// What the measured process does: it says by how much its peak grew, and what was done.
fn measured(what: &str, directory: &str) {
    let random = Arc::new(CountedRandomness::default());
    let key = RecoveryKey::generate(&*random);
    let random = Arc::new(CountedRandomness::starting_at(1 << 40));
    let store = Arc::new(LocalStore::open(Path::new(directory)).unwrap());
    let repository = Repository::open(store, &key, Arc::new(StandingClock), random).unwrap();
    let (cancel, progress) = (CancelToken::new(), Progress::new());
    let before = peak_kib();
    if what == "sweep" {
        let options =
            SweepOptions { dead_percent: SweepOptions::TIGHTEST_PERCENT, ..SweepOptions::default() };
        let report = repository.sweep(&options, &cancel, &progress).unwrap();
        assert_eq!(report.doubts, []);
        let done = report.packs_removed + report.packs_rewritten;
        depth::report(format_args!("MEASURED {} {done}", peak_kib() - before));
        return;
    }
    let lineage = repository.lineage(&project(), &lineage_id()).unwrap();
    let mut rows = Rows::default();
    for backup in lineage.backups().unwrap().into_iter().filter(|backup| !backup.forgotten) {
        rows.publish(backup.attempt);
    }
    let mut report = RebaseReport::default();
    lineage.rebase(&room::rebase_order(), &mut rows, &mut report).unwrap();
    assert_eq!(report.doubts, []);
    depth::report(format_args!("MEASURED {} {}", peak_kib() - before, report.stored_anew));
}

/// By how many KiB the peak of a process grew, and how much it did.
fn measure(test: &str, what: &str, directory: &Path) -> (u64, u64) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, format!("{what}:{}", directory.display()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said} {}", String::from_utf8_lossy(&output.stdout));
    let line = said.lines().find_map(|line| line.split_once("MEASURED ")).unwrap().1;
    let (grew, done) = line.split_once(' ').unwrap();
    (grew.parse().unwrap(), done.trim().parse().unwrap())
}

fn is_measured() -> bool {
    let Ok(asked) = std::env::var(CHILD) else { return false };
    let (what, directory) = asked.split_once(':').unwrap();
    measured(what, directory);
    true
}

#[test]
fn r04_what_a_sweep_of_many_packs_takes_of_memory() {
    if is_measured() {
        return;
    }
    let test = "r04_what_a_sweep_of_many_packs_takes_of_memory";
    let sizes = depth::choose([150, 1500], [1000, 10_000]);
    let [small, large] = sizes.map(|backups| {
        let directory = tempfile::tempdir().unwrap();
        let packs = furnish(directory.path(), backups);
        let (grew, done) = measure(test, "sweep", directory.path());
        assert!(done > u64::from(backups) / 2, "{done} packs were removed or rewritten");
        depth::report(format_args!(
            "a sweep of {packs} packs: {grew} KiB, {done} of them removed or rewritten"
        ));
        (packs, grew)
    });
    let for_packs = (large.0 - small.0) * PACK_BYTES_MAX / KIB;
    assert!(large.1 <= small.1.min(SWEEP_KIB_MAX) + for_packs, "{small:?} {large:?}");
    assert!(small.1 <= SWEEP_KIB_MAX, "{small:?}");
}

#[test]
fn r04_what_storing_anew_takes_of_memory() {
    if is_measured() {
        return;
    }
    let test = "r04_what_storing_anew_takes_of_memory";
    for backups in depth::choose([20, 200], [200, 2000]) {
        let directory = tempfile::tempdir().unwrap();
        furnish(directory.path(), backups);
        let (grew, done) = measure(test, "rebase", directory.path());
        assert_eq!(done, u64::from(backups.div_ceil(2)), "each of them stood on one that was deleted");
        depth::report(format_args!("{done} of {backups} backups stored anew: {grew} KiB"));
        assert!(grew <= REBASE_KIB_MAX, "{grew} KiB");
    }
}
