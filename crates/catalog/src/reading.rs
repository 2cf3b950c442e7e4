//! Numbers for the metrics page: one consistent reading, ids only, no names.

use jiff::Timestamp;
use sqlx::{query, query_scalar};
use strongroom_core::Result;
use strongroom_core::backup::BackupState;
use strongroom_core::engine::EngineKind;
use strongroom_core::id::InstanceId;
use strongroom_core::job::{JobKind, JobState};
use strongroom_core::time::to_micros;
use strongroom_core::verification::Drill;

use crate::fault::Fault;
use crate::row::Columns;
use crate::transaction::reading;
use crate::{Catalog, Tx};

/// What the catalog knows in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetricsReading {
    /// States without a backup are absent.
    pub backups: Vec<(BackupState, u64)>,
    pub jobs: Vec<(JobState, JobKind, u64)>,
    /// How long the oldest job has been waiting that could run now.
    pub oldest_pending_ms: Option<i64>,
    /// Claims that found an expired lease.
    pub leases_lost: u64,
    /// Instances with automated backups, and how long the oldest start that is due has waited.
    pub policies: u64,
    pub oldest_due_ms: Option<i64>,
    /// The newest sweep of the repository that came to its end, and what it told.
    pub last_sweep: Option<(Timestamp, serde_json::Value)>,
    /// Instances that are not retired.
    pub instances: Vec<InstanceReading>,
}

/// How fresh the backups of an instance are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceReading {
    pub instance_id: InstanceId,
    pub engine: EngineKind,
    /// End of the newest COMPLETED backup that still exists.
    pub last_success: Option<Timestamp>,
    /// The newest verification that read every byte and passed, of a backup that still exists.
    pub last_verified: Option<Timestamp>,
    /// How long the newest drill took from the first byte to an answering server.
    pub restore_measured_ms: Option<u64>,
    /// Where its log is captured: since when log of the source may not be here.
    pub log_lag_ms: Option<i64>,
    /// What would be lost if the source were gone now: since its newest backup, or since all of its log
    /// was here where a backup leads to it.
    pub rpo_ms: i64,
}

impl Catalog {
    pub async fn metrics_reading(&self, now: Timestamp) -> Result<MetricsReading> {
        reading!(self, |tx| {
            let lost: i64 = query_scalar("SELECT CAST(COALESCE(SUM(leases_lost), 0) AS BIGINT) FROM jobs")
                .fetch_one(&mut **tx)
                .await?;
            let (policies, oldest_due_ms) = policies_in_tx(tx, now).await?;
            Ok(MetricsReading {
                policies,
                oldest_due_ms,
                backups: backups_in_tx(tx).await?,
                jobs: jobs_in_tx(tx).await?,
                oldest_pending_ms: oldest_pending_in_tx(tx, now).await?,
                leases_lost: u64::try_from(lost).unwrap_or(0),
                last_sweep: last_sweep_in_tx(tx).await?,
                instances: instances_in_tx(tx, now).await?,
            })
        })
    }
}

async fn backups_in_tx(tx: &mut Tx) -> Result<Vec<(BackupState, u64)>, Fault> {
    let select = "SELECT state, COUNT(*) AS rows_found FROM backups GROUP BY state ORDER BY state";
    let rows = query(select).fetch_all(&mut **tx).await?;
    rows.iter()
        .map(|row| Ok((row.word("state", BackupState::from_word)?, row.unsigned("rows_found")?)))
        .collect()
}

async fn jobs_in_tx(tx: &mut Tx) -> Result<Vec<(JobState, JobKind, u64)>, Fault> {
    let select =
        "SELECT state, kind, COUNT(*) AS rows_found FROM jobs GROUP BY state, kind ORDER BY state, kind";
    let rows = query(select).fetch_all(&mut **tx).await?;
    rows.iter()
        .map(|row| {
            let state = row.word("state", JobState::from_word)?;
            Ok((state, row.word("kind", JobKind::from_word)?, row.unsigned("rows_found")?))
        })
        .collect()
}

