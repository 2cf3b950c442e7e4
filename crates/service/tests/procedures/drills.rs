//! Verifications that start what was restored: where it happens, what is kept of it, what is left.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use strongroom_core::backup::{Backup, BackupState};
use strongroom_core::id::JobId;
use strongroom_core::job::{Job, JobState};
use strongroom_core::verification::{Level, Outcome, Verification};
use strongroom_core::{Error, ErrorKind, limits};
use strongroom_repository::Store;
use strongroom_service::Settings;
use strongroom_testkit::disk::SmallDisk;
use strongroom_testkit::store::{Edge, Fault, Gate, Operation, What, When};

use crate::checks::ask_verify;
use crate::engine::DrillAct;
use crate::kills::arrived;
use crate::room::{Room, brisk, settings, until};

fn sandbox(room: &Room) -> PathBuf {
    room.folder.path().join("sandbox")
}

/// Neither folder nor lock nor process.
fn assert_clean(room: &Room) {
    let left: Vec<_> = fs::read_dir(sandbox(room)).into_iter().flatten().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    let working = fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        fs::read_link(entry.path().join("cwd")).is_ok_and(|directory| directory.starts_with(sandbox(room)))
    });
    assert_eq!(working.count(), 0);
}

async fn drilled_with(room: &Room, backup: &Backup, settings: Settings) -> (Job, Verification) {
    let job = ask_verify(room, backup, Level::Engine).await;
    room.process_with(settings).await.worker.run_due().await;
    let job = room.job(&job).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.failure);
    let row = room.row(backup).await.unwrap();
    assert_eq!(row.state, BackupState::Completed, "a verification changes no status");
    let verification = row.verification.unwrap();
    assert_eq!(verification.level, Level::Engine);
    (job, verification)
}

