//! What the database says, translated once: SQL errors become kinds of the domain here only.

use std::borrow::Cow;
use std::sync::Arc;

use sqlx::error::ErrorKind as SqlKind;
use strongroom_core::{Error, ErrorKind, Field};

/// A failure inside a transaction: a decision of ours, or an error of the database.
#[derive(Debug)]
pub(crate) enum Fault {
    Decided(Error),
    Sql(sqlx::Error),
    /// The end of a transaction that others worked in too.
    Shared(Arc<sqlx::Error>),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Decided(error)
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Decided(error) => error,
            Fault::Sql(error) => translate(Arc::new(error)),
            Fault::Shared(error) => translate(error),
        }
    }
}

impl Fault {
    /// To be told to each who worked in a transaction that did not end.
    pub(crate) fn shared(self) -> Arc<sqlx::Error> {
        match self {
            Self::Decided(error) => Arc::new(sqlx::Error::Decode(Box::new(error))),
            Self::Sql(error) => Arc::new(error),
            Self::Shared(error) => error,
        }
    }

    /// The database gave this transaction up for another one; all of it may be tried again.
    pub(crate) fn lost_a_race(&self) -> bool {
        let error = match self {
            Self::Decided(_) => return false,
            Self::Sql(error) => error,
            Self::Shared(error) => error,
        };
        condition(error) == Condition::LostRace
    }
}

/// The change was not this worker's to make.
pub(crate) fn fenced() -> Fault {
    Error::new(ErrorKind::Fenced, "The lease was lost; another worker owns the job. Nothing was changed.")
        .into()
}

/// A row that cannot have been written by us.
pub(crate) fn damaged(column: &str, found: &str) -> Fault {
    Error::new(
        ErrorKind::Damage,
        "A row of the catalog holds a value that was never written; stored backups are safe.",
    )
    .with_hint("Restore the catalog from its own copy, or rebuild it from the repository.")
    .with_source(format!("column {column} holds {found:?}"))
    .into()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// Busy, deadlock, serialisation failure.
    LostRace,
    /// Not reachable, full, read-only, shutting down.
    Unavailable,
    /// The file is not what was written.
    Damaged,
    Other,
}

fn condition(error: &sqlx::Error) -> Condition {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => Condition::Unavailable,
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or(Cow::Borrowed(""));
            // SQLSTATE has five characters; SQLite's extended codes are at most four digits.
            if code.len() == 5 { postgres_condition(&code) } else { sqlite_condition(&code) }
        }
        sqlx::Error::Decode(cause) => match cause.downcast_ref::<Error>().map(Error::kind) {
            Some(ErrorKind::Damage) => Condition::Damaged,
            _ => Condition::Other,
        },
        _ => Condition::Other,
    }
}

fn postgres_condition(code: &str) -> Condition {
    match code {
        "40001" | "40P01" => Condition::LostRace,
        "25006" | "55P03" | "57014" => Condition::Unavailable,
        "XX001" | "XX002" => Condition::Damaged,
        _ if ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class)) => Condition::Unavailable,
        _ => Condition::Other,
    }
}

/// The low byte of an extended code is the primary one.
fn sqlite_condition(code: &str) -> Condition {
    const BUSY: i32 = 5;
    const LOCKED: i32 = 6;
    const READONLY: i32 = 8;
    const IOERR: i32 = 10;
    const CORRUPT: i32 = 11;
    const FULL: i32 = 13;
    const CANTOPEN: i32 = 14;
    const NOTADB: i32 = 26;
    match code.parse::<i32>().map(|code| code & 0xff) {
        Ok(BUSY | LOCKED) => Condition::LostRace,
        Ok(READONLY | IOERR | FULL | CANTOPEN) => Condition::Unavailable,
        Ok(CORRUPT | NOTADB) => Condition::Damaged,
        _ => Condition::Other,
    }
}

