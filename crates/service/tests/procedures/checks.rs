//! Verifications and checks of the whole repository, failed and killed around.

use strongroom_core::backup::{Backup, BackupState};
use strongroom_core::id::JobId;
use strongroom_core::job::JobState;
use strongroom_core::verification::{Level, Outcome};
use strongroom_core::{ErrorKind, limits};
use strongroom_repository::Store;
use strongroom_service::BackupRef;

use crate::kills::arrived;
use crate::room::{Room, until};
use strongroom_testkit::store::{Edge, Fault, Operation, What, When};

pub(crate) const LEVELS: [Level; 3] = [Level::Presence, Level::Digest, Level::Decode];

pub(crate) async fn ask_verify(room: &Room, backup: &Backup, level: Level) -> JobId {
    // Of two verifications at the same moment neither would be the newest.
    room.advance_ms(1);
    let wanted = BackupRef::Id(backup.id.clone());
    room.judge.service.backup_verify(&room.scope().await, &wanted, level).await.unwrap()
}

async fn ask_check(room: &Room, level: Level) -> JobId {
    room.judge.service.repository_check(&room.scope().await, level).await.unwrap()
}

/// What a verification says now.
pub(crate) async fn verified(room: &Room, backup: &Backup, level: Level) -> (Outcome, Vec<String>) {
    let job = ask_verify(room, backup, level).await;
    room.process().await.worker.run_due().await;
    assert_eq!(room.job(&job).await.state, JobState::Succeeded);
    let verification = room.row(backup).await.unwrap().verification.unwrap();
    assert_eq!(verification.level, level);
    (verification.outcome, verification.findings)
}

