//! What is held, as ranges: set right by the listing when a capture begins, grown as it goes on.

use jiff::Timestamp;
use sqlx::query;
use strongroom_core::id::InstanceId;
use strongroom_core::job::Fence;
use strongroom_core::logs::{HeldLog, LogPoint, LogPosition, LogRange, LogStream, LogStreamId, leads_to};
use strongroom_core::time::to_micros;
use strongroom_core::{Result, limits};

use super::capture::{changed, claimed, of_claim};
use super::{held_in_tx, told_gap};
use crate::audit::AuditEvent;
use crate::fault::Fault;
use crate::logs::point_from_row;
use crate::row::to_integer;
use crate::transaction::writing;
use crate::{Catalog, Tx};

/// A capture begins to take a stream, or goes on.
#[derive(Debug, Clone, Copy)]
pub struct LogBegun<'a> {
    pub stream: &'a LogStream,
    /// What the listing says of it.
    pub ranges: &'a [LogRange],
    /// Where log comes from now on.
    pub from: LogPosition,
    /// Why there is none before it, where there should be.
    pub gap: Option<&'a str>,
}

impl Catalog {
    /// Writes down what is held of a stream, as the listing says, and a gap that was found.
    pub async fn log_begin(
        &self,
        fence: &Fence,
        instance: &InstanceId,
        begun: LogBegun<'_>,
        audit: &AuditEvent,
    ) -> Result<()> {
        writing!(self, |tx| {
            hold_in_tx(tx, fence).await?;
            let known = held_in_tx(tx, instance).await?;
            let of_stream = |held: &&HeldLog| held.stream == begun.stream.id;
            let delete = "DELETE FROM log_ranges WHERE instance_id = $1 AND stream = $2";
            query(delete).bind(instance.as_str()).bind(begun.stream.id.as_str()).execute(&mut **tx).await?;
            for range in begun.ranges {
                // What was known of a part of it holds for all of it; of more than it, for nothing.
                let is_part =
                    |held: &&HeldLog| range.continues(held.range.from) && held.range.until <= range.until;
                let until =
                    known.iter().filter(of_stream).filter(is_part).filter_map(|held| held.until).max();
                let origin = begun.stream.origin.clone();
                let held = HeldLog { stream: begun.stream.id.clone(), range: *range, origin, until };
                insert_in_tx(tx, instance, &held, audit.at).await?;
            }
            let Some(reason) = begun.gap else { return Ok(()) };
            let from = begun.ranges.last().map(|range| range.until);
            let detail = told_gap(&begun.stream.id, from, begun.from, reason);
            tx.note(&AuditEvent { detail, ..audit.clone() })
        })
    }

    /// Writes down how far a range reaches, and until when by the source's clock all log is in it, where
    /// that became known: then nothing of the source's was missing at `confirmed`. Answers whether a
    /// backup leads to it.
    pub async fn log_advance(
        &self,
        fence: &Fence,
        instance: &InstanceId,
        held: &HeldLog,
        confirmed: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<bool> {
        writing!(self, |tx| {
            hold_in_tx(tx, fence).await?;
            insert_in_tx(tx, instance, held, now).await?;
            let all = held_in_tx(tx, instance).await?;
            let is_based = is_based_in_tx(tx, instance, held, &all).await?;
            // The first gap in a while gets its backup at once; one after the other would do nothing else.
            let update = concat!(
                "UPDATE log_captures SET is_based = $4, confirmed = COALESCE($5, confirmed),
                     failures = 0, failure = NULL,
                     base_begun = CASE WHEN $4 = 1 AND is_based = 0 AND (base_led IS NULL OR base_led <= $6)
                         THEN NULL ELSE base_begun END,
                     base_led = CASE WHEN $4 = 1 AND is_based = 0 THEN $7 ELSE base_led END",
                of_claim!()
            );
            let update = claimed(update, fence)
                .bind(i64::from(is_based))
                .bind(confirmed.map(to_micros))
                .bind(to_micros(now).saturating_sub(limits::LOG_BASE_PAUSE_S * 1_000_000))
                .bind(to_micros(now));
            changed(tx, update).await?;
            Ok(is_based)
        })
    }
}

/// The claim stands, and stands still until the transaction ends.
async fn hold_in_tx(tx: &mut Tx, fence: &Fence) -> Result<(), Fault> {
    let hold = concat!("UPDATE log_captures SET epoch = epoch", of_claim!());
    changed(tx, claimed(hold, fence)).await
}

async fn insert_in_tx(
    tx: &mut Tx,
    instance: &InstanceId,
    held: &HeldLog,
    now: Timestamp,
) -> Result<(), Fault> {
    let origin = held.origin.as_ref();
    let number = |number: Option<u64>| number.map(to_integer).transpose();
    query(
        "INSERT INTO log_ranges
             (instance_id, stream, first_file, first_offset, last_file, last_offset, origin_stream, origin_file,
              origin_offset, until, began)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         ON CONFLICT (instance_id, stream, first_file, first_offset) DO UPDATE SET
             last_file = excluded.last_file, last_offset = excluded.last_offset,
             until = COALESCE(excluded.until, log_ranges.until)",
    )
    .bind(instance.as_str())
    .bind(held.stream.as_str())
    .bind(to_integer(held.range.from.file)?)
    .bind(to_integer(held.range.from.offset)?)
    .bind(to_integer(held.range.until.file)?)
    .bind(to_integer(held.range.until.offset)?)
    .bind(origin.map(|origin| origin.stream.as_str()))
    .bind(number(origin.map(|origin| origin.position.file))?)
    .bind(number(origin.map(|origin| origin.position.offset))?)
    .bind(held.until.map(to_micros))
    .bind(to_micros(now))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Whether a COMPLETED backup leads to a range.
async fn is_based_in_tx(
    tx: &mut Tx,
    instance: &InstanceId,
    current: &HeldLog,
    all: &[HeldLog],
) -> Result<bool, Fault> {
    let select = "SELECT log_stream, log_file, log_offset FROM backups
         WHERE instance_id = $1 AND state = 'completed' AND log_stream IS NOT NULL
         ORDER BY finished DESC";
    let rows = query(select).bind(instance.as_str()).fetch_all(&mut **tx).await?;
    for row in &rows {
        let Some(point) = point_from_row(row, "log")? else { continue };
        if is_led_to(&point, &current.stream, current.range, all) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_led_to(point: &LogPoint, stream: &LogStreamId, range: LogRange, all: &[HeldLog]) -> bool {
    let is_it = |held: &HeldLog| held.stream == *stream && held.range.from == range.from;
    leads_to(point, all).into_iter().any(|index| is_it(&all[index]))
}
