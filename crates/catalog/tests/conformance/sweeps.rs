//! Sweeps: many wishes are one sweep, one runs at a time, and what was deleted under a running one is
//! followed by another.

use serde_json::json;
use strongroom_catalog::{Claim, JobFilter};
use strongroom_core::ErrorKind;
use strongroom_core::id::JobId;
use strongroom_core::job::{Job, JobKind, JobState};

use crate::room::{Room, failure};

fn wished(room: &Room, in_s: i64) -> Job {
    Job { project_id: None, run_at: room.in_s(in_s), input: json!({}), ..room.new_job(JobKind::Sweep) }
}

async fn wish(room: &Room, in_s: i64) -> JobId {
    let job = wished(room, in_s);
    room.catalog.sweep_wish(&job).await.unwrap();
    job.id
}

async fn all(room: &Room) -> Vec<Job> {
    room.catalog.repository_job_list(&JobFilter::default(), 100).await.unwrap()
}

async fn begun(room: &Room) -> Claim {
    let claim = room.claim().await.unwrap();
    assert_eq!(claim.job.kind, JobKind::Sweep);
    room.catalog.sweep_begin(&claim.fence).await.unwrap();
    claim
}

async fn succeed(room: &Room, claim: &Claim) {
    let audit = room.audit("repository.swept");
    let result = json!({ "bytes_freed": 1 });
    room.catalog.job_succeed(&claim.fence, &result, room.now(), &audit).await.unwrap();
}

pub(crate) async fn many_deletes_are_followed_by_one_sweep(room: &Room) {
    let first = wish(room, 60).await;
    for _ in 0..99 {
        room.advance_s(0);
        wish(room, 60).await;
    }
    let jobs = all(room).await;
    assert_eq!(jobs.iter().map(|job| &job.id).collect::<Vec<_>>(), [&first]);
    assert!(room.claim().await.is_none(), "it waits for more of them");
    room.advance_s(60);
    let claim = begun(room).await;
    assert_eq!((&claim.job.id, claim.job.project_id.as_ref()), (&first, None));
    succeed(room, &claim).await;
    assert!(room.claim().await.is_none(), "all of them came before it looked");
    let standing = room.catalog.sweep_standing().await.unwrap();
    assert_eq!((standing.last, standing.live), (Some(room.now()), None));
    let reading = room.catalog.metrics_reading(room.now()).await.unwrap();
    assert_eq!(reading.last_sweep, Some((room.now(), json!({ "bytes_freed": 1 }))));
}

pub(crate) async fn p08_wishes_at_one_moment_are_one_sweep(room: &Room) {
    let wishes = (0..40).map(|_| wished(room, 0)).collect::<Vec<_>>();
    let mut tasks = tokio::task::JoinSet::new();
    for job in wishes {
        let catalog = room.catalog.clone();
        tasks.spawn(async move { catalog.sweep_wish(&job).await });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    assert_eq!(all(room).await.len(), 1);
}

pub(crate) async fn what_is_deleted_under_a_sweep_is_followed_by_another(room: &Room) {
    wish(room, 0).await;
    let claim = begun(room).await;
    wish(room, 60).await;
    // A later wish does not put the earlier one off.
    room.advance_s(30);
    wish(room, 60).await;
    assert_eq!(all(room).await.len(), 1, "one at a time");
    succeed(room, &claim).await;
    let standing = room.catalog.sweep_standing().await.unwrap();
    let (next, state, due) = standing.live.unwrap();
    assert_eq!((state, due), (JobState::Ready, room.in_s(30)));
    assert_ne!(next, claim.job.id);
    room.advance_s(30);
    let claim = begun(room).await;
    assert_eq!((&claim.job.id, &claim.job.input), (&next, &json!({})));
    succeed(room, &claim).await;
    assert!(room.claim().await.is_none());
}

/// Also when the sweep does not succeed, and when its worker was lost: the next one looks anew.
pub(crate) async fn p03_a_sweep_that_looks_again_needs_no_other_one(room: &Room) {
    wish(room, 0).await;
    begun(room).await;
    wish(room, 60).await;
    room.advance_s(120);
    let heir = begun(room).await;
    assert!(heir.taken_over);
    succeed(room, &heir).await;
    assert!(room.claim().await.is_none(), "the heir looked after the delete");

    wish(room, 0).await;
    let claim = begun(room).await;
    wish(room, 0).await;
    let (audit, reason) = (room.audit("job.end"), failure("x"));
    room.catalog.job_fail(&claim.fence, &reason, JobState::Failed, room.now(), &audit).await.unwrap();
    let next = begun(room).await;
    assert_ne!(next.job.id, claim.job.id);
}

pub(crate) async fn p07_a_fenced_sweep_begins_nothing(room: &Room) {
    wish(room, 0).await;
    let stale = room.claim().await.unwrap();
    room.advance_s(60);
    let heir = begun(room).await;
    wish(room, 60).await;
    let refused = room.catalog.sweep_begin(&stale.fence).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Fenced);
    succeed(room, &heir).await;
    assert_eq!(all(room).await.len(), 2, "the wish still stands");
}

pub(crate) async fn a_sweep_that_somebody_asks_for_does_not_wait(room: &Room) {
    let audit = room.audit("repository.sweep");
    let waiting = wish(room, 60).await;
    let asked = Job { input: json!({ "threshold_percent": 1 }), ..wished(room, 0) };
    assert_eq!(room.catalog.sweep_ask(&asked, &audit).await.unwrap(), waiting);
    let claim = begun(room).await;
    assert_eq!(claim.job.input, asked.input);
    let refused = room.catalog.sweep_ask(&wished(room, 0), &audit).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::SweepInProgress);
    assert_eq!(all(room).await.len(), 1);
    // A look at what it would do stands in nobody's way.
    let look = Job { project_id: None, ..room.new_job(JobKind::PlanSweep) };
    room.catalog.job_admit(&look, &audit).await.unwrap();
    assert_eq!(room.claim_of(&look.id).await.job.kind, JobKind::PlanSweep);
    assert!(room.catalog.job_admit(&wished(room, 0), &audit).await.is_err(), "never past the one door");
    succeed(room, &claim).await;
    let next = wished(room, 0);
    assert_eq!(room.catalog.sweep_ask(&next, &audit).await.unwrap(), next.id);
}

pub(crate) async fn a_sweep_belongs_to_no_project(room: &Room) {
    let (audit, sweep) = (room.audit("job.cancel"), wish(room, 60).await);
    let project = &room.project;
    assert!(room.catalog.job_find(project, &sweep).await.unwrap().is_none());
    let filter = JobFilter::default();
    assert!(room.catalog.job_list(project, &filter, 10).await.unwrap().is_empty());
    let refused = room.catalog.job_cancel_ask(project, &sweep, &audit, room.now()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::JobNotFound);
    let asked = room.catalog.repository_job_cancel_ask(&sweep, &audit, room.now()).await.unwrap();
    assert!(asked.ended);
    assert_eq!(room.job(&sweep).await.state, JobState::Cancelled);
    let theirs = room.new_job(JobKind::CheckRepository);
    room.catalog.job_admit(&theirs, &audit).await.unwrap();
    let refused = room.catalog.repository_job_cancel_ask(&theirs.id, &audit, room.now()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::JobNotFound);
}
