//! How backups go.

use strongroom_catalog::Deletable;
use strongroom_core::ErrorKind;
use strongroom_core::backup::{BackupState, BackupType};
use strongroom_core::job::{JobKind, JobState};

use crate::room::{Room, failure};

pub(crate) async fn a_delete_hides_nothing_until_the_row_is_gone(room: &Room) {
    let instance = room.add_instance("source").await;
    let backup = room.add_completed(&instance, "nightly").await;
    let job = room.ask_delete(&backup).await.unwrap();
    assert_eq!(room.backup(&backup).await.state, BackupState::Deleting);

    let (again, admission) = room.new_backup(&instance, "nightly");
    let refused = room.admit(&again, &admission).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::BackupNameTaken, "DELETING holds its name");

    let claim = room.claim_of(&job).await;
    let audit = room.audit("backup.remove");
    room.catalog.backup_remove(&claim.fence, &backup.id, &audit, room.now()).await.unwrap();
    assert!(room.catalog.backup_by_id(&backup.id).await.unwrap().is_none());
    assert!(room.catalog.backup_had_job(&backup.id).await.unwrap(), "its jobs stay");
    let stranger = room.new_backup(&instance, "stranger").0;
    assert!(!room.catalog.backup_had_job(&stranger.id).await.unwrap());
    assert_eq!(room.job(&job).await.state, JobState::Succeeded);
    room.admit(&again, &admission).await.unwrap();

    let gone = room.ask_delete(&backup).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::BackupNotFound);
}

pub(crate) async fn a_delete_asked_twice_is_one_job(room: &Room) {
    let instance = room.add_instance("source").await;
    let backup = room.add_completed(&instance, "nightly").await;
    let job = room.ask_delete(&backup).await.unwrap();
    let events = room.catalog.audit_verify().await.unwrap();
    assert_eq!(room.ask_delete(&backup).await.unwrap(), job);
    assert_eq!(room.catalog.audit_verify().await.unwrap(), events);
    room.claim_of(&job).await;
    assert!(room.claim().await.is_none());
    assert_eq!(room.ask_delete(&backup).await.unwrap(), job, "also while it runs");
}

pub(crate) async fn p05_a_delete_that_fails_is_tried_until_it_is_done(room: &Room) {
    let instance = room.add_instance("source").await;
    let backup = room.add_completed(&instance, "nightly").await;
    let job = room.ask_delete(&backup).await.unwrap();
    for attempt in 1..=10 {
        let claim = room.claim_of(&job).await;
        assert_eq!(claim.job.attempts, attempt);
        let audit = room.audit("job.fail");
        let reason = failure("store_unavailable");
        let end = room.catalog.job_fail(&claim.fence, &reason, JobState::Failed, room.now(), &audit);
        end.await.unwrap();
        assert_eq!(room.backup(&backup).await.state, BackupState::Deleting);
        assert!(room.claim().await.is_none(), "not at once");
        room.advance_s(3_600);
    }
    let audit = room.audit("job.cancel");
    let cancel = room.catalog.job_cancel_ask(&room.project, &job, &audit, room.now()).await;
    assert_eq!(cancel.unwrap_err().kind(), ErrorKind::NotSupported);

    let claim = room.claim_of(&job).await;
    let audit = room.audit("backup.remove");
    room.catalog.backup_remove(&claim.fence, &backup.id, &audit, room.now()).await.unwrap();
}

pub(crate) async fn a_backup_that_is_building_or_automatic_is_not_deleted(room: &Room) {
    let instance = room.add_instance("source").await;
    let building = room.add_backup(&instance, "building").await;
    assert_eq!(room.ask_delete(&building).await.unwrap_err().kind(), ErrorKind::InstanceBusy);
    let claim = room.claim_of(&building.job_id).await;
    room.publish(&claim.fence, &building).await.unwrap();

    let (mut automated, job) = room.new_backup(&instance, "automated");
    automated.kind = BackupType::Auto;
    room.admit(&automated, &job).await.unwrap();
    let claim = room.claim_of(&job.id).await;
    room.publish(&claim.fence, &automated).await.unwrap();
    assert_eq!(room.ask_delete(&automated).await.unwrap_err().kind(), ErrorKind::BackupNotManual);
    assert_eq!(room.backup(&automated).await.state, BackupState::Completed);
}

pub(crate) async fn a_forgotten_backup_takes_its_delete_with_it(room: &Room) {
    let instance = room.add_instance("source").await;
    let backup = room.add_completed(&instance, "nightly").await;
    let job = room.ask_delete(&backup).await.unwrap();
    let claim = room.claim_of(&job).await;
    let audit = room.audit("repository.forget");

    assert!(room.catalog.backup_forget_row(None, &backup.id, &audit, room.now()).await.unwrap());
    assert!(!room.catalog.backup_forget_row(None, &backup.id, &audit, room.now()).await.unwrap());
    let late = room.catalog.backup_remove(&claim.fence, &backup.id, &audit, room.now()).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Fenced);

    let building = room.add_backup(&instance, "building").await;
    let refused = room.catalog.backup_forget_row(None, &building.id, &audit, room.now()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InstanceBusy);
    let check = room.new_job_on(JobKind::Verify, &building);
    let early = room.catalog.job_admit(&check, &audit).await.unwrap_err();
    assert_eq!(early.kind(), ErrorKind::BackupState);
}

/// While a hold stands neither a person nor a rule deletes the backup.
pub(crate) async fn r05_a_held_backup_is_not_deleted(room: &Room) {
    if room.url.contains(":memory:") {
        return;
    }
    let instance = room.add_instance("source").await;
    let (held, free) =
        (room.add_completed(&instance, "held").await, room.add_completed(&instance, "free").await);
    let automated = room.add_automated(&instance, "auto-held").await;
    room.add_completed(&instance, "newest").await;
    for backup in [&held, &automated] {
        room.hold(backup).await;
    }
    for (backup, which) in [(&held, Deletable::Manual), (&held, Deletable::Any), (&automated, Deletable::Any)]
    {
        let job = room.new_job_on(JobKind::Delete, backup);
        let audit = room.audit("backup.delete");
        let refused = room.catalog.backup_delete_admit(&room.project, &backup.id, which, &job, &audit).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::BackupHeld);
        assert_eq!(room.backup(backup).await.state, BackupState::Completed);
    }
    room.ask_delete(&free).await.unwrap();
    room.release(&held).await;
    room.ask_delete(&held).await.unwrap();
}
