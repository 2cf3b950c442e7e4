//! The birth of a backup: row, job, quota and audit in one transaction, or nothing.
//!
//! What callers are told first is looked up here; what two callers at once may do is decided by
//! the unique indexes and by the quota's row.

use sqlx::query;
use strongroom_core::backup::{Backup, BackupState, BackupType};
use strongroom_core::job::{Job, JobKind};
use strongroom_core::text::Description;
use strongroom_core::time::to_micros;
use strongroom_core::{Error, ErrorKind, Result};

use crate::audit::AuditEvent;
use crate::dialect::{Spelled, select_for_update};
use crate::fault::Fault;
use crate::hints::tell_workers_in_tx;
use crate::job::insert_job;
use crate::row::{Columns, to_json};
use crate::transaction::writing_work;
use crate::{Catalog, Inner, Tx, instance, job, quota};

impl Catalog {
    /// Stores a backup (BUILDING) and its job (ready). Answers, in this order, `InstanceNotFound`,
    /// `BackupInProgress`, `BackupNameTaken`, `QuotaExceeded`; then nothing was stored.
    pub async fn backup_admit(&self, backup: &Backup, job: &Job, audit: &AuditEvent) -> Result<()> {
        check_admission(backup, job)?;
        writing_work!(self, |tx| admit_in_tx(tx, &self.inner, backup, job, audit).await)
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

/// Stores backup, job and audit.
pub(crate) async fn admit_in_tx(
    tx: &mut Tx,
    inner: &Inner,
    backup: &Backup,
    job: &Job,
    audit: &AuditEvent,
) -> Result<(), Fault> {
    refuse_in_tx(tx, inner, backup).await?;
    insert_in_tx(tx, inner, backup, job).await?;
    tell_workers_in_tx(tx, inner).await?;
    if backup.kind == BackupType::Manual {
        quota::take_in_tx(tx, &backup.project_id).await?;
    }
    tx.note(audit)
}

/// Locks the instance. Whoever had to wait for the lock may not see what its holder did meanwhile: then
/// the unique indexes refuse, with the same words.
const LOOK: Spelled = select_for_update!(
    "SELECT i.state,
         (SELECT b.id FROM backups b WHERE b.instance_id = i.id AND b.state = 'building') AS building,
         (SELECT n.id FROM backups n
          WHERE n.project_id = i.project_id AND n.name = $3 AND n.kind = 'manual') AS holder
     FROM instances i WHERE i.id = $1 AND i.project_id = $2"
);

async fn refuse_in_tx(tx: &mut Tx, inner: &Inner, backup: &Backup) -> Result<(), Fault> {
    let name = (backup.kind == BackupType::Manual).then(|| backup.name.as_str());
    let found = query(inner.dialect.spell(LOOK))
        .bind(backup.instance_id.as_str())
        .bind(backup.project_id.as_str())
        .bind(name)
        .fetch_optional(&mut **tx)
        .await?;
    let found = instance::live(found.as_ref())?;
    if found.maybe_text("building")?.is_some() {
        return Err(Error::new(
            ErrorKind::BackupInProgress,
            "A backup of this instance is being built already; nothing was stored.",
        )
        .with_hint("Wait for its end, or cancel its job.")
        .into());
    }
    if found.maybe_text("holder")?.is_some() {
        return Err(Error::new(
            ErrorKind::BackupNameTaken,
            "A backup of this name exists in the project; nothing was stored.",
        )
        .with_hint("Choose another name, or delete the backup that has it.")
        .into());
    }
    Ok(())
}

/// The job's row is `job::insert_job`'s, with the same places; both rows go the way to the database together.
macro_rules! backup_row {
    () => {
        "INSERT INTO backups
             (id, project_id, instance_id, node_id, name, description, kind, state, engine, engine_version,
              lineage_id, job_id, created, warnings)
         VALUES ($4, $2, $5, $10, $11, $12, $13, 'building', $14, $15, $16, $1, $17, $18)"
    };
}
const INSERT: Spelled = Spelled {
    sqlite: concat!(insert_job!(), ";", backup_row!()),
    postgres: concat!("WITH job AS (", insert_job!(), ") ", backup_row!()),
};

async fn insert_in_tx(tx: &mut Tx, inner: &Inner, backup: &Backup, job: &Job) -> Result<(), Fault> {
    job::bound(query(inner.dialect.spell(INSERT)), job)?
        .bind(backup.node_id.as_str())
        .bind(backup.name.as_str())
        .bind(backup.description.as_ref().map(Description::as_str))
        .bind(backup.kind.word())
        .bind(backup.engine.word())
        .bind(backup.engine_version.as_str())
        .bind(backup.lineage_id.as_str())
        .bind(to_micros(backup.created))
        .bind(to_json(&backup.warnings)?)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
