//! Tags of instances. They are changed while their instance is held, and go with it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, query};
use strongroom_core::Result;
use strongroom_core::id::{InstanceId, ProjectId};
use strongroom_core::tag::{TagChange, TagKey, TagValue, Tags};

use crate::audit::AuditEvent;
use crate::fault::Fault;
use crate::instance::require_live_in_tx;
use crate::row::Columns;
use crate::transaction::{asking, writing};
use crate::{Catalog, Tx};

const OF_INSTANCE: &str =
    "SELECT tag_key, tag_value FROM instance_tags WHERE instance_id = $1 AND project_id = $2";
const OF_PROJECT: &str = "SELECT instance_id, tag_key, tag_value FROM instance_tags WHERE project_id = $1";

impl Catalog {
    pub async fn tags_of_instance(&self, project: &ProjectId, instance: &InstanceId) -> Result<Tags> {
        asking!(self, |connection| of_instance(connection, project, instance).await)
    }

    /// The tags of every instance of a project that has any.
    pub async fn tags_of_project(&self, project: &ProjectId) -> Result<BTreeMap<InstanceId, Tags>> {
        asking!(self, |connection| {
            let rows = query(OF_PROJECT).bind(project.as_str()).fetch_all(&mut **connection).await?;
            let mut found: BTreeMap<InstanceId, Tags> = BTreeMap::new();
            for row in &rows {
                let (key, value) = tag_from_row(row)?;
                let instance = InstanceId::from_stored(row.text("instance_id")?);
                found.entry(instance).or_default().insert(key, value);
            }
            Ok(found)
        })
    }

    /// Changes the tags of an instance that is there and answers what they are now. The audit event is
    /// completed with what they were and are.
    pub async fn tags_change(
        &self,
        project: &ProjectId,
        instance: &InstanceId,
        change: &TagChange,
        audit: &AuditEvent,
    ) -> Result<Tags> {
        writing!(self, |tx| {
            // Whoever changes them at the same time waits here: their number is exact.
            require_live_in_tx(tx, &self.inner, project, instance).await?;
            let before = of_instance(tx, project, instance).await?;
            let after = change.applied_to(&before)?;
            for key in before.keys().filter(|key| !after.contains_key(key)) {
                let delete = "DELETE FROM instance_tags WHERE instance_id = $1 AND tag_key = $2";
                query(delete).bind(instance.as_str()).bind(key.as_str()).execute(&mut **tx).await?;
            }
            for (key, value) in after.iter().filter(|(key, value)| before.get(key) != Some(value)) {
                put_in_tx(tx, project, instance, key, value).await?;
            }
            let detail = json!({ "before": told(&before), "after": told(&after) });
            tx.note(&AuditEvent { detail, ..audit.clone() })?;
            Ok(after)
        })
    }
}

async fn of_instance(
    connection: &mut AnyConnection,
    project: &ProjectId,
    instance: &InstanceId,
) -> Result<Tags, Fault> {
    let rows = query(OF_INSTANCE).bind(instance.as_str()).bind(project.as_str());
    rows.fetch_all(connection).await?.iter().map(tag_from_row).collect()
}

async fn put_in_tx(
    tx: &mut Tx,
    project: &ProjectId,
    instance: &InstanceId,
    key: &TagKey,
    value: &TagValue,
) -> Result<(), Fault> {
    query(
        "INSERT INTO instance_tags (instance_id, project_id, tag_key, tag_value) VALUES ($1, $2, $3, $4)
         ON CONFLICT (instance_id, tag_key) DO UPDATE SET tag_value = excluded.tag_value",
    )
    .bind(instance.as_str())
    .bind(project.as_str())
    .bind(key.as_str())
    .bind(value.as_str())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Tags go with their instance: its key may be put on another one, and nothing lists them.
pub(crate) async fn end_in_tx(tx: &mut Tx, instance: &InstanceId) -> Result<(), Fault> {
    let delete = query("DELETE FROM instance_tags WHERE instance_id = $1").bind(instance.as_str());
    delete.execute(&mut **tx).await?;
    Ok(())
}

/// Tags as the audit chain tells them.
fn told(tags: &Tags) -> Value {
    tags.iter().map(|(key, value)| (key.as_str().to_owned(), Value::from(value.as_str()))).collect()
}

fn tag_from_row(row: &AnyRow) -> Result<(TagKey, TagValue), Fault> {
    let (key, value) = (row.text("tag_key")?, row.text("tag_value")?);
    Ok((TagKey::from_stored(key), TagValue::from_stored(value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{Dialect, query_plan};

    /// Every list of instances asks for them.
    #[tokio::test]
    async fn a26_tags_come_from_indexes() {
        let (pool, _) = Dialect::Sqlite.connect("sqlite::memory:").await.unwrap();
        crate::migration::run(&pool).await.unwrap();
        for (sql, arguments) in [(OF_INSTANCE, 2), (OF_PROJECT, 1)] {
            let plan = query_plan(&pool, sql, arguments).await;
            assert!(
                plan.iter().all(|line| line.starts_with("SEARCH instance_tags USING INDEX")),
                "{plan:#?}"
            );
        }
    }
}
