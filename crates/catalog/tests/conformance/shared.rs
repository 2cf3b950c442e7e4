//! Several processes on one catalog: first starts, hints, the server's clock, upgrades.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use secrecy::SecretString;
use sqlx::{Connection, query, query_scalar};
use strongroom_catalog::{AccessKey, Catalog, FirstRows, FirstStartTurn, Project, Role, TokenRow, User};
use strongroom_core::ErrorKind;
use strongroom_core::id::{ProjectId, UserId};
use strongroom_core::job::JobKind;
use tokio::task::JoinSet;

use crate::room::{self, KEY, Room, SystemRandomness};

/// Longer than any answer of a database on this machine.
const SOON: Duration = Duration::from_secs(30);

async fn first_start(room: &Room, digit: &str) -> strongroom_core::Result<()> {
    let (project_id, user_id) =
        (ProjectId::parse(&digit.repeat(32)).unwrap(), UserId::from_stored(format!("user-{digit}")));
    let now = room.now();
    let project = Project {
        id: project_id.clone(),
        name: format!("first-{digit}"),
        domain_id: "domain".to_owned(),
        domain_name: "Domain".to_owned(),
        backup_quota: None,
    };
    let user = User {
        id: user_id.clone(),
        name: format!("admin-{digit}"),
        domain_id: "domain".to_owned(),
        password_hash: None,
        domain_admin: false,
    };
    let token = TokenRow {
        id: format!("token-{digit}"),
        digest: format!("digest-{digit}"),
        user_id: user_id.clone(),
        project_id: project_id.clone(),
        role: Role::Admin,
        name: "bootstrap".to_owned(),
        created: now,
        expires: None,
    };
    let key = AccessKey { id: format!("KEY{digit}"), user_id, project_id, role: Role::Admin, created: now };
    let rows = FirstRows {
        project: &project,
        user: &user,
        token: &token,
        access_key: &key,
        access_secret: &SecretString::from("canary-access-secret"),
        repository_id: digit,
        audit: &[room.audit("token.create"), room.audit("access_key.create")],
    };
    room.catalog.first_start(&rows, now).await
}

pub(crate) async fn a_first_start_is_stored_wholly_and_once(room: &Room) {
    assert_eq!(room.catalog.repository_id().await.unwrap(), None);
    first_start(room, "b").await.unwrap();
    assert_eq!(room.catalog.repository_id().await.unwrap().as_deref(), Some("b"));
    assert!(room.catalog.token_by_digest("digest-b", room.now()).await.unwrap().is_some());
    assert_eq!(room.catalog.access_key_find("KEYb").await.unwrap().unwrap().bearer.user_name, "admin-b");

    let second = first_start(room, "c").await.unwrap_err();
    assert_eq!(second.kind(), ErrorKind::TargetNotEmpty);
    assert!(room.catalog.token_by_digest("digest-c", room.now()).await.unwrap().is_none());
    assert_eq!(room.catalog.repository_id().await.unwrap().as_deref(), Some("b"));
}

/// Something of it is refused, so nothing of it is there.
pub(crate) async fn a_first_start_that_breaks_leaves_nothing(room: &Room) {
    let taken = User {
        id: UserId::from_stored("user-b"),
        name: "somebody".to_owned(),
        domain_id: "domain".to_owned(),
        password_hash: None,
        domain_admin: false,
    };
    room.catalog.user_create(&taken, &room.audit_of_none("user.create")).await.unwrap();
    first_start(room, "b").await.unwrap_err();
    assert_eq!(room.catalog.repository_id().await.unwrap(), None);
    assert_eq!(room.catalog.project_list().await.unwrap().len(), 1, "the room's own");
}

/// What another process admits is heard here; where there is one process, there is nothing to hear.
pub(crate) async fn a_hint_reaches_other_processes(room: &Room) {
    let other = if room.catalog.is_shared() { Some(room::open(&room.url).await) } else { None };
    let Some(mut hints) = other.as_ref().unwrap_or(&room.catalog).hints() else {
        assert!(!room.catalog.is_shared());
        return;
    };
    hints.next().await.unwrap();
    let job = room.new_job(JobKind::CheckRepository);
    room.catalog.job_admit(&job, &room.audit("repository.check")).await.unwrap();
    tokio::time::timeout(SOON, hints.next()).await.expect("a new job is told").unwrap();

    let claim = room.claim().await.unwrap();
    room.catalog.job_release(&claim.fence, room.now()).await.unwrap();
    tokio::time::timeout(SOON, hints.next()).await.expect("a job given back is told").unwrap();

    let claim = room.claim().await.unwrap();
    let project = job.project_id.unwrap();
    room.catalog
        .job_cancel_ask(&project, &claim.job.id, &room.audit("job.cancel"), room.now())
        .await
        .unwrap();
    tokio::time::timeout(SOON, hints.next()).await.expect("a wish to end is told").unwrap();
}

