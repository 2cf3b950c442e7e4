//! A backup from its admission to COMPLETED or a refusal.

use strongroom_core::ErrorKind;
use strongroom_core::backup::{BackupState, BackupType};
use strongroom_core::id::{InstanceId, ProjectId};
use strongroom_core::job::JobState;

use crate::room::Room;

pub(crate) async fn p01_the_same_request_again_is_refused_while_it_runs_and_after(room: &Room) {
    let instance = room.add_instance("source").await;
    let backup = room.add_backup(&instance, "nightly").await;

    let (again, job) = room.new_backup(&instance, "nightly");
    assert_eq!(room.admit(&again, &job).await.unwrap_err().kind(), ErrorKind::BackupInProgress);

    let claim = room.claim_of(&backup.job_id).await;
    room.publish(&claim.fence, &backup).await.unwrap();
    assert_eq!(room.admit(&again, &job).await.unwrap_err().kind(), ErrorKind::BackupNameTaken);

    let (other_case, job) = room.new_backup(&instance, "Nightly");
    room.admit(&other_case, &job).await.unwrap();
}

pub(crate) async fn a02_a_second_backup_of_the_instance_waits(room: &Room) {
    let (one, two) = (room.add_instance("one").await, room.add_instance("two").await);
    room.add_backup(&one, "first").await;
    let (second, job) = room.new_backup(&one, "second");
    assert_eq!(room.admit(&second, &job).await.unwrap_err().kind(), ErrorKind::BackupInProgress);
    room.add_backup(&two, "third").await;
}

pub(crate) async fn a03_the_quota_is_taken_and_given_back(room: &Room) {
    let instance = room.add_instance("source").await;
    room.catalog.project_quota_put(&room.project, Some(2)).await.unwrap();
    let first = room.add_completed(&instance, "first").await;
    room.add_completed(&instance, "second").await;

    let (third, job) = room.new_backup(&instance, "third");
    assert_eq!(room.admit(&third, &job).await.unwrap_err().kind(), ErrorKind::QuotaExceeded);

    // Automated backups are not counted.
    let (mut automated, job) = room.new_backup(&instance, "third");
    automated.kind = BackupType::Auto;
    room.admit(&automated, &job).await.unwrap();
    let claim = room.claim_of(&job.id).await;
    room.publish(&claim.fence, &automated).await.unwrap();

    let delete = room.ask_delete(&first).await.unwrap();
    let (third, job) = room.new_backup(&instance, "third");
    let still_there = room.admit(&third, &job).await.unwrap_err().kind();
    assert_eq!(still_there, ErrorKind::QuotaExceeded, "DELETING still exists");

    let claim = room.claim_of(&delete).await;
    let audit = room.audit("backup.remove");
    room.catalog.backup_remove(&claim.fence, &first.id, &audit, room.now()).await.unwrap();
    room.admit(&third, &job).await.unwrap();
}

pub(crate) async fn a_refused_backup_leaves_nothing(room: &Room) {
    let instance = room.add_instance("source").await;
    room.catalog.project_quota_put(&room.project, Some(0)).await.unwrap();
    let events = room.catalog.audit_verify().await.unwrap();

    let (backup, job) = room.new_backup(&instance, "refused");
    assert_eq!(room.admit(&backup, &job).await.unwrap_err().kind(), ErrorKind::QuotaExceeded);

    assert!(room.catalog.backup_by_id(&backup.id).await.unwrap().is_none());
    assert!(room.catalog.job_by_id(&job.id).await.unwrap().is_none());
    assert_eq!(room.catalog.audit_verify().await.unwrap(), events);
    assert!(room.claim().await.is_none());
}

pub(crate) async fn i07_a_backup_has_no_size_and_no_end_until_it_completes(room: &Room) {
    let instance = room.add_instance("source").await;
    let building = room.add_backup(&instance, "nightly").await;
    assert_eq!(room.backup(&building).await, building);

    let claim = room.claim_of(&building.job_id).await;
    let published = room.published();
    let audit = room.audit("backup.complete");
    room.catalog.backup_publish(&claim.fence, &building.id, &published, &audit).await.unwrap();

    let completed = room.backup(&building).await;
    assert_eq!(completed.state, BackupState::Completed);
    assert_eq!(completed.finished, Some(published.finished));
    assert_eq!(completed.attempt_id, Some(published.attempt));
    assert_eq!(completed.manifest_digest.as_ref(), Some(&published.manifest_digest));
    assert_eq!(completed.source_bytes, Some(published.source_bytes));
    assert_eq!(completed.stored_bytes, Some(published.stored_bytes));
    assert_eq!(completed.warnings, published.warnings);
    assert_eq!(completed.created, building.created);

    let job = room.job(&building.job_id).await;
    assert_eq!((job.state, job.finished), (JobState::Succeeded, Some(published.finished)));
    assert_eq!(completions(room).await, 1);
}

/// How often the audit chain says that a backup was completed.
async fn completions(room: &Room) -> usize {
    let told = room.catalog.audit_list(&room.project, 100).await.unwrap();
    told.iter().filter(|event| event.action == "backup.complete").count()
}

pub(crate) async fn p04_a_backup_is_published_exactly_once(room: &Room) {
    let instance = room.add_instance("source").await;
    let backup = room.add_backup(&instance, "nightly").await;
    let dead = room.claim_of(&backup.job_id).await;
    room.advance_s(31);
    let heir = room.claim_of(&backup.job_id).await;
    assert!(heir.taken_over);

    room.publish(&heir.fence, &backup).await.unwrap();
    let after = room.backup(&backup).await;
    for late in [&heir.fence, &dead.fence] {
        assert_eq!(room.publish(late, &backup).await.unwrap_err().kind(), ErrorKind::Fenced);
    }
    assert_eq!(room.backup(&backup).await, after);
    assert_eq!(completions(room).await, 1, "what changed nothing tells of nothing");
}

pub(crate) async fn unknown_and_foreign_instances_are_not_found(room: &Room) {
    let instance = room.add_instance("source").await;
    let foreign = ProjectId::parse(&"b".repeat(32)).unwrap();
    room.add_project(&foreign, None).await;

    let (mut backup, mut job) = room.new_backup(&instance, "nightly");
    (backup.project_id, job.project_id) = (foreign.clone(), Some(foreign));
    assert_eq!(room.admit(&backup, &job).await.unwrap_err().kind(), ErrorKind::InstanceNotFound);

    let absent = InstanceId::from_stored("absent");
    let (mut backup, mut job) = room.new_backup(&instance, "nightly");
    (backup.instance_id, job.instance_id) = (absent.clone(), Some(absent));
    assert_eq!(room.admit(&backup, &job).await.unwrap_err().kind(), ErrorKind::InstanceNotFound);
}
