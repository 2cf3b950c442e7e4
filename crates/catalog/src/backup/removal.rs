//! The end of a backup: DELETING with a job of its own, then gone.

use jiff::Timestamp;
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{query, query_scalar};
use strongroom_core::backup::{BackupEvent, BackupState, BackupType};
use strongroom_core::id::{BackupId, JobId, ProjectId};
use strongroom_core::job::{Fence, Job, JobKind, JobState};
use strongroom_core::time::to_micros;
use strongroom_core::{Error, ErrorKind, Result};

use crate::audit::AuditEvent;
use crate::dialect::{Spelled, select_for_update};
use crate::fault::{Fault, fenced};
use crate::identity::project_id;
use crate::job::{self, end_in_tx};
use crate::row::Columns;
use crate::transaction::writing;
use crate::{Catalog, Tx, quota};

/// Which backups a caller may delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletable {
    /// The published dialects know of manual ones only (contract 3.3, 3.11).
    Manual,
    /// What a person asks for is obeyed, whatever a rule would keep.
    Any,
}

/// A delete that was taken on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteAdmitted {
    /// The job that removes the backup; an earlier one when the backup was DELETING already.
    pub job_id: JobId,
}

const LOCK: Spelled =
    select_for_update!("SELECT project_id, kind, state FROM backups WHERE id = $1 AND project_id = $2");
const LOCK_ANY: Spelled = select_for_update!("SELECT project_id, kind, state FROM backups WHERE id = $1");

impl Catalog {
    /// COMPLETED or FAILED → DELETING, with `job` to do it. DELETING answers as the first time.
    pub async fn backup_delete_admit(
        &self,
        project: &ProjectId,
        id: &BackupId,
        deletable: Deletable,
        job: &Job,
        audit: &AuditEvent,
    ) -> Result<DeleteAdmitted> {
        if job.kind != JobKind::Delete || job.backup_id.as_ref() != Some(id) {
            return Err(Error::internal("a backup is deleted by a job of its own"));
        }
        writing!(self, |tx| {
            let lock = query(self.inner.dialect.spell(LOCK)).bind(id.as_str()).bind(project.as_str());
            let row = lock.fetch_optional(&mut **tx).await?.ok_or_else(not_found)?;
            let found = Removable::from_row(&row)?;
            if found.kind == BackupType::Auto && deletable == Deletable::Manual {
                return Err(not_manual().into());
            }
            let next = found.state.transition(BackupEvent::DeleteAsked)?;
            if let Some(job_id) = live_delete_in_tx(tx, id).await? {
                return Ok(DeleteAdmitted { job_id });
            }
            refuse_held_in_tx(tx, id).await?;
            job::insert_in_tx(tx, &self.inner, job).await?;
            query("UPDATE backups SET state = $3 WHERE id = $1 AND state = $2")
                .bind(id.as_str())
                .bind(found.state.word())
                .bind(next.word())
                .execute(&mut **tx)
                .await?;
            tx.note(audit)?;
            Ok(DeleteAdmitted { job_id: job.id.clone() })
        })
    }

    /// DELETING → gone: the row, the quota it used, its job. The tombstone stands already.
    pub async fn backup_remove(
        &self,
        fence: &Fence,
        id: &BackupId,
        audit: &AuditEvent,
        now: Timestamp,
    ) -> Result<()> {
        writing!(self, |tx| {
            let ended = end_in_tx(tx, fence, JobState::Succeeded, Some(&json!({})), None, now).await?;
            if ended.kind != JobKind::Delete || ended.backup_id.as_ref() != Some(id) {
                return Err(fenced());
            }
            let lock = query(self.inner.dialect.spell(LOCK_ANY)).bind(id.as_str());
            let row = lock.fetch_optional(&mut **tx).await?.ok_or_else(fenced)?;
            let found = Removable::from_row(&row)?;
            if found.state != BackupState::Deleting {
                return Err(fenced());
            }
            erase_in_tx(tx, id, &found).await?;
            tx.note(audit)
        })
    }

