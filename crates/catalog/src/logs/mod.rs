//! The capture of logs: who does it, under a lease as for a job, and what is held, as ranges. What is
//! held is written down under the fence; the listing of the repository is the truth, and what differs
//! from it is set right when a capture begins.

mod capture;
mod ranges;

use jiff::Timestamp;
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{query, query_scalar};
use strongroom_core::backup::Failure;
use strongroom_core::id::{InstanceId, JobId, ProjectId};
use strongroom_core::logs::{HeldLog, LogPoint, LogPosition, LogRange, LogStreamId};
use strongroom_core::time::to_micros;
use strongroom_core::{Error, ErrorKind, Result};

use crate::audit::AuditEvent;
use crate::fault::{Fault, damaged};
use crate::hints::tell_workers_in_tx;
use crate::instance::require_live_in_tx;
use crate::row::Columns;
use crate::transaction::{reading, writing};
use crate::{Catalog, Tx};

pub use capture::LogClaim;
pub use ranges::LogBegun;

/// How the capture of an instance's log stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStanding {
    pub created: Timestamp,
    /// Somebody switched it off, and it has not ended yet.
    pub is_ending: bool,
    /// A worker has it.
    pub is_held: bool,
    pub failure: Option<Failure>,
    pub retained_bytes: Option<u64>,
    /// When all log of the source was last known to be durable.
    pub confirmed: Option<Timestamp>,
    /// A backup leads to the log that is captured now.
    pub is_based: bool,
}

impl Catalog {
    /// Switches the capture of an instance's log on; again is fine.
    pub async fn log_switch_on(
        &self,
        project: &ProjectId,
        instance: &InstanceId,
        job: &JobId,
        audit: &AuditEvent,
        now: Timestamp,
    ) -> Result<()> {
        writing!(self, |tx| {
            require_live_in_tx(tx, &self.inner, project, instance).await?;
            let select = "SELECT CAST(CASE WHEN ending IS NULL THEN 0 ELSE 1 END AS BIGINT) FROM log_captures WHERE instance_id = $1";
            let is_ending: Option<i64> =
                query_scalar(select).bind(instance.as_str()).fetch_optional(&mut **tx).await?;
            match is_ending {
                None => {}
                Some(0) => return Ok(()),
                Some(_) => return Err(still_ending().into()),
            }
            query(
                "INSERT INTO log_captures
                     (instance_id, project_id, job_id, epoch, leases_lost, run_at, failures, is_based, created)
                 VALUES ($1, $2, $3, 0, 0, $4, 0, 0, $4)",
            )
            .bind(instance.as_str())
            .bind(project.as_str())
            .bind(job.as_str())
            .bind(to_micros(now))
            .execute(&mut **tx)
            .await?;
            tell_workers_in_tx(tx, &self.inner).await?;
            tx.note(audit)
        })
    }

    /// Switches it off: a worker takes away what is kept at the source, then it is gone. Again is fine.
    pub async fn log_switch_off(
        &self,
        project: &ProjectId,
        instance: &InstanceId,
        audit: &AuditEvent,
        now: Timestamp,
    ) -> Result<()> {
        writing!(self, |tx| {
            require_live_in_tx(tx, &self.inner, project, instance).await?;
            let update =
                "UPDATE log_captures SET ending = $2, run_at = $2 WHERE instance_id = $1 AND ending IS NULL";
            let changed =
                query(update).bind(instance.as_str()).bind(to_micros(now)).execute(&mut **tx).await?;
            if changed.rows_affected() == 0 {
                return Ok(());
            }
            tell_workers_in_tx(tx, &self.inner).await?;
            tx.note(audit)
        })
    }

    /// `None` where the log of the instance is not captured.
    pub async fn log_standing(
        &self,
        project: &ProjectId,
        instance: &InstanceId,
    ) -> Result<Option<LogStanding>> {
        reading!(self, |tx| {
            let select = "SELECT created, ending, worker_id, failure, retained_bytes, confirmed, is_based
                 FROM log_captures WHERE instance_id = $1 AND project_id = $2";
            let found = query(select).bind(instance.as_str()).bind(project.as_str());
            found.fetch_optional(&mut **tx).await?.as_ref().map(standing_from_row).transpose()
        })
    }

