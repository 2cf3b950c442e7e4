//! Sweeps as jobs: asked for and by themselves, killed at every call of the store, cancelled, without
//! room, and beside everything else that a worker does.

use std::time::Duration;

use strongroom_core::backup::Backup;
use strongroom_core::id::JobId;
use strongroom_core::job::{JobKind, JobState};
use strongroom_core::verification::Level;
use strongroom_core::{ErrorKind, limits};
use strongroom_repository::Store;
use strongroom_service::{Settings, SweepWish};
use strongroom_testkit::depth;
use strongroom_testkit::store::{Edge, Fault, Operation, What, When};

use crate::checks::{ask_verify, checked};
use crate::engine::{Database, TABLE, pages};
use crate::kills::arrived;
use crate::room::{Room, settings, until};

/// Sweeps follow deletes by themselves.
fn automatic() -> Settings {
    Settings { sweep_delay: Some(Duration::from_secs(limits::SWEEP_DELAY_S)), ..settings() }
}

pub(crate) async fn ask(room: &Room, wish: SweepWish) -> JobId {
    room.judge.service.repository_sweep(&room.scope().await, wish).await.unwrap()
}

pub(crate) const TIGHTEST: SweepWish =
    SweepWish { is_dry_run: false, threshold_percent: Some(1), rebase: false };

/// Work of others, done by a worker to whom nothing happens.
pub(crate) async fn work(room: &Room) -> usize {
    room.process().await.worker.run_due().await
}

/// A backup with chunks of its own beside those that later ones stand on.
async fn fresh(room: &Room, name: &str, seed: u8) -> Backup {
    let mut database: Database = room.engine.database();
    let table = database.get_mut(TABLE).and_then(|node| node.content.as_mut()).unwrap();
    let length = table.len();
    table[length - 20_000..].copy_from_slice(&pages(u64::from(seed) + 1000, 20_000));
    room.engine.set_database(database);
    room.engine.touch(seed);
    room.completed(name).await
}

async fn deleted(room: &Room, name: &str, seed: u8) -> Backup {
    let backup = fresh(room, name, seed).await;
    room.delete(&backup).await;
    work(room).await;
    assert_eq!(room.state(&backup).await, None, "it leaves the list with its tombstone");
    backup
}

fn pack_bytes(room: &Room) -> u64 {
    let listed = room.objects.list("").unwrap();
    listed.iter().filter(|object| object.key.contains("/pk/")).map(|object| object.size).sum()
}

pub(crate) async fn swept(room: &Room, job: &JobId) -> serde_json::Value {
    let job = room.job(job).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.failure);
    job.result.unwrap()
}

async fn live_sweeps(room: &Room) -> usize {
    let jobs = room.judge.service.job_list(&room.scope().await, None, 500).await.unwrap();
    let is_live = |job: &strongroom_core::job::Job| job.kind == JobKind::Sweep && !job.state.is_terminal();
    jobs.iter().filter(|detail| is_live(&detail.job)).count()
}

/// A room is left after so many cases: each of them leaves marks, which every sweep after it reads.
const CASES_PER_ROOM: usize = 8;

/// Answers whether the worker was killed at all: a sweep makes only so many calls.
async fn killed_at(room: &Room, call: usize, edge: Edge) -> bool {
    let gone = fresh(room, &format!("gone-{call}"), call as u8).await;
    let kept = fresh(room, &format!("kept-{call}"), call as u8 ^ 0x80).await;
    room.delete(&gone).await;
    work(room).await;
    let job = ask(room, TIGHTEST).await;
    let mut doomed = room.process().await;
    doomed.store.arm(Fault { when: When::Call(call), what: What::Die, edge });
    doomed.worker.run_due().await;
    let is_dead = doomed.store.has_struck();
    room.assert_whole().await;
    room.assert_restores(&kept).await;
    if is_dead {
        assert_eq!(room.job(&job).await.state, JobState::Leased, "nobody gave it back");
        room.advance_past_leases();
        assert_eq!(work(room).await, 1);
    }
    swept(room, &job).await;
    let again = ask(room, TIGHTEST).await;
    work(room).await;
    let left = swept(room, &again).await;
    assert_eq!(
        (&left["bytes_freed"], &left["dead_kept"]["packs"]),
        (&0.into(), &0.into()),
        "{edge:?} {call}"
    );
    room.assert_restores(&kept).await;
    is_dead
}

