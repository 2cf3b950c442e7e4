//! Claims, leases, retries, ends.

use serde_json::json;
use strongroom_catalog::JobFilter;
use strongroom_core::ErrorKind;
use strongroom_core::backup::BackupState;
use strongroom_core::job::{Fence, JobKind, JobState, JobStep};
use strongroom_core::progress::ProgressReading;
use strongroom_core::verification::{Drill, Level, Outcome, Verification};

use crate::room::{Room, failure};

pub(crate) async fn a_claim_takes_the_oldest_due_job_of_its_kinds(room: &Room) {
    let audit = room.audit("repository.check");
    let mut later = room.new_job(JobKind::CheckRepository);
    later.run_at = room.in_s(10);
    let old = room.new_job(JobKind::CheckRepository);
    for job in [&later, &old] {
        room.catalog.job_admit(job, &audit).await.unwrap();
    }
    let only_backups = [JobKind::Backup];
    let worker = room.worker();
    let none = room.catalog.job_claim(&worker, &only_backups, room.now(), room.in_s(30)).await.unwrap();
    assert!(none.is_none());

    let claim = room.claim_of(&old.id).await;
    assert!(!claim.taken_over);
    assert_eq!(claim.job.state, JobState::Leased);
    assert_eq!(claim.job.attempts, 1);
    assert_eq!(claim.job.started, Some(room.now()));
    assert_eq!(claim.job.lease_until, Some(room.in_s(30)));
    assert_eq!(claim.job.input, old.input);
    assert!(room.claim().await.is_none(), "the other one is not due");
    room.advance_s(10);
    room.claim_of(&later.id).await;

    let progress = ProgressReading { phase: "reading".to_owned(), done_bytes: 7, ..Default::default() };
    let renewal = room.catalog.job_renew(&claim.fence, room.in_s(60), &progress).await.unwrap();
    assert!(!renewal.cancel_asked);
    assert_eq!(room.job(&old.id).await.progress, progress);
    let ended = json!({ "objects_checked": 3 });
    room.catalog.job_succeed(&claim.fence, &ended, room.now(), &audit).await.unwrap();
    let job = room.job(&old.id).await;
    assert_eq!((job.state, job.result, job.worker_id), (JobState::Succeeded, Some(ended), None));
    assert_eq!(room.catalog.job_find(&room.project, &old.id).await.unwrap().unwrap().id, old.id);
}

/// Everything a worker may do to a job or its backup, tried with a fence that no longer holds.
async fn assert_powerless(room: &Room, fence: &Fence, backup: &strongroom_core::backup::Backup) {
    let catalog = &room.catalog;
    let audit = room.audit("job.late");
    let (now, until, reason) = (room.now(), room.in_s(60), failure("late"));
    let step = JobStep { attempt: 9, name: "late".to_owned(), at: now, output: json!({}) };
    let verification = Verification {
        level: Level::Digest,
        outcome: Outcome::Passed,
        at: now,
        findings: vec![],
        drill: None,
    };
    let outcomes = [
        ("renew", catalog.job_renew(fence, until, &ProgressReading::default()).await.map(|_| ())),
        ("step", catalog.job_step_record(fence, &step).await),
        ("retry", catalog.job_retry(fence, now, &reason, true).await),
        ("release", catalog.job_release(fence, now).await),
        ("fail", catalog.job_fail(fence, &reason, JobState::Failed, now, &audit).await),
        ("cancel", catalog.job_fail(fence, &reason, JobState::Cancelled, now, &audit).await),
        ("succeed", catalog.job_succeed(fence, &json!({}), now, &audit).await),
        ("publish", room.publish(fence, backup).await),
        ("remove", catalog.backup_remove(fence, &backup.id, &audit, now).await),
        (
            "verification",
            catalog.verification_record(fence, &backup.id, &verification, &json!({}), now, &audit).await,
        ),
    ];
    for (what, outcome) in outcomes {
        assert_eq!(outcome.map_err(|error| error.kind()), Err(ErrorKind::Fenced), "{what}");
    }
}

