//! Many at once: the database decides, and decides once.

use std::collections::HashSet;

use strongroom_catalog::Deletable;
use strongroom_core::ErrorKind;
use strongroom_core::job::JobKind;
use tokio::task::JoinSet;

use crate::room::Room;

pub(crate) async fn a01_one_of_a_hundred_equal_requests_is_taken(room: &Room) {
    let instance = room.add_instance("source").await;
    let mut requests = JoinSet::new();
    for _ in 0..100 {
        let (backup, job) = room.new_backup(&instance, "nightly");
        let (catalog, audit) = (room.catalog.clone(), room.audit("backup.create"));
        requests.spawn(async move { catalog.backup_admit(&backup, &job, &audit).await });
    }
    let outcomes = requests.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for refused in outcomes.into_iter().filter_map(Result::err) {
        assert_eq!(refused.kind(), ErrorKind::BackupInProgress, "{refused:?}");
    }
}

pub(crate) async fn a03_a_quota_under_parallel_requests_is_exact(room: &Room) {
    room.catalog.project_quota_put(&room.project, Some(7)).await.unwrap();
    let mut requests = JoinSet::new();
    for number in 0..40 {
        let instance = room.add_instance(&format!("source-{number}")).await;
        let (backup, job) = room.new_backup(&instance, &format!("backup-{number}"));
        let (catalog, audit) = (room.catalog.clone(), room.audit("backup.create"));
        requests.spawn(async move { catalog.backup_admit(&backup, &job, &audit).await });
    }
    let outcomes = requests.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 7);
    for refused in outcomes.into_iter().filter_map(Result::err) {
        assert_eq!(refused.kind(), ErrorKind::QuotaExceeded, "{refused:?}");
    }
}

pub(crate) async fn p08_every_job_is_claimed_once(room: &Room) {
    const JOBS: usize = 200;
    for _ in 0..JOBS {
        let job = room.new_job(JobKind::CheckRepository);
        room.catalog.job_admit(&job, &room.audit("repository.check")).await.unwrap();
    }
    let mut workers = JoinSet::new();
    for _ in 0..8 {
        let (catalog, worker) = (room.catalog.clone(), room.worker());
        let (now, until) = (room.now(), room.in_s(30));
        workers.spawn(async move {
            let mut claimed = Vec::new();
            while let Some(claim) = catalog.job_claim(&worker, &JobKind::ALL, now, until).await.unwrap() {
                assert_eq!(claim.fence.epoch.value(), 1);
                claimed.push(claim.job.id);
            }
            claimed
        });
    }
    let claimed: Vec<_> = workers.join_all().await.into_iter().flatten().collect();
    assert_eq!(claimed.len(), JOBS);
    assert_eq!(claimed.iter().collect::<HashSet<_>>().len(), JOBS);
}

pub(crate) async fn a_delete_asked_by_many_is_one_job(room: &Room) {
    let instance = room.add_instance("source").await;
    let backup = room.add_completed(&instance, "nightly").await;
    let mut requests = JoinSet::new();
    for _ in 0..30 {
        let job = room.new_job_on(JobKind::Delete, &backup);
        let (catalog, audit, backup) = (room.catalog.clone(), room.audit("backup.delete"), backup.clone());
        requests.spawn(async move {
            let project = &backup.project_id;
            let asked = catalog.backup_delete_admit(project, &backup.id, Deletable::Manual, &job, &audit);
            asked.await.unwrap().job_id
        });
    }
    let jobs: HashSet<_> = requests.join_all().await.into_iter().collect();
    assert_eq!(jobs.len(), 1);
}
