//! What is due, fairly between projects, and its beginning: once for each moment, whoever looks and
//! however many look at once.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use sqlx::any::AnyRow;
use sqlx::query;
use strongroom_core::backup::{Backup, BackupType};
use strongroom_core::id::{InstanceId, ProjectId};
use strongroom_core::job::Job;
use strongroom_core::policy::Schedule;
use strongroom_core::time::to_micros;
use strongroom_core::{Error, ErrorKind, Result, limits};

use super::schedule_from_row;
use crate::audit::AuditEvent;
use crate::backup::{admit_in_tx, check_admission};
use crate::fault::{Fault, damaged};
use crate::identity::project_id;
use crate::instance::require_live_in_tx;
use crate::row::Columns;
use crate::transaction::{reading, writing};
use crate::{Catalog, Tx};

/// A start that is owed now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueStart {
    pub project_id: ProjectId,
    pub instance_id: InstanceId,
    pub due: Timestamp,
    pub schedule: Schedule,
}

/// What came of beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    Begun,
    /// Another process has begun it, or the policy says something else by now.
    Taken,
    /// For this moment a backup was begun before; the next one is owed.
    Before,
    /// A backup of the instance is being built; its end is waited for.
    InProgress,
}

/// Starts for which a row is kept: what is older can come no second time.
const STARTS_KEPT: SignedDuration = SignedDuration::from_hours(24 * 40);

/// Projects that are read at a time.
const PAGE_PROJECTS: usize = 2 * limits::AUTOMATED_WAITING_MAX;

const ANY_DUE: &str = "SELECT MIN(next_due) AS next_due FROM policies WHERE next_due IS NOT NULL";
/// Automated backups that wait, by project: no more rows than there are places.
const WAITING: &str = "SELECT b.project_id, COUNT(*) AS waiting
     FROM backups b JOIN jobs j ON j.id = b.job_id
     WHERE b.kind = 'auto' AND b.state = 'building' AND j.state = 'ready' GROUP BY b.project_id";
/// The next projects with something due, who waits longest first: one step of an index for each project,
/// however many of its policies are due.
const PROJECTS: &str = "SELECT d.project_id, d.oldest FROM (
         SELECT q.id AS project_id, (SELECT MIN(o.next_due) FROM policies o WHERE o.project_id = q.id) AS oldest
         FROM projects q) d
     WHERE d.oldest <= $1 AND (d.oldest > $2 OR d.oldest = $2 AND d.project_id > $3)
     ORDER BY d.oldest, d.project_id LIMIT $4";
/// An instance whose backup is being built waits for its end without a place in the queue.
const OF_PROJECT: &str = "SELECT p.project_id, p.instance_id, p.next_due, p.window_opens, p.weekdays
     FROM policies p JOIN instances i ON i.id = p.instance_id
     WHERE p.project_id = $1 AND p.next_due <= $2 AND i.state <> 'registering'
         AND NOT EXISTS (SELECT 1 FROM backups b WHERE b.instance_id = p.instance_id AND b.state = 'building')
     ORDER BY p.next_due, p.instance_id LIMIT $3";

impl Catalog {
    /// Starts that are due and have a place in the queue. Every project has the same number of places;
    /// who has fewest waiting comes first, then who waits longest.
    pub async fn policy_due(&self, now: Timestamp) -> Result<Vec<DueStart>> {
        reading!(self, |tx| {
            let next = query(ANY_DUE).fetch_one(&mut **tx).await?.maybe_integer("next_due")?;
            if next.is_none_or(|next| next > to_micros(now)) {
                return Ok(Vec::new());
            }
            let waiting = waiting_in_tx(tx).await?;
            let room = limits::AUTOMATED_WAITING_MAX.saturating_sub(waiting.values().sum());
            let queues = queues_in_tx(tx, &waiting, room, now).await?;
            Ok(share(queues, room))
        })
    }

    /// Begins what is due, for the moment `counts_for`: policy, start, job, backup and audit together.
    /// Of many who try it for one moment, one begins it.
    pub async fn policy_begin(
        &self,
        found: &DueStart,
        counts_for: Timestamp,
        next_due: Timestamp,
        backup: &Backup,
        job: &Job,
        audit: &AuditEvent,
    ) -> Result<Started> {
        check_admission(backup, job)?;
        let ours = backup.kind == BackupType::Auto && backup.instance_id == found.instance_id;
        if !ours {
            return Err(Error::internal("a policy begins automated backups of its own instance"));
        }
        let now = backup.created;
        let begun: Result<Started> = async {
            writing!(self, |tx| {
                require_live_in_tx(tx, &self.inner, &found.project_id, &found.instance_id).await?;
                if !claim_in_tx(tx, found, next_due).await? {
                    return Ok(Started::Taken);
                }
                if !note_start_in_tx(tx, backup, counts_for, now).await? {
                    return Ok(Started::Before);
                }
                admit_in_tx(tx, &self.inner, backup, job, audit).await?;
                Ok(Started::Begun)
            })
        }
        .await;
        match begun {
            // Everything was undone: the start is owed as before.
            Err(error) if error.kind() == ErrorKind::BackupInProgress => Ok(Started::InProgress),
            begun => begun,
        }
    }
}

