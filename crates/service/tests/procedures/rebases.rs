//! Storing backups anew as a part of a sweep: asked for, cancelled, without room, and beside deletes,
//! verifications and readers of the same backups.

use strongroom_core::backup::Backup;
use strongroom_core::engine::CancelToken;
use strongroom_core::id::JobId;
use strongroom_core::job::JobState;
use strongroom_core::verification::{Level, Outcome};
use strongroom_core::{ErrorKind, limits};
use strongroom_service::{BackupRef, Settings, SweepWish};
use strongroom_testkit::store::{Edge, Fault, Operation, What, When};

use crate::checks::{ask_verify, checked};
use crate::kills::arrived;
use crate::room::{Room, settings, until};
use crate::sweeps::{TIGHTEST, ask, swept, work};

const ANEW: SweepWish = SweepWish { rebase: true, ..TIGHTEST };

/// A history of which every second backup is left, standing on those that were deleted.
async fn history(room: &Room, count: u8) -> Vec<Backup> {
    let mut left = Vec::new();
    for number in 0..count {
        room.engine.touch(number.wrapping_mul(37) + 1);
        let backup = room.completed(&format!("nightly-{number}")).await;
        if number % 2 == 1 {
            left.push(backup);
        } else if number > 0 {
            room.delete(&backup).await;
        }
    }
    let first = room.rows().await.into_iter().find(|row| row.name.as_str() == "nightly-0").unwrap();
    room.delete(&first).await;
    work(room).await;
    left
}

fn bases(room: &Room) -> u64 {
    room.lineage().base_cost(&CancelToken::new()).unwrap().records
}

#[tokio::test(flavor = "multi_thread")]
async fn r04_what_stands_on_deleted_backups_is_stored_anew_when_somebody_asks() {
    let room = Room::new().await;
    let left = history(&room, 8).await;
    let plain = ask(&room, TIGHTEST).await;
    work(&room).await;
    assert_eq!(swept(&room, &plain).await["rebase"], serde_json::Value::Null, "nobody asked for it");
    assert!(bases(&room) > 0);
    let link = room.scope().await;
    let facts = room.judge.service.restore_facts(&link, &BackupRef::Id(left[1].id.clone())).await.unwrap();
    let look = ask(&room, SweepWish { is_dry_run: true, ..TIGHTEST }).await;
    work(&room).await;
    assert!(swept(&room, &look).await["bases"]["bytes"].as_u64().unwrap() > 0);
    let job = ask(&room, ANEW).await;
    work(&room).await;
    let done = swept(&room, &job).await;
    let rebase = &done["rebase"];
    assert_eq!(
        (&rebase["backups"], &rebase["stored_anew"], &rebase["left"]),
        (&4.into(), &4.into(), &0.into())
    );
    assert!(done["bytes_freed"].as_u64().unwrap() > 0 && rebase["bytes"].as_u64().unwrap() > 0, "{done}");
    assert_eq!(bases(&room), 0);
    room.assert_all_restore().await;
    for backup in &left {
        let now = room.row(backup).await.unwrap();
        assert_ne!((now.attempt_id, &now.manifest_digest), (backup.attempt_id, &backup.manifest_digest));
        let (attempt_id, manifest_digest) = (now.attempt_id, now.manifest_digest.clone());
        assert_eq!(now, Backup { attempt_id, manifest_digest, ..backup.clone() }, "all else is as it was");
    }
    // A restore that was begun goes on with what was stored anew.
    let now = room.judge.service.restore_facts(&link, &BackupRef::Id(left[1].id.clone())).await.unwrap();
    assert_eq!((now.manifest_digest, now.members), (facts.manifest_digest, facts.members));
    assert!(checked(&room, Level::Decode).await.is_empty());
    assert_eq!(verified(&room, &left[1]).await, Outcome::Passed);
    // Another one has nothing to do.
    let again = ask(&room, ANEW).await;
    work(&room).await;
    assert_eq!(swept(&room, &again).await["rebase"]["stored_anew"], 0);
    room.assert_next_backup_works("next").await;
}

async fn verified(room: &Room, backup: &Backup) -> Outcome {
    ask_verify(room, backup, Level::Decode).await;
    work(room).await;
    room.row(backup).await.unwrap().verification.unwrap().outcome
}