pub(crate) async fn p07_a_fenced_worker_changes_nothing(room: &Room) {
    let instance = room.add_instance("source").await;
    let backup = room.add_backup(&instance, "nightly").await;
    let frozen = room.claim_of(&backup.job_id).await;
    room.advance_s(31);
    let heir = room.claim_of(&backup.job_id).await;

    let before = (room.backup(&backup).await, room.job(&backup.job_id).await);
    let events = room.catalog.audit_verify().await.unwrap();
    assert_powerless(room, &frozen.fence, &backup).await;
    // The right epoch in the wrong hands, and a claim that never was.
    assert_powerless(room, &Fence { worker_id: room.worker(), ..heir.fence.clone() }, &backup).await;
    assert_powerless(room, &Fence { epoch: frozen.fence.epoch, ..heir.fence.clone() }, &backup).await;

    assert_eq!((room.backup(&backup).await, room.job(&backup.job_id).await), before);
    assert_eq!(room.catalog.audit_verify().await.unwrap(), events);
    assert!(room.catalog.job_steps(&backup.job_id).await.unwrap().is_empty());
    room.publish(&heir.fence, &backup).await.unwrap();
    assert_powerless(room, &heir.fence, &backup).await;
}

pub(crate) async fn p03_an_expired_lease_is_taken_over_and_counted(room: &Room) {
    let instance = room.add_instance("source").await;
    let backup = room.add_backup(&instance, "nightly").await;
    let first = room.claim_of(&backup.job_id).await;
    room.advance_s(29);
    assert!(room.claim().await.is_none(), "the lease still holds");
    room.catalog.job_renew(&first.fence, room.in_s(30), &ProgressReading::default()).await.unwrap();
    room.advance_s(29);
    assert!(room.claim().await.is_none(), "the renewed lease still holds");

    room.advance_s(1);
    let second = room.claim_of(&backup.job_id).await;
    assert!(second.taken_over);
    assert_eq!(second.job.attempts, 2);
    assert!(second.fence.epoch > first.fence.epoch);
    assert_eq!(second.job.started, first.job.started);
    assert_eq!(room.catalog.metrics_reading(room.now()).await.unwrap().leases_lost, 1);
}

pub(crate) async fn p03_leases_of_a_process_that_is_gone_end_when_that_is_known(room: &Room) {
    assert_eq!(room.catalog.leases_end(room.now()).await.unwrap(), 0);
    let (one, other) = (room.add_instance("source").await, room.add_instance("other").await);
    let (held, ready) = (room.add_backup(&one, "held").await, room.add_backup(&other, "ready").await);
    let first = room.claim_of(&held.job_id).await;
    let waits = room.claim_of(&ready.job_id).await;
    room.catalog.job_retry(&waits.fence, room.in_s(20), &failure("away"), true).await.unwrap();
    assert_eq!(room.catalog.leases_end(room.now()).await.unwrap(), 1);
    let second = room.claim_of(&held.job_id).await;
    assert!(second.taken_over && second.fence.epoch > first.fence.epoch);
    let late = room.catalog.job_renew(&first.fence, room.in_s(30), &ProgressReading::default()).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Fenced);
    assert!(room.claim().await.is_none(), "a job that pauses was held by nobody");
}

pub(crate) async fn p12_a_released_job_is_ready_and_its_try_not_counted(room: &Room) {
    let instance = room.add_instance("source").await;
    let backup = room.add_backup(&instance, "nightly").await;
    for _ in 0..5 {
        let claim = room.claim_of(&backup.job_id).await;
        assert_eq!((claim.job.attempts, claim.taken_over), (1, false));
        room.catalog.job_release(&claim.fence, room.now()).await.unwrap();
        let job = room.job(&backup.job_id).await;
        assert_eq!((job.state, job.attempts, job.worker_id), (JobState::Ready, 0, None));
    }
    assert_eq!(room.backup(&backup).await.state, BackupState::Building);
    assert_eq!(room.catalog.metrics_reading(room.now()).await.unwrap().leases_lost, 0);
}

