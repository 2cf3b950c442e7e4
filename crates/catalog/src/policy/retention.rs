//! What goes by a rule: judged and taken on in one transaction, so that no rule ever acts on a
//! picture that has changed.

use jiff::Timestamp;
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{query, query_scalar};
use strongroom_core::backup::{BackupEvent, BackupState, BackupType};
use strongroom_core::id::{BackupId, InstanceId, JobId, ProjectId};
use strongroom_core::job::{Job, JobKind};
use strongroom_core::policy::{BackupPolicy, Keep};
use strongroom_core::retention::{Fate, Judged, judge};
use strongroom_core::text::BackupName;
use strongroom_core::time::to_micros;
use strongroom_core::verification::Level;
use strongroom_core::{Result, limits};

use super::{OF_INSTANCE, PolicyRow, lock_in_tx, policy_from_row};
use crate::audit::AuditEvent;
use crate::dialect::{Spelled, select_for_update};
use crate::fault::{Fault, damaged};
use crate::row::Columns;
use crate::transaction::{asking, reading, writing};
use crate::{Catalog, Inner, Tx, job};

/// A backup, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionRow {
    pub id: BackupId,
    pub name: BackupName,
    pub created: Timestamp,
    pub judged: Judged,
    pub fate: Fate,
}

/// A backup that a rule has taken on to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    pub backup_id: BackupId,
    pub job_id: JobId,
}

/// All backups of an instance, newest first, with what passed after the last failure.
const ROWS: &str = "SELECT b.id, b.name, b.kind, b.state, b.created, b.finished,
         (SELECT CAST(MAX(
              CASE v.level WHEN 'presence' THEN 1 WHEN 'digest' THEN 2 WHEN 'decode' THEN 3 ELSE 4 END) AS BIGINT)
          FROM verifications v
          WHERE v.backup_id = b.id AND v.outcome = 'passed' AND v.at > COALESCE(
              (SELECT MAX(f.at) FROM verifications f WHERE f.backup_id = b.id AND f.outcome = 'failed'), -1)
         ) AS passed,
         (SELECT COUNT(*) FROM holds h WHERE h.backup_id = b.id) AS holds
     FROM backups b WHERE b.instance_id = $1 ORDER BY b.created DESC, b.id DESC";
/// Instances of which something may have to go: an automated backup is past its days.
const CANDIDATES: &str = "SELECT p.instance_id FROM policies p
     WHERE p.instance_id > $1 AND (p.keep_days > 0 OR p.reserves = 0)
         AND EXISTS (SELECT 1 FROM backups b
             WHERE b.instance_id = p.instance_id AND b.state IN ('completed', 'failed')
                 AND b.finished <= $2 - p.keep_days * 86400000000 AND b.kind = 'auto')
     ORDER BY p.instance_id LIMIT $3";
const LOCK_INSTANCE: Spelled = select_for_update!("SELECT id FROM instances WHERE id = $1");

impl Catalog {
    /// What becomes of each backup of an instance, newest first; by another keep than the one that
    /// holds when one is given.
    pub async fn retention_rows(
        &self,
        project: &ProjectId,
        instance: &InstanceId,
        keep: Option<Keep>,
        now: Timestamp,
    ) -> Result<Vec<RetentionRow>> {
        reading!(self, |tx| {
            let found = query(OF_INSTANCE).bind(instance.as_str()).bind(project.as_str());
            let row = found.fetch_optional(&mut **tx).await?.as_ref().map(policy_from_row).transpose()?;
            // Another keep would begin to hold now, and is judged without the time to undo it.
            let shortened = if keep.is_some() { None } else { row.as_ref().and_then(|row| row.shortened) };
            let held = row.map_or(BackupPolicy::UNSET, |row| row.policy).keep();
            judged_in_tx(tx, instance, keep.unwrap_or(held), shortened, now).await
        })
    }