#[tokio::test(flavor = "multi_thread")]
async fn r04_p03_killed_around_every_store_call_a_sweep_is_finished() {
    let mut cases = 0;
    for edge in [Edge::Before, Edge::After] {
        let (mut room, mut call) = (Room::new().await, 1);
        room.completed("kept").await;
        while killed_at(&room, call, edge).await {
            cases += 1;
            call += depth::choose(7, 1);
            if cases % CASES_PER_ROOM == 0 {
                room.assert_all_restore().await;
                room = Room::new().await;
                room.completed("kept").await;
            }
        }
        assert!(call > 20, "a sweep makes more calls than {call}");
        room.assert_all_restore().await;
        assert!(checked(&room, Level::Decode).await.is_empty());
    }
    depth::report(format_args!("{cases} sweeps killed at a call of the store"));
}

#[tokio::test(flavor = "multi_thread")]
async fn r04_many_deletes_are_followed_by_one_sweep_and_later_ones_by_another() {
    let room = Room::new().await;
    let mut process = room.process_with(automatic()).await;
    let mut backups = Vec::new();
    for number in 0..8 {
        backups.push(fresh(&room, &format!("nightly-{number}"), number).await);
    }
    let full = pack_bytes(&room);
    for backup in &backups[..6] {
        room.delete(backup).await;
        process.worker.run_due().await;
        assert_eq!(room.state(backup).await, None);
        room.advance_ms(1000);
    }
    assert_eq!((live_sweeps(&room).await, pack_bytes(&room)), (1, full), "it waits for more");
    room.advance_ms(1000 * i64::try_from(limits::SWEEP_DELAY_S).unwrap());
    process.store.arm(Fault {
        when: When::On(Operation::List, "/at/"),
        what: What::Freeze,
        edge: Edge::Before,
    });
    let gate = process.store.gate();
    let running = tokio::spawn(async move {
        process.worker.run_due().await;
        process
    });
    arrived(&gate).await;
    // Under the sweep: what it has decided already does not include this one.
    room.delete(&backups[6]).await;
    let mut other = room.process_with(automatic()).await;
    other.worker.run_due().await;
    assert_eq!(room.state(&backups[6]).await, None, "a delete does not wait for a sweep");
    gate.release();
    let mut process = running.await.unwrap();
    let first = pack_bytes(&room);
    assert!(first < full);
    assert_eq!(live_sweeps(&room).await, 1, "the one that follows");
    room.advance_ms(1000 * i64::try_from(limits::SWEEP_DELAY_S).unwrap());
    assert_eq!(process.worker.run_due().await, 1);
    assert!(pack_bytes(&room) < first);
    assert_eq!(live_sweeps(&room).await, 0);
    room.assert_all_restore().await;
}

