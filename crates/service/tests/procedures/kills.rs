//! Workers that die, or sleep past their lease, anywhere in a backup.

use std::sync::Arc;

use strongroom_core::backup::BackupState;
use strongroom_core::job::JobState;
use strongroom_core::{ErrorKind, limits};
use strongroom_service::BackupRef;

use crate::engine::Act;
use crate::room::{Process, Room};
use strongroom_testkit::store::{Edge, Fault, Gate, Operation, What, When};

const VERDICT: When = When::On(Operation::PutNew, "/at/");

async fn doomed(room: &Room, when: When, edge: Edge) -> Process {
    let process = room.process().await;
    process.store.arm(Fault { when, what: What::Die, edge });
    process
}

/// A worker that runs until it stands still at the gate of its store.
async fn frozen(room: &Room, when: When, edge: Edge) -> (tokio::task::JoinHandle<usize>, Arc<Gate>) {
    let mut process = room.process().await;
    process.store.arm(Fault { when, what: What::Freeze, edge });
    let gate = process.store.gate();
    let running = tokio::spawn(async move { process.worker.run_due().await });
    arrived(&gate).await;
    (running, gate)
}

pub(crate) async fn arrived(gate: &Arc<Gate>) {
    let gate = gate.clone();
    tokio::task::spawn_blocking(move || gate.arrived()).await.unwrap();
}

