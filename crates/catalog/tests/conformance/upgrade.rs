//! A catalog that an older release filled, taken over by this one.
//!
//! The old one is made as that release made it: its steps, and in its tables what a live catalog has
//! in the columns that were there then.

#![expect(clippy::disallowed_types, reason = "statements are made of constants of this file only")]

use std::borrow::Cow;

use jiff::SignedDuration;
use secrecy::{ExposeSecret, SecretString};
use sqlx::any::AnyRow;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyPool, AssertSqlSafe, Row, SqlSafeStr, query, query_scalar};
use strongroom_catalog::{AccessKey, BackupFilter, Role, TokenRow};
use strongroom_core::backup::BackupState;
use strongroom_core::job::{JobKind, JobState};
use strongroom_core::tag::{TagChange, TagKey, TagValue};
use strongroom_core::verification::{Level, Outcome};

use crate::room::{self, PASSWORD, Room};

/// The steps of the release that is upgraded from.
const OLD: [(i64, &str, &str); 5] = [
    (1, "identity", include_str!("../../migrations/0001_identity.sql")),
    (2, "instances", include_str!("../../migrations/0002_instances.sql")),
    (3, "work", include_str!("../../migrations/0003_work.sql")),
    (4, "records", include_str!("../../migrations/0004_records.sql")),
    (5, "drills", include_str!("../../migrations/0005_drills.sql")),
];

/// Its tables, each after those that it refers to, and their columns; the first ones are the key.
const TABLES: [(&str, &str); 15] = [
    ("settings", "name, value, updated"),
    ("heartbeats", "id, beats"),
    ("projects", "id, name, domain_id, domain_name, created"),
    ("quotas", "project_id, manual_backups_max, manual_backups"),
    ("users", "id, name, domain_id, password_hash, created"),
    ("tokens", "id, digest, user_id, project_id, role, name, created, expires"),
    ("access_keys", "id, secret_sealed, user_id, project_id, role, created"),
    (
        "instances",
        "id, node_id, project_id, name, engine, version, system_identifier, state, host, port, user_name,
         password_sealed, tls, ca_pem, allow_md5, lineage_id, created, updated",
    ),
    (
        "jobs",
        "id, project_id, kind, state, backup_id, instance_id, input, result, epoch, worker_id, lease_until,
         taken_over, leases_lost, attempts, run_at, created, started, finished, progress, cancel_asked, failure",
    ),
    ("job_steps", "job_id, ordinal, epoch, attempt, name, at, output"),
    (
        "backups",
        "id, project_id, instance_id, node_id, name, description, kind, state, engine, engine_version,
         lineage_id, job_id, created, finished, attempt_id, manifest_digest, source_bytes, stored_bytes,
         warnings, failure",
    ),
    ("holds", "id, backup_id, reason, created"),
    ("verifications", "job_id, backup_id, at, level, outcome, findings, drill"),
    ("audit_events", "sequence, at, project_id, actor, action, object, request_id, detail, previous, digest"),
    ("audit_heads", "id, sequence, digest"),
];

#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Nothing,
    Text(String),
    Number(i64),
}

fn cell(row: &AnyRow, at: usize) -> Cell {
    match row.try_get::<Option<String>, _>(at) {
        Ok(text) => text.map_or(Cell::Nothing, Cell::Text),
        Err(_) => row.get::<Option<i64>, _>(at).map_or(Cell::Nothing, Cell::Number),
    }
}

/// All rows of a table in the columns that the old release knew.
async fn dump(pool: &AnyPool, table: &str, columns: &str) -> Vec<Vec<Cell>> {
    let select = format!("SELECT {columns} FROM {table} ORDER BY 1, 2");
    let rows = query(AssertSqlSafe(select)).fetch_all(pool).await.unwrap();
    let mut rows: Vec<Vec<Cell>> =
        rows.iter().map(|row| (0..row.len()).map(|at| cell(row, at)).collect()).collect();
    // Databases sort texts by rules of their own.
    rows.sort_by_key(|row| format!("{row:?}"));
    rows
}

