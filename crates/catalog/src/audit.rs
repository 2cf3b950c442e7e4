//! The audit chain: who did what, each row bound to the one before.
//!
//! A row's digest is a keyed BLAKE3 of its content and of its predecessor's digest. Changing,
//! removing or inserting a row breaks the chain, and without the key it cannot be mended.

use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, query};
use strongroom_core::id::ProjectId;
use strongroom_core::time::to_micros;
use strongroom_core::{Error, ErrorKind, Result};

use crate::Catalog;
use crate::dialect::{Dialect, Spelled};
use crate::fault::Fault;
use crate::identity::maybe_project_id;
use crate::row::{Columns, to_json};
use crate::transaction::{asking, reading, writing};

/// Rows read at a time while the chain is checked.
const VERIFY_PAGE_ROWS: i64 = 1_000;

/// Something that was done. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    pub at: Timestamp,
    pub project_id: Option<ProjectId>,
    /// Who: a user's id, or `worker <id>`.
    pub actor: String,
    /// What, as `noun.verb`: `backup.create`.
    pub action: &'static str,
    /// To what: an id.
    pub object: String,
    pub request_id: Option<String>,
    pub detail: Value,
}

/// An audit event as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// 1, 2, 3 … without a gap.
    pub sequence: u64,
    pub at: Timestamp,
    pub project_id: Option<ProjectId>,
    pub actor: String,
    pub action: String,
    pub object: String,
    pub request_id: Option<String>,
    pub detail: Value,
    /// Keyed digest of this row and of the one before, hex.
    pub digest: String,
}

impl Catalog {
    /// Appends something that changed nothing else.
    pub async fn audit_note(&self, event: &AuditEvent) -> Result<()> {
        writing!(self, |tx| tx.note(event))
    }

    /// The newest events of no project, newest first.
    pub async fn audit_list_of_none(&self, limit: u32) -> Result<Vec<AuditRecord>> {
        asking!(self, |tx| {
            let select =
                "SELECT sequence, at, project_id, actor, action, object, request_id, detail, previous, digest
                 FROM audit_events WHERE project_id IS NULL ORDER BY sequence DESC LIMIT $1";
            let rows = query(select).bind(i64::from(limit)).fetch_all(&mut **tx).await?;
            rows.iter().map(record_from_row).collect()
        })
    }

    /// The newest events of a project, newest first.
    pub async fn audit_list(&self, project: &ProjectId, limit: u32) -> Result<Vec<AuditRecord>> {
        asking!(self, |tx| {
            let select =
                "SELECT sequence, at, project_id, actor, action, object, request_id, detail, previous, digest
                 FROM audit_events WHERE project_id = $1 ORDER BY sequence DESC LIMIT $2";
            let rows =
                query(select).bind(project.as_str()).bind(i64::from(limit)).fetch_all(&mut **tx).await?;
            rows.iter().map(record_from_row).collect()
        })
    }

    /// Follows the whole chain and answers with its length; `Damage` names the first row that does
    /// not continue it.
    pub async fn audit_verify(&self) -> Result<u64> {
        reading!(self, |tx| {
            let mut sequence = 0_i64;
            let mut previous = blake3::Hash::from_bytes([0; 32]).to_hex().to_string();
            loop {
                let select = "SELECT sequence, at, project_id, actor, action, object, request_id, detail,
                        previous, digest
                     FROM audit_events WHERE sequence > $1 ORDER BY sequence LIMIT $2";
                let rows = query(select).bind(sequence).bind(VERIFY_PAGE_ROWS).fetch_all(&mut **tx).await?;
                for row in &rows {
                    sequence += 1;
                    let link = Link::from_row(row)?;
                    let whole = link.sequence == sequence && link.previous == previous;
                    previous = row.text("digest")?;
                    if !whole || link.digest(&self.inner.audit_key)? != previous {
                        return Err(broken(sequence).into());
                    }
                }
                if rows.is_empty() {
                    break;
                }
            }
            let head =
                query("SELECT sequence, digest FROM audit_heads WHERE id = 1").fetch_one(&mut **tx).await?;
            if head.integer("sequence")? != sequence || head.text("digest")? != previous {
                return Err(broken(sequence + 1).into());
            }
            Ok(u64::try_from(sequence).map_err(Error::internal)?)
        })
    }
}

fn broken(sequence: i64) -> Error {
    Error::new(
        ErrorKind::Damage,
        format!("The audit chain is broken at event {sequence}: a row was changed, removed or inserted."),
    )
    .with_hint("Compare the catalog with an older copy of it; backups are not affected.")
}

