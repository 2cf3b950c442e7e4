//! Policies: what holds for each instance, and when its next automated backup is due. Beginning what
//! is due is in `due`, removing what is over in `retention`.

mod due;
mod retention;

use jiff::Timestamp;
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::query;
use strongroom_core::Result;
use strongroom_core::id::{BackupId, InstanceId, ProjectId};
use strongroom_core::policy::{BackupPolicy, Keep, PolicyChange, Schedule, StartWindow, Weekdays};
use strongroom_core::time::to_micros;

use crate::audit::AuditEvent;
use crate::dialect::{Spelled, select_for_update};
use crate::fault::{Fault, damaged};
use crate::identity::project_id;
use crate::instance::require_live_in_tx;
use crate::row::Columns;
use crate::transaction::{asking, writing};
use crate::{Catalog, Inner, Tx};

pub use due::{DueStart, Started};
pub use retention::{Expired, RetentionRow};

/// A policy that somebody set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRow {
    pub instance_id: InstanceId,
    pub project_id: ProjectId,
    pub policy: BackupPolicy,
    /// The next start that is owed, where automated backups are made.
    pub next_due: Option<Timestamp>,
    /// When it was last changed to keep less long.
    pub shortened: Option<Timestamp>,
    pub updated: Timestamp,
}

/// An automated backup that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartRow {
    /// The moment it was begun for.
    pub due: Timestamp,
    pub started: Timestamp,
    pub backup_id: BackupId,
}

macro_rules! select_policy {
    ($($rest:literal),+) => {
        concat!(
            "SELECT instance_id, project_id, keep_days, reserves, window_opens, weekdays, next_due,
                 shortened, updated FROM policies ",
            $($rest),+
        )
    };
}

/// What somebody set for one instance of one project.
const OF_INSTANCE: &str = select_policy!("WHERE instance_id = $1 AND project_id = $2");
const LOCK: Spelled = select_for_update!(select_policy!("WHERE instance_id = $1"));

impl Catalog {
    /// What somebody set for the instance.
    pub async fn policy_find(&self, project: &ProjectId, instance: &InstanceId) -> Result<Option<PolicyRow>> {
        asking!(self, |tx| {
            let found = query(OF_INSTANCE).bind(instance.as_str()).bind(project.as_str());
            found.fetch_optional(&mut **tx).await?.as_ref().map(policy_from_row).transpose()
        })
    }

    /// Every policy of a project.
    pub async fn policy_list(&self, project: &ProjectId) -> Result<Vec<PolicyRow>> {
        asking!(self, |tx| {
            let select = select_policy!("WHERE project_id = $1 ORDER BY instance_id");
            let rows = query(select).bind(project.as_str()).fetch_all(&mut **tx).await?;
            rows.iter().map(policy_from_row).collect()
        })
    }

    /// The newest automated backup that was begun.
    pub async fn policy_last_start(&self, instance: &InstanceId) -> Result<Option<StartRow>> {
        asking!(self, |tx| {
            let select = "SELECT due, started, backup_id FROM policy_starts
                 WHERE instance_id = $1 ORDER BY due DESC LIMIT 1";
            let found = query(select).bind(instance.as_str()).fetch_optional(&mut **tx).await?;
            found.as_ref().map(start_from_row).transpose()
        })
    }

    /// Changes what holds. A schedule that stays the same owes the same start as before; another one
    /// owes the start of the window that is open, or else the next. The audit event is completed with
    /// what held and what holds.
    pub async fn policy_change(
        &self,
        project: &ProjectId,
        instance: &InstanceId,
        change: &PolicyChange,
        audit: &AuditEvent,
        now: Timestamp,
    ) -> Result<PolicyRow> {
        writing!(self, |tx| {
            require_live_in_tx(tx, &self.inner, project, instance).await?;
            let before = lock_in_tx(tx, &self.inner, instance).await?;
            let held = before.as_ref().map_or(BackupPolicy::UNSET, |row| row.policy);
            let policy = held.changed(change)?;
            let owed = before.as_ref().and_then(|row| row.next_due);
            let row = PolicyRow {
                instance_id: instance.clone(),
                project_id: project.clone(),
                next_due: match policy.active() {
                    Some(schedule) if held.active() == Some(schedule) && owed.is_some() => owed,
                    Some(schedule) => Some(schedule.timetable(instance).first_from(now)),
                    None => None,
                },
                shortened: if policy.shortens(&held) {
                    Some(now)
                } else {
                    before.and_then(|row| row.shortened)
                },
                policy,
                updated: now,
            };
            put_in_tx(tx, &row).await?;
            let detail = json!({ "before": told(&held), "after": told(&row.policy) });
            tx.note(&AuditEvent { detail, ..audit.clone() })?;
            Ok(row)
        })
    }

