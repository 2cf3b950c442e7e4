//! The shape of the database, in steps. A released step never changes; a new one expands first and
//! contracts in a later release, so that the release before can still run beside it.
//!
//! Each step and its record are one transaction: a crash leaves a step done or not begun.

use std::borrow::Cow;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AnyPool, SqlSafeStr};
use strongroom_core::{Error, ErrorKind, Result};

use crate::fault::Fault;

/// The steps in their order, each with its number, which is the version of the shape.
const STEPS: [(i64, &str, &str); 11] = [
    (1, "identity", include_str!("../migrations/0001_identity.sql")),
    (2, "instances", include_str!("../migrations/0002_instances.sql")),
    (3, "work", include_str!("../migrations/0003_work.sql")),
    (4, "records", include_str!("../migrations/0004_records.sql")),
    (5, "drills", include_str!("../migrations/0005_drills.sql")),
    (6, "logins", include_str!("../migrations/0006_logins.sql")),
    (7, "policies", include_str!("../migrations/0007_policies.sql")),
    (9, "sweeps", include_str!("../migrations/0009_sweeps.sql")),
    (10, "tags", include_str!("../migrations/0010_tags.sql")),
    (12, "no outbox", include_str!("../migrations/0012_no_outbox.sql")),
    (13, "logs", include_str!("../migrations/0013_logs.sql")),
];

/// The number of the newest step.
fn newest() -> i64 {
    STEPS.last().map_or(0, |(version, ..)| *version)
}

fn migrator() -> Migrator {
    let steps = STEPS.into_iter().map(|(version, name, sql)| {
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(steps.collect())
}

/// Brings the database to the newest shape. One that a newer release wrote is left alone.
pub(crate) async fn run(pool: &AnyPool) -> Result<()> {
    migrator().run(pool).await.map_err(refused)
}

fn refused(error: MigrateError) -> Error {
    match error {
        MigrateError::VersionMissing(version) => Error::new(
            ErrorKind::NotSupported,
            format!(
                "The catalog was written by a newer release (shape {version}, this one knows {}); nothing was changed.",
                newest()
            ),
        )
        .with_hint("Start the newer release, or restore the catalog from before the upgrade."),
        MigrateError::VersionMismatch(version) => Error::new(
            ErrorKind::Damage,
            format!("Shape {version} of the catalog is not the one this release wrote; nothing was changed."),
        )
        .with_hint("Start the release that made this catalog."),
        MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _) => Fault::from(cause).into(),
        other => Error::internal(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A step that has been released must never change: databases out there have run it.
    #[test]
    fn m05_no_step_differs_from_the_one_that_was_written_down() {
        let found: Vec<String> =
            STEPS.iter().map(|(_, name, sql)| format!("{name} {}", blake3::hash(sql.as_bytes()))).collect();
        let written: Vec<&str> = include_str!("../migrations/checksums.txt").lines().collect();
        assert_eq!(found, written);
    }

    /// The number of the step after the newest one.
    fn next() -> i64 {
        newest() + 1
    }

    async fn fresh(folder: &tempfile::TempDir) -> AnyPool {
        let url = format!("sqlite://{}", folder.path().join("catalog.db").display());
        crate::dialect::Dialect::Sqlite.connect(&url).await.unwrap().0
    }

    #[tokio::test]
    async fn m05_a_start_after_a_crash_between_any_two_steps_completes_them() {
        for done in [0].into_iter().chain(STEPS.map(|(version, ..)| version)) {
            let folder = tempfile::tempdir().unwrap();
            let pool = fresh(&folder).await;
            migrator().run_to(done, &pool).await.unwrap();
            pool.close().await;

            let pool = fresh(&folder).await;
            run(&pool).await.unwrap();
            run(&pool).await.unwrap();
            let heads: i64 =
                sqlx::query_scalar("SELECT COUNT(*) FROM audit_heads").fetch_one(&pool).await.unwrap();
            assert_eq!(heads, 1, "after step {done}");
        }
    }

    /// The tables of jobs are made anew by step 9: what older releases wrote is still there, and still
    /// refers to what it did.
    #[tokio::test]
    async fn m05_jobs_of_an_older_release_are_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let pool = fresh(&folder).await;
        migrator().run_to(6, &pool).await.unwrap();
        for statement in [
            "INSERT INTO jobs (id, kind, state, input, epoch, worker_id, lease_until, taken_over, leases_lost,
                 attempts, run_at, created, progress, cancel_asked)
             VALUES ('old', 'check_repository', 'leased', '{}', 3, 'w', 99, 1, 2, 1, 5, 4, '{}', 0)",
            "INSERT INTO job_steps (job_id, ordinal, epoch, attempt, name, at, output)
             VALUES ('old', 1, 3, 1, 'check', 6, '{}')",
        ] {
            sqlx::query(statement).execute(&pool).await.unwrap();
        }
        run(&pool).await.unwrap();
        let count =
            async |select: &'static str| sqlx::query_scalar::<_, i64>(select).fetch_one(&pool).await.unwrap();
        let same = "SELECT COUNT(*) FROM jobs JOIN job_steps ON job_id = id
             WHERE id = 'old' AND jobs.epoch = 3 AND lease_until = 99 AND leases_lost = 2 AND run_at = 5
                 AND name = 'check' AND follow_up_at IS NULL";
        assert_eq!(count(same).await, 1);
        assert_eq!(count("SELECT COUNT(*) FROM pragma_foreign_key_check").await, 0);
        let refers = "SELECT COUNT(*) FROM pragma_foreign_key_list('job_steps') WHERE \"table\" = 'jobs'";
        assert_eq!(count(refers).await, 1);
        let orphan = "INSERT INTO job_steps (job_id, ordinal, epoch, attempt, name, at, output)
             VALUES ('absent', 1, 1, 1, 'x', 1, '{}')";
        assert!(sqlx::query(orphan).execute(&pool).await.is_err());
    }

    #[tokio::test]
    async fn m05_a_step_that_breaks_half_way_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let pool = fresh(&folder).await;
        let broken = "CREATE TABLE half (id BIGINT); INSERT INTO absent VALUES (1);".into_sql_str();
        let mut steps = migrator().migrations.into_owned();
        steps.push(Migration::new(next(), "broken".into(), MigrationType::Simple, broken, false));
        assert!(Migrator::with_migrations(steps).run(&pool).await.is_err());

        run(&pool).await.unwrap();
        let half: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM sqlite_master WHERE name = 'half'")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(half, 0);
    }

    #[tokio::test]
    async fn p14_a_catalog_of_a_newer_release_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let pool = fresh(&folder).await;
        let mut steps = migrator().migrations.into_owned();
        let newer = "CREATE TABLE newer (id BIGINT)".into_sql_str();
        steps.push(Migration::new(next(), "newer".into(), MigrationType::Simple, newer, false));
        Migrator::with_migrations(steps).run(&pool).await.unwrap();

        let refused = run(&pool).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotSupported);
        assert!(refused.public().contains(&format!("shape {}", next())), "{}", refused.public());
    }
}