    /// Takes the row of a backup away that was forgotten in the repository directly; says whether
    /// there was one. `project` narrows the search; `None` is for the operator.
    pub async fn backup_forget_row(
        &self,
        project: Option<&ProjectId>,
        id: &BackupId,
        audit: &AuditEvent,
        now: Timestamp,
    ) -> Result<bool> {
        writing!(self, |tx| {
            let owner = "SELECT project_id FROM backups WHERE id = $1 AND ($2 IS NULL OR project_id = $2)";
            let owned = query(owner).bind(id.as_str()).bind(project.map(ProjectId::as_str));
            if owned.fetch_optional(&mut **tx).await?.is_none() {
                return Ok(false);
            }
            // Jobs are locked before backups; should the row be refused below, this is undone too.
            end_delete_in_tx(tx, id, now).await?;
            let lock = query(self.inner.dialect.spell(LOCK_ANY)).bind(id.as_str());
            let Some(row) = lock.fetch_optional(&mut **tx).await? else {
                return Ok(false);
            };
            let found = Removable::from_row(&row)?;
            found.state.transition(BackupEvent::DeleteAsked)?;
            refuse_held_in_tx(tx, id).await?;
            erase_in_tx(tx, id, &found).await?;
            tx.note(audit)?;
            Ok(true)
        })
    }
}

/// What decides whether and how a backup goes.
struct Removable {
    project_id: ProjectId,
    kind: BackupType,
    state: BackupState,
}

impl Removable {
    fn from_row(row: &AnyRow) -> Result<Self, Fault> {
        Ok(Self {
            project_id: project_id(row, "project_id")?,
            kind: row.word("kind", BackupType::from_word)?,
            state: row.word("state", BackupState::from_word)?,
        })
    }
}

fn not_found() -> Error {
    Error::new(ErrorKind::BackupNotFound, "There is no such backup in the project.")
}

fn not_manual() -> Error {
    Error::new(
        ErrorKind::BackupNotManual,
        "An automated backup cannot be deleted by this call; nothing was changed.",
    )
    .with_hint(
        "it goes by its policy (`strongroom policy show --explain`), or with `strongroom backup delete`",
    )
}

async fn refuse_held_in_tx(tx: &mut Tx, id: &BackupId) -> Result<(), Fault> {
    let select = "SELECT COUNT(*) FROM holds WHERE backup_id = $1";
    let holds: i64 = query_scalar(select).bind(id.as_str()).fetch_one(&mut **tx).await?;
    if holds == 0 {
        return Ok(());
    }
    Err(Error::new(ErrorKind::BackupHeld, "A legal hold stands on the backup; nothing was changed.")
        .with_hint("Release the hold first.")
        .into())
}

async fn live_delete_in_tx(tx: &mut Tx, id: &BackupId) -> Result<Option<JobId>, Fault> {
    let select = "SELECT id FROM jobs WHERE backup_id = $1 AND kind = 'delete' AND finished IS NULL";
    let job: Option<String> = query_scalar(select).bind(id.as_str()).fetch_optional(&mut **tx).await?;
    Ok(job.map(JobId::from_stored))
}

/// Ends a delete that somebody else has done; a worker that holds it is fenced.
async fn end_delete_in_tx(tx: &mut Tx, id: &BackupId, now: Timestamp) -> Result<(), Fault> {
    query(
        "UPDATE jobs SET
             state = 'succeeded', worker_id = NULL, lease_until = NULL, finished = $2, failure = NULL
         WHERE backup_id = $1 AND kind = 'delete' AND finished IS NULL",
    )
    .bind(id.as_str())
    .bind(to_micros(now))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Takes away the row and what hangs on it, and gives the quota back.
async fn erase_in_tx(tx: &mut Tx, id: &BackupId, found: &Removable) -> Result<(), Fault> {
    query("DELETE FROM verifications WHERE backup_id = $1").bind(id.as_str()).execute(&mut **tx).await?;
    query("DELETE FROM backups WHERE id = $1").bind(id.as_str()).execute(&mut **tx).await?;
    if found.kind == BackupType::Manual {
        quota::give_back_in_tx(tx, &found.project_id).await?;
    }
    Ok(())
}
