//! Backups as callers see them: rows, pages, lookups. Beginning, ending and removing them is in
//! `admission`, `publication` and `removal`.

mod admission;
mod page;
mod publication;
mod removal;

use std::borrow::Cow;

use serde::Deserialize;
use sqlx::any::AnyRow;
use sqlx::query;
use strongroom_core::Result;
use strongroom_core::backup::{Backup, BackupState, BackupType};
use strongroom_core::engine::EngineKind;
use strongroom_core::id::{AttemptId, BackupId, InstanceId, JobId, LineageId, NodeId, ProjectId};
use strongroom_core::size::ByteSize;
use strongroom_core::text::{BackupName, Description};
use strongroom_core::time::from_micros;
use strongroom_core::verification::{Level, Outcome, Verification};

use crate::Catalog;
use crate::dialect::Spelled;
use crate::fault::{Fault, damaged};
use crate::row::{Columns, json_of, word_of};
use crate::transaction::asking;

pub(crate) use admission::{admit_in_tx, check_admission};
pub use page::{BackupFilter, BackupSlice, Cursor};
pub use publication::Published;
pub(crate) use publication::fail_in_tx;
pub use removal::{Deletable, DeleteAdmitted};

/// A backup and its newest verification, as one column: a document with a [`StoredBackup`]. What a
/// row costs on its way from the database is counted in columns, and lists are long.
macro_rules! select_backup {
    ($($rest:expr),+) => {
        $crate::dialect::Spelled {
            sqlite: $crate::backup::select_backup!(@ "json_object", $($rest),+),
            postgres: $crate::backup::select_backup!(@ "json_build_object", $($rest),+),
        }
    };
    (@ $object:literal, $($rest:expr),+) => {
        concat!(
            "SELECT CAST(", $object, "('id', b.id, 'project_id', b.project_id, 'instance_id', b.instance_id,
                 'node_id', b.node_id, 'name', b.name, 'description', b.description, 'kind', b.kind,
                 'state', b.state, 'engine', b.engine, 'engine_version', b.engine_version,
                 'lineage_id', b.lineage_id, 'job_id', b.job_id, 'created', b.created,
                 'finished', b.finished, 'attempt_id', b.attempt_id, 'manifest_digest', b.manifest_digest,
                 'source_bytes', b.source_bytes, 'stored_bytes', b.stored_bytes, 'warnings', b.warnings,
                 'failure', b.failure, 'verified_level', v.level, 'verified_outcome', v.outcome,
                 'verified_at', v.at, 'verified_findings', v.findings, 'verified_drill', v.drill) AS TEXT)
                 AS backup
             FROM backups b LEFT JOIN verifications v ON v.job_id = (
                 SELECT n.job_id FROM verifications n WHERE n.backup_id = b.id
                 ORDER BY n.at DESC, n.job_id DESC LIMIT 1) ",
            $($rest),+
        )
    };
}
pub(crate) use select_backup;

/// A page of backups as one column of one row, a line for each. The order of lines is nobody's promise.
/// What follows `and` stands beside them in the row.
macro_rules! select_backups {
    (and $beside:expr; $($rest:expr),+) => {
        $crate::dialect::Spelled {
            sqlite: concat!(
                "SELECT group_concat(backup, char(10)) AS backups", $beside, " FROM (",
                $crate::backup::select_backup!(@ "json_object", $($rest),+),
                ") AS page"
            ),
            postgres: concat!(
                "SELECT string_agg(backup, chr(10)) AS backups", $beside, " FROM (",
                $crate::backup::select_backup!(@ "json_build_object", $($rest),+),
                ") AS page"
            ),
        }
    };
    ($($rest:expr),+) => {
        $crate::backup::select_backups!(and ""; $($rest),+)
    };
}
pub(crate) use select_backups;

/// The columns of a backup in the forms they are stored in; documents within are texts still.
#[derive(Deserialize)]
struct StoredBackup<'a> {
    id: String,
    project_id: String,
    instance_id: String,
    node_id: String,
    name: String,
    description: Option<String>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    state: Cow<'a, str>,
    #[serde(borrow)]
    engine: Cow<'a, str>,
    engine_version: String,
    lineage_id: String,
    job_id: String,
    created: i64,
    finished: Option<i64>,
    #[serde(borrow)]
    attempt_id: Option<Cow<'a, str>>,
    manifest_digest: Option<String>,
    source_bytes: Option<u64>,
    stored_bytes: Option<u64>,
    #[serde(borrow)]
    warnings: Cow<'a, str>,
    #[serde(borrow)]
    failure: Option<Cow<'a, str>>,
    /// All of these are there, or none is.
    #[serde(borrow)]
    verified_level: Option<Cow<'a, str>>,
    #[serde(borrow)]
    verified_outcome: Option<Cow<'a, str>>,
    verified_at: Option<i64>,
    #[serde(borrow)]
    verified_findings: Option<Cow<'a, str>>,
    #[serde(borrow)]
    verified_drill: Option<Cow<'a, str>>,
}

