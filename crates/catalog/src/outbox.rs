//! The outbox: what has to be told to others, written with the change it tells about.
//!
//! Whoever sends reads the oldest entries, sends, then removes: an entry may be told twice, never not
//! at all.

use jiff::Timestamp;
use serde_json::Value;
use sqlx::any::AnyRow;
use sqlx::query;
use strongroom_core::Result;
use strongroom_core::id::ProjectId;
use strongroom_core::time::to_micros;

use crate::fault::Fault;
use crate::identity::project_id;
use crate::row::{Columns, to_json};
use crate::transaction::{asking, writing};
use crate::{Catalog, Inner, Tx};

/// One thing to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEntry {
    /// Sorts by time.
    pub id: String,
    pub at: Timestamp,
    pub project_id: ProjectId,
    /// `backup.completed`, `backup.failed`, `backup.deleted`.
    pub topic: String,
    pub object: String,
    pub document: Value,
}

impl Catalog {
    /// The oldest entries.
    pub async fn outbox_list(&self, limit: u32) -> Result<Vec<OutboxEntry>> {
        asking!(self, |tx| {
            let select =
                "SELECT id, at, project_id, topic, object, document FROM outbox ORDER BY id LIMIT $1";
            let rows = query(select).bind(i64::from(limit)).fetch_all(&mut **tx).await?;
            rows.iter().map(entry_from_row).collect()
        })
    }

    /// An entry has been told.
    pub async fn outbox_remove(&self, id: &str) -> Result<()> {
        writing!(self, |tx| {
            query("DELETE FROM outbox WHERE id = $1").bind(id).execute(&mut **tx).await?;
            Ok(())
        })
    }
}

fn entry_from_row(row: &AnyRow) -> Result<OutboxEntry, Fault> {
    Ok(OutboxEntry {
        id: row.text("id")?,
        at: row.time("at")?,
        project_id: project_id(row, "project_id")?,
        topic: row.text("topic")?,
        object: row.text("object")?,
        document: row.json("document")?,
    })
}

pub(crate) struct Notice<'a> {
    pub(crate) at: Timestamp,
    pub(crate) project_id: &'a ProjectId,
    pub(crate) topic: &'static str,
    pub(crate) object: &'a str,
    pub(crate) document: Value,
}

pub(crate) async fn outbox_in_tx(tx: &mut Tx, inner: &Inner, notice: Notice<'_>) -> Result<(), Fault> {
    query("INSERT INTO outbox (id, at, project_id, topic, object, document) VALUES ($1, $2, $3, $4, $5, $6)")
        .bind(inner.random.uuid(notice.at).simple().to_string())
        .bind(to_micros(notice.at))
        .bind(notice.project_id.as_str())
        .bind(notice.topic)
        .bind(notice.object)
        .bind(to_json(&notice.document)?)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
