//! Backups as callers see them: rows, pages, lookups. Beginning, ending and removing them is in
//! `admission`, `publication` and `removal`.

mod admission;
mod page;
mod publication;
mod removal;

use sqlx::any::AnyRow;
use sqlx::query;
use strongroom_core::Result;
use strongroom_core::backup::{Backup, BackupState, BackupType};
use strongroom_core::engine::EngineKind;
use strongroom_core::id::{AttemptId, BackupId, InstanceId, JobId, LineageId, NodeId, ProjectId};
use strongroom_core::size::ByteSize;
use strongroom_core::text::{BackupName, Description};

use crate::Catalog;
use crate::fault::{Fault, damaged};
use crate::identity::project_id;
use crate::row::Columns;
use crate::transaction::reading;
use crate::verification::verification_from_row;

pub(crate) use admission::{admit_in_tx, check_admission};
pub use page::{BackupFilter, BackupSlice, Cursor};
pub use publication::Published;
pub(crate) use publication::fail_in_tx;
pub use removal::{Deletable, DeleteAdmitted};

/// A backup and its newest verification.
macro_rules! select_backup {
    ($($rest:literal),+) => {
        concat!(
            "SELECT b.id, b.project_id, b.instance_id, b.node_id, b.name, b.description, b.kind, b.state,
                 b.engine, b.engine_version, b.lineage_id, b.job_id, b.created, b.finished, b.attempt_id,
                 b.manifest_digest, b.source_bytes, b.stored_bytes, b.warnings, b.failure,
                 v.level AS verified_level, v.outcome AS verified_outcome, v.at AS verified_at,
                 v.findings AS verified_findings, v.drill AS verified_drill
             FROM backups b LEFT JOIN verifications v ON v.job_id = (
                 SELECT n.job_id FROM verifications n WHERE n.backup_id = b.id
                 ORDER BY n.at DESC, n.job_id DESC LIMIT 1) ",
            $($rest),+
        )
    };
}
pub(crate) use select_backup;

impl Catalog {
    pub async fn backup_find(&self, project: &ProjectId, id: &BackupId) -> Result<Option<Backup>> {
        reading!(self, |tx| {
            let select = select_backup!("WHERE b.id = $1 AND b.project_id = $2");
            let row =
                query(select).bind(id.as_str()).bind(project.as_str()).fetch_optional(&mut **tx).await?;
            row.as_ref().map(backup_from_row).transpose()
        })
    }

    /// The manual backup of this name, of which there is at most one; else the newest automated one.
    pub async fn backup_by_name(&self, project: &ProjectId, name: &BackupName) -> Result<Option<Backup>> {
        reading!(self, |tx| {
            let select = select_backup!(
                "WHERE b.id = COALESCE(
                     (SELECT m.id FROM backups m
                      WHERE m.project_id = $1 AND m.name = $2 AND m.kind = 'manual'),
                     (SELECT a.id FROM backups a
                      WHERE a.project_id = $1 AND a.name = $2 AND a.kind = 'auto'
                      ORDER BY a.created DESC, a.id DESC LIMIT 1))"
            );
            let row =
                query(select).bind(project.as_str()).bind(name.as_str()).fetch_optional(&mut **tx).await?;
            row.as_ref().map(backup_from_row).transpose()
        })
    }

    /// For workers, whose job names the backup.
    pub async fn backup_by_id(&self, id: &BackupId) -> Result<Option<Backup>> {
        reading!(self, |tx| {
            let select = select_backup!("WHERE b.id = $1");
            let row = query(select).bind(id.as_str()).fetch_optional(&mut **tx).await?;
            row.as_ref().map(backup_from_row).transpose()
        })
    }
}

fn backup_from_row(row: &AnyRow) -> Result<Backup, Fault> {
    let attempt_id = row
        .maybe_text("attempt_id")?
        .map(|text| AttemptId::parse(&text).map_err(|_| damaged("attempt_id", &text)));
    Ok(Backup {
        id: BackupId::from_stored(row.text("id")?),
        project_id: project_id(row, "project_id")?,
        instance_id: InstanceId::from_stored(row.text("instance_id")?),
        node_id: NodeId::from_stored(row.text("node_id")?),
        name: BackupName::from_stored(row.text("name")?),
        description: row.maybe_text("description")?.map(Description::from_stored),
        kind: row.word("kind", BackupType::from_word)?,
        state: row.word("state", BackupState::from_word)?,
        engine: row.word("engine", |word| EngineKind::parse(word).ok())?,
        engine_version: row.text("engine_version")?,
        lineage_id: LineageId::from_stored(row.text("lineage_id")?),
        job_id: JobId::from_stored(row.text("job_id")?),
        created: row.time("created")?,
        finished: row.maybe_time("finished")?,
        attempt_id: attempt_id.transpose()?,
        manifest_digest: row.maybe_text("manifest_digest")?,
        source_bytes: row.maybe_unsigned("source_bytes")?.map(ByteSize::new),
        stored_bytes: row.maybe_unsigned("stored_bytes")?.map(ByteSize::new),
        warnings: row.json("warnings")?,
        failure: row.maybe_json("failure")?,
        verification: verification_from_row(row)?,
    })
}