fn translate(error: Arc<sqlx::Error>) -> Error {
    match condition(&error) {
        Condition::LostRace | Condition::Unavailable => Error::new(
            ErrorKind::Unavailable,
            "The catalog cannot be used now; nothing that was acknowledged is lost.",
        )
        .with_hint("Try again in a few seconds; if it lasts, look at the catalog's disk or server.")
        .with_source(error),
        Condition::Damaged => Error::new(
            ErrorKind::Damage,
            "The catalog's file is damaged; stored backups are safe in the repository.",
        )
        .with_hint("Restore the catalog from its own copy, or rebuild it from the repository.")
        .with_source(error),
        Condition::Other => {
            let unique =
                error.as_database_error().filter(|database| database.kind() == SqlKind::UniqueViolation);
            match unique.and_then(|database| taken(database.constraint(), database.message())) {
                Some((kind, public)) => Error::new(kind, public).with_source(error),
                None => Error::internal(error),
            }
        }
    }
}

/// Unique indexes: the name PostgreSQL reports, the columns SQLite reports, what it means.
const UNIQUE_INDEXES: [(&str, &str, ErrorKind, &str); 8] = [
    (
        "backup_building",
        "backups.instance_id",
        ErrorKind::BackupInProgress,
        "A backup of this instance is being built already; nothing was stored.",
    ),
    (
        "backup_manual_name",
        "backups.project_id, backups.name",
        ErrorKind::BackupNameTaken,
        "A backup of this name exists in the project; nothing was stored.",
    ),
    (
        "instance_live_name",
        "instances.project_id, instances.name",
        ErrorKind::InstanceNameTaken,
        "An instance of this name exists in the project; nothing was stored.",
    ),
    (
        "job_live_delete",
        "jobs.backup_id",
        ErrorKind::BackupBeingDeleted,
        "The backup is being deleted already; nothing was stored.",
    ),
    (
        "job_live_sweep",
        "jobs.kind",
        ErrorKind::SweepInProgress,
        "A sweep of the repository runs already; nothing was started.",
    ),
    (
        "project_name",
        "projects.domain_id, projects.name",
        ErrorKind::Parameter(Field::Other),
        "name: a project of this name exists in the domain",
    ),
    (
        "user_name",
        "users.domain_id, users.name",
        ErrorKind::Parameter(Field::Other),
        "name: a user of this name exists in the domain",
    ),
    ("token_digest", "tokens.digest", ErrorKind::Parameter(Field::Token), "token: this token exists already"),
];

fn taken(constraint: Option<&str>, message: &str) -> Option<(ErrorKind, &'static str)> {
    let columns = message.strip_prefix("UNIQUE constraint failed: ");
    UNIQUE_INDEXES
        .into_iter()
        .find(|(name, of, ..)| constraint == Some(*name) || columns == Some(*of))
        .map(|(_, _, kind, public)| (kind, public))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m06_conditions_that_pass_are_told_from_faults() {
        assert_eq!(sqlite_condition("5"), Condition::LostRace);
        assert_eq!(sqlite_condition("517"), Condition::LostRace, "busy snapshot");
        assert_eq!(sqlite_condition("13"), Condition::Unavailable, "disk full");
        assert_eq!(sqlite_condition("1034"), Condition::Unavailable, "fsync failed");
        assert_eq!(sqlite_condition("26"), Condition::Damaged);
        assert_eq!(sqlite_condition("1"), Condition::Other);
        assert_eq!(postgres_condition("40P01"), Condition::LostRace);
        assert_eq!(postgres_condition("53300"), Condition::Unavailable, "too many connections");
        assert_eq!(postgres_condition("42601"), Condition::Other, "a syntax error is ours");
    }

    #[test]
    fn an_exhausted_pool_is_unavailable_not_internal() {
        assert_eq!(Error::from(Fault::from(sqlx::Error::PoolTimedOut)).kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn every_unique_index_is_known_by_both_databases() {
        for (name, columns, kind, _) in UNIQUE_INDEXES {
            let by_name = taken(Some(name), "duplicate key value violates unique constraint");
            let by_columns = taken(None, &format!("UNIQUE constraint failed: {columns}"));
            assert_eq!(by_name.map(|found| found.0), Some(kind));
            assert_eq!(by_columns.map(|found| found.0), Some(kind));
        }
        assert!(taken(Some("jobs_pkey"), "").is_none());
    }
}