/// Findings of a check of the repository: object, problem, names of backups.
pub(crate) async fn checked(room: &Room, level: Level) -> Vec<(String, String, Vec<String>)> {
    let job = ask_check(room, level).await;
    room.process().await.worker.run_due().await;
    let job = room.job(&job).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.failure);
    let findings = job.result.unwrap()["findings"].clone();
    let texts = |value: &serde_json::Value| serde_json::from_value(value.clone()).unwrap();
    findings
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| {
            let text = |name: &str| finding[name].as_str().unwrap().to_owned();
            (text("object"), text("problem"), texts(&finding["backups"]))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn p03_killed_around_every_store_call_a_verification_is_taken_over() {
    let room = Room::new().await;
    room.completed("base").await;
    room.engine.touch(1);
    let backup = room.completed("checked").await;
    let mut heir = room.process().await;
    for level in LEVELS {
        for is_verify in [true, false] {
            for call in 1.. {
                room.advance_ms(1);
                let job = if is_verify {
                    ask_verify(&room, &backup, level).await
                } else {
                    ask_check(&room, level).await
                };
                let mut doomed = room.process().await;
                doomed.store.arm(Fault { when: When::Call(call), what: What::Die, edge: Edge::Before });
                doomed.worker.run_due().await;
                room.advance_past_leases();
                heir.worker.run_due().await;
                let job = room.job(&job).await;
                assert_eq!(job.state, JobState::Succeeded, "{level:?} {call}");
                if !is_verify {
                    assert_eq!(job.result.unwrap()["result"], "passed");
                }
                // What dead readers leave is the sweep's; here it would be checked again and again.
                for left in room.keys("/in/r-") {
                    room.objects.delete(&left).unwrap();
                }
                if !doomed.store.has_struck() {
                    assert!(call > 10, "a check makes more calls than {call}");
                    break;
                }
            }
            room.assert_whole().await;
        }
        let verification = room.row(&backup).await.unwrap().verification.unwrap();
        assert_eq!((verification.level, verification.outcome), (level, Outcome::Passed));
    }
    room.assert_all_restore().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_is_no_damage() {
    let room = Room::new().await;
    let backup = room.completed("checked").await;
    for call in [1, 2, 5, 9] {
        let job = ask_verify(&room, &backup, Level::Decode).await;
        let mut process = room.process().await;
        process.store.arm(Fault { when: When::Call(call), what: What::Fail, edge: Edge::Before });
        process.worker.run_due().await;
        assert!(room.row(&backup).await.unwrap().verification.is_none_or(|v| v.outcome == Outcome::Passed));
        room.advance_past_leases();
        process.worker.run_due().await;
        assert_eq!(room.job(&job).await.state, JobState::Succeeded);
        assert_eq!(room.row(&backup).await.unwrap().verification.unwrap().outcome, Outcome::Passed);
    }
}

/// A check that kills its worker each time must not do so for ever.
#[tokio::test(flavor = "multi_thread")]
async fn t05_a_check_that_kills_its_workers_is_given_up() {
    let room = Room::new().await;
    let backup = room.completed("checked").await;
    let jobs = [ask_verify(&room, &backup, Level::Decode).await, ask_check(&room, Level::Decode).await];
    // A process that dies may have claimed only one of the two jobs.
    for _ in 0..limits::JOB_ATTEMPTS_MAX * 2 {
        let mut doomed = room.process().await;
        doomed.store.arm(Fault { when: When::Call(3), what: What::Die, edge: Edge::Before });
        doomed.worker.run_due().await;
        room.advance_past_leases();
    }
    room.process().await.worker.run_due().await;
    for job in jobs {
        let job = room.job(&job).await;
        assert_eq!(job.state, JobState::Failed);
        assert!(job.failure.unwrap().message.contains("each time its worker ended"));
    }
    assert_eq!(room.state(&backup).await, Some(BackupState::Completed));
    room.assert_all_restore().await;
}

/// A backup that is deleted while it is looked at is not accused of damage.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_backup_is_not_accused() {
    let room = Room::new().await;
    room.completed("other").await;
    for (number, when) in [
        When::On(Operation::List, "/at/"),
        When::On(Operation::List, "/tb/"),
        When::On(Operation::Get, "/at/"),
    ]
    .into_iter()
    .enumerate()
    {
        room.engine.touch(number as u8);
        let backup = room.completed(&format!("gone-{number}")).await;
        let verify = ask_verify(&room, &backup, Level::Digest).await;
        let check = ask_check(&room, Level::Digest).await;
        let mut checker = room.process().await;
        checker.store.arm(Fault { when, what: What::Freeze, edge: Edge::Before });
        let gate = checker.store.gate();
        let running = tokio::spawn(async move { checker.worker.run_due().await });
        arrived(&gate).await;
        room.delete(&backup).await;
        // The checker's own worker has room for the delete as well, once one of its jobs has ended.
        room.process().await.worker.run_due().await;
        until("the backup is gone", async || room.row(&backup).await.is_none()).await;
        gate.release();
        running.await.unwrap();
        for _ in 0..limits::JOB_ATTEMPTS_MAX {
            room.advance_past_leases();
            room.process().await.worker.run_due().await;
        }
        let verify = room.job(&verify).await;
        assert!(
            verify.state == JobState::Failed
                || verify.result.as_ref().is_some_and(|result| result["result"] == "passed"),
            "{verify:?}"
        );
        let check = room.job(&check).await;
        assert_eq!(check.result.unwrap()["findings"], serde_json::json!([]), "{when:?}");
    }
    room.assert_all_restore().await;
}

/// As before, at each look at the backup's manifest in turn, the comparison with its row included.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_deleted_under_the_check_is_not_accused() {
    let room = Room::new().await;
    room.completed("other").await;
    for look in 1.. {
        room.engine.touch(look as u8);
        let backup = room.completed(&format!("gone-{look}")).await;
        let manifest: &'static str = Box::leak(format!("/at/{}", backup.attempt_id.unwrap()).into());
        let check = ask_check(&room, Level::Presence).await;
        let mut checker = room.process().await;
        let when = When::Nth(look, Operation::Get, manifest);
        checker.store.arm(Fault { when, what: What::Freeze, edge: Edge::Before });
        let gate = checker.store.gate();
        let running = tokio::spawn(async move { checker.worker.run_due().await });
        until("the check stands or ends", async || gate.has_arrived() || running.is_finished()).await;
        let is_over = running.is_finished();
        room.delete(&backup).await;
        room.process().await.worker.run_due().await;
        until("the backup is gone", async || room.row(&backup).await.is_none()).await;
        gate.release();
        running.await.unwrap();
        assert_eq!(room.job(&check).await.result.unwrap()["findings"], serde_json::json!([]), "{look}");
        if is_over {
            assert!(look > 2, "the check and the comparison look at it");
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_compared_with_their_manifests() {
    let room = Room::new().await;
    let (lost, hidden) = (room.completed("lost").await, {
        room.engine.touch(9);
        room.completed("hidden").await
    });
    assert!(checked(&room, Level::Presence).await.is_empty());
    room.lineage().forget(hidden.attempt_id.unwrap()).unwrap();
    let verdict = room.keys(&format!("/at/{}", lost.attempt_id.unwrap())).remove(0);
    room.objects.delete(&verdict).unwrap();
    let findings = checked(&room, Level::Presence).await;
    for backup in [&lost, &hidden] {
        let name = backup.name.as_str().to_owned();
        assert!(findings.iter().any(|(_, _, backups)| backups.contains(&name)), "{name}: {findings:?}");
        assert!(matches!(
            room.read(backup).await.unwrap_err().kind(),
            ErrorKind::BackupNotFound | ErrorKind::Damage
        ));
    }
}
