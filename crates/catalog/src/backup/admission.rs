//! The birth of a backup: row, job, quota and audit in one transaction, or nothing.
//!
//! What callers are told first is looked up here; what two callers at once may do is decided by
//! the unique indexes and by the quota's row.

use sqlx::{query, query_scalar};
use strongroom_core::backup::{Backup, BackupState, BackupType};
use strongroom_core::id::InstanceId;
use strongroom_core::job::{Job, JobKind};
use strongroom_core::text::Description;
use strongroom_core::time::to_micros;
use strongroom_core::{Error, ErrorKind, Result};

use crate::audit::{AuditEvent, audit_in_tx};
use crate::fault::Fault;
use crate::row::to_json;
use crate::transaction::writing_work;
use crate::{Catalog, Inner, Tx, instance, job, quota};

impl Catalog {
    /// Stores a backup (BUILDING) and its job (ready). Answers, in this order, `InstanceNotFound`,
    /// `BackupInProgress`, `BackupNameTaken`, `QuotaExceeded`; then nothing was stored.
    pub async fn backup_admit(&self, backup: &Backup, job: &Job, audit: &AuditEvent) -> Result<()> {
        check_admission(backup, job)?;
        writing_work!(self, |tx| {
            instance::require_live_in_tx(tx, &self.inner, &backup.project_id, &backup.instance_id).await?;
            admit_in_tx(tx, &self.inner, backup, job, audit).await
        })
    }
}

/// A backup and a job that belong together.
pub(crate) fn check_admission(backup: &Backup, job: &Job) -> Result<()> {
    let belongs = job.kind == JobKind::Backup
        && job.id == backup.job_id
        && job.backup_id.as_ref() == Some(&backup.id)
        && job.instance_id.as_ref() == Some(&backup.instance_id)
        && job.project_id.as_ref() == Some(&backup.project_id);
    if belongs && backup.state == BackupState::Building {
        return Ok(());
    }
    Err(Error::internal("a backup is admitted BUILDING, with a job of its own"))
}

/// Stores backup, job and audit; the caller has locked the instance.
pub(crate) async fn admit_in_tx(
    tx: &mut Tx,
    inner: &Inner,
    backup: &Backup,
    job: &Job,
    audit: &AuditEvent,
) -> Result<(), Fault> {
    refuse_in_progress_in_tx(tx, &backup.instance_id).await?;
    let manual = backup.kind == BackupType::Manual;
    if manual {
        refuse_name_taken_in_tx(tx, backup).await?;
    }
    job::insert_in_tx(tx, inner, job).await?;
    insert_in_tx(tx, backup).await?;
    if manual {
        quota::take_in_tx(tx, &backup.project_id).await?;
    }
    audit_in_tx(tx, inner, audit).await
}

async fn refuse_in_progress_in_tx(tx: &mut Tx, instance: &InstanceId) -> Result<(), Fault> {
    let select = "SELECT id FROM backups WHERE instance_id = $1 AND state = 'building'";
    let building: Option<String> =
        query_scalar(select).bind(instance.as_str()).fetch_optional(&mut **tx).await?;
    match building {
        None => Ok(()),
        Some(_) => Err(Error::new(
            ErrorKind::BackupInProgress,
            "A backup of this instance is being built already; nothing was stored.",
        )
        .with_hint("Wait for its end, or cancel its job.")
        .into()),
    }
}

async fn refuse_name_taken_in_tx(tx: &mut Tx, backup: &Backup) -> Result<(), Fault> {
    let select = "SELECT id FROM backups WHERE project_id = $1 AND name = $2 AND kind = 'manual'";
    let holder: Option<String> = query_scalar(select)
        .bind(backup.project_id.as_str())
        .bind(backup.name.as_str())
        .fetch_optional(&mut **tx)
        .await?;
    match holder {
        None => Ok(()),
        Some(_) => Err(Error::new(
            ErrorKind::BackupNameTaken,
            "A backup of this name exists in the project; nothing was stored.",
        )
        .with_hint("Choose another name, or delete the backup that has it.")
        .into()),
    }
}

async fn insert_in_tx(tx: &mut Tx, backup: &Backup) -> Result<(), Fault> {
    query(
        "INSERT INTO backups
             (id, project_id, instance_id, node_id, name, description, kind, state, engine, engine_version,
              lineage_id, job_id, created, warnings)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 'building', $8, $9, $10, $11, $12, $13)",
    )
    .bind(backup.id.as_str())
    .bind(backup.project_id.as_str())
    .bind(backup.instance_id.as_str())
    .bind(backup.node_id.as_str())
    .bind(backup.name.as_str())
    .bind(backup.description.as_ref().map(Description::as_str))
    .bind(backup.kind.word())
    .bind(backup.engine.word())
    .bind(backup.engine_version.as_str())
    .bind(backup.lineage_id.as_str())
    .bind(backup.job_id.as_str())
    .bind(to_micros(backup.created))
    .bind(to_json(&backup.warnings)?)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