/// The one statement that decides who begins: it finds the start that was seen, or nothing.
async fn claim_in_tx(tx: &mut Tx, found: &DueStart, next_due: Timestamp) -> Result<bool, Fault> {
    let claim = "UPDATE policies SET next_due = $3 WHERE instance_id = $1 AND next_due = $2";
    let claimed = query(claim)
        .bind(found.instance_id.as_str())
        .bind(to_micros(found.due))
        .bind(to_micros(next_due))
        .execute(&mut **tx)
        .await?;
    Ok(claimed.rows_affected() == 1)
}

/// Whether this is the first start for the moment. One that was begun in what is now a far future
/// was begun by a clock that was wrong, and is replaced.
async fn note_start_in_tx(
    tx: &mut Tx,
    backup: &Backup,
    due: Timestamp,
    now: Timestamp,
) -> Result<bool, Fault> {
    let earlier = |by| now.saturating_sub(by).unwrap_or(Timestamp::MIN);
    query("DELETE FROM policy_starts WHERE instance_id = $1 AND due < $2")
        .bind(backup.instance_id.as_str())
        .bind(to_micros(earlier(STARTS_KEPT)))
        .execute(&mut **tx)
        .await?;
    let insert = "INSERT INTO policy_starts (instance_id, due, backup_id, started) VALUES ($1, $2, $3, $4)
         ON CONFLICT (instance_id, due) DO UPDATE SET
             backup_id = excluded.backup_id, started = excluded.started
         WHERE policy_starts.started > excluded.started + $5";
    let noted = query(insert)
        .bind(backup.instance_id.as_str())
        .bind(to_micros(due))
        .bind(backup.id.as_str())
        .bind(to_micros(now))
        .bind(limits::SCHEDULE_CLOCK_STEP_S * 1_000_000)
        .execute(&mut **tx)
        .await?;
    Ok(noted.rows_affected() == 1)
}

/// A project with something due.
#[derive(Debug)]
struct Queue {
    waiting: usize,
    oldest: i64,
    due: Vec<DueStart>,
}

async fn waiting_in_tx(tx: &mut Tx) -> Result<HashMap<ProjectId, usize>, Fault> {
    let rows = query(WAITING).fetch_all(&mut **tx).await?;
    let waits = |row: &AnyRow| {
        let waiting = row.integer("waiting")?;
        let count = usize::try_from(waiting).map_err(|_| damaged("waiting", &waiting.to_string()))?;
        Ok((project_id(row, "project_id")?, count))
    };
    rows.iter().map(waits).collect()
}

/// The queues among which `room` places are shared: of all projects with nothing waiting those come first
/// that wait longest, so that no more of them need be read than there are places.
async fn queues_in_tx(
    tx: &mut Tx,
    waiting: &HashMap<ProjectId, usize>,
    room: usize,
    now: Timestamp,
) -> Result<Vec<Queue>, Fault> {
    let mut queues: Vec<Queue> = Vec::new();
    let (mut idle, mut last) = (0, (i64::MIN, String::new()));
    while idle < room {
        let rows = query(PROJECTS)
            .bind(to_micros(now))
            .bind(last.0)
            .bind(last.1.as_str())
            .bind(i64::try_from(PAGE_PROJECTS).unwrap_or(i64::MAX))
            .fetch_all(&mut **tx)
            .await?;
        for row in &rows {
            let (project_id, oldest) = (project_id(row, "project_id")?, row.integer("oldest")?);
            last = (oldest, project_id.as_str().to_owned());
            let waiting = waiting.get(&project_id).copied().unwrap_or(0);
            let due = due_of_in_tx(tx, &project_id, waiting, now).await?;
            if due.is_empty() {
                continue;
            }
            idle += usize::from(waiting == 0);
            queues.push(Queue { waiting, oldest, due });
            if idle == room {
                break;
            }
        }
        if rows.len() < PAGE_PROJECTS {
            break;
        }
    }
    Ok(queues)
}