/// Appends to the chain, in this order. Last in its transaction: the head is the row that everybody
/// waits for.
pub(crate) async fn append(
    connection: &mut AnyConnection,
    dialect: Dialect,
    key: &[u8; 32],
    links: &mut [Link],
) -> Result<(), Fault> {
    if links.is_empty() {
        return Ok(());
    }
    // The update takes the head's lock, so that two appenders cannot follow the same row.
    let head =
        query("UPDATE audit_heads SET sequence = sequence + $1 WHERE id = 1 RETURNING sequence, digest")
            .bind(i64::try_from(links.len()).map_err(Error::internal)?)
            .fetch_one(&mut *connection)
            .await?;
    let last = head.integer("sequence")?;
    let mut previous = head.text("digest")?;
    for (link, sequence) in links.iter_mut().rev().zip((1..=last).rev()) {
        link.sequence = sequence;
    }
    let mut rows = Vec::with_capacity(links.len());
    for link in links {
        link.previous = previous;
        previous = link.digest(key)?;
        rows.push(link.row(&previous));
    }
    query(dialect.spell(INSERT)).bind(to_json(&rows)?).execute(&mut *connection).await?;
    query("UPDATE audit_heads SET digest = $1 WHERE id = 1").bind(previous).execute(connection).await?;
    Ok(())
}

/// Any number of rows, as one document of arrays ([`Link::row`]).
const INSERT: Spelled = Spelled {
    sqlite: "INSERT INTO audit_events
                 (sequence, at, project_id, actor, action, object, request_id, detail, previous, digest)
             SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
                 value ->> 7, value ->> 8, value ->> 9
             FROM json_each($1)",
    postgres: "INSERT INTO audit_events
                   (sequence, at, project_id, actor, action, object, request_id, detail, previous, digest)
               SELECT CAST(value ->> 0 AS BIGINT), CAST(value ->> 1 AS BIGINT), value ->> 2, value ->> 3,
                   value ->> 4, value ->> 5, value ->> 6, value ->> 7, value ->> 8, value ->> 9
               FROM json_array_elements(CAST($1 AS JSON))",
};

/// What the digest of a row covers, in the forms it is stored in. One that is noted has no place in the
/// chain yet.
pub(crate) struct Link {
    sequence: i64,
    at: i64,
    project_id: Option<String>,
    actor: String,
    action: String,
    object: String,
    request_id: Option<String>,
    detail: String,
    previous: String,
}

impl Link {
    pub(crate) fn noted(event: &AuditEvent) -> Result<Self> {
        Ok(Self {
            sequence: 0,
            at: to_micros(event.at),
            project_id: event.project_id.as_ref().map(|project| project.as_str().to_owned()),
            actor: event.actor.clone(),
            action: event.action.to_owned(),
            object: event.object.clone(),
            request_id: event.request_id.clone(),
            detail: to_json(&event.detail)?,
            previous: String::new(),
        })
    }

    fn from_row(row: &AnyRow) -> Result<Self, Fault> {
        Ok(Self {
            sequence: row.integer("sequence")?,
            at: row.integer("at")?,
            project_id: row.maybe_text("project_id")?,
            actor: row.text("actor")?,
            action: row.text("action")?,
            object: row.text("object")?,
            request_id: row.maybe_text("request_id")?,
            detail: row.text("detail")?,
            previous: row.text("previous")?,
        })
    }

    fn row(&self, digest: &str) -> Value {
        json!([
            self.sequence,
            self.at,
            self.project_id,
            self.actor,
            self.action,
            self.object,
            self.request_id,
            self.detail,
            self.previous,
            digest,
        ])
    }

    /// A JSON array is unambiguous about where one field ends.
    fn digest(&self, key: &[u8; 32]) -> Result<String> {
        let content = to_json(&json!([
            self.sequence,
            self.at,
            self.project_id,
            self.actor,
            self.action,
            self.object,
            self.request_id,
            self.detail,
            self.previous,
        ]))?;
        Ok(blake3::keyed_hash(key, content.as_bytes()).to_hex().to_string())
    }
}

fn record_from_row(row: &AnyRow) -> Result<AuditRecord, Fault> {
    Ok(AuditRecord {
        sequence: row.unsigned("sequence")?,
        at: row.time("at")?,
        project_id: maybe_project_id(row, "project_id")?,
        actor: row.text("actor")?,
        action: row.text("action")?,
        object: row.text("object")?,
        request_id: row.maybe_text("request_id")?,
        detail: row.json("detail")?,
        digest: row.text("digest")?,
    })
}