pub(crate) async fn t01_a_shared_database_has_a_clock_of_its_own(room: &Room) {
    let first = room.catalog.server_time().await.unwrap();
    assert_eq!(first.is_some(), room.catalog.is_shared());
    assert!(!room.catalog.server_version().await.unwrap().is_empty());
    let Some(first) = first else { return };
    let begun = Instant::now();
    let second = room.catalog.server_time().await.unwrap().unwrap();
    let passed = second.duration_since(first);
    assert!(passed > SignedDuration::ZERO, "{first} {second}");
    assert!(passed < SignedDuration::try_from(begun.elapsed() + SOON).unwrap(), "{first} {second}");
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_processes_that_start_together_make_each_step_once() {
    let Some((url, _server)) = room::postgres_database().await else { return };
    let mut starts = JoinSet::new();
    for _ in 0..8 {
        let url = url.clone();
        starts.spawn(async move { room::open(&url).await });
    }
    let opened = starts.join_all().await;
    let steps: Vec<i64> = {
        sqlx::any::install_default_drivers();
        let pool = sqlx::AnyPool::connect(&url).await.unwrap();
        query_scalar("SELECT version FROM _sqlx_migrations ORDER BY version").fetch_all(&pool).await.unwrap()
    };
    assert!(steps.windows(2).all(|pair| pair[0] < pair[1]), "{steps:?}");
    assert!(!steps.is_empty());
    for catalog in opened {
        catalog.ping().await.unwrap();
    }
}

/// One at a time; whoever dies in its turn gives it up, and what it left is no obstacle.
#[tokio::test(flavor = "multi_thread")]
async fn p03_first_starts_take_turns_and_outlive_a_killed_one() {
    let Some((url, _server)) = room::postgres_database().await else { return };
    let mut turn = FirstStartTurn::take(&url).await.unwrap();
    assert!(turn.is_due().await.unwrap());
    let waiting = tokio::spawn({
        let url = url.clone();
        async move { FirstStartTurn::take(&url).await }
    });
    // It seals its key check and dies before anything else.
    let doomed = Catalog::open(&url, [9; 32], Arc::new(SystemRandomness), jiff::Timestamp::UNIX_EPOCH).await;
    doomed.unwrap().close().await;
    assert!(!waiting.is_finished(), "the turn is taken");
    drop(turn);

    let mut heir = tokio::time::timeout(SOON, waiting).await.unwrap().unwrap().unwrap();
    assert!(heir.is_due().await.unwrap());
    let room = Room::reopen(url.clone()).await;
    first_start(&room, "b").await.unwrap();
    heir.end().await.unwrap();

    let mut late = FirstStartTurn::take(&url).await.unwrap();
    assert!(!late.is_due().await.unwrap());
    let other = Catalog::open(&url, [9; 32], Arc::new(SystemRandomness), jiff::Timestamp::UNIX_EPOCH).await;
    assert_eq!(other.unwrap_err().kind(), ErrorKind::WrongKey);
    assert_ne!(KEY, [9; 32]);
}

/// Two transactions wait for each other: the database gives ours up, and it is begun anew.
#[tokio::test(flavor = "multi_thread")]
async fn m06_a_deadlock_is_survived() {
    let Some(room) = room::postgres().await else { return };
    let instance = room.add_instance("source").await;
    let (backup, job) = room.new_backup(&instance, "nightly");
    room.catalog.backup_admit(&backup, &job, &room.audit("backup.create")).await.unwrap();
    let claim = room.claim().await.unwrap();

    let pool = room.raw_pool().await;
    let mut other = pool.acquire().await.unwrap();
    // The other one looks for a circle much later than ours.
    query("SET deadlock_timeout = '60s'").execute(&mut *other).await.unwrap();
    let mut rival = other.begin().await.unwrap();
    query("UPDATE backups SET name = name WHERE id = $1")
        .bind(backup.id.as_str())
        .execute(&mut *rival)
        .await
        .unwrap();
    let publishing = tokio::spawn({
        let (catalog, published, audit) =
            (room.catalog.clone(), room.published(), room.audit("backup.complete"));
        let (fence, id) = (claim.fence.clone(), backup.id.clone());
        async move { catalog.backup_publish(&fence, &id, &published, &audit).await }
    });
    let waits = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    let begun = Instant::now();
    while query_scalar::<_, i64>(waits).fetch_one(&pool).await.unwrap() == 0 {
        assert!(begun.elapsed() < SOON, "nobody waits for the row");
        tokio::task::yield_now().await;
    }
    query("UPDATE jobs SET epoch = epoch WHERE id = $1")
        .bind(job.id.as_str())
        .execute(&mut *rival)
        .await
        .unwrap();
    assert!(!publishing.is_finished());
    rival.rollback().await.unwrap();
    publishing.await.unwrap().unwrap();
    room.assert_whole().await;
}