impl Catalog {
    pub async fn backup_find(&self, project: &ProjectId, id: &BackupId) -> Result<Option<Backup>> {
        asking!(self, |tx| {
            const SELECT: Spelled = select_backup!("WHERE b.id = $1 AND b.project_id = $2");
            let row = query(self.inner.dialect.spell(SELECT))
                .bind(id.as_str())
                .bind(project.as_str())
                .fetch_optional(&mut **tx)
                .await?;
            row.as_ref().map(backup_from_row).transpose()
        })
    }

    /// The manual backup of this name, of which there is at most one; else the newest automated one.
    pub async fn backup_by_name(&self, project: &ProjectId, name: &BackupName) -> Result<Option<Backup>> {
        asking!(self, |tx| {
            const SELECT: Spelled = select_backup!(
                "WHERE b.id = COALESCE(
                     (SELECT m.id FROM backups m
                      WHERE m.project_id = $1 AND m.name = $2 AND m.kind = 'manual'),
                     (SELECT a.id FROM backups a
                      WHERE a.project_id = $1 AND a.name = $2 AND a.kind = 'auto'
                      ORDER BY a.created DESC, a.id DESC LIMIT 1))"
            );
            let row = query(self.inner.dialect.spell(SELECT))
                .bind(project.as_str())
                .bind(name.as_str())
                .fetch_optional(&mut **tx)
                .await?;
            row.as_ref().map(backup_from_row).transpose()
        })
    }

    /// For workers, whose job names the backup.
    pub async fn backup_by_id(&self, id: &BackupId) -> Result<Option<Backup>> {
        asking!(self, |tx| {
            const SELECT: Spelled = select_backup!("WHERE b.id = $1");
            let row =
                query(self.inner.dialect.spell(SELECT)).bind(id.as_str()).fetch_optional(&mut **tx).await?;
            row.as_ref().map(backup_from_row).transpose()
        })
    }
}

/// Newest first, equal times by id.
fn backups_from_row(row: &AnyRow) -> Result<Vec<Backup>, Fault> {
    let lines = row.maybe_text("backups")?.unwrap_or_default();
    let mut backups: Vec<Backup> = lines.lines().map(backup_from_text).collect::<Result<_, Fault>>()?;
    backups.sort_by(|one, other| (other.created, &other.id).cmp(&(one.created, &one.id)));
    Ok(backups)
}

fn backup_from_row(row: &AnyRow) -> Result<Backup, Fault> {
    backup_from_text(&row.text("backup")?)
}

fn backup_from_text(text: &str) -> Result<Backup, Fault> {
    let stored: StoredBackup<'_> =
        serde_json::from_str(text).map_err(|error| damaged("backup", &error.to_string()))?;
    let attempt_id =
        stored.attempt_id.map(|id| AttemptId::parse(&id).map_err(|_| damaged("attempt_id", &id)));
    Ok(Backup {
        project_id: ProjectId::parse(&stored.project_id)
            .map_err(|_| damaged("project_id", &stored.project_id))?,
        id: BackupId::from_stored(stored.id),
        instance_id: InstanceId::from_stored(stored.instance_id),
        node_id: NodeId::from_stored(stored.node_id),
        name: BackupName::from_stored(stored.name),
        description: stored.description.map(Description::from_stored),
        kind: word_of("kind", &stored.kind, BackupType::from_word)?,
        state: word_of("state", &stored.state, BackupState::from_word)?,
        engine: word_of("engine", &stored.engine, |word| EngineKind::parse(word).ok())?,
        engine_version: stored.engine_version,
        lineage_id: LineageId::from_stored(stored.lineage_id),
        job_id: JobId::from_stored(stored.job_id),
        created: from_micros(stored.created),
        finished: stored.finished.map(from_micros),
        attempt_id: attempt_id.transpose()?,
        manifest_digest: stored.manifest_digest,
        source_bytes: stored.source_bytes.map(ByteSize::new),
        stored_bytes: stored.stored_bytes.map(ByteSize::new),
        warnings: json_of("warnings", &stored.warnings)?,
        failure: stored.failure.map(|failure| json_of("failure", &failure)).transpose()?,
        verification: match stored.verified_at {
            None => None,
            Some(at) => Some(Verification {
                level: word_of("level", word(stored.verified_level.as_deref()), |word| {
                    Level::parse(word).ok()
                })?,
                outcome: word_of("outcome", word(stored.verified_outcome.as_deref()), Outcome::from_word)?,
                at: from_micros(at),
                findings: json_of("findings", word(stored.verified_findings.as_deref()))?,
                drill: stored.verified_drill.map(|drill| json_of("drill", &drill)).transpose()?,
            }),
        },
    })
}

/// What must be there, or else is no word of ours.
fn word(column: Option<&str>) -> &str {
    column.unwrap_or_default()
}
