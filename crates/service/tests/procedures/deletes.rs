//! Deleting: the tombstone first, then the row, and the rest of the repository unharmed.

use strongroom_core::backup::BackupState;
use strongroom_core::job::JobState;
use strongroom_core::{Error, ErrorKind};
use strongroom_repository::Store;
use strongroom_service::BackupRef;

use crate::engine::Act;
use crate::room::Room;
use strongroom_testkit::store::{Edge, Fault, Operation, What, When};

#[tokio::test(flavor = "multi_thread")]
async fn p05_killed_around_every_store_call_a_delete_is_finished() {
    for edge in [Edge::Before, Edge::After] {
        let room = Room::new().await;
        room.completed("kept").await;
        for call in 1.. {
            room.engine.touch(call as u8);
            let backup = room.completed(&format!("gone-{call}")).await;
            let job = room.delete(&backup).await;
            let mut doomed = room.process().await;
            doomed.store.arm(Fault { when: When::Call(call), what: What::Die, edge });
            doomed.worker.run_due().await;
            let is_dead = doomed.store.has_struck();
            if let Some(state) = room.state(&backup).await {
                assert!(is_dead);
                assert_eq!(state, BackupState::Deleting, "never COMPLETED again");
                room.assert_whole().await;
                room.advance_past_leases();
                assert_eq!(room.process().await.worker.run_due().await, 1);
            }
            assert_eq!(room.state(&backup).await, None, "{edge:?} {call}");
            assert_eq!(room.job(&job).await.state, JobState::Succeeded);
            let again = room.judge.service.backup_find(&room.scope().await, &BackupRef::Id(backup.id)).await;
            assert_eq!(again.unwrap_err().kind(), ErrorKind::BackupNotFound);
            room.assert_all_restore().await;
            if !is_dead {
                assert!(call > 4, "a delete makes more calls than {call}");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p05_a_delete_outlives_a_store_that_is_away() {
    let room = Room::new().await;
    let backup = room.completed("stubborn").await;
    let job = room.delete(&backup).await;
    let mut process = room.process().await;
    for _ in 0..6 {
        process.store.arm(Fault { when: When::Call(1), what: What::Fail, edge: Edge::Before });
        assert_eq!(process.worker.run_due().await, 1);
        assert_eq!(room.state(&backup).await, Some(BackupState::Deleting));
        assert_eq!(room.job(&job).await.state, JobState::Ready);
        room.assert_whole().await;
        room.advance_past_leases();
    }
    process.worker.run_due().await;
    assert_eq!(room.state(&backup).await, None);
    room.assert_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_backup_goes_without_a_trace_in_the_repository() {
    let room = Room::new().await;
    let refused = Error::new(ErrorKind::SourceRefused, "A right is missing.");
    room.engine.play([Act::FailAfter(3, refused)]);
    let backup = room.ask("failed").await.unwrap();
    let mut process = room.process().await;
    process.worker.run_due().await;
    room.delete(&backup).await;
    process.worker.run_due().await;
    assert_eq!(room.state(&backup).await, None);
    assert!(room.keys("/tb/").is_empty() && room.sealed().is_empty());
    // Its name is free again.
    room.completed("failed").await;
    room.assert_all_restore().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r05_a_held_backup_stays_until_the_hold_is_lifted() {
    let room = Room::new().await;
    let backup = room.completed("held").await;
    let attempt = backup.attempt_id.unwrap();
    let verdict = &room.keys(&format!("/at/{attempt}"))[0];
    let hold = verdict.replace("/at/", "/hold/") + ".1";
    room.objects.put_new(&hold, b"a hold").unwrap();
    let job = room.delete(&backup).await;
    let mut process = room.process().await;
    process.worker.run_due().await;
    assert_eq!(room.state(&backup).await, Some(BackupState::Deleting));
    assert_eq!(room.job(&job).await.failure.unwrap().code, "backup_held");
    assert!(room.keys("/tb/").is_empty(), "nothing was forgotten");
    room.objects.delete(&hold).unwrap();
    room.advance_past_leases();
    process.worker.run_due().await;
    assert_eq!(room.state(&backup).await, None);
    room.assert_whole().await;
}

/// The newest backup may be deleted while the next one compares with it.
#[tokio::test(flavor = "multi_thread")]
async fn the_parent_of_a_running_backup_may_be_deleted() {
    let room = Room::new().await;
    for (number, (when, edge)) in [
        (When::On(Operation::PutNew, "/in/"), Edge::Before),
        (When::On(Operation::PutNew, "/in/"), Edge::After),
        (When::On(Operation::Commit, "/pk/"), Edge::Before),
        (When::On(Operation::PutNew, "/at/"), Edge::Before),
    ]
    .into_iter()
    .enumerate()
    {
        room.engine.touch(number as u8);
        let parent = room.completed(&format!("parent-{number}")).await;
        room.engine.touch(100 + number as u8);
        let child = room.ask(&format!("child-{number}")).await.unwrap();
        let mut writer = room.process().await;
        writer.store.arm(Fault { when, what: What::Freeze, edge });
        let gate = writer.store.gate();
        let running = tokio::spawn(async move { writer.worker.run_due().await });
        crate::kills::arrived(&gate).await;
        room.delete(&parent).await;
        assert_eq!(room.process().await.worker.run_due().await, 1);
        assert_eq!(room.state(&parent).await, None);
        gate.release();
        running.await.unwrap();
        assert_eq!(room.state(&child).await, Some(BackupState::Completed), "{when:?}");
        room.assert_all_restore().await;
    }
}
