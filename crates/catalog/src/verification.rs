//! Verifications: what was proved about a backup, and when. All are kept while the backup exists;
//! callers see the newest.

use jiff::Timestamp;
use serde_json::Value;
use sqlx::query;
use strongroom_core::Result;
use strongroom_core::id::BackupId;
use strongroom_core::job::{Fence, JobKind, JobState};
use strongroom_core::time::to_micros;
use strongroom_core::verification::Verification;

use crate::Catalog;
use crate::audit::AuditEvent;
use crate::fault::fenced;
use crate::job::end_in_tx;
use crate::row::to_json;
use crate::transaction::writing;

impl Catalog {
    /// Stores what a verification found and ends its job. Should the backup have gone meanwhile,
    /// only the job keeps the result.
    pub async fn verification_record(
        &self,
        fence: &Fence,
        id: &BackupId,
        verification: &Verification,
        result: &Value,
        now: Timestamp,
        audit: &AuditEvent,
    ) -> Result<()> {
        writing!(self, |tx| {
            let ended = end_in_tx(tx, fence, JobState::Succeeded, Some(result), None, now).await?;
            if ended.kind != JobKind::Verify || ended.backup_id.as_ref() != Some(id) {
                return Err(fenced());
            }
            query(
                "INSERT INTO verifications (job_id, backup_id, at, level, outcome, findings, drill)
                 SELECT $1, id, $3, $4, $5, $6, $7 FROM backups WHERE id = $2",
            )
            .bind(fence.job_id.as_str())
            .bind(id.as_str())
            .bind(to_micros(verification.at))
            .bind(verification.level.word())
            .bind(verification.outcome.word())
            .bind(to_json(&verification.findings)?)
            .bind(verification.drill.as_ref().map(to_json).transpose()?)
            .execute(&mut **tx)
            .await?;
            tx.note(audit)
        })
    }
}