async fn fill(pool: &AnyPool, table: &str, columns: &str, rows: &[Vec<Cell>]) {
    // What the steps put there is among the rows.
    query(AssertSqlSafe(format!("DELETE FROM {table}"))).execute(pool).await.unwrap();
    for row in rows {
        let mut bound = 0;
        let mut place = |cell: &Cell| {
            bound += usize::from(*cell != Cell::Nothing);
            if *cell == Cell::Nothing { "NULL".to_owned() } else { format!("${bound}") }
        };
        let places: Vec<String> = row.iter().map(&mut place).collect();
        let insert = format!("INSERT INTO {table} ({columns}) VALUES ({})", places.join(", "));
        let mut statement = query(AssertSqlSafe(insert));
        for cell in row {
            statement = match cell {
                Cell::Nothing => statement,
                Cell::Text(text) => statement.bind(text.clone()),
                Cell::Number(number) => statement.bind(*number),
            };
        }
        statement.execute(pool).await.unwrap();
    }
}

/// Something of everything that the old release could store.
async fn furnish(room: &Room) {
    let (instance, retired) = (room.add_instance("source").await, room.add_instance("retired").await);
    let user = room.add_user("ada").await;
    let token = TokenRow {
        id: "token-1".to_owned(),
        digest: "digest-1".to_owned(),
        user_id: user.id.clone(),
        project_id: room.project.clone(),
        role: Role::Operator,
        name: "by hand".to_owned(),
        created: room.now(),
        expires: Some(room.in_s(1_000_000)),
    };
    room.catalog.token_create(&token, &room.audit("token.create")).await.unwrap();
    let key = AccessKey {
        id: "AK1".to_owned(),
        user_id: user.id,
        project_id: room.project.clone(),
        role: Role::Admin,
        created: room.now(),
    };
    let secret = SecretString::from("canary-secret");
    room.catalog.access_key_create(&key, &secret, &room.audit("access_key.create")).await.unwrap();
    room.catalog.setting_put("größe", "ein Wert", room.now()).await.unwrap();

    let kept = room.add_completed(&instance, "kept").await;
    room.verify(&kept, Level::Decode, Outcome::Passed).await;
    let failed = room.add_backup(&instance, "failed").await;
    let claim = room.claim_of(&failed.job_id).await;
    let (reason, audit) = (room::failure("source_refused"), room.audit("backup.fail"));
    room.catalog.job_fail(&claim.fence, &reason, JobState::Failed, room.now(), &audit).await.unwrap();
    let left = room.add_completed(&retired, "left-behind").await;
    let audit = room.audit("instance.remove");
    room.catalog.instance_retire(&room.project, &retired.id, &audit, room.now()).await.unwrap();
    let deleting = room.add_completed(&instance, "deleting").await;
    room.ask_delete(&deleting).await.unwrap();
    for backup in [&kept, &left] {
        room.hold(backup).await;
    }
    // One that runs, with a step under its lease.
    room.advance_s(3_600);
    let running = room.add_backup(&instance, "running").await;
    let (worker, now) = (room.worker(), room.now());
    let claim = room.catalog.job_claim(&worker, &[JobKind::Backup], now, room.in_s(30));
    let claim = claim.await.unwrap().unwrap();
    assert_eq!(claim.job.backup_id, Some(running.id));
    let step = "INSERT INTO job_steps (job_id, ordinal, epoch, attempt, name, at, output)
         VALUES ($1, 1, 1, 1, 'open', 8, '{\"attempt\":\"x\"}')";
    query(step).bind(claim.job.id.as_str()).execute(&room.raw_pool().await).await.unwrap();
}

