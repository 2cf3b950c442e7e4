//! What a first start stores, and how several processes take turns at it.
//!
//! Two servers may be started at once on one empty database of PostgreSQL. A turn is a lock that
//! belongs to a session: whoever dies in its turn loses it, and the next one finds either
//! everything or nothing of a first start.

use jiff::Timestamp;
use secrecy::SecretString;
use sqlx::{AnyConnection, Connection, Executor, query, query_scalar};
use strongroom_core::{Error, ErrorKind, Result};

use crate::access_key::access_key_create_in_tx;
use crate::audit::AuditEvent;
use crate::dialect::{Dialect, TURN_LOCK, TURN_SETTINGS};
use crate::fault::Fault;
use crate::identity::{AccessKey, Project, Role, User, project_create_in_tx};
use crate::setting::{KEY_CHECK, REPOSITORY_ID, setting_in_tx, setting_put_in_tx};
use crate::token::{TokenRow, token_create_in_tx};
use crate::transaction::writing;
use crate::user::{role_assign_in_tx, user_create_in_tx};
use crate::{Catalog, migration};

/// The first project, its administrator, what lets them in, and the repository they belong to.
#[derive(Debug)]
pub struct FirstRows<'a> {
    pub project: &'a Project,
    pub user: &'a User,
    pub token: &'a TokenRow,
    pub access_key: &'a AccessKey,
    pub access_secret: &'a SecretString,
    pub repository_id: &'a str,
    pub audit: &'a [AuditEvent],
}

impl Catalog {
    /// Stores all of a first start, or nothing. A catalog that had one is left as it is.
    pub async fn first_start(&self, rows: &FirstRows<'_>, now: Timestamp) -> Result<()> {
        writing!(self, |tx| {
            if setting_in_tx(tx, REPOSITORY_ID).await?.is_some() {
                return Err(Error::new(
                    ErrorKind::TargetNotEmpty,
                    "The catalog had its first start already; nothing was changed.",
                )
                .into());
            }
            project_create_in_tx(tx, rows.project, now).await?;
            user_create_in_tx(tx, rows.user, now).await?;
            role_assign_in_tx(tx, &rows.user.id, &rows.project.id, Role::Admin, now).await?;
            token_create_in_tx(tx, rows.token).await?;
            access_key_create_in_tx(tx, &self.inner, rows.access_key, rows.access_secret).await?;
            setting_put_in_tx(tx, REPOSITORY_ID, rows.repository_id, now).await?;
            for event in rows.audit {
                tx.note(event)?;
            }
            Ok(())
        })
    }
}

/// Nobody else makes a first start on this database while this lives.
#[derive(Debug)]
pub struct FirstStartTurn {
    connection: AnyConnection,
}

impl FirstStartTurn {
    /// Waits for the turn, at most a minute, and brings the database to the newest shape. For
    /// databases of PostgreSQL; a file has the lock of its data directory.
    pub async fn take(url: &str) -> Result<Self> {
        let (pool, _) = Dialect::of(url)?.connect(url).await?;
        let mut connection = pool.acquire().await.map_err(Fault::from)?.detach();
        connection.execute(sqlx::raw_sql(TURN_SETTINGS)).await.map_err(Fault::from)?;
        connection.execute(sqlx::raw_sql(TURN_LOCK)).await.map_err(|cause| {
            Error::new(
                ErrorKind::Unavailable,
                "Another process is making the first start on this catalog and does not come to an end.",
            )
            .with_hint("Look at that process, then start this one again; nothing was changed.")
            .with_source(cause)
        })?;
        migration::run(&pool).await?;
        pool.close().await;
        Ok(Self { connection })
    }

    /// Whether the first start is still to be made. What a killed one may have left is taken away:
    /// the check of its key, which may be lost with it.
    pub async fn is_due(&mut self) -> Result<bool> {
        let known: Option<String> = query_scalar("SELECT value FROM settings WHERE name = $1")
            .bind(REPOSITORY_ID)
            .fetch_optional(&mut self.connection)
            .await
            .map_err(Fault::from)?;
        if known.is_some() {
            return Ok(false);
        }
        query("DELETE FROM settings WHERE name = $1")
            .bind(KEY_CHECK)
            .execute(&mut self.connection)
            .await
            .map_err(Fault::from)?;
        Ok(true)
    }

    /// Gives the turn to the next one.
    pub async fn end(self) -> Result<()> {
        Ok(self.connection.close().await.map_err(Fault::from)?)
    }
}