async fn drilled(room: &Room, backup: &Backup) -> (Job, Verification) {
    let found = drilled_with(room, backup, settings()).await;
    assert_clean(room);
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn v05_what_is_whole_passes_and_what_is_not_fails() {
    let room = Room::new().await;
    let (whole, broken) = (room.completed("whole").await, {
        room.engine.touch(9);
        room.completed("broken").await
    });
    let (job, found) = drilled(&room, &whole).await;
    assert_eq!(found.outcome, Outcome::Passed, "{found:?}");
    assert_eq!(found.findings, ["Note: a note of the drill."]);
    let drill = found.drill.unwrap();
    assert!(drill.restore_ms > 0 && drill.start_ms > 0 && drill.check_ms > 0, "{drill:?}");
    assert!(drill.restored_bytes > 500_000 && drill.rows > 0, "{drill:?}");
    let result = job.result.unwrap();
    assert_eq!(
        (&result["result"], &result["largest_tables"][0]["table"]),
        (&"passed".into(), &"public.t".into())
    );
    let reading = room.judge.catalog.metrics_reading(room.judge.service.clock_reading()).await.unwrap();
    assert_eq!(reading.instances[0].restore_measured_ms, Some(drill.time_to_restore_ms()));
    assert!(reading.instances[0].last_verified.is_some());

    let (_, found) = drilled(&room, &broken).await;
    assert_eq!(found.outcome, Outcome::Failed);
    assert!(found.findings[0].contains("public.t"), "{found:?}");
    assert!(found.drill.is_some(), "it was measured all the same");
}

/// Not tried is a result of its own, with a reason, and counts for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn v04_without_a_server_nothing_is_restored_and_nothing_claimed() {
    let room = Room::new().await;
    let backup = room.completed("first").await;
    room.engine.has_no_server.store(true, Ordering::SeqCst);
    let (job, found) = drilled(&room, &backup).await;
    assert_eq!((found.outcome, &found.drill), (Outcome::NotRun, &None));
    assert!(found.findings[0].contains("No server") && found.findings[0].contains("install it"), "{found:?}");
    assert_eq!(job.result.unwrap()["reason"], "not_supported");
    let reading = room.judge.catalog.metrics_reading(room.judge.service.clock_reading()).await.unwrap();
    assert_eq!(reading.instances[0].last_verified, None);
    assert_eq!(reading.instances[0].restore_measured_ms, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn v04_without_room_nothing_is_restored_and_the_bytes_are_told() {
    let (room, small) = (Room::new().await, SmallDisk::in_memory(limits::DRILL_ROOM_MARGIN_BYTES));
    let large = SmallDisk::in_memory(limits::DRILL_ROOM_MARGIN_BYTES + (2 << 20));
    let Some((small, large)) = small.zip(large) else { return };
    let backup = room.completed("first").await;
    let at = |disk: &SmallDisk| Settings { sandbox_dir: Some(disk.path().join("sandbox")), ..settings() };
    let (job, found) = drilled_with(&room, &backup, at(&small)).await;
    assert_eq!((found.outcome, &found.drill), (Outcome::NotRun, &None));
    assert!(found.findings[0].contains("needs 256.5 MiB"), "{found:?}");
    assert_eq!(job.result.unwrap()["reason"], "disk_full");
    assert_eq!(fs::read_dir(small.path().join("sandbox")).unwrap().count(), 0);
    let (_, found) = drilled_with(&room, &backup, at(&large)).await;
    assert_eq!(found.outcome, Outcome::Passed, "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn v04_a_sandbox_that_cannot_be_used_is_the_reason() {
    let room = Room::new().await;
    let backup = room.completed("first").await;
    let occupied = room.folder.path().join("file");
    fs::write(&occupied, b"mine").unwrap();
    for broken in [
        Settings { sandbox_dir: Some(occupied.join("sandbox")), ..settings() },
        Settings { drill_account: Some("no such account".to_owned()), ..settings() },
        Settings { drill_account: Some("root".to_owned()), ..settings() },
    ] {
        let (_, found) = drilled_with(&room, &backup, broken).await;
        assert_eq!(found.outcome, Outcome::NotRun, "{found:?}");
        assert!(found.findings[0].contains("Next step"), "{found:?}");
    }
    assert_eq!(fs::read(&occupied).unwrap(), b"mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn v04_the_time_of_a_drill_is_bounded() {
    let room = Room::new().await;
    let backup = room.completed("first").await;
    let hasty = Settings { drill_timeout: std::time::Duration::ZERO, ..settings() };
    let (_, found) = drilled_with(&room, &backup, hasty).await;
    assert_eq!(found.outcome, Outcome::NotRun);
    assert!(found.findings[0].contains("time for the drill"), "{found:?}");
    assert_clean(&room);
}

#[tokio::test(flavor = "multi_thread")]
async fn v05_stored_damage_fails_without_a_start() {
    let room = Room::new().await;
    let backup = room.completed("first").await;
    for pack in room.keys("/pk/") {
        let kept = room.objects.get(&pack).unwrap().unwrap();
        let mut bad = kept.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        room.objects.delete(&pack).unwrap();
        room.objects.put_new(&pack, &bad).unwrap();
        room.engine.play_drills([DrillAct::Fail(Error::internal("nothing is started"))]);
        let (_, found) = drilled(&room, &backup).await;
        assert_eq!((found.outcome, &found.drill), (Outcome::Failed, &None), "{pack}");
        assert!(found.findings[0].contains("damaged"), "{found:?}");
        room.objects.delete(&pack).unwrap();
        room.objects.put_new(&pack, &kept).unwrap();
    }
}

async fn cancel(room: &Room, job: &JobId) {
    room.judge.service.job_cancel(&room.scope().await, job).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn v06_a_cancelled_drill_leaves_nothing() {
    let room = Room::new().await;
    let backup = room.completed("first").await;
    room.engine.play_drills([DrillAct::Stall]);
    let job = ask_verify(&room, &backup, Level::Engine).await;
    let mut process = room.process_with(brisk()).await;
    let running = tokio::spawn(async move { process.worker.run_due().await });
    until("the server is started", async || room.job(&job).await.progress.phase == "starting").await;
    cancel(&room, &job).await;
    running.await.unwrap();
    assert_eq!(room.job(&job).await.state, JobState::Cancelled);
    assert!(room.row(&backup).await.unwrap().verification.is_none());
    assert_clean(&room);
}

#[tokio::test(flavor = "multi_thread")]
async fn v06_a_drill_that_is_cancelled_while_it_restores_leaves_nothing() {
    let room = Room::new().await;
    let backup = room.completed("first").await;
    let job = ask_verify(&room, &backup, Level::Engine).await;
    let mut process = room.process_with(brisk()).await;
    process.store.arm(Fault {
        when: When::Nth(2, Operation::GetRange, "/pk/"),
        what: What::Freeze,
        edge: Edge::Before,
    });
    let gate = process.store.gate();
    let service = process.service.clone();
    let running = tokio::spawn(async move { process.worker.run_due().await });
    arrived(&gate).await;
    service.job_cancel(&room.scope().await, &job).await.unwrap();
    gate.release();
    running.await.unwrap();
    assert_eq!(room.job(&job).await.state, JobState::Cancelled);
    assert_clean(&room);
}

/// A panic, and failures that pass: tried again, three times, and nothing is left each time.
#[tokio::test(flavor = "multi_thread")]
async fn v06_a_drill_that_breaks_off_is_tried_again_in_a_clean_place() {
    let room = Room::new().await;
    let backup = room.completed("first").await;
    let passing = || Error::new(ErrorKind::Unavailable, "It did not work this time.");
    room.engine.play_drills([DrillAct::Panic, DrillAct::Fail(passing())]);
    let job = ask_verify(&room, &backup, Level::Engine).await;
    for _ in 0..limits::JOB_ATTEMPTS_MAX {
        room.process().await.worker.run_due().await;
        assert_clean(&room);
        room.advance_past_leases();
    }
    assert_eq!(room.job(&job).await.state, JobState::Succeeded);
    assert_eq!(room.row(&backup).await.unwrap().verification.unwrap().outcome, Outcome::Passed);
}

/// A worker that slept past its lease: its folder is left alone while it lives, its result is refused.
#[tokio::test(flavor = "multi_thread")]
async fn p07_a_drill_that_was_taken_over_changes_nothing() {
    let room = Room::new().await;
    let backup = room.completed("first").await;
    let gate = Arc::new(Gate::default());
    room.engine.play_drills([DrillAct::Stand(gate.clone())]);
    let job = ask_verify(&room, &backup, Level::Engine).await;
    let mut sleeper = room.process().await;
    let running = tokio::spawn(async move { sleeper.worker.run_due().await });
    arrived(&gate).await;
    room.advance_past_leases();
    room.process().await.worker.run_due().await;
    let ended = room.job(&job).await;
    assert_eq!(ended.state, JobState::Succeeded);
    let folders = fs::read_dir(sandbox(&room)).unwrap().flatten().filter(|entry| entry.path().is_dir());
    assert_eq!(folders.count(), 1, "the heir has cleared its own folder and not the sleeper's");
    gate.release();
    running.await.unwrap();
    assert_eq!(room.job(&job).await, ended);
    assert_clean(&room);
}

/// A backup that is deleted during its drill is not accused.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_deleted_during_its_drill_is_not_accused() {
    let room = Room::new().await;
    room.engine.touch(9);
    let backup = room.completed("broken").await;
    let gate = Arc::new(Gate::default());
    room.engine.play_drills([DrillAct::Stand(gate.clone())]);
    let job = ask_verify(&room, &backup, Level::Engine).await;
    let mut checker = room.process().await;
    let running = tokio::spawn(async move { checker.worker.run_due().await });
    arrived(&gate).await;
    room.delete(&backup).await;
    room.process().await.worker.run_due().await;
    until("the backup is gone", async || room.row(&backup).await.is_none()).await;
    gate.release();
    running.await.unwrap();
    assert_eq!(room.job(&job).await.state, JobState::Failed);
    assert_clean(&room);
}

#[tokio::test(flavor = "multi_thread")]
async fn p03_killed_around_store_calls_a_drill_is_taken_over() {
    let room = Room::new().await;
    let backup = room.completed("first").await;
    let mut heir = room.process().await;
    for call in (1..).step_by(3) {
        let job = ask_verify(&room, &backup, Level::Engine).await;
        let mut doomed = room.process().await;
        doomed.store.arm(Fault { when: When::Call(call), what: What::Die, edge: Edge::Before });
        doomed.worker.run_due().await;
        room.advance_past_leases();
        heir.worker.run_due().await;
        assert_eq!(room.job(&job).await.state, JobState::Succeeded, "{call}");
        assert_eq!(room.row(&backup).await.unwrap().verification.unwrap().outcome, Outcome::Passed);
        for left in room.keys("/in/r-") {
            room.objects.delete(&left).unwrap();
        }
        if !doomed.store.has_struck() {
            assert!(call > 10, "a drill makes more calls than {call}");
            break;
        }
    }
    assert_clean(&room);
}
