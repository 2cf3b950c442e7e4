//! Lists of backups: newest first, page by page, at a cost that does not grow with the depth.

use std::fmt;

use jiff::Timestamp;
use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, query};
use strongroom_core::backup::{Backup, BackupState, BackupType};
use strongroom_core::id::{BackupId, InstanceId, ProjectId};
use strongroom_core::time::{from_micros, to_micros};
use strongroom_core::{Error, Field, Result};

use super::{backups_from_row, select_backups};
use crate::Catalog;
use crate::dialect::Spelled;
use crate::row::{Columns, to_integer};
use crate::transaction::asking;

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

const PAGE: Spelled = select_backups!(
    "WHERE b.project_id = $1 AND (b.created, b.id) < ($2, $3)
         AND ($4 IS NULL OR b.kind = $4) AND ($5 IS NULL OR b.state = $5)
         AND b.created >= $6 AND b.created <= $7
     ORDER BY b.created DESC, b.id DESC LIMIT $8"
);
/// The project is asked of the instance, once: asked of each backup it would tempt SQLite into
/// walking all backups of the project.
const PAGE_OF_INSTANCE: Spelled = select_backups!(
    "WHERE b.instance_id = $9 AND (b.created, b.id) < ($2, $3)
         AND EXISTS (SELECT 1 FROM instances i WHERE i.id = $9 AND i.project_id = $1)
         AND ($4 IS NULL OR b.kind = $4) AND ($5 IS NULL OR b.state = $5)
         AND b.created >= $6 AND b.created <= $7
     ORDER BY b.created DESC, b.id DESC LIMIT $8"
);

/// A part of a list by its place, and how long the whole list is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackupSlice {
    pub rows: Vec<Backup>,
    pub total: u64,
}

/// A part of a list. The first page walks the list's index and is read on the way. Later ones pass
/// their places over in the index, without a look at the rows unless a word of them is asked for: only
/// what is shown is read.
struct Slice {
    first: Spelled,
    later: Spelled,
}

/// A first page that is not full tells how long the list is; otherwise it is counted in the same
/// statement, which is one view.
macro_rules! slice_where {
    ($($which:literal),+) => {
        Slice {
            first: slice_where!(@ ($($which),+) "WHERE ", $($which),+,
                " ORDER BY b.created DESC, b.id DESC LIMIT $4 OFFSET $5"),
            later: slice_where!(@ ($($which),+) "WHERE b.id IN (SELECT b.id FROM backups b WHERE ", $($which),+,
                " ORDER BY b.created DESC, b.id DESC LIMIT $4 OFFSET $5)"),
        }
    };
    (@ ($($which:literal),+) $($page:literal),+) => {
        select_backups!(
            and concat!(
                ", CASE WHEN COUNT(*) < $4 AND $5 = 0 THEN COUNT(*)
                        ELSE (SELECT COUNT(*) FROM backups b WHERE ", $($which),+, ") END AS total"
            );
            $($page),+
        )
    };
}

const OF_PROJECT: Slice = slice_where!("b.project_id = $1 AND b.created >= $2 AND b.created <= $3");
const OF_PROJECT_BY_WORDS: Slice = slice_where!(
    "b.project_id = $1 AND b.created >= $2 AND b.created <= $3",
    " AND ($6 IS NULL OR b.kind = $6) AND ($7 IS NULL OR b.state = $7)"
);
const OF_INSTANCE: Slice = slice_where!(
    "b.instance_id = $1 AND b.created >= $2 AND b.created <= $3",
    " AND EXISTS (SELECT 1 FROM instances i WHERE i.id = $1 AND i.project_id = $6)"
);
const OF_INSTANCE_BY_WORDS: Slice = slice_where!(
    "b.instance_id = $1 AND b.created >= $2 AND b.created <= $3",
    " AND EXISTS (SELECT 1 FROM instances i WHERE i.id = $1 AND i.project_id = $8)",
    " AND ($6 IS NULL OR b.kind = $6) AND ($7 IS NULL OR b.state = $7)"
);

/// By whether it is the list of an instance, and whether by words of the rows.
const fn slice_statements(is_of_instance: bool, by_words: bool) -> &'static Slice {
    match (is_of_instance, by_words) {
        (false, false) => &OF_PROJECT,
        (false, true) => &OF_PROJECT_BY_WORDS,
        (true, false) => &OF_INSTANCE,
        (true, true) => &OF_INSTANCE_BY_WORDS,
    }
}

impl BackupFilter {
    fn by_words(&self) -> bool {
        self.kind.is_some() || self.state.is_some()
    }

