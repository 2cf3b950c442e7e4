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

/// What looks may add to the memory of this process, however much is due.
const MEMORY_KIB_MAX: u64 = 16 << 10;

const NUMBERS: &str =
    "WITH RECURSIVE n(i) AS (SELECT CAST(0 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < $2)";

fn peak_memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// Looks, and the longest that one took.
struct Looks<'r> {
    room: &'r Room,
    now: Timestamp,
    slowest: Duration,
    memory_before_kib: u64,
}

impl<'r> Looks<'r> {
    fn new(room: &'r Room) -> Self {
        Self { room, now: room.now(), slowest: Duration::ZERO, memory_before_kib: peak_memory_kib() }
    }

    async fn look(&mut self) -> Vec<DueStart> {
        let looking = Instant::now();
        let due = self.room.catalog.policy_due(self.now).await.unwrap();
        self.slowest = self.slowest.max(looking.elapsed());
        assert!(due.len() <= AUTOMATED_WAITING_MAX, "{}", due.len());
        due
    }

    fn assert_bounded(&self, what: &str) {
        let (slowest, grew) = (self.slowest, peak_memory_kib() - self.memory_before_kib);
        depth::report(format_args!("{what}: the slowest look took {slowest:?}, memory grew by {grew} KiB"));
        assert!(slowest < LOOK_MAX, "a look took {slowest:?}");
        assert!(grew < MEMORY_KIB_MAX, "memory grew by {grew} KiB");
    }
}

/// `count` instances of a project, each with a policy that owes a start, a second apart. Ids are in the
/// order of what they owe.
async fn crowd(pool: &AnyPool, project: &ProjectId, count: i64, first_due: Timestamp) {
    let name = "$1 || '-' || CAST(1000000 + n.i AS TEXT)";
    let instances = format!(
        "{NUMBERS} INSERT INTO instances
             (id, node_id, project_id, name, engine, version, system_identifier, state, host, port, user_name,
              password_sealed, tls, ca_pem, allow_md5, lineage_id, created, updated)
         SELECT {name}, {name}, $1, {name}, 'postgresql', '15.18', 'x', 'ready', 'db.example', 5432, 'backup',
             '', 'require', NULL, 0, {name}, 0, 0 FROM n"
    );
    let policies = format!(
        "{NUMBERS} INSERT INTO policies
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
    let mut looks = Looks::new(room);
    let (mut seen, mut last_of_large) = (BTreeSet::new(), first_due);
    for round in 0..8 {
        let due = looks.look().await;
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
        let more = looks.look().await;
        assert!(more.len() + due.len() <= AUTOMATED_WAITING_MAX, "round {round}: places are places");
        assert_eq!(end_all(room).await, due.len());
    }
    // Eight rounds of 32 places have room for all of the small ones, and for a few of the large one.
    let of_large = seen.iter().filter(|id| id.as_str().starts_with(room.project.as_str())).count();
    assert_eq!(seen.len() - of_large, SMALL_PROJECTS * usize::try_from(OF_SMALL).unwrap(), "nobody starves");
    assert!(of_large >= 8, "{of_large}");
    looks.assert_bounded(&format!("{count} policies of one project due at once"));
}

/// `count` projects with an instance and a policy each, who wait for longest first.
async fn crowd_of_projects(pool: &AnyPool, count: i64, first_due: Timestamp) {
    let id = "$1 || CAST(1000000 + n.i AS TEXT)";
    let statements = [
        format!(
            "{NUMBERS} INSERT INTO projects (id, name, domain_id, domain_name, created)
             SELECT {id}, {id}, 'default', 'Default', 0 FROM n"
        ),
        format!(
            "{NUMBERS} INSERT INTO instances
                 (id, node_id, project_id, name, engine, version, system_identifier, state, host, port, user_name,
                  password_sealed, tls, ca_pem, allow_md5, lineage_id, created, updated)
             SELECT {id}, {id}, {id}, {id}, 'postgresql', '15.18', 'x', 'ready', 'db.example', 5432, 'backup',
                 '', 'require', NULL, 0, {id}, 0, 0 FROM n"
        ),
        format!(
            "{NUMBERS} INSERT INTO policies
                 (instance_id, project_id, keep_days, reserves, window_opens, weekdays, next_due, shortened, updated)
             SELECT {id}, {id}, 7, 1, 60, 127, {} + n.i * 1000000, NULL, 0 FROM n",
            first_due.as_microsecond()
        ),
    ];
    for statement in statements {
        let statement = query(sqlx::AssertSqlSafe(statement)).bind("0".repeat(25)).bind(count);
        statement.execute(pool).await.unwrap();
    }
}

pub(crate) async fn t04_as_many_projects_with_something_due_have_their_turns(room: &Room) {
    if room.url.contains(":memory:") {
        return;
    }
    let count = depth::choose(2_000, 100_000);
    let pool = room.raw_pool().await;
    let first_due = room.now().checked_sub(SignedDuration::from_hours(48)).unwrap();
    crowd_of_projects(&pool, count, first_due).await;
    let mut looks = Looks::new(room);
    let mut begun = Vec::new();
    for round in 0..4 {
        let due = looks.look().await;
        assert_eq!(due.len(), AUTOMATED_WAITING_MAX, "round {round}: every place is taken");
        for found in &due {
            begin(room, found).await;
            begun.push(found.due);
        }
        assert!(looks.look().await.is_empty(), "there is no place left");
        assert_eq!(end_all(room).await, due.len());
    }
    let expected: Vec<Timestamp> = (0..begun.len())
        .map(|at| first_due.checked_add(SignedDuration::from_secs(i64::try_from(at).unwrap())).unwrap())
        .collect();
    assert_eq!(begun, expected, "who waits longest comes first");
    looks.assert_bounded(&format!("{count} projects with a policy due at once"));
}