pub(crate) async fn a_failed_try_waits_and_its_reason_is_kept(room: &Room) {
    let instance = room.add_instance("source").await;
    let backup = room.add_backup(&instance, "nightly").await;
    let claim = room.claim_of(&backup.job_id).await;
    let reason = failure("source_unreachable");
    room.catalog.job_retry(&claim.fence, room.in_s(4), &reason, true).await.unwrap();
    assert!(room.claim().await.is_none());
    room.advance_s(4);
    let claim = room.claim_of(&backup.job_id).await;
    assert_eq!((claim.job.attempts, claim.job.failure), (2, Some(reason)));

    let uncounted = failure("parent_forgotten");
    room.catalog.job_retry(&claim.fence, room.now(), &uncounted, false).await.unwrap();
    let claim = room.claim_of(&backup.job_id).await;
    assert_eq!((claim.job.attempts, claim.job.failure), (2, Some(uncounted)));
    room.publish(&claim.fence, &backup).await.unwrap();
    assert_eq!(room.job(&backup.job_id).await.failure, None);
}

pub(crate) async fn the_last_failure_fails_the_backup_with_it(room: &Room) {
    let instance = room.add_instance("source").await;
    let backup = room.add_backup(&instance, "nightly").await;
    let claim = room.claim_of(&backup.job_id).await;
    let (reason, audit) = (failure("source_refused"), room.audit("job.fail"));
    let now = room.advance_s(2);
    room.catalog.job_fail(&claim.fence, &reason, JobState::Failed, now, &audit).await.unwrap();

    let failed = room.backup(&backup).await;
    assert_eq!((failed.state, failed.finished), (BackupState::Failed, Some(now)));
    assert_eq!(failed.failure, Some(reason.clone()));
    let job = room.job(&backup.job_id).await;
    assert_eq!((job.state, job.failure), (JobState::Failed, Some(reason)));

    // A FAILED backup holds its name, frees its instance and can be deleted.
    room.add_backup(&instance, "next").await;
    let (same, job) = room.new_backup(&instance, "nightly");
    assert!(room.admit(&same, &job).await.is_err());
    room.ask_delete(&failed).await.unwrap();
}

pub(crate) async fn a_ready_job_is_cancelled_at_once_and_a_leased_one_is_asked(room: &Room) {
    let instance = room.add_instance("source").await;
    let audit = room.audit("job.cancel");
    let ready = room.add_backup(&instance, "ready").await;
    let asked = room.catalog.job_cancel_ask(&room.project, &ready.job_id, &audit, room.now()).await.unwrap();
    assert!(asked.ended);
    assert_eq!(room.backup(&ready).await.state, BackupState::Failed);
    assert_eq!(room.job(&ready.job_id).await.state, JobState::Cancelled);
    assert!(room.claim().await.is_none());
    let again = room.catalog.job_cancel_ask(&room.project, &ready.job_id, &audit, room.now()).await.unwrap();
    assert!(again.ended);

    let leased = room.add_backup(&instance, "leased").await;
    let claim = room.claim_of(&leased.job_id).await;
    let asked = room.catalog.job_cancel_ask(&room.project, &leased.job_id, &audit, room.now()).await.unwrap();
    assert!(!asked.ended);
    assert_eq!(room.backup(&leased).await.state, BackupState::Building);
    let renewal = room.catalog.job_renew(&claim.fence, room.in_s(30), &ProgressReading::default()).await;
    assert!(renewal.unwrap().cancel_asked);

    // The wish outlives the worker.
    room.advance_s(31);
    let heir = room.claim_of(&leased.job_id).await;
    assert!(heir.job.cancel_asked);
    let reason = failure("cancelled");
    let end = room.catalog.job_fail(&heir.fence, &reason, JobState::Cancelled, room.now(), &audit);
    end.await.unwrap();
    assert_eq!(room.backup(&leased).await.state, BackupState::Failed);

    let unknown = strongroom_core::id::JobId::from_stored("unknown");
    let refused = room.catalog.job_cancel_ask(&room.project, &unknown, &audit, room.now()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::JobNotFound);
    let cancelled = JobFilter { state: Some(JobState::Cancelled), kind: Some(JobKind::Backup) };
    assert_eq!(room.catalog.job_list(&room.project, &cancelled, 10).await.unwrap().len(), 2);
}