    fn bind_rest<'q>(
        &'q self,
        mut slice: Query<'q, Any, AnyArguments>,
        project: &'q ProjectId,
    ) -> Query<'q, Any, AnyArguments> {
        if self.by_words() {
            slice = slice.bind(self.kind.map(BackupType::word)).bind(self.state.map(BackupState::word));
        }
        if self.instance.is_some() { slice.bind(project.as_str()) } else { slice }
    }

    /// Whether a backup passes, as the statements decide it.
    pub fn admits(&self, backup: &Backup) -> bool {
        self.instance.as_ref().is_none_or(|instance| *instance == backup.instance_id)
            && self.kind.is_none_or(|kind| kind == backup.kind)
            && self.state.is_none_or(|state| state == backup.state)
            && self.created_from.is_none_or(|from| from <= backup.created)
            && self.created_until.is_none_or(|until| backup.created <= until)
    }
}

impl Catalog {
    /// Up to `limit` backups that follow `after`, newest first, equal times by id.
    pub async fn backup_page(
        &self,
        project: &ProjectId,
        filter: &BackupFilter,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Vec<Backup>> {
        asking!(self, |tx| {
            let sql = if filter.instance.is_some() { PAGE_OF_INSTANCE } else { PAGE };
            let page = page_query(self.inner.dialect.spell(sql), project, filter, after, limit);
            backups_from_row(&page.fetch_one(&mut **tx).await?)
        })
    }

    /// Up to `limit` backups after the first `offset`, newest first, equal times by id, and how many
    /// pass the filter: one view of both.
    pub async fn backup_slice(
        &self,
        project: &ProjectId,
        filter: &BackupFilter,
        offset: u64,
        limit: u32,
    ) -> Result<BackupSlice> {
        let place = to_integer(offset)?;
        asking!(self, |tx| {
            let slices = slice_statements(filter.instance.is_some(), filter.by_words());
            let slice = self.inner.dialect.spell(if offset == 0 { slices.first } else { slices.later });
            let slice = slice_query(slice, project, filter).bind(i64::from(limit)).bind(place);
            let row = filter.bind_rest(slice, project).fetch_one(&mut **tx).await?;
            Ok(BackupSlice { rows: backups_from_row(&row)?, total: row.unsigned("total")? })
        })
    }
}

fn slice_query<'q>(
    sql: &'static str,
    project: &'q ProjectId,
    filter: &'q BackupFilter,
) -> Query<'q, Any, AnyArguments> {
    query(sql)
        .bind(filter.instance.as_ref().map_or(project.as_str(), InstanceId::as_str))
        .bind(filter.created_from.map_or(i64::MIN, to_micros))
        .bind(filter.created_until.map_or(i64::MAX, to_micros))
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
            let plan = query_plan(&pool, sql.sqlite, arguments).await;
            let search =
                plan.iter().any(|line| line.contains("SEARCH b USING INDEX") && line.contains(index));
            let sorts = plan.iter().any(|line| line.contains("TEMP B-TREE"));
            let scans = plan.iter().any(|line| line.starts_with("SCAN") && line != "SCAN page");
            assert!(search && !sorts && !scans, "{plan:#?}");
        }
    }

    /// Places are passed over in the index of the list; without a word asked for, in it alone.
    #[tokio::test]
    async fn a26_places_in_a_list_are_counted_in_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("catalog.db").display());
        let (pool, _) = Dialect::Sqlite.connect(&url).await.unwrap();
        crate::migration::run(&pool).await.unwrap();

        for is_of_instance in [false, true] {
            for by_words in [false, true] {
                let slices = slice_statements(is_of_instance, by_words);
                let index = if is_of_instance { "backup_instance" } else { "backup_project" };
                let arguments = 5 + if by_words { 2 } else { 0 } + usize::from(is_of_instance);
                let walk = if by_words { "INDEX" } else { "COVERING INDEX" };
                let walk = format!("SEARCH b USING {walk} {index} (");
                for (slice, walks, is_later) in [(slices.first, 1, false), (slices.later, 2, true)] {
                    let plan = query_plan(&pool, slice.sqlite, arguments).await;
                    let has = |words: &str| plan.iter().any(|line| line.contains(words));
                    let scans = plan.iter().any(|line| line.starts_with("SCAN") && line != "SCAN page");
                    assert!(!scans && !has("TEMP B-TREE"), "{plan:#?}");
                    // The count walks it too; the page itself needs the rows.
                    let found = plan.iter().filter(|line| line.contains(&walk)).count();
                    assert!(found >= walks && has(index), "{plan:#?}");
                    assert_eq!(has("(id=?)"), is_later || is_of_instance, "{plan:#?}");
                }
            }
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