    /// Policies that owe a start, by instance, after the given one.
    pub async fn policy_page(&self, after: Option<&InstanceId>, limit: u32) -> Result<Vec<PolicyRow>> {
        asking!(self, |tx| {
            let select = select_policy!(
                "WHERE instance_id > $1 AND next_due IS NOT NULL ORDER BY instance_id LIMIT $2"
            );
            let page = query(select).bind(after.map_or("", InstanceId::as_str)).bind(i64::from(limit));
            page.fetch_all(&mut **tx).await?.iter().map(policy_from_row).collect()
        })
    }

    /// Owes another start than the one that was found, unless it has changed meanwhile.
    pub async fn policy_owe(&self, found: &PolicyRow, next_due: Timestamp) -> Result<bool> {
        writing!(self, |tx| {
            let update = "UPDATE policies SET next_due = $3 WHERE instance_id = $1 AND next_due = $2";
            let changed = query(update)
                .bind(found.instance_id.as_str())
                .bind(found.next_due.map(to_micros))
                .bind(to_micros(next_due));
            Ok(changed.execute(&mut **tx).await?.rows_affected() == 1)
        })
    }
}

async fn lock_in_tx(tx: &mut Tx, inner: &Inner, instance: &InstanceId) -> Result<Option<PolicyRow>, Fault> {
    let lock = query(inner.dialect.spell(LOCK)).bind(instance.as_str());
    lock.fetch_optional(&mut **tx).await?.as_ref().map(policy_from_row).transpose()
}

/// A policy goes with its instance: nothing begins any more, and nothing goes by a rule.
pub(crate) async fn end_in_tx(tx: &mut Tx, instance: &InstanceId) -> Result<(), Fault> {
    query("DELETE FROM policies WHERE instance_id = $1").bind(instance.as_str()).execute(&mut **tx).await?;
    Ok(())
}

async fn put_in_tx(tx: &mut Tx, row: &PolicyRow) -> Result<(), Fault> {
    let (keep, schedule) = (row.policy.keep(), row.policy.schedule());
    query(
        "INSERT INTO policies
             (instance_id, project_id, keep_days, reserves, window_opens, weekdays, next_due, shortened, updated)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (instance_id) DO UPDATE SET
             keep_days = excluded.keep_days, reserves = excluded.reserves,
             window_opens = excluded.window_opens, weekdays = excluded.weekdays,
             next_due = excluded.next_due, shortened = excluded.shortened, updated = excluded.updated",
    )
    .bind(row.instance_id.as_str())
    .bind(row.project_id.as_str())
    .bind(i64::from(keep.days()))
    .bind(i64::from(keep != Keep::Off { reserve: false }))
    .bind(schedule.map(|schedule| i64::from(schedule.window.minute_of_day())))
    .bind(schedule.map(|schedule| i64::from(schedule.weekdays.bits())))
    .bind(row.next_due.map(to_micros))
    .bind(row.shortened.map(to_micros))
    .bind(to_micros(row.updated))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A policy as the audit chain tells it.
fn told(policy: &BackupPolicy) -> serde_json::Value {
    let schedule = policy.schedule();
    json!({
        "keep_days": policy.keep().days(),
        "removes": policy.keep() == Keep::Off { reserve: false },
        "start_time": schedule.map(|schedule| schedule.window.to_string()),
        "period": schedule.map(|schedule| schedule.weekdays.to_string()),
    })
}

fn schedule_from_row(row: &AnyRow) -> Result<Option<Schedule>, Fault> {
    let (opens, days) = (row.maybe_integer("window_opens")?, row.maybe_integer("weekdays")?);
    let (Some(opens), Some(days)) = (opens, days) else { return Ok(None) };
    Ok(Some(Schedule {
        window: StartWindow::from_stored(opens).ok_or_else(|| damaged("window_opens", &opens.to_string()))?,
        weekdays: Weekdays::from_stored(days).ok_or_else(|| damaged("weekdays", &days.to_string()))?,
    }))
}

fn policy_from_row(row: &AnyRow) -> Result<PolicyRow, Fault> {
    let days = row.integer("keep_days")?;
    let broken = || damaged("keep_days", &days.to_string());
    let keep = Keep::parse(days, row.flag("reserves")?).map_err(|_| broken())?;
    Ok(PolicyRow {
        instance_id: InstanceId::from_stored(row.text("instance_id")?),
        project_id: project_id(row, "project_id")?,
        policy: BackupPolicy::from_stored(keep, schedule_from_row(row)?).ok_or_else(broken)?,
        next_due: row.maybe_time("next_due")?,
        shortened: row.maybe_time("shortened")?,
        updated: row.time("updated")?,
    })
}

fn start_from_row(row: &AnyRow) -> Result<StartRow, Fault> {
    Ok(StartRow {
        due: row.time("due")?,
        started: row.time("started")?,
        backup_id: BackupId::from_stored(row.text("backup_id")?),
    })
}