    /// What is held of the log of an instance, oldest first.
    pub async fn log_held(&self, instance: &InstanceId) -> Result<Vec<HeldLog>> {
        reading!(self, |tx| held_in_tx(tx, instance).await)
    }
}

fn still_ending() -> Error {
    Error::new(
        ErrorKind::InstanceBusy,
        "The capture of this instance's log is being switched off; nothing was changed.",
    )
    .with_hint("Wait until it has ended, then switch it on again.")
}

/// An instance that goes takes a capture with it that was switched off. One that goes on stands in its
/// way: without its password nothing could be taken away from the source any more.
pub(crate) async fn end_in_tx(tx: &mut Tx, instance: &InstanceId, now: Timestamp) -> Result<(), Fault> {
    let select = "SELECT COUNT(*) FROM log_captures
         WHERE instance_id = $1 AND (ending IS NULL OR (lease_until IS NOT NULL AND lease_until > $2))";
    let live: i64 =
        query_scalar(select).bind(instance.as_str()).bind(to_micros(now)).fetch_one(&mut **tx).await?;
    if live > 0 {
        return Err(Error::new(
            ErrorKind::InstanceBusy,
            "The log of this instance is captured; nothing was changed.",
        )
        .with_hint("Switch it off first: strongroom instance logs NAME --capture off")
        .into());
    }
    let delete = "DELETE FROM log_captures WHERE instance_id = $1";
    query(delete).bind(instance.as_str()).execute(&mut **tx).await?;
    Ok(())
}

async fn held_in_tx(tx: &mut Tx, instance: &InstanceId) -> Result<Vec<HeldLog>, Fault> {
    let select =
        "SELECT stream, first_file, first_offset, last_file, last_offset, origin_stream, origin_file,
             origin_offset, until
         FROM log_ranges WHERE instance_id = $1 ORDER BY began, stream, first_file, first_offset";
    let rows = query(select).bind(instance.as_str()).fetch_all(&mut **tx).await?;
    rows.iter().map(held_from_row).collect()
}

fn held_from_row(row: &AnyRow) -> Result<HeldLog, Fault> {
    let stream = row.text("stream")?;
    let position = |file: &str, offset: &str| -> Result<LogPosition, Fault> {
        Ok(LogPosition { file: row.unsigned(file)?, offset: row.unsigned(offset)? })
    };
    Ok(HeldLog {
        stream: LogStreamId::parse(&stream).ok_or_else(|| damaged("stream", &stream))?,
        range: LogRange {
            from: position("first_file", "first_offset")?,
            until: position("last_file", "last_offset")?,
        },
        origin: point_from_row(row, "origin")?,
        until: row.maybe_time("until")?,
    })
}

/// A place in three columns that begin with the same word.
pub(crate) fn point_from_row(row: &AnyRow, word: &str) -> Result<Option<LogPoint>, Fault> {
    let column = |part: &str| format!("{word}_{part}");
    let Some(stream) = row.maybe_text(&column("stream"))? else { return Ok(None) };
    let stream = LogStreamId::parse(&stream).ok_or_else(|| damaged("stream", &stream))?;
    let position =
        LogPosition { file: row.unsigned(&column("file"))?, offset: row.unsigned(&column("offset"))? };
    Ok(Some(LogPoint { stream, position }))
}

fn standing_from_row(row: &AnyRow) -> Result<LogStanding, Fault> {
    Ok(LogStanding {
        created: row.time("created")?,
        is_ending: row.maybe_integer("ending")?.is_some(),
        is_held: row.maybe_text("worker_id")?.is_some(),
        failure: row.maybe_json("failure")?,
        retained_bytes: row.maybe_unsigned("retained_bytes")?,
        confirmed: row.maybe_time("confirmed")?,
        is_based: row.flag("is_based")?,
    })
}

/// A gap, as the audit chain tells it.
fn told_gap(
    stream: &LogStreamId,
    from: Option<LogPosition>,
    until: LogPosition,
    reason: &str,
) -> serde_json::Value {
    json!({ "stream": stream, "from": from, "until": until, "reason": reason })
}