async fn oldest_pending_in_tx(tx: &mut Tx, now: Timestamp) -> Result<Option<i64>, Fault> {
    let select = "SELECT MIN(COALESCE(lease_until, run_at)) AS due FROM jobs
         WHERE finished IS NULL AND COALESCE(lease_until, run_at) <= $1";
    let due = query(select).bind(to_micros(now)).fetch_one(&mut **tx).await?.maybe_integer("due")?;
    Ok(due.map(|due| (to_micros(now) - due) / 1_000))
}

async fn policies_in_tx(tx: &mut Tx, now: Timestamp) -> Result<(u64, Option<i64>), Fault> {
    let select = "SELECT COUNT(next_due) AS policies, MIN(next_due) AS oldest FROM policies";
    let row = query(select).fetch_one(&mut **tx).await?;
    let due = row.maybe_integer("oldest")?.filter(|due| *due <= to_micros(now));
    Ok((row.unsigned("policies")?, due.map(|due| (to_micros(now) - due) / 1_000)))
}

async fn last_sweep_in_tx(tx: &mut Tx) -> Result<Option<(Timestamp, serde_json::Value)>, Fault> {
    let select = "SELECT finished, result FROM jobs
         WHERE kind = 'sweep' AND state = 'succeeded' ORDER BY finished DESC LIMIT 1";
    let row = query(select).fetch_optional(&mut **tx).await?;
    row.map(|row| Ok((row.time("finished")?, row.json("result")?))).transpose()
}

async fn instances_in_tx(tx: &mut Tx, now: Timestamp) -> Result<Vec<InstanceReading>, Fault> {
    let select = "SELECT i.id, i.engine, i.created,
             c.created AS log_created, c.confirmed AS log_confirmed, c.is_based AS log_is_based,
             (SELECT MAX(b.finished) FROM backups b
              WHERE b.instance_id = i.id AND b.state = 'completed') AS last_success,
             (SELECT MAX(v.at) FROM backups b JOIN verifications v ON v.backup_id = b.id
              WHERE b.instance_id = i.id AND b.state = 'completed'
                  AND v.outcome = 'passed' AND v.level IN ('decode', 'engine')) AS last_verified,
             (SELECT v.drill FROM backups b JOIN verifications v ON v.backup_id = b.id
              WHERE b.instance_id = i.id AND b.state = 'completed' AND v.drill IS NOT NULL
              ORDER BY v.at DESC, v.job_id DESC LIMIT 1) AS last_drill
         FROM instances i LEFT JOIN log_captures c ON c.instance_id = i.id
         WHERE i.state <> 'retired' ORDER BY i.id";
    let rows = query(select).fetch_all(&mut **tx).await?;
    rows.iter()
        .map(|row| {
            let drill: Option<Drill> = row.maybe_json("last_drill")?;
            let (last_success, confirmed) =
                (row.maybe_time("last_success")?, row.maybe_time("log_confirmed")?);
            let is_based = row.maybe_integer("log_is_based")?.is_some_and(|flag| flag != 0);
            let leads_to = confirmed.filter(|_| is_based);
            let safe_until = last_success.max(leads_to).unwrap_or(row.time("created")?);
            let since = |at: Timestamp| ((to_micros(now) - to_micros(at)) / 1_000).max(0);
            Ok(InstanceReading {
                log_lag_ms: confirmed.or(row.maybe_time("log_created")?).map(since),
                rpo_ms: since(safe_until),
                instance_id: InstanceId::from_stored(row.text("id")?),
                engine: row.word("engine", |word| EngineKind::parse(word).ok())?,
                last_success,
                last_verified: row.maybe_time("last_verified")?,
                restore_measured_ms: drill.as_ref().map(Drill::time_to_restore_ms),
            })
        })
        .collect()
}