/// The process ends at each store call of a backup in turn, before and after its effect; whoever
/// comes after the lease finishes the job.
#[tokio::test(flavor = "multi_thread")]
async fn p03_p04_killed_around_every_store_call_a_backup_is_taken_over() {
    for edge in [Edge::Before, Edge::After] {
        let room = Room::new().await;
        room.completed("base").await;
        for call in 1.. {
            room.engine.touch(call as u8);
            let backup = room.ask(&format!("kill-{call}")).await.unwrap();
            let mut doomed = doomed(&room, When::Call(call), edge).await;
            doomed.worker.run_due().await;
            room.assert_whole().await;
            let is_dead = doomed.store.has_struck();
            if room.state(&backup).await == Some(BackupState::Building) {
                assert!(is_dead);
                assert_eq!(room.job(&backup.job_id).await.state, JobState::Leased, "nobody gave it back");
                let mut heir = room.process().await;
                assert_eq!(heir.worker.run_due().await, 0, "the lease holds");
                room.advance_past_leases();
                assert_eq!(heir.worker.run_due().await, 1);
            }
            assert_eq!(room.state(&backup).await, Some(BackupState::Completed), "{edge:?} {call}");
            room.assert_restores(&backup).await;
            room.assert_whole().await;
            assert!(room.open_attempts().is_empty(), "{edge:?} {call}: every begun attempt is decided");
            if !is_dead {
                assert!(call > 30, "a backup makes more calls than {call}");
                break;
            }
        }
        room.assert_all_restore().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p04_a_sealed_manifest_without_its_row_is_published_once() {
    let room = Room::new().await;
    let backup = room.ask("sealed").await.unwrap();
    doomed(&room, VERDICT, Edge::After).await.worker.run_due().await;
    assert_eq!(room.state(&backup).await, Some(BackupState::Building));
    let [sealed] = &room.sealed()[..] else { panic!("it was sealed") };
    let sealed = sealed.attempt;

    room.advance_past_leases();
    assert_eq!(room.process().await.worker.run_due().await, 1);
    let row = room.row(&backup).await.unwrap();
    assert_eq!((row.state, row.attempt_id), (BackupState::Completed, Some(sealed)));
    assert_eq!(room.engine.calls(), 1, "nothing was copied again");
    assert_eq!(room.process().await.worker.run_due().await, 0);
    room.assert_all_restore().await;
    room.assert_next_backup_works("after").await;
}

/// The last try that counts died after its seal: the backup is there, so it is not FAILED.
#[tokio::test(flavor = "multi_thread")]
async fn p04_a_sealed_backup_is_published_although_all_tries_are_spent() {
    let room = Room::new().await;
    let backup = room.ask("third").await.unwrap();
    for _ in 1..limits::JOB_ATTEMPTS_MAX {
        doomed(&room, When::On(Operation::Commit, "/pk/"), Edge::Before).await.worker.run_due().await;
        room.advance_past_leases();
    }
    // The two before are abandoned first; the third verdict is its own.
    let own = When::Nth(3, Operation::PutNew, "/at/");
    doomed(&room, own, Edge::After).await.worker.run_due().await;
    assert_eq!(room.sealed().len(), 1);
    room.advance_past_leases();
    room.process().await.worker.run_due().await;
    assert_eq!(room.state(&backup).await, Some(BackupState::Completed));
    room.assert_all_restore().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t05_a_backup_whose_workers_all_die_is_failed_with_a_reason() {
    let room = Room::new().await;
    let backup = room.ask("poison").await.unwrap();
    for _ in 0..limits::JOB_ATTEMPTS_MAX {
        doomed(&room, When::On(Operation::Commit, "/pk/"), Edge::After).await.worker.run_due().await;
        room.assert_whole().await;
        room.advance_past_leases();
    }
    room.process().await.worker.run_due().await;
    let row = room.row(&backup).await.unwrap();
    assert_eq!(row.state, BackupState::Failed);
    assert!(row.failure.unwrap().message.contains("each time its worker ended"));
    assert_eq!(room.engine.calls(), 3);
    assert!(room.open_attempts().is_empty());
    room.assert_whole().await;
    room.assert_next_backup_works("after").await;
}

/// A worker sleeps past its lease before its verdict; another one makes the backup meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn p07_f09_a_worker_that_slept_past_its_lease_changes_nothing() {
    let places = [
        (When::On(Operation::PutNew, "/in/"), Edge::Before),
        (When::On(Operation::PutNew, "/in/"), Edge::After),
        (When::On(Operation::Commit, "/pk/"), Edge::Before),
        (When::On(Operation::Head, "/pk/"), Edge::Before),
        (VERDICT, Edge::Before),
    ];
    for (number, (when, edge)) in places.into_iter().enumerate() {
        let room = Room::new().await;
        let backup = room.ask(&format!("sleeper-{number}")).await.unwrap();
        let (sleeper, gate) = frozen(&room, when, edge).await;
        room.advance_past_leases();
        assert_eq!(room.process().await.worker.run_due().await, 1);
        let taken_over = room.row(&backup).await.unwrap();
        assert_eq!(taken_over.state, BackupState::Completed);
        let job = room.job(&backup.job_id).await;

        gate.release();
        sleeper.await.unwrap();
        assert_eq!(room.row(&backup).await.unwrap(), taken_over, "{when:?}");
        assert_eq!(room.job(&backup.job_id).await, job, "{when:?}");
        room.assert_all_restore().await;
        assert!(room.open_attempts().is_empty(), "{when:?}");
        room.assert_next_backup_works("after").await;
    }
}

/// It had sealed before it slept: its seal is published by the other one, once.
#[tokio::test(flavor = "multi_thread")]
async fn p07_a_worker_that_slept_after_its_seal_finds_its_backup_published() {
    let room = Room::new().await;
    let backup = room.ask("sleeper").await.unwrap();
    let (sleeper, gate) = frozen(&room, VERDICT, Edge::After).await;
    room.advance_past_leases();
    room.process().await.worker.run_due().await;
    let published = room.row(&backup).await.unwrap();
    assert_eq!(published.state, BackupState::Completed);
    assert_eq!(room.engine.calls(), 1);
    gate.release();
    sleeper.await.unwrap();
    assert_eq!(room.row(&backup).await.unwrap(), published);
    room.assert_all_restore().await;
}

/// An engine that hears nothing goes on writing while another worker makes the backup.
#[tokio::test(flavor = "multi_thread")]
async fn p07_an_engine_that_went_on_after_the_take_over_is_refused() {
    let room = Room::new().await;
    let gate = Arc::new(Gate::default());
    room.engine.play([Act::Stand(gate.clone())]);
    let backup = room.ask("deaf").await.unwrap();
    let mut sleeper = room.process().await;
    let sleeping = tokio::spawn(async move { sleeper.worker.run_due().await });
    arrived(&gate).await;
    room.advance_past_leases();
    room.process().await.worker.run_due().await;
    let taken_over = room.row(&backup).await.unwrap();
    gate.release();
    sleeping.await.unwrap();
    assert_eq!(room.row(&backup).await.unwrap(), taken_over);
    room.assert_all_restore().await;
}

/// Between the seal and the row nobody may forget the backup: it would be COMPLETED and gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_between_seal_and_row_cannot_be_forgotten() {
    let room = Room::new().await;
    let backup = room.ask("sealing").await.unwrap();
    let (sleeper, gate) = frozen(&room, VERDICT, Edge::After).await;
    let scope = room.scope().await;
    let refused = room.judge.service.repository_forget(&scope, "sealing").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::BackupState);
    let refused = room.judge.service.backup_delete(&scope, &BackupRef::Id(backup.id.clone())).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InstanceBusy);
    gate.release();
    sleeper.await.unwrap();
    assert_eq!(room.state(&backup).await, Some(BackupState::Completed));
    room.assert_all_restore().await;
    room.judge.service.repository_forget(&scope, "sealing").await.unwrap();
    assert_eq!(room.state(&backup).await, None);
    room.assert_whole().await;
}

/// What was forgotten before its row could be published is not brought back, and the job ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_backup_that_was_forgotten_is_made_anew() {
    let room = Room::new().await;
    let backup = room.ask("forgotten").await.unwrap();
    doomed(&room, VERDICT, Edge::After).await.worker.run_due().await;
    let gone = room.sealed()[0].attempt;
    room.lineage().forget(gone).unwrap();
    room.advance_past_leases();
    room.process().await.worker.run_due().await;
    let row = room.row(&backup).await.unwrap();
    assert_eq!(row.state, BackupState::Completed);
    assert_ne!(row.attempt_id, Some(gone));
    room.assert_all_restore().await;
}
