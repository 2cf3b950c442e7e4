//! A backup becomes another attempt of the same content (decision 0040).

use sqlx::{query, query_scalar};
use strongroom_core::Result;
use strongroom_core::id::{AttemptId, BackupId};
use strongroom_core::job::Fence;

use super::{fenced_query, of_fence};
use crate::Catalog;
use crate::audit::AuditEvent;
use crate::fault::{damaged, fenced};
use crate::transaction::writing;

/// What a backup is to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    pub backup: BackupId,
    pub from: AttemptId,
    pub to: AttemptId,
    /// Of the manifest of `to`, hex.
    pub manifest_digest: String,
}

/// What a backup is after that was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// This attempt, whether or not it is about to be deleted.
    Is(AttemptId),
    /// It has none: it is no COMPLETED backup and never was.
    None,
    Gone,
}

impl Catalog {
    /// Moves a COMPLETED backup from one attempt to another, if it is that one still. Answers what it is
    /// then. `Fenced` when another worker owns the job, and nothing has changed.
    pub async fn backup_move(&self, fence: &Fence, to: &Move, audit: &AuditEvent) -> Result<Moved> {
        writing!(self, |tx| {
            let own = concat!("UPDATE jobs SET epoch = epoch", of_fence!());
            if fenced_query(own, fence).execute(&mut **tx).await?.rows_affected() != 1 {
                return Err(fenced());
            }
            let update = "UPDATE backups SET attempt_id = $3, manifest_digest = $4
                 WHERE id = $1 AND attempt_id = $2 AND state = 'completed'";
            let moved = query(update)
                .bind(to.backup.as_str())
                .bind(to.from.to_string())
                .bind(to.to.to_string())
                .bind(to.manifest_digest.as_str())
                .execute(&mut **tx)
                .await?;
            if moved.rows_affected() == 1 {
                tx.note(audit)?;
            }
            let select = "SELECT COALESCE(attempt_id, '') FROM backups WHERE id = $1";
            let now: Option<String> =
                query_scalar(select).bind(to.backup.as_str()).fetch_optional(&mut **tx).await?;
            Ok(match now.as_deref() {
                None => Moved::Gone,
                Some("") => Moved::None,
                Some(text) => Moved::Is(AttemptId::parse(text).map_err(|_| damaged("attempt_id", text))?),
            })
        })
    }
}