async fn taken_over(from: &Room, url: String) {
    furnish(from).await;
    let source = from.raw_pool().await;
    let target = AnyPool::connect(&url).await.unwrap();
    let steps = OLD.into_iter().map(|(version, name, sql)| {
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(steps.collect()).run(&target).await.unwrap();
    let mut old = Vec::new();
    for (table, columns) in TABLES {
        let rows = dump(&source, table, columns).await;
        assert!(!rows.is_empty(), "nothing stands in {table}");
        fill(&target, table, columns, &rows).await;
        old.push(rows);
    }
    let told = "INSERT INTO outbox (id, at, project_id, topic, object, document) VALUES ($1, 1, 'p', 't', 'o', '{}')";
    query(told).bind("before").execute(&target).await.unwrap();
    target.close().await;

    let heir = Room::reopen(url).await;
    let pool = heir.raw_pool().await;
    for ((table, columns), rows) in TABLES.into_iter().zip(&old) {
        assert_eq!(&dump(&pool, table, columns).await, rows, "{table}");
    }
    // What nobody read is gone; the release before this one may write on beside it.
    let left = query_scalar::<_, i64>("SELECT COUNT(*) FROM outbox").fetch_one(&pool).await.unwrap();
    assert_eq!(left, 0);
    query(told).bind("beside").execute(&pool).await.unwrap();
    heir.assert_whole().await;
    lives_on(&heir, &pool).await;
}

/// What is new holds for what is old, and the work that was begun goes on.
async fn lives_on(room: &Room, pool: &AnyPool) {
    let instance = room.catalog.instance_list(&room.project).await.unwrap().remove(0);
    let password = room.catalog.instance_password(&instance.id).await.unwrap();
    assert_eq!(password.expose_secret(), PASSWORD);
    let everybody = "SELECT COUNT(*) FROM users WHERE domain_admin = 1";
    assert_eq!(query_scalar::<_, i64>(everybody).fetch_one(pool).await.unwrap(), 1);
    let bearer = room.catalog.token_by_digest("digest-1", room.now()).await.unwrap().unwrap();
    assert_eq!(bearer.project.unwrap().role, Role::Operator, "a role in the project was given to everybody");
    assert!(room.catalog.access_key_find("AK1").await.unwrap().is_some());

    let rows = room.catalog.backup_page(&room.project, &BackupFilter::default(), None, 100).await.unwrap();
    let state = |name: &str| rows.iter().find(|row| row.name.as_str() == name).map(|row| row.state);
    for (name, wanted) in [
        ("kept", BackupState::Completed),
        ("failed", BackupState::Failed),
        ("deleting", BackupState::Deleting),
        ("left-behind", BackupState::Completed),
        ("running", BackupState::Building),
    ] {
        assert_eq!(state(name), Some(wanted), "{name}");
    }
    // Its worker is gone with the old release: another one takes over.
    let running = rows.iter().find(|row| row.name.as_str() == "running").unwrap();
    let later = running.created.checked_add(SignedDuration::from_hours(1)).unwrap();
    let until = later.checked_add(SignedDuration::from_secs(30)).unwrap();
    let claim = room.catalog.job_claim(&room.worker(), &[JobKind::Backup], later, until).await.unwrap();
    let claim = claim.expect("its lease is over");
    assert_eq!((claim.job.backup_id.as_ref(), claim.job.epoch.value()), (Some(&running.id), 2));
    room.publish(&claim.fence, running).await.unwrap();

    let tag = vec![(TagKey::parse("stage").unwrap(), TagValue::parse("live").unwrap())];
    let put = TagChange::put(tag).unwrap();
    room.catalog.tags_change(&room.project, &instance.id, &put, &room.audit("instance.tag")).await.unwrap();
    room.assert_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_a_filled_catalog_of_an_old_release_is_taken_over_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("old.db").display());
    taken_over(&room::sqlite_file().await.unwrap(), url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_a_filled_catalog_of_an_old_release_is_taken_over_in_postgres() {
    let Some(from) = room::postgres().await else { return };
    let Some((url, _server)) = room::postgres_database().await else { return };
    taken_over(&from, url).await;
}
