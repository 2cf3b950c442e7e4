//! The worker itself: draining, cancelling, leases, and a catalog that does not answer.

use std::sync::Arc;
use std::time::Duration;

use strongroom_core::backup::BackupState;
use strongroom_core::id::JobId;
use strongroom_core::job::JobState;
use strongroom_core::{Error, ErrorKind, limits};
use strongroom_service::Settings;

use crate::engine::Act;
use crate::kills::arrived;
use crate::room::{Process, Room, brisk, settings, until};
use strongroom_testkit::store::{Edge, Fault, Gate, Operation, What, When};

type Running = tokio::task::JoinHandle<()>;

/// A worker in its own loop, and what tells it to stop.
fn run(process: Process) -> (Running, tokio::sync::oneshot::Sender<()>) {
    let (tell, told) = tokio::sync::oneshot::channel();
    let running = tokio::spawn(process.worker.run(async move {
        let _ = told.await;
    }));
    (running, tell)
}

async fn streaming(room: &Room) {
    until("the engine is called", async || room.engine.calls() > 0).await;
}

async fn cancel(room: &Room, job: &JobId) {
    room.judge.service.job_cancel(&room.scope().await, job).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn p12_a_drained_backup_is_ready_again_and_not_counted() {
    let room = Room::new().await;
    for round in 0..limits::JOB_ATTEMPTS_MAX + 2 {
        room.engine.play([Act::StallUntilStopped]);
        let calls = room.engine.calls();
        let backup = match round {
            0 => room.ask("drained").await.unwrap(),
            _ => room.rows().await[0].clone(),
        };
        let (running, stop) = run(room.process().await);
        until("the engine is called", async || room.engine.calls() > calls).await;
        stop.send(()).unwrap();
        running.await.unwrap();
        let job = room.job(&backup.job_id).await;
        assert_eq!((job.state, job.attempts), (JobState::Ready, 0), "{round}");
        assert_eq!(room.state(&backup).await, Some(BackupState::Building));
        assert!(room.open_attempts().is_empty(), "its attempt is abandoned");
        room.assert_whole().await;
    }
    assert_eq!(room.process().await.worker.run_due().await, 1, "ready at once, for whoever comes");
    room.assert_all_restore().await;
}

/// What does not stop in time is given back under its eyes, and refused when it comes to its end.
#[tokio::test(flavor = "multi_thread")]
async fn p12_a_job_that_does_not_stop_in_time_is_given_back() {
    let room = Room::new().await;
    let gate = Arc::new(Gate::default());
    room.engine.play([Act::Stand(gate.clone())]);
    let backup = room.ask("deaf").await.unwrap();
    let hasty = Settings { drain_timeout: Duration::from_millis(50), ..settings() };
    let (running, stop) = run(room.process_with(hasty).await);
    arrived(&gate).await;
    stop.send(()).unwrap();
    running.await.unwrap();
    let job = room.job(&backup.job_id).await;
    assert_eq!((job.state, job.attempts), (JobState::Ready, 0));

    assert_eq!(room.process().await.worker.run_due().await, 1);
    let row = room.row(&backup).await.unwrap();
    assert_eq!(row.state, BackupState::Completed);
    gate.release();
    room.assert_next_backup_works("after").await;
    assert_eq!(room.row(&backup).await.unwrap(), row);
}

#[tokio::test(flavor = "multi_thread")]
async fn p12_a_drain_after_the_seal_still_completes() {
    let room = Room::new().await;
    let backup = room.ask("sealed").await.unwrap();
    let process = room.process().await;
    let when = When::On(Operation::PutNew, "/at/");
    process.store.arm(Fault { when, what: What::Freeze, edge: Edge::After });
    let gate = process.store.gate();
    let (running, stop) = run(process);
    arrived(&gate).await;
    stop.send(()).unwrap();
    gate.release();
    running.await.unwrap();
    assert_eq!(room.state(&backup).await, Some(BackupState::Completed));
    room.assert_all_restore().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_backup_is_failed_and_its_attempt_abandoned() {
    let room = Room::new().await;
    room.engine.play([Act::StallUntilStopped]);
    let backup = room.ask("cancelled").await.unwrap();
    // The wish is heard through the catalog: it comes from another process.
    let (running, stop) = run(room.process_with(brisk()).await);
    streaming(&room).await;
    cancel(&room, &backup.job_id).await;
    until("the job ends", async || room.job(&backup.job_id).await.state.is_terminal()).await;
    assert_eq!(room.job(&backup.job_id).await.state, JobState::Cancelled);
    let row = room.row(&backup).await.unwrap();
    assert_eq!((row.state, row.failure.unwrap().code.as_str()), (BackupState::Failed, "cancelled"));
    assert!(room.open_attempts().is_empty());
    stop.send(()).unwrap();
    running.await.unwrap();
    room.assert_next_backup_works("after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_was_never_tried_is_cancelled_at_once() {
    let room = Room::new().await;
    let backup = room.ask("early").await.unwrap();
    cancel(&room, &backup.job_id).await;
    assert_eq!(room.state(&backup).await, Some(BackupState::Failed));
    assert_eq!(room.process().await.worker.run_due().await, 0);
    room.assert_next_backup_works("after").await;
}

/// Too late: the commit has happened, whatever the row says yet.
#[tokio::test(flavor = "multi_thread")]
async fn p04_a_cancel_after_the_seal_comes_too_late() {
    let room = Room::new().await;
    let backup = room.ask("sealed").await.unwrap();
    let mut process = room.process().await;
    let when = When::On(Operation::PutNew, "/at/");
    process.store.arm(Fault { when, what: What::Freeze, edge: Edge::After });
    let gate = process.store.gate();
    let service = process.service.clone();
    let running = tokio::spawn(async move { process.worker.run_due().await });
    arrived(&gate).await;
    service.job_cancel(&room.scope().await, &backup.job_id).await.unwrap();
    gate.release();
    running.await.unwrap();
    assert_eq!(room.state(&backup).await, Some(BackupState::Completed));
    room.assert_all_restore().await;
}

/// Its first worker died after the seal, or lost the store there and gave the job back: cancelling
/// what waits must not make it FAILED.
#[tokio::test(flavor = "multi_thread")]
async fn p04_cancelling_a_dead_workers_sealed_backup_publishes_it() {
    let room = Room::new().await;
    for waits in [false, true] {
        let backup = room.ask(&format!("sealed-{waits}")).await.unwrap();
        let mut process = room.process().await;
        let when = When::On(Operation::PutNew, "/at/");
        if waits {
            // The store stays away, the catalog does not.
            process.store.at_death(|| {});
        }
        process.store.arm(Fault { when, what: What::Die, edge: Edge::After });
        process.worker.run_due().await;
        let state = if waits { JobState::Ready } else { JobState::Leased };
        assert_eq!(room.job(&backup.job_id).await.state, state);
        cancel(&room, &backup.job_id).await;
        room.advance_past_leases();
        room.process().await.worker.run_due().await;
        assert_eq!(room.state(&backup).await, Some(BackupState::Completed), "{waits}");
    }
    room.assert_all_restore().await;
}

/// The store is away when the job is to end: it ends later, and only after the attempt is decided.
#[tokio::test(flavor = "multi_thread")]
async fn p04_a_job_does_not_end_before_its_attempts_are_decided() {
    let room = Room::new().await;
    let hostile = Error::new(ErrorKind::SourceHostile, "It lies.");
    room.engine.play([Act::FailAfter(2, hostile)]);
    let backup = room.ask("hostile").await.unwrap();
    let mut process = room.process().await;
    // Both the procedure's own try to abandon and the one before the end fail.
    process.store.arm(Fault {
        when: When::On(Operation::PutNew, "/at/"),
        what: What::Fail,
        edge: Edge::Before,
    });
    process.worker.run_due().await;
    assert_eq!(room.state(&backup).await, Some(BackupState::Failed), "the second one worked");
    assert!(room.open_attempts().is_empty());

    let hostile = Error::new(ErrorKind::SourceHostile, "It lies.");
    room.engine.play([Act::FailAfter(2, hostile)]);
    let backup = room.ask("away").await.unwrap();
    let mut doomed = room.process().await;
    doomed.store.at_death(|| {});
    doomed.store.arm(Fault {
        when: When::On(Operation::PutNew, "/at/"),
        what: What::Die,
        edge: Edge::Before,
    });
    doomed.worker.run_due().await;
    let job = room.job(&backup.job_id).await;
    assert_eq!(job.state, JobState::Ready, "its end waits for the store");
    assert_eq!(job.failure.unwrap().code, "source_hostile");
    assert_eq!(room.state(&backup).await, Some(BackupState::Building));
    cancel(&room, &backup.job_id).await;
    room.process().await.worker.run_due().await;
    assert_eq!(room.state(&backup).await, Some(BackupState::Failed));
    assert!(room.open_attempts().is_empty());
    room.assert_next_backup_works("after").await;
}

/// The catalog goes while the engine works: the worker stops before the lease ends, and touches
/// nothing; whoever comes after the lease does the job.
#[tokio::test(flavor = "multi_thread")]
async fn m06_a_worker_without_a_catalog_stops_in_time_and_changes_nothing() {
    let room = Room::new().await;
    room.engine.play([Act::StallUntilStopped]);
    let backup = room.ask("alone").await.unwrap();
    let mut process = room.process_with(brisk()).await;
    let catalog = process.catalog.clone();
    let running = tokio::spawn(async move { process.worker.run_due().await });
    streaming(&room).await;
    catalog.close().await;
    // The engine waits for a minute when nobody stops it.
    tokio::time::timeout(Duration::from_secs(30), running).await.unwrap().unwrap();
    assert_eq!(room.job(&backup.job_id).await.state, JobState::Leased);
    room.assert_whole().await;
    room.advance_past_leases();
    assert_eq!(room.process().await.worker.run_due().await, 1);
    room.assert_all_restore().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_a_worker_without_a_catalog_claims_nothing_and_stays_alive() {
    let room = Room::new().await;
    room.ask("waiting").await.unwrap();
    let mut process = room.process().await;
    process.catalog.close().await;
    assert_eq!(process.worker.run_due().await, 0);
    let (running, stop) = run(process);
    stop.send(()).unwrap();
    running.await.unwrap();
    assert_eq!(room.process().await.worker.run_due().await, 1);
    room.assert_all_restore().await;
}

/// The keeper learns that another worker has the job, and the engine is stopped.
#[tokio::test(flavor = "multi_thread")]
async fn p07_a_worker_that_lost_its_lease_stops_its_engine() {
    let room = Room::new().await;
    room.engine.play([Act::StallUntilStopped]);
    let backup = room.ask("lost").await.unwrap();
    let mut process = room.process_with(brisk()).await;
    let running = tokio::spawn(async move { process.worker.run_due().await });
    streaming(&room).await;
    // The heir's clock is far ahead of every renewal.
    room.advance_past_leases();
    let mut heir = room.process().await;
    while room.engine.calls() < 2 {
        room.advance_past_leases();
        heir.worker.run_due().await;
    }
    running.await.unwrap();
    assert_eq!(room.state(&backup).await, Some(BackupState::Completed));
    room.assert_all_restore().await;
}

/// A lease is kept as long as the work takes.
#[tokio::test(flavor = "multi_thread")]
async fn d10_slow_work_keeps_its_lease() {
    let room = Room::new().await;
    let gate = Arc::new(Gate::default());
    room.engine.play([Act::Stand(gate.clone())]);
    let backup = room.ask("slow").await.unwrap();
    let mut process = room.process_with(brisk()).await;
    let running = tokio::spawn(async move { process.worker.run_due().await });
    arrived(&gate).await;
    let mut rival = room.process().await;
    for _ in 0..3 {
        let lease = room.job(&backup.job_id).await.lease_until;
        room.advance_ms(1000);
        until("the lease is renewed", async || room.job(&backup.job_id).await.lease_until > lease).await;
        assert_eq!(rival.worker.run_due().await, 0);
    }
    gate.release();
    running.await.unwrap();
    let row = room.row(&backup).await.unwrap();
    assert_eq!(row.state, BackupState::Completed);
    assert_eq!(room.job(&backup.job_id).await.attempts, 1);
    room.assert_all_restore().await;
}