pub(crate) async fn a_backup_that_was_tried_is_cancelled_by_a_worker(room: &Room) {
    let instance = room.add_instance("source").await;
    let audit = room.audit("job.cancel");
    let backup = room.add_backup(&instance, "tried").await;
    let first = room.claim_of(&backup.job_id).await;
    let reason = failure("unavailable");
    room.catalog.job_retry(&first.fence, room.in_s(600), &reason, true).await.unwrap();

    let asked = room.catalog.job_cancel_ask(&room.project, &backup.job_id, &audit, room.now()).await.unwrap();
    assert!(!asked.ended, "its first try may have sealed it");
    assert_eq!(room.backup(&backup).await.state, BackupState::Building);
    let heir = room.claim_of(&backup.job_id).await;
    assert!(heir.job.cancel_asked, "due at once, and marked");
    room.publish(&heir.fence, &backup).await.unwrap();
    assert_eq!(room.backup(&backup).await.state, BackupState::Completed);
}

pub(crate) async fn steps_are_recorded_under_the_fence_and_once_a_claim(room: &Room) {
    let instance = room.add_instance("source").await;
    let backup = room.add_backup(&instance, "nightly").await;
    let step = |attempt, name: &str, output: u32| JobStep {
        attempt,
        name: name.to_owned(),
        at: room.now(),
        output: json!({ "value": output }),
    };
    let claim = room.claim_of(&backup.job_id).await;
    for step in [step(1, "plan", 1), step(1, "open", 2), step(1, "plan", 3)] {
        room.catalog.job_step_record(&claim.fence, &step).await.unwrap();
    }
    room.catalog.job_release(&claim.fence, room.now()).await.unwrap();
    // The try was not counted, so the next one has its number; its steps stand beside the old ones.
    let claim = room.claim_of(&backup.job_id).await;
    room.catalog.job_step_record(&claim.fence, &step(1, "plan", 4)).await.unwrap();
    let steps = room.catalog.job_steps(&backup.job_id).await.unwrap();
    assert_eq!(steps, vec![step(1, "plan", 3), step(1, "open", 2), step(1, "plan", 4)]);
}

pub(crate) async fn a_verification_stands_beside_its_backup(room: &Room) {
    let instance = room.add_instance("source").await;
    let backup = room.add_completed(&instance, "nightly").await;
    assert_eq!(backup.verification, None);
    let audit = room.audit("backup.verify");
    let drill = Drill { restore_ms: 31_000, start_ms: 7_000, rows: 5, ..Drill::default() };
    for (level, outcome, drill) in [
        (Level::Decode, Outcome::Passed, None),
        (Level::Engine, Outcome::Failed, Some(drill)),
        (Level::Presence, Outcome::Failed, None),
    ] {
        let now = room.advance_s(10);
        let job = room.new_job_on(JobKind::Verify, &backup);
        room.catalog.job_admit(&job, &audit).await.unwrap();
        let claim = room.claim_of(&job.id).await;
        let findings = vec!["One finding.".to_owned()];
        let found = Verification { level, outcome, at: now, findings, drill };
        let result = serde_json::to_value(&found).unwrap();
        let record = room.catalog.verification_record(&claim.fence, &backup.id, &found, &result, now, &audit);
        record.await.unwrap();
        let after = room.backup(&backup).await;
        assert_eq!((after.state, after.verification), (BackupState::Completed, Some(found)));
        assert_eq!(room.job(&job.id).await.result, Some(result));
    }
    let reading = room.catalog.metrics_reading(room.now()).await.unwrap();
    assert_eq!(reading.instances[0].last_verified, Some(room.in_s(-20)), "the one that passed");
    assert_eq!(reading.instances[0].restore_measured_ms, Some(38_000), "the one that was measured");

    // A backup that goes meanwhile does not keep the job from ending.
    let job = room.new_job_on(JobKind::Verify, &backup);
    room.catalog.job_admit(&job, &audit).await.unwrap();
    let claim = room.claim_of(&job.id).await;
    room.catalog.backup_forget_row(Some(&room.project), &backup.id, &audit, room.now()).await.unwrap();
    let result = json!({});
    let found = Verification {
        level: Level::Digest,
        outcome: Outcome::NotRun,
        at: room.now(),
        findings: vec![],
        drill: None,
    };
    let record =
        room.catalog.verification_record(&claim.fence, &backup.id, &found, &result, room.now(), &audit);
    record.await.unwrap();
    assert_eq!(room.job(&job.id).await.state, JobState::Succeeded);
    let late = room.new_job_on(JobKind::Verify, &backup);
    let refused = room.catalog.job_admit(&late, &audit).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::BackupNotFound);
}
