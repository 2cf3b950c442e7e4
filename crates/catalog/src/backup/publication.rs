//! The end of building: COMPLETED after the verdict, or FAILED.

use jiff::Timestamp;
use serde_json::json;
use sqlx::query;
use strongroom_core::Result;
use strongroom_core::backup::Failure;
use strongroom_core::id::{AttemptId, BackupId, JobId};
use strongroom_core::job::{Fence, JobState};
use strongroom_core::logs::LogPoint;
use strongroom_core::size::ByteSize;
use strongroom_core::time::to_micros;

use crate::audit::AuditEvent;
use crate::fault::{Fault, fenced};
use crate::job::end_in_tx;
use crate::row::{to_integer, to_json};
use crate::transaction::writing;
use crate::{Catalog, Tx};

/// What the sealed attempt amounts to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    pub attempt: AttemptId,
    /// Hex.
    pub manifest_digest: String,
    pub source_bytes: ByteSize,
    pub stored_bytes: ByteSize,
    pub warnings: Vec<String>,
    pub finished: Timestamp,
    /// From where log leads on from it.
    pub log: Option<LogPoint>,
}

impl Catalog {
    /// BUILDING → COMPLETED, after the verdict was sealed: backup, job and audit together.
    /// `Fenced` when another worker owns the job or the backup has ended already.
    pub async fn backup_publish(
        &self,
        fence: &Fence,
        id: &BackupId,
        published: &Published,
        audit: &AuditEvent,
    ) -> Result<()> {
        let result = json!({ "manifest_digest": published.manifest_digest });
        writing!(self, |tx| {
            end_in_tx(tx, fence, JobState::Succeeded, Some(&result), None, published.finished).await?;
            complete_in_tx(tx, id, &fence.job_id, published).await?;
            tx.note(audit)
        })
    }
}

async fn complete_in_tx(tx: &mut Tx, id: &BackupId, job: &JobId, published: &Published) -> Result<(), Fault> {
    let changed = query(
        "UPDATE backups SET
             state = 'completed', finished = $3, attempt_id = $4, manifest_digest = $5,
             source_bytes = $6, stored_bytes = $7, warnings = $8,
             log_stream = $9, log_file = $10, log_offset = $11
         WHERE id = $1 AND job_id = $2 AND state = 'building'",
    )
    .bind(id.as_str())
    .bind(job.as_str())
    .bind(to_micros(published.finished))
    .bind(published.attempt.to_string())
    .bind(published.manifest_digest.as_str())
    .bind(to_integer(published.source_bytes.bytes())?)
    .bind(to_integer(published.stored_bytes.bytes())?)
    .bind(to_json(&published.warnings)?)
    .bind(published.log.as_ref().map(|point| point.stream.as_str()))
    .bind(published.log.as_ref().map(|point| to_integer(point.position.file)).transpose()?)
    .bind(published.log.as_ref().map(|point| to_integer(point.position.offset)).transpose()?)
    .execute(&mut **tx)
    .await?;
    require_one(changed.rows_affected())
}

/// BUILDING → FAILED, in the transaction that ends the backup's job.
pub(crate) async fn fail_in_tx(
    tx: &mut Tx,
    id: &BackupId,
    job: &JobId,
    failure: &Failure,
    now: Timestamp,
) -> Result<(), Fault> {
    let changed = query(
        "UPDATE backups SET state = 'failed', finished = $3, failure = $4
         WHERE id = $1 AND job_id = $2 AND state = 'building'",
    )
    .bind(id.as_str())
    .bind(job.as_str())
    .bind(to_micros(now))
    .bind(to_json(failure)?)
    .execute(&mut **tx)
    .await?;
    require_one(changed.rows_affected())
}

/// No row means that the backup was not ours to end.
fn require_one(changed: u64) -> Result<(), Fault> {
    if changed == 1 { Ok(()) } else { Err(fenced()) }
}
