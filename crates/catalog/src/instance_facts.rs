//! What lists of instances tell beside the instance: whether a backup runs, how large the newest one
//! is, which moments can be restored.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::query;
use strongroom_core::Result;
use strongroom_core::id::{InstanceId, ProjectId};
use strongroom_core::logs::LogPoint;
use strongroom_core::size::ByteSize;
use strongroom_core::time::to_micros;

use crate::Catalog;
use crate::fault::Fault;
use crate::logs::point_from_row;
use crate::row::Columns;
use crate::transaction::{asking, reading};

/// Of one instance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InstanceFacts {
    pub backing_up: bool,
    /// What a restore of the newest COMPLETED backup writes.
    pub source_bytes: Option<ByteSize>,
}

macro_rules! facts {
    ($rest:literal) => {
        concat!(
            "SELECT i.id,
                 (SELECT COUNT(*) FROM backups r WHERE r.instance_id = i.id AND r.state = 'building') AS running,
                 (SELECT b.source_bytes FROM backups b WHERE b.instance_id = i.id AND b.state = 'completed'
                  ORDER BY b.finished DESC LIMIT 1) AS source_bytes
             FROM instances i WHERE i.project_id = $1 AND i.state <> 'retired'",
            $rest
        )
    };
}
const FACTS: &str = facts!("");
const FACTS_OF_ONE: &str = facts!(" AND i.id = $2");

impl Catalog {
    /// Of the instances of a project that are not retired; of one of them where it is given.
    pub async fn instance_facts(
        &self,
        project: &ProjectId,
        only: Option<&InstanceId>,
    ) -> Result<BTreeMap<InstanceId, InstanceFacts>> {
        reading!(self, |tx| {
            let select = match only {
                Some(one) => query(FACTS_OF_ONE).bind(project.as_str()).bind(one.as_str()),
                None => query(FACTS).bind(project.as_str()),
            };
            let rows = select.fetch_all(&mut **tx).await?;
            let mut found = BTreeMap::new();
            for row in &rows {
                let facts = InstanceFacts {
                    backing_up: row.integer("running")? > 0,
                    source_bytes: row.maybe_unsigned("source_bytes")?.map(ByteSize::new),
                };
                found.insert(InstanceId::from_stored(row.text("id")?), facts);
            }
            Ok(found)
        })
    }

    /// What the backups of an instance cost in the repository.
    pub async fn instance_stored_bytes(&self, project: &ProjectId, id: &InstanceId) -> Result<ByteSize> {
        asking!(self, |tx| {
            let sum = "SELECT CAST(COALESCE(SUM(stored_bytes), 0) AS BIGINT) AS stored FROM backups
                 WHERE instance_id = $1 AND project_id = $2";
            let row = query(sum).bind(id.as_str()).bind(project.as_str()).fetch_one(&mut **tx).await?;
            Ok(ByteSize::new(row.unsigned("stored")?))
        })
    }

    /// The ends of the COMPLETED backups of an instance until a moment, oldest first, each with the place
    /// from which log leads on.
    pub async fn backup_moments(
        &self,
        project: &ProjectId,
        instance: &InstanceId,
        until: Option<Timestamp>,
    ) -> Result<Vec<(Timestamp, Option<LogPoint>)>> {
        asking!(self, |tx| {
            let select = "SELECT finished, log_stream, log_file, log_offset FROM backups
                 WHERE instance_id = $1 AND state = 'completed' AND finished <= $2
                     AND EXISTS (SELECT 1 FROM instances i WHERE i.id = $1 AND i.project_id = $3)
                 ORDER BY finished";
            let rows = query(select)
                .bind(instance.as_str())
                .bind(until.map_or(i64::MAX, to_micros))
                .bind(project.as_str())
                .fetch_all(&mut **tx)
                .await?;
            rows.iter()
                .map(|row| Ok::<_, Fault>((row.time("finished")?, point_from_row(row, "log")?)))
                .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{Dialect, query_plan};

    #[tokio::test]
    async fn a26_facts_come_from_indexes() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("catalog.db").display());
        let (pool, _) = Dialect::Sqlite.connect(&url).await.unwrap();
        crate::migration::run(&pool).await.unwrap();

        let plan = query_plan(&pool, FACTS, 1).await;
        let lines = |part: &str| plan.iter().filter(|line| line.contains(part)).count();
        assert_eq!(lines("SEARCH i USING INDEX instance_"), 1, "{plan:#?}");
        assert_eq!(lines("backup_freshness (instance_id=? AND state=?)"), 2, "{plan:#?}");
        assert_eq!(
            lines("SCAN i") + lines("SCAN b") + lines("SCAN r") + lines("TEMP B-TREE"),
            0,
            "{plan:#?}"
        );
    }
}