async fn due_of_in_tx(
    tx: &mut Tx,
    project: &ProjectId,
    waiting: usize,
    now: Timestamp,
) -> Result<Vec<DueStart>, Fault> {
    let places = limits::AUTOMATED_WAITING_OF_PROJECT_MAX.saturating_sub(waiting);
    if places == 0 {
        return Ok(Vec::new());
    }
    let rows = query(OF_PROJECT)
        .bind(project.as_str())
        .bind(to_micros(now))
        // More than there are places: some may be of no use.
        .bind(i64::try_from(limits::AUTOMATED_WAITING_MAX).unwrap_or(i64::MAX))
        .fetch_all(&mut **tx)
        .await?;
    let mut due = Vec::new();
    for row in &rows {
        match due_from_row(row) {
            Ok(start) => due.push(start),
            // It keeps no other one from beginning.
            Err(fault) => tracing::error!(
                "A policy cannot be read, and nothing begins by it: {}",
                Error::from(fault).chain()
            ),
        }
    }
    due.truncate(places);
    Ok(due)
}

fn due_from_row(row: &AnyRow) -> Result<DueStart, Fault> {
    let schedule = schedule_from_row(row)?.ok_or_else(|| damaged("window_opens", "nothing"))?;
    Ok(DueStart {
        project_id: project_id(row, "project_id")?,
        instance_id: InstanceId::from_stored(row.text("instance_id")?),
        due: row.time("next_due")?,
        schedule,
    })
}

/// Gives out the places one at a time: to the project with fewest waiting, of equals to the one that
/// waits longest.
fn share(queues: Vec<Queue>, room: usize) -> Vec<DueStart> {
    let mut rounds: Vec<_> = queues
        .into_iter()
        .flat_map(|queue| {
            let turn = queue.waiting;
            let oldest = queue.oldest;
            queue.due.into_iter().enumerate().map(move |(at, due)| ((turn + at, oldest), due))
        })
        .collect();
    rounds.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.instance_id.cmp(&b.1.instance_id)));
    rounds.into_iter().take(room).map(|(_, due)| due).collect()
}

#[cfg(test)]
mod tests {
    use strongroom_core::policy::{StartWindow, Weekdays};
    use strongroom_core::time::from_micros;

    use super::*;
    use crate::dialect::{Dialect, query_plan};

    fn queue(digit: char, waiting: usize, oldest: i64, due: usize) -> Queue {
        let project_id = ProjectId::parse(&digit.to_string().repeat(32)).unwrap();
        let start = |number| DueStart {
            project_id: project_id.clone(),
            instance_id: InstanceId::from_stored(format!("{digit}{number}")),
            due: from_micros(oldest),
            schedule: Schedule {
                window: StartWindow::parse("01:00-02:00").unwrap(),
                weekdays: Weekdays::ALL,
            },
        };
        Queue { due: (0..due).map(start).collect(), waiting, oldest }
    }

    fn shared(queues: Vec<Queue>, room: usize) -> Vec<String> {
        share(queues, room).into_iter().map(|start| start.instance_id.as_str().to_owned()).collect()
    }

    #[test]
    fn t04_places_go_round_and_the_oldest_comes_first() {
        let queues = || vec![queue('a', 0, 7, 4), queue('b', 0, 3, 2), queue('c', 1, 1, 1)];
        assert_eq!(shared(queues(), 9), ["b0", "a0", "c0", "b1", "a1", "a2", "a3"]);
        assert_eq!(shared(queues(), 2), ["b0", "a0"], "who has none waiting comes first");
        assert_eq!(shared(queues(), 0), Vec::<String>::new());
    }

    /// With 100,000 policies due at one moment a look must neither sort nor walk them.
    #[tokio::test]
    async fn t04_a_look_at_what_is_due_walks_indexes() {
        let (pool, _) = Dialect::Sqlite.connect("sqlite::memory:").await.unwrap();
        crate::migration::run(&pool).await.unwrap();
        for (sql, arguments) in [(ANY_DUE, 0), (WAITING, 0), (PROJECTS, 4), (OF_PROJECT, 3)] {
            let plan = query_plan(&pool, sql, arguments).await;
            // The one walk is over projects, of which as many are sorted as are asked for; those that wait
            // are few; the minimum of an index is at its beginning.
            let walks = |line: &String| {
                let is_known = line.starts_with("SCAN q") || (sql == ANY_DUE && line.contains("policy_next"));
                let sorts = line.contains("TEMP B-TREE") && sql != PROJECTS && sql != WAITING;
                (line.starts_with("SCAN") && !is_known) || sorts
            };
            assert!(!plan.iter().any(walks), "{plan:#?}");
        }
        let plan = query_plan(&pool, OF_PROJECT, 3).await;
        let search = plan.iter().any(|line| {
            line.contains("SEARCH p USING INDEX policy_next_of_project (project_id=? AND next_due<?)")
        });
        assert!(search, "{plan:#?}");
    }
}