    /// Instances of which something may have to go now, by id, after the given one.
    pub async fn retention_candidates(
        &self,
        after: Option<&InstanceId>,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<InstanceId>> {
        asking!(self, |tx| {
            let ids: Vec<String> = query_scalar(CANDIDATES)
                .bind(after.map_or("", InstanceId::as_str))
                .bind(to_micros(now))
                .bind(i64::from(limit))
                .fetch_all(&mut **tx)
                .await?;
            Ok(ids.into_iter().map(InstanceId::from_stored).collect())
        })
    }

    /// Takes on the removal of what is due by the rule of an instance: DELETING, with a job each.
    pub async fn retention_apply(
        &self,
        instance: &InstanceId,
        now: Timestamp,
        actor: &str,
    ) -> Result<Vec<Expired>> {
        writing!(self, |tx| {
            let lock = query(self.inner.dialect.spell(LOCK_INSTANCE)).bind(instance.as_str());
            lock.fetch_optional(&mut **tx).await?;
            let Some(row) = lock_in_tx(tx, &self.inner, instance).await? else { return Ok(Vec::new()) };
            let rows = judged_in_tx(tx, instance, row.policy.keep(), row.shortened, now).await?;
            let mut expired = Vec::new();
            // Oldest first.
            let due = rows.iter().rev().filter(|found| found.fate.is_due());
            for found in due.take(limits::RETENTION_BATCH_MAX) {
                expired.extend(expire_in_tx(tx, &self.inner, &row, found, now).await?);
            }
            for Expired { backup_id, .. } in &expired {
                let audit = AuditEvent {
                    at: now,
                    project_id: Some(row.project_id.clone()),
                    actor: actor.to_owned(),
                    action: "backup.expire",
                    object: backup_id.as_str().to_owned(),
                    request_id: None,
                    detail: json!({ "keep_days": row.policy.keep().days() }),
                };
                tx.note(&audit)?;
            }
            Ok(expired)
        })
    }
}

async fn judged_in_tx(
    tx: &mut Tx,
    instance: &InstanceId,
    keep: Keep,
    shortened: Option<Timestamp>,
    now: Timestamp,
) -> Result<Vec<RetentionRow>, Fault> {
    let rows = query(ROWS).bind(instance.as_str()).fetch_all(&mut **tx).await?;
    let judged = rows.iter().map(judged_from_row).collect::<Result<Vec<_>, Fault>>()?;
    let fates = judge(keep, shortened, &judged, now);
    rows.iter()
        .zip(judged.into_iter().zip(fates))
        .map(|(row, (judged, fate))| {
            Ok(RetentionRow {
                id: BackupId::from_stored(row.text("id")?),
                name: BackupName::from_stored(row.text("name")?),
                created: row.time("created")?,
                judged,
                fate,
            })
        })
        .collect()
}

fn judged_from_row(row: &AnyRow) -> Result<Judged, Fault> {
    let passed = match row.maybe_integer("passed")? {
        None => None,
        Some(depth) => {
            let level = usize::try_from(depth - 1).ok().and_then(|index| Level::ALL.get(index).copied());
            Some(level.ok_or_else(|| damaged("level", &depth.to_string()))?)
        }
    };
    Ok(Judged {
        kind: row.word("kind", BackupType::from_word)?,
        state: row.word("state", BackupState::from_word)?,
        finished: row.maybe_time("finished")?,
        passed,
        is_held: row.integer("holds")? > 0,
    })
}

/// COMPLETED or FAILED → DELETING; nothing when somebody was faster.
async fn expire_in_tx(
    tx: &mut Tx,
    inner: &Inner,
    policy: &PolicyRow,
    found: &RetentionRow,
    now: Timestamp,
) -> Result<Option<Expired>, Fault> {
    let next = found.judged.state.transition(BackupEvent::DeleteAsked)?;
    let changed = query("UPDATE backups SET state = $3 WHERE id = $1 AND state = $2 AND kind = 'auto'")
        .bind(found.id.as_str())
        .bind(found.judged.state.word())
        .bind(next.word())
        .execute(&mut **tx)
        .await?;
    if changed.rows_affected() == 0 {
        return Ok(None);
    }
    let job = Job {
        project_id: Some(policy.project_id.clone()),
        backup_id: Some(found.id.clone()),
        instance_id: Some(policy.instance_id.clone()),
        ..Job::ready(JobId::issue(inner.random.uuid(now)), JobKind::Delete, now)
    };
    job::insert_in_tx(tx, inner, &job).await?;
    Ok(Some(Expired { backup_id: found.id.clone(), job_id: job.id }))
}