/// What an attempt has stored that never became a backup goes as well, without anybody's delete.
#[tokio::test(flavor = "multi_thread")]
async fn p07_leftovers_of_attempts_are_swept_by_themselves() {
    let room = Room::new().await;
    fresh(&room, "base", 1).await;
    let before = pack_bytes(&room);
    room.engine.touch(9);
    let backup = room.ask("second-try").await.unwrap();
    let mut doomed = room.process_with(automatic()).await;
    let when = When::On(Operation::PutNew, "/at/");
    doomed.store.arm(Fault { when, what: What::Die, edge: Edge::Before });
    doomed.worker.run_due().await;
    let left = pack_bytes(&room) - before;
    assert!(left > 0);
    room.advance_past_leases();
    let mut heir = room.process_with(automatic()).await;
    heir.worker.run_due().await;
    room.assert_restores(&backup).await;
    let with_both = pack_bytes(&room);
    room.advance_past_leases();
    assert_eq!(heir.worker.run_due().await, 1, "the sweep");
    assert_eq!(pack_bytes(&room), with_both - left);
    room.assert_all_restore().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_would_go_and_why_and_changes_nothing() {
    let room = Room::new().await;
    fresh(&room, "kept", 1).await;
    deleted(&room, "gone", 2).await;
    fresh(&room, "newest", 3).await;
    let before = room.objects.list("").unwrap();
    let look = ask(&room, SweepWish { is_dry_run: true, ..TIGHTEST }).await;
    work(&room).await;
    let planned = swept(&room, &look).await;
    assert_eq!(room.objects.list("").unwrap(), before);
    assert_eq!((&planned["dry_run"], &planned["threshold_percent"]), (&true.into(), &1.into()));
    let real = ask(&room, TIGHTEST).await;
    work(&room).await;
    let done = swept(&room, &real).await;
    for what in ["bytes_freed", "packs_removed", "packs_rewritten", "reasons", "backups_decided"] {
        assert_eq!(planned[what], done[what], "{what}");
    }
    let bytes: u64 =
        done["reasons"].as_object().unwrap().values().map(|share| share["bytes"].as_u64().unwrap()).sum();
    assert_eq!(done["bytes_freed"], bytes);
    assert!(done["reasons"]["deleted"]["packs"].as_u64().unwrap() > 0, "{done}");
    room.assert_all_restore().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_sweep_ends_and_the_next_one_does_the_rest() {
    let room = Room::new().await;
    fresh(&room, "kept", 1).await;
    for number in 2..6 {
        deleted(&room, &format!("gone-{number}"), number).await;
    }
    let job = ask(&room, TIGHTEST).await;
    let mut process = room.process().await;
    let when = When::On(Operation::Delete, "/pk/");
    process.store.arm(Fault { when, what: What::Freeze, edge: Edge::After });
    let (gate, service) = (process.store.gate(), process.service.clone());
    let running = tokio::spawn(async move { process.worker.run_due().await });
    arrived(&gate).await;
    let again = service.repository_sweep(&room.scope().await, TIGHTEST).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::SweepInProgress);
    assert!(again.hint().unwrap().contains("follows"), "{again:?}");
    service.job_cancel(&room.scope().await, &job).await.unwrap();
    gate.release();
    running.await.unwrap();
    assert_eq!(room.job(&job).await.state, JobState::Cancelled);
    room.assert_all_restore().await;
    let next = ask(&room, TIGHTEST).await;
    work(&room).await;
    assert!(swept(&room, &next).await["bytes_freed"].as_u64().unwrap() > 0);
    room.assert_all_restore().await;
}

/// The deadlock of a full disk: what only goes must go first, and what finds no room to be written
/// anew stays as it is.
#[tokio::test(flavor = "multi_thread")]
async fn d01_r04_a_sweep_without_room_gives_back_what_it_can_and_says_so() {
    let room = Room::new().await;
    fresh(&room, "kept", 1).await;
    // Of the first nothing is needed; the newest stands on the others.
    deleted(&room, "gone", 2).await;
    let mut gone = Vec::new();
    for number in 3..6 {
        gone.push(fresh(&room, &format!("gone-{number}"), number).await);
    }
    fresh(&room, "newest", 7).await;
    for backup in &gone {
        room.delete(backup).await;
    }
    work(&room).await;
    let look = ask(&room, SweepWish { is_dry_run: true, ..TIGHTEST }).await;
    work(&room).await;
    let planned = swept(&room, &look).await;
    let (removable, rewritable) = (&planned["packs_removed"], &planned["packs_rewritten"]);
    assert!(removable.as_u64().unwrap() > 0 && rewritable.as_u64().unwrap() > 0, "{planned}");
    let before = pack_bytes(&room);
    let job = ask(&room, TIGHTEST).await;
    let mut process = room.process().await;
    for attempt in 1..=limits::JOB_ATTEMPTS_MAX {
        let full = What::FailAs(ErrorKind::DiskFull);
        process.store.arm(Fault {
            when: When::On(Operation::BeginPut, "/pk/"),
            what: full,
            edge: Edge::Before,
        });
        process.worker.run_due().await;
        assert!(process.store.has_struck(), "{attempt}");
        let told = room.job(&job).await;
        let failure = told.failure.unwrap();
        assert_eq!(failure.code, "disk_full");
        assert!(failure.message.contains("nothing is lost"), "{}", failure.message);
        assert!(pack_bytes(&room) < before);
        room.assert_all_restore().await;
        room.advance_past_leases();
        if told.state == JobState::Failed {
            assert_eq!(attempt, limits::JOB_ATTEMPTS_MAX);
            break;
        }
    }
    assert_eq!(room.job(&job).await.state, JobState::Failed);
    let next = ask(&room, TIGHTEST).await;
    work(&room).await;
    swept(&room, &next).await;
    let again = ask(&room, TIGHTEST).await;
    work(&room).await;
    assert_eq!(swept(&room, &again).await["bytes_freed"], 0);
    room.assert_all_restore().await;
}

/// A store that was away while the sweep was due: the space comes back all the same, later.
#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_that_failed_is_followed_by_another() {
    let room = Room::new().await;
    fresh(&room, "kept", 1).await;
    let gone = fresh(&room, "gone", 2).await;
    let mut process = room.process_with(automatic()).await;
    room.delete(&gone).await;
    process.worker.run_due().await;
    let before = pack_bytes(&room);
    for _ in 0..limits::JOB_ATTEMPTS_MAX {
        room.advance_past_leases();
        process.store.arm(Fault { when: When::Call(1), what: What::Fail, edge: Edge::Before });
        assert_eq!(process.worker.run_due().await, 1);
    }
    assert_eq!((live_sweeps(&room).await, pack_bytes(&room)), (1, before), "the next one waits");
    room.advance_past_leases();
    assert_eq!(process.worker.run_due().await, 0, "not at once");
    room.advance_ms(1000 * i64::try_from(limits::SWEEP_RETRY_S).unwrap());
    assert_eq!(process.worker.run_due().await, 1);
    assert!(pack_bytes(&room) < before);
    assert_eq!(live_sweeps(&room).await, 0);
    room.assert_all_restore().await;
}