/// A worker that stands still in the middle of storing anew, while something else happens.
async fn meanwhile(room: &Room, when: When, edge: Edge, act: impl AsyncFnOnce()) -> JobId {
    let job = ask(room, ANEW).await;
    let mut process = room.process().await;
    process.store.arm(Fault { when, what: What::Freeze, edge });
    let gate = process.store.gate();
    let running = tokio::spawn(async move { process.worker.run_due().await });
    arrived(&gate).await;
    act().await;
    gate.release();
    running.await.unwrap();
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn r04_p05_a_backup_that_is_deleted_while_it_is_stored_anew_stays_deleted() {
    for (when, edge) in [
        (When::On(Operation::BeginPut, "/pk/"), Edge::Before),
        (When::On(Operation::PutNew, "/at/"), Edge::Before),
        (When::On(Operation::PutNew, "/at/"), Edge::After),
    ] {
        for is_row_gone in [false, true] {
            let room = Room::new().await;
            let left = history(&room, 4).await;
            let job = meanwhile(&room, when, edge, async || {
                room.delete(&left[0]).await;
                if is_row_gone {
                    work(&room).await;
                    // Whoever took it up: the one that stands still may have, too.
                    until("the delete is done", async || room.state(&left[0]).await.is_none()).await;
                }
            })
            .await;
            work(&room).await;
            assert_eq!(room.state(&left[0]).await, None, "{edge:?} {is_row_gone}");
            swept(&room, &job).await;
            room.assert_all_restore().await;
            assert_eq!(room.sealed().len(), 1, "no attempt of it came back");
            assert!(checked(&room, Level::Decode).await.is_empty());
        }
    }
}

/// Its attempt goes while it is looked at: no damage, it is looked at where it is now.
#[tokio::test(flavor = "multi_thread")]
async fn r04_verifications_and_readers_follow_a_backup_that_is_stored_anew() {
    let room = Room::new().await;
    let left = history(&room, 4).await;
    // With one place, so that it does not take up the sweep as well while it stands still.
    let mut process = room.process_with(Settings { others_at_once: 1, ..settings() }).await;
    ask_verify(&room, &left[1], Level::Decode).await;
    // The job has read its row, and no object of its backup.
    let when = When::On(Operation::List, "/tb/");
    process.store.arm(Fault { when, what: What::Freeze, edge: Edge::Before });
    let gate = process.store.gate();
    let running = tokio::spawn(async move { process.worker.run_due().await });
    arrived(&gate).await;
    let job = ask(&room, ANEW).await;
    work(&room).await;
    assert!(swept(&room, &job).await["rebase"]["stored_anew"].as_u64().unwrap() > 0);
    gate.release();
    running.await.unwrap();
    let verification = room.row(&left[1]).await.unwrap().verification.unwrap();
    assert_eq!(verification.outcome, Outcome::Passed, "{:?}", verification.findings);
}

/// No room for what stands beside the old one: the sweep does the rest, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn d01_r04_a_rebase_without_room_changes_nothing_and_says_so() {
    let room = Room::new().await;
    let left = history(&room, 4).await;
    let job = ask(&room, ANEW).await;
    let mut process = room.process().await;
    for _ in 1..=limits::JOB_ATTEMPTS_MAX {
        let full = What::FailAs(ErrorKind::DiskFull);
        let when = When::On(Operation::BeginPut, "/pk/");
        process.store.arm(Fault { when, what: full, edge: Edge::Before });
        process.worker.run_due().await;
        assert!(process.store.has_struck());
        room.assert_all_restore().await;
        room.advance_past_leases();
    }
    let told = room.job(&job).await;
    assert_eq!(told.state, JobState::Failed);
    let failure = told.failure.unwrap();
    assert_eq!(failure.code, "disk_full");
    assert!(failure.message.contains("nothing is lost"), "{}", failure.message);
    assert_eq!(room.row(&left[0]).await.unwrap().attempt_id, left[0].attempt_id);
    assert!(room.open_attempts().is_empty(), "every try was settled");
    let next = ask(&room, ANEW).await;
    work(&room).await;
    assert_eq!(swept(&room, &next).await["rebase"]["stored_anew"], 2);
    assert_eq!(bases(&room), 0);
    room.assert_all_restore().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r04_a_cancelled_rebase_leaves_every_backup_as_one() {
    for edge in [Edge::Before, Edge::After] {
        let room = Room::new().await;
        let left = history(&room, 6).await;
        let job = ask(&room, ANEW).await;
        let mut process = room.process().await;
        let (service, scope) = (process.service.clone(), room.scope().await);
        let when = When::Nth(2, Operation::PutNew, "/at/");
        process.store.arm(Fault { when, what: What::Freeze, edge });
        let gate = process.store.gate();
        let running = tokio::spawn(async move { process.worker.run_due().await });
        arrived(&gate).await;
        service.job_cancel(&scope, &job).await.unwrap();
        gate.release();
        running.await.unwrap();
        assert_eq!(room.job(&job).await.state, JobState::Cancelled);
        assert_eq!(room.sealed().len(), left.len(), "one attempt each");
        assert!(room.open_attempts().is_empty());
        room.assert_all_restore().await;
        let next = ask(&room, ANEW).await;
        work(&room).await;
        swept(&room, &next).await;
        assert_eq!(bases(&room), 0);
        room.assert_all_restore().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_stores_nothing_anew() {
    let room = Room::new().await;
    let wish = SweepWish { is_dry_run: true, ..ANEW };
    let refused = room.judge.service.repository_sweep(&room.scope().await, wish).await.unwrap_err();
    assert!(refused.public().contains("rebase"), "{refused}");
}
