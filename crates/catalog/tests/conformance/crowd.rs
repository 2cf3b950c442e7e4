//! As many policies as there may be, all due at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use sqlx::{AnyPool, query};
use strongroom_catalog::{DueStart, Started};
use strongroom_core::backup::{Backup, BackupType};
use strongroom_core::id::ProjectId;
use strongroom_core::job::{JobKind, JobState};
use strongroom_core::limits::{AUTOMATED_WAITING_MAX, AUTOMATED_WAITING_OF_PROJECT_MAX};
use strongroom_testkit::depth;

use crate::room::{self, Room};

/// Beside the one project with nearly all of them, many with a few each.
const SMALL_PROJECTS: usize = 11;
const OF_SMALL: i64 = 6;
/// A look takes milliseconds on a machine of its own; walking all policies for each place would take
/// longer than this on any.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// `count` instances of a project, each with a policy that owes a start, a second apart. Ids are in the
/// order of what they owe.
async fn crowd(pool: &AnyPool, project: &ProjectId, count: i64, first_due: Timestamp) {
    let name = "$1 || '-' || CAST(1000000 + n.i AS TEXT)";
    let numbers =
        "WITH RECURSIVE n(i) AS (SELECT CAST(0 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < $2)";
    let instances = format!(
        "{numbers} INSERT INTO instances
             (id, node_id, project_id, name, engine, version, system_identifier, state, host, port, user_name,
              password_sealed, tls, ca_pem, allow_md5, lineage_id, created, updated)
         SELECT {name}, {name}, $1, {name}, 'postgresql', '15.18', 'x', 'ready', 'db.example', 5432, 'backup',
             '', 'require', NULL, 0, {name}, 0, 0 FROM n"
    );
    let policies = format!(
        "{numbers} INSERT INTO policies
             (instance_id, project_id, keep_days, reserves, window_opens, weekdays, next_due, shortened, updated)
         SELECT {name}, $1, 7, 1, 60, 127, $3 + n.i * 1000000, NULL, 0 FROM n"
    );
    let instances = query(sqlx::AssertSqlSafe(instances)).bind(project.as_str()).bind(count);
    instances.execute(pool).await.unwrap();
    let policies = query(sqlx::AssertSqlSafe(policies)).bind(project.as_str()).bind(count);
    policies.bind(first_due.as_microsecond()).execute(pool).await.unwrap();
}

async fn begin(room: &Room, found: &DueStart) {
    let instance = room.catalog.instance_by_id(&found.instance_id).await.unwrap().unwrap();
    let (backup, job) = room.new_backup(&instance, "auto-crowd-1");
    let backup = Backup { kind: BackupType::Auto, ..backup };
    let next = found.schedule.timetable(&instance.id).next_after(room.now());
    let audit = room.audit("backup.create");
    let begun = room.catalog.policy_begin(found, found.due, next, &backup, &job, &audit).await.unwrap();
    assert_eq!(begun, Started::Begun);
}

/// Ends all that waits, in place of workers.
async fn end_all(room: &Room) -> usize {
    let mut ended = 0;
    loop {
        let (worker, now) = (room.worker(), room.now());
        let claim = room.catalog.job_claim(&worker, &[JobKind::Backup], now, room.in_s(30));
        let Some(claim) = claim.await.unwrap() else { return ended };
        let (reason, audit) = (room::failure("cancelled"), room.audit("job.end"));
        let end = room.catalog.job_fail(&claim.fence, &reason, JobState::Failed, room.now(), &audit);
        end.await.unwrap();
        ended += 1;
    }
}

fn by_project(due: &[DueStart]) -> BTreeMap<&ProjectId, Vec<Timestamp>> {
    let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for start in due {
        found.entry(&start.project_id).or_default().push(start.due);
    }
    found
}

pub(crate) async fn t04_a_hundred_thousand_due_at_one_moment_wait_for_their_places(room: &Room) {
    if room.url.contains(":memory:") {
        return;
    }
    let count = depth::choose(5_000, 100_000);
    let pool = room.raw_pool().await;
    let first_due = room.now().checked_sub(SignedDuration::from_hours(48)).unwrap();
    crowd(&pool, &room.project, count, first_due).await;
    for number in 0..SMALL_PROJECTS {
        let project = ProjectId::parse(&format!("{number:032x}")).unwrap();
        room.add_project(&project, None).await;
        // Those of the large one have waited for longer.
        let later = first_due.checked_add(SignedDuration::from_hours(30)).unwrap();
        crowd(&pool, &project, OF_SMALL, later).await;
    }
    let now = room.now();
    let (mut slowest, mut seen, mut last_of_large) = (Duration::ZERO, BTreeSet::new(), first_due);
    for round in 0..8 {
        let looking = Instant::now();
        let due = room.catalog.policy_due(now).await.unwrap();
        slowest = slowest.max(looking.elapsed());
        assert!(due.len() <= AUTOMATED_WAITING_MAX, "{}", due.len());
        for (project, moments) in by_project(&due) {
            assert!(moments.len() <= AUTOMATED_WAITING_OF_PROJECT_MAX, "round {round}, {project}");
            assert!(moments.is_sorted(), "the oldest first");
        }
        if let Some(moments) = by_project(&due).get(&room.project) {
            assert!(moments[0] >= last_of_large, "in their order, whatever comes between");
            last_of_large = moments[moments.len() - 1];
        }
        for found in &due {
            assert!(seen.insert(found.instance_id.clone()), "once");
            begin(room, found).await;
        }
        let more = room.catalog.policy_due(now).await.unwrap();
        assert!(more.len() + due.len() <= AUTOMATED_WAITING_MAX, "round {round}: places are places");
        assert_eq!(end_all(room).await, due.len());
    }
    // Eight rounds of 32 places have room for all of the small ones, and for a few of the large one.
    let of_large = seen.iter().filter(|id| id.as_str().starts_with(room.project.as_str())).count();
    assert_eq!(seen.len() - of_large, SMALL_PROJECTS * usize::try_from(OF_SMALL).unwrap(), "nobody starves");
    assert!(of_large >= 8, "{of_large}");
    depth::report(format_args!("{count} policies due at once: the slowest look took {slowest:?}"));
    assert!(slowest < LOOK_MAX, "a look took {slowest:?}");
}
