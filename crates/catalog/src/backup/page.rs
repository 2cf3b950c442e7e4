//! Lists of backups: newest first, page by page, at a cost that does not grow with the depth.

use std::fmt;

use jiff::Timestamp;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, query};
use strongroom_core::backup::{Backup, BackupState, BackupType};
use strongroom_core::id::{BackupId, InstanceId, ProjectId};
use strongroom_core::time::{from_micros, to_micros};
use strongroom_core::{Error, Field, Result};

use super::{backup_from_row, select_backup};
use crate::Catalog;
use crate::row::Columns;
use crate::transaction::reading;

/// Which backups to list; an absent field lets all through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackupFilter {
    pub instance: Option<InstanceId>,
    pub kind: Option<BackupType>,
    pub state: Option<BackupState>,
    /// Inclusive bounds of the time of creation.
    pub created_from: Option<Timestamp>,
    pub created_until: Option<Timestamp>,
}

/// The place after a backup in the list. Stays right while backups come and go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    created: Timestamp,
    id: BackupId,
}

impl Cursor {
    pub fn after(backup: &Backup) -> Self {
        Self { created: backup.created, id: backup.id.clone() }
    }

    /// Reads what `Display` wrote.
    pub fn parse(text: &str) -> Result<Self> {
        let refused = || Error::parameter(Field::Other, "after: must be the `next` of an earlier page");
        let (micros, id) = text.split_once('.').ok_or_else(refused)?;
        let micros: i64 = micros.parse().map_err(|_| refused())?;
        Ok(Self { created: from_micros(micros), id: BackupId::parse(id).map_err(|_| refused())? })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", to_micros(self.created), self.id)
    }
}

const PAGE: &str = select_backup!(
    "WHERE b.project_id = $1 AND (b.created, b.id) < ($2, $3)
         AND ($4 IS NULL OR b.kind = $4) AND ($5 IS NULL OR b.state = $5)
         AND b.created >= $6 AND b.created <= $7
     ORDER BY b.created DESC, b.id DESC LIMIT $8"
);
/// The project is asked of the instance, once: asked of each backup it would tempt SQLite into
/// walking all backups of the project.
const PAGE_OF_INSTANCE: &str = select_backup!(
    "WHERE b.instance_id = $9 AND (b.created, b.id) < ($2, $3)
         AND EXISTS (SELECT 1 FROM instances i WHERE i.id = $9 AND i.project_id = $1)
         AND ($4 IS NULL OR b.kind = $4) AND ($5 IS NULL OR b.state = $5)
         AND b.created >= $6 AND b.created <= $7
     ORDER BY b.created DESC, b.id DESC LIMIT $8"
);
const COUNT: &str = "SELECT COUNT(*) AS backups FROM backups
     WHERE project_id = $1 AND ($2 IS NULL OR instance_id = $2) AND ($3 IS NULL OR kind = $3)
         AND ($4 IS NULL OR state = $4) AND created >= $5 AND created <= $6";

impl Catalog {
    /// Up to `limit` backups that follow `after`, newest first, equal times by id.
    pub async fn backup_page(
        &self,
        project: &ProjectId,
        filter: &BackupFilter,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Vec<Backup>> {
        reading!(self, |tx| {
            let sql = if filter.instance.is_some() { PAGE_OF_INSTANCE } else { PAGE };
            let page = page_query(sql, project, filter, after, limit);
            let rows: Vec<AnyRow> = page.fetch_all(&mut **tx).await?;
            rows.iter().map(backup_from_row).collect()
        })
    }

    /// How many backups pass the filter.
    pub async fn backup_count(&self, project: &ProjectId, filter: &BackupFilter) -> Result<u64> {
        reading!(self, |tx| {
            let row = query(COUNT)
                .bind(project.as_str())
                .bind(filter.instance.as_ref().map(InstanceId::as_str))
                .bind(filter.kind.map(BackupType::word))
                .bind(filter.state.map(BackupState::word))
                .bind(filter.created_from.map_or(i64::MIN, to_micros))
                .bind(filter.created_until.map_or(i64::MAX, to_micros))
                .fetch_one(&mut **tx)
                .await?;
            row.unsigned("backups")
        })
    }
}

fn page_query<'q>(
    sql: &'static str,
    project: &'q ProjectId,
    filter: &'q BackupFilter,
    after: Option<&'q Cursor>,
    limit: u32,
) -> Query<'q, Any, AnyArguments> {
    // Nothing is newer than the end of time, so the first page needs no statement of its own.
    let (created, id) = after.map_or((i64::MAX, ""), |after| (to_micros(after.created), after.id.as_str()));
    let page = query(sql)
        .bind(project.as_str())
        .bind(created)
        .bind(id)
        .bind(filter.kind.map(BackupType::word))
        .bind(filter.state.map(BackupState::word))
        .bind(filter.created_from.map_or(i64::MIN, to_micros))
        .bind(filter.created_until.map_or(i64::MAX, to_micros))
        .bind(i64::from(limit));
    match &filter.instance {
        Some(instance) => page.bind(instance.as_str()),
        None => page,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{Dialect, query_plan};

    #[tokio::test]
    async fn a26_pages_walk_an_index_and_sort_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("catalog.db").display());
        let (pool, _) = Dialect::Sqlite.connect(&url).await.unwrap();
        crate::migration::run(&pool).await.unwrap();

        for (sql, arguments, index) in [(PAGE, 8, "backup_project"), (PAGE_OF_INSTANCE, 9, "backup_instance")]
        {
            let plan = query_plan(&pool, sql, arguments).await;
            let search =
                plan.iter().any(|line| line.contains("SEARCH b USING INDEX") && line.contains(index));
            let sorts = plan.iter().any(|line| line.contains("TEMP B-TREE"));
            let scans = plan.iter().any(|line| line.starts_with("SCAN"));
            assert!(search && !sorts && !scans, "{plan:#?}");
        }
    }

    #[test]
    fn cursors_come_back_as_they_were_and_nothing_else_is_taken() {
        let cursor =
            Cursor { created: from_micros(1_700_000_000_123_456), id: BackupId::from_stored("abcbr03") };
        assert_eq!(Cursor::parse(&cursor.to_string()).unwrap(), cursor);
        for bad in ["", "1", "x.abc", "1.", "1.a b", ".abc"] {
            assert!(Cursor::parse(bad).is_err(), "{bad:?}");
        }
    }
}
