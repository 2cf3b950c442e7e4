//! How many manual backups a project has and may have: one row a project, changed with the backups.

use sqlx::query;
use strongroom_core::id::ProjectId;
use strongroom_core::{Error, ErrorKind, Result};

use crate::fault::Fault;
use crate::transaction::writing;
use crate::{Catalog, Tx};

impl Catalog {
    /// Sets the limit of a project; one below what exists removes nothing and admits nothing.
    pub async fn project_quota_put(&self, project: &ProjectId, limit: Option<i64>) -> Result<()> {
        writing!(self, |tx| {
            query("UPDATE quotas SET manual_backups_max = $2 WHERE project_id = $1")
                .bind(project.as_str())
                .bind(limit)
                .execute(&mut **tx)
                .await?;
            Ok(())
        })
    }
}

pub(crate) async fn create_in_tx(tx: &mut Tx, project: &ProjectId, limit: Option<i64>) -> Result<(), Fault> {
    query("INSERT INTO quotas (project_id, manual_backups_max, manual_backups) VALUES ($1, $2, 0)")
        .bind(project.as_str())
        .bind(limit)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Takes one; the row's lock makes the count exact under any number of callers.
pub(crate) async fn take_in_tx(tx: &mut Tx, project: &ProjectId) -> Result<(), Fault> {
    let taken = query(
        "UPDATE quotas SET manual_backups = manual_backups + 1
         WHERE project_id = $1 AND (manual_backups_max IS NULL OR manual_backups < manual_backups_max)",
    )
    .bind(project.as_str())
    .execute(&mut **tx)
    .await?;
    if taken.rows_affected() == 1 {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::QuotaExceeded,
        "The project has as many manual backups as it may; nothing was stored.",
    )
    .with_hint("Delete a manual backup, or ask the operator for a larger quota.")
    .into())
}

pub(crate) async fn give_back_in_tx(tx: &mut Tx, project: &ProjectId) -> Result<(), Fault> {
    query("UPDATE quotas SET manual_backups = manual_backups - 1 WHERE project_id = $1")
        .bind(project.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}