/// Callers poll for a delete; it must not wait behind what takes hours.
#[tokio::test(flavor = "multi_thread")]
async fn a_delete_does_not_wait_for_long_work() {
    let room = Room::new().await;
    let (kept, gone) = (fresh(&room, "kept", 1).await, fresh(&room, "gone", 2).await);
    let mut process = room.process_with(Settings { others_at_once: 1, ..settings() }).await;
    ask_verify(&room, &kept, Level::Decode).await;
    process.store.arm(Fault {
        when: When::On(Operation::Get, "/at/"),
        what: What::Freeze,
        edge: Edge::Before,
    });
    let gate = process.store.gate();
    room.delete(&gone).await;
    let running = tokio::spawn(async move { process.worker.run_due().await });
    until("the delete is done", async || room.state(&gone).await.is_none()).await;
    gate.release();
    running.await.unwrap();
    room.assert_all_restore().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_is_refused_a_threshold_that_is_none() {
    let room = Room::new().await;
    for percent in [0, 101, 255] {
        let wish = SweepWish { threshold_percent: Some(percent), ..SweepWish::default() };
        let refused = room.judge.service.repository_sweep(&room.scope().await, wish).await.unwrap_err();
        assert!(refused.public().contains("threshold_percent"), "{refused}");
    }
    assert_eq!(work(&room).await, 0, "nothing was stored");
}
