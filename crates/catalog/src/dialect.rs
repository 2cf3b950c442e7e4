//! What differs between SQLite and PostgreSQL: the only place that knows which one it is.
//!
//! Owns connection settings, the words that begin a transaction, and the row locks that PostgreSQL
//! needs and SQLite (one writer at a time) does not. Must never know a domain type.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::any::AnyPoolOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AnyConnection, AnyPool, Connection, Executor};
use strongroom_core::{Error, ErrorKind, Field, Result};

use crate::fault::Fault;

const READERS_MAX: u32 = 4;
const POSTGRES_CONNECTIONS_MAX: u32 = 16;
/// How long a caller waits for a connection before it hears "unavailable".
pub(crate) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(15);

/// Full sync: what was answered is on the disk. The busy timeout is for a second process.
const SQLITE_SETTINGS: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA foreign_keys = ON;
    PRAGMA busy_timeout = 2000;
";
const POSTGRES_SETTINGS: &str = "
    SET synchronous_commit = on;
    SET statement_timeout = '30s';
    SET lock_timeout = '10s';
    SET idle_in_transaction_session_timeout = '30s';
    SET client_min_messages = warning;
";

/// For the one session that waits for its turn at a first start; what it does may take long.
pub(crate) const TURN_SETTINGS: &str = "SET lock_timeout = '60s'; SET statement_timeout = 0";
/// The lock's name is the word `strongro` in ASCII: nobody else's by chance.
pub(crate) const TURN_LOCK: &str = "SELECT pg_advisory_lock(8319400234579358319)";
pub(crate) const HINT_CHANNEL: &str = "strongroom_work";
pub(crate) const HINT: &str = "NOTIFY strongroom_work";
/// The only question of time that is ever asked of a database.
pub(crate) const SERVER_TIME: &str = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";
pub(crate) const SERVER_VERSION: Spelled = Spelled {
    sqlite: "SELECT sqlite_version()",
    postgres: "SELECT split_part(current_setting('server_version'), ' ', 1)",
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

/// One statement in both spellings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spelled {
    pub(crate) sqlite: &'static str,
    pub(crate) postgres: &'static str,
}

/// A `SELECT` whose rows stay locked until the transaction ends.
macro_rules! select_for_update {
    ($($sql:expr),+ $(,)?) => {
        $crate::dialect::Spelled { sqlite: concat!($($sql),+), postgres: concat!($($sql),+, " FOR UPDATE") }
    };
}

/// A statement around a sub-select that passes over rows another transaction holds.
macro_rules! skipping_locked {
    ($before:expr, $after:expr) => {
        $crate::dialect::Spelled {
            sqlite: concat!($before, $after),
            postgres: concat!($before, " FOR UPDATE SKIP LOCKED", $after),
        }
    };
}

pub(crate) use {select_for_update, skipping_locked};

impl Dialect {
    pub(crate) fn of(url: &str) -> Result<Self> {
        if url.starts_with("sqlite:") {
            return Ok(Self::Sqlite);
        }
        if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            return Ok(Self::Postgres);
        }
        Err(Error::parameter(
            Field::Other,
            "The address of the catalog must begin with sqlite: or postgres:.",
        ))
    }

    pub(crate) fn begin_write(self) -> &'static str {
        match self {
            // Takes the write lock at once: a reader that wants to write later may be refused.
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN",
        }
    }

    pub(crate) fn begin_read(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN",
            Self::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        }
    }

    pub(crate) fn spell(self, statement: Spelled) -> &'static str {
        match self {
            Self::Sqlite => statement.sqlite,
            Self::Postgres => statement.postgres,
        }
    }

    /// The pools for writing and for reading.
    pub(crate) async fn connect(self, url: &str) -> Result<(AnyPool, AnyPool)> {
        sqlx::any::install_default_drivers();
        match self {
            Self::Sqlite => connect_sqlite(url).await,
            Self::Postgres => {
                let pool = pool(POSTGRES_CONNECTIONS_MAX, POSTGRES_SETTINGS).test_before_acquire(true);
                let pool = pool.connect(url).await.map_err(Fault::from)?;
                Ok((pool.clone(), pool))
            }
        }
    }
}

fn pool(connections_max: u32, settings: &'static str) -> AnyPoolOptions {
    AnyPoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // A file does not hang up: only a server's connection is asked whether it still lives.
        .test_before_acquire(false)
        .after_connect(move |connection: &mut AnyConnection, _| {
            Box::pin(async move {
                connection.execute(sqlx::raw_sql(settings)).await?;
                Ok(())
            })
        })
        // SQLite takes a transaction back by itself when its disk is full, and the library, which was
        // not told, would begin no other one on this connection for ever (faults.md D02).
        .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
}

async fn connect_sqlite(url: &str) -> Result<(AnyPool, AnyPool)> {
    let memory = url.contains(":memory:") || url.contains("mode=memory");
    if memory {
        // The database lives as long as its only connection.
        let pool = pool(1, SQLITE_SETTINGS).min_connections(1).idle_timeout(None).max_lifetime(None);
        let pool = pool.connect(url).await.map_err(Fault::from)?;
        return Ok((pool.clone(), pool));
    }
    let options = SqliteConnectOptions::from_str(url).map_err(Fault::from)?;
    create_private(options.get_filename()).map_err(|cause| {
        Error::new(
            ErrorKind::Unavailable,
            "The catalog's file cannot be opened for writing; nothing was changed.",
        )
        .with_hint(format!("Look at the owner and the mode of {}.", options.get_filename().display()))
        .with_source(cause)
    })?;
    // A pool tries a connection that cannot be set up again until its time is over; a file that is no
    // database is to be told at once, and as what it is.
    let mut first = AnyConnection::connect(url).await.map_err(Fault::from)?;
    first.execute(sqlx::raw_sql(SQLITE_SETTINGS)).await.map_err(Fault::from)?;
    first.close().await.map_err(Fault::from)?;
    let writers = pool(1, SQLITE_SETTINGS).connect(url).await.map_err(Fault::from)?;
    let readers = pool(READERS_MAX, SQLITE_SETTINGS).connect(url).await.map_err(Fault::from)?;
    Ok((writers, readers))
}

/// Makes the file, readable by its owner only, and makes its name durable. SQLite gives its
/// companion files the mode of this one.
fn create_private(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.sync_all()?;
    File::open(folder)?.sync_all()
}

/// How the database would run a statement, one line a step. For tests of index use.
#[cfg(test)]
pub(crate) async fn query_plan(pool: &AnyPool, sql: &str, arguments: usize) -> Vec<String> {
    use sqlx::Row;
    let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
    let unbound = (0..arguments).fold(sqlx::query(explain), |query, _| query.bind(None::<String>));
    let rows = unbound.fetch_all(pool).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>("detail")).collect()
}
