//! The steps of a backup, failed at each: by the engine, by the store, by a lost answer.

use strongroom_core::backup::BackupState;
use strongroom_core::job::JobState;
use strongroom_core::{Error, ErrorKind, limits};

use crate::engine::Act;
use crate::room::Room;
use strongroom_testkit::store::{Edge, Fault, What, When};

fn unreachable() -> Error {
    Error::new(ErrorKind::SourceUnreachable, "The source is away; nothing of this try is used.")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_goes_from_wish_to_completed_and_restores() {
    let room = Room::new().await;
    let first = room.ask("first").await.unwrap();
    assert_eq!(room.state(&first).await, Some(BackupState::Building));
    let refused = room.ask("too-early").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::BackupInProgress);

    assert_eq!(room.process().await.worker.run_due().await, 1);
    let row = room.row(&first).await.unwrap();
    assert_eq!(row.state, BackupState::Completed);
    assert_eq!(row.warnings, ["A thing to know."]);
    assert!(row.source_bytes.unwrap().bytes() > 500_000 && row.stored_bytes.unwrap().bytes() > 0);
    let steps = room.judge.catalog.job_steps(&first.job_id).await.unwrap();
    let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["plan", "open", "stream", "prove", "seal"]);
    assert_eq!(room.job(&first.job_id).await.state, JobState::Succeeded);
    assert!(room.open_attempts().is_empty() && room.keys("/in/").is_empty());

    // The second one compares with the first.
    room.engine.touch(1);
    let second = room.completed("second").await;
    assert!(second.stored_bytes.unwrap() < row.stored_bytes.unwrap());
    assert_eq!(room.sealed()[1].parent, row.attempt_id);
    room.assert_all_restore().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p03_a_failure_that_passes_is_tried_again_after_a_pause() {
    let room = Room::new().await;
    for members in 0..3 {
        room.engine.play([Act::FailAfter(members, unreachable())]);
        let backup = room.ask(&format!("pass-{members}")).await.unwrap();
        let mut process = room.process().await;
        assert_eq!(process.worker.run_due().await, 1);
        let job = room.job(&backup.job_id).await;
        assert_eq!((job.state, job.attempts), (JobState::Ready, 1));
        assert_eq!(job.failure.unwrap().code, "source_unreachable");
        assert_eq!(room.state(&backup).await, Some(BackupState::Building));
        assert!(room.open_attempts().is_empty(), "the failed try cannot be committed any more");
        room.assert_whole().await;

        room.advance_ms(limits::JOB_BACKOFF_BASE_MS - 1);
        assert_eq!(process.worker.run_due().await, 0, "the pause is kept");
        room.advance_ms(1);
        assert_eq!(process.worker.run_due().await, 1);
        assert_eq!(room.state(&backup).await, Some(BackupState::Completed));
    }
    room.assert_all_restore().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t05_what_fails_three_times_is_failed_with_its_reason() {
    let room = Room::new().await;
    room.engine.play((0..3).map(|members| Act::FailAfter(members, unreachable())));
    let backup = room.ask("never").await.unwrap();
    let mut process = room.process().await;
    for attempt in 1..=limits::JOB_ATTEMPTS_MAX {
        assert_eq!(process.worker.run_due().await, 1, "{attempt}");
        room.advance_past_leases();
    }
    let row = room.row(&backup).await.unwrap();
    assert_eq!(row.state, BackupState::Failed);
    let failure = row.failure.unwrap();
    assert_eq!(failure.code, "source_unreachable");
    assert!(failure.message.contains("The source is away"), "{}", failure.message);
    assert_eq!(room.job(&backup.job_id).await.state, JobState::Failed);
    assert_eq!(process.worker.run_due().await, 0);
    assert_eq!(room.engine.calls(), 3);
    room.assert_whole().await;
    room.assert_next_backup_works("after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b11_what_stays_wrong_is_failed_at_once() {
    let room = Room::new().await;
    for (number, kind) in
        [ErrorKind::SourceRefused, ErrorKind::SourceHostile, ErrorKind::Damage].into_iter().enumerate()
    {
        room.engine.play([Act::FailAfter(2, Error::new(kind, "It is so."))]);
        let backup = room.ask(&format!("wrong-{number}")).await.unwrap();
        room.process().await.worker.run_due().await;
        assert_eq!(room.state(&backup).await, Some(BackupState::Failed));
        assert_eq!(room.engine.calls(), number + 1);
        assert!(room.open_attempts().is_empty());
    }
    room.assert_next_backup_works("after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p11_a_panic_ends_this_try_only_and_its_words_stay_inside() {
    let room = Room::new().await;
    let other = room.completed("before").await;
    room.engine.play([Act::PanicAfter(0), Act::PanicAfter(3), Act::PanicAfter(1)]);
    let backup = room.ask("panics").await.unwrap();
    let mut process = room.process().await;
    let delete = room.delete(&other).await;
    assert_eq!(process.worker.run_due().await, 2);
    assert_eq!(room.job(&delete).await.state, JobState::Succeeded, "the process lives and works");
    for _ in 0..2 {
        room.advance_past_leases();
        process.worker.run_due().await;
    }
    let failure = room.row(&backup).await.unwrap().failure.unwrap();
    assert_eq!(failure.code, "internal");
    assert!(!failure.message.contains("canary"), "{}", failure.message);
    room.assert_whole().await;

    room.engine.play([Act::PanicAfter(2)]);
    let mended = room.ask("mended").await.unwrap();
    process.worker.run_due().await;
    room.advance_past_leases();
    process.worker.run_due().await;
    assert_eq!(room.state(&mended).await, Some(BackupState::Completed));
    room.assert_all_restore().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h03_an_engine_that_leaves_a_member_open_completes_nothing() {
    let room = Room::new().await;
    room.engine.play([Act::LeaveOpen, Act::LeaveOpen, Act::LeaveOpen]);
    let backup = room.ask("open-end").await.unwrap();
    let mut process = room.process().await;
    for _ in 0..3 {
        process.worker.run_due().await;
        assert_ne!(room.state(&backup).await, Some(BackupState::Completed));
        room.advance_past_leases();
    }
    assert_eq!(room.state(&backup).await, Some(BackupState::Failed));
    room.assert_next_backup_works("after").await;
}

/// The store fails once, at each call of the way in turn: with no effect, and with its effect but
/// without an answer.
#[tokio::test(flavor = "multi_thread")]
async fn p03_s04_any_store_call_may_fail_or_lose_its_answer() {
    for edge in [Edge::Before, Edge::After] {
        let room = Room::new().await;
        room.completed("base").await;
        let mut process = room.process().await;
        let mut tries = 0;
        for call in 1.. {
            room.engine.touch(call as u8);
            let backup = room.ask(&format!("call-{call}")).await.unwrap();
            process.store.arm(Fault { when: When::Call(call), what: What::Fail, edge });
            for _ in 0..=limits::JOB_ATTEMPTS_MAX {
                tries += process.worker.run_due().await;
                room.advance_past_leases();
            }
            assert_eq!(room.state(&backup).await, Some(BackupState::Completed), "{edge:?} {call}");
            room.assert_restores(&backup).await;
            room.assert_whole().await;
            if !process.store.has_struck() {
                assert!(call > 30, "a backup makes more calls than {call}");
                assert!(tries > call, "some calls failed a try");
                break;
            }
        }
        room.assert_all_restore().await;
    }
}
