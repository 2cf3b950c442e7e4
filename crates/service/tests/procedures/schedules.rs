//! The scheduler under a clock of the test: outages, jumps, failures, retention. Nothing sleeps.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use strongroom_core::backup::{Backup, BackupState, BackupType, InstanceRef};
use strongroom_core::job::{JobKind, JobState};
use strongroom_core::policy::{Keep, PolicyChange, StartWindow, WINDOW_S};
use strongroom_core::time::Clock;
use strongroom_core::verification::Level;
use strongroom_core::{Error, ErrorKind, limits};
use strongroom_service::{BackupRef, Looked, PolicyDetail, Scheduler};
use strongroom_testkit::depth;

use crate::engine::Act;
use crate::room::{Room, new_instance};

const DAY_S: i64 = 86_400;
const TICK: Duration = Duration::from_secs(2);

fn change(keep_days: i64) -> PolicyChange {
    let window = Some(StartWindow::parse("01:00-02:00").unwrap());
    PolicyChange { keep: Keep::parse(keep_days, true).unwrap(), window, weekdays: None }
}

fn shop() -> InstanceRef {
    InstanceRef::Any("shop".to_owned())
}

async fn set(room: &Room, keep_days: i64) -> PolicyDetail {
    room.judge.service.policy_set(&room.scope().await, &shop(), &change(keep_days)).await.unwrap()
}

fn scheduler(room: &Room) -> Scheduler {
    Scheduler::new(room.judge.service.clone())
}

/// Time passes, and the scheduler knows how much.
async fn pass(room: &Room, scheduler: &mut Scheduler, seconds: i64) -> Looked {
    room.advance_ms(seconds * 1000);
    scheduler.look(Duration::from_secs(seconds.unsigned_abs())).await.unwrap()
}

async fn next_start(room: &Room) -> Timestamp {
    let detail = room.judge.service.policy_show(&room.scope().await, &shop()).await.unwrap();
    detail.next_start.unwrap()
}

/// Time passes up to the next start, which is begun and done.
async fn next_day(room: &Room, scheduler: &mut Scheduler) -> Backup {
    let missing = next_start(room).await.duration_since(room.clock.now()).as_secs() + 1;
    assert_eq!(pass(room, scheduler, missing).await.begun, 1);
    work(room).await;
    room.rows().await.remove(0)
}

/// Everything that waits is done, and what it left is judged.
async fn work(room: &Room) {
    let before = room.engine.database();
    room.process().await.worker.run_due().await;
    for backup in room.rows().await.iter().filter(|row| row.kind == BackupType::Auto) {
        room.expect(backup, &before);
    }
}

async fn automated(room: &Room) -> Vec<Backup> {
    room.rows().await.into_iter().filter(|row| row.kind == BackupType::Auto).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_due_backup_begins_once_in_its_window_and_completes() {
    let room = Room::new().await;
    let mut scheduler = scheduler(&room);
    assert_eq!(scheduler.look(TICK).await.unwrap(), Looked::default());
    let owed = set(&room, 7).await.next_start.unwrap();
    let missing = owed.duration_since(room.clock.now()).as_secs();
    assert_eq!(pass(&room, &mut scheduler, missing - 1).await.begun, 0, "not before its moment");
    assert_eq!(pass(&room, &mut scheduler, 2).await.begun, 1);
    for _ in 0..3 {
        assert_eq!(pass(&room, &mut scheduler, 2).await.begun, 0, "once");
    }
    work(&room).await;
    let rows = automated(&room).await;
    assert_eq!((rows.len(), rows[0].state), (1, BackupState::Completed));
    assert!(rows[0].name.as_str().starts_with("auto-shop-"), "{}", rows[0].name);
    room.assert_all_restore().await;
    let told = room.judge.catalog.audit_list(&room.instance.project_id, 50).await.unwrap();
    let begun = told.iter().find(|event| event.action == "backup.create").unwrap();
    assert_eq!((begun.actor.as_str(), &begun.detail["late"]), ("scheduler", &false.into()));
    assert_eq!(next_start(&room).await, owed + SignedDuration::from_secs(DAY_S));
    let wanted = BackupRef::Any(rows[0].name.as_str().to_owned());
    let found = room.judge.service.backup_find(&room.scope().await, &wanted).await.unwrap();
    assert_eq!(found.id, rows[0].id, "by its name");
}

#[tokio::test(flavor = "multi_thread")]
async fn t02_t03_an_outage_of_three_days_is_one_backup_afterwards() {
    let room = Room::new().await;
    set(&room, 700).await;
    next_day(&room, &mut scheduler(&room)).await;
    let missed = next_start(&room).await;
    room.advance_ms(3 * DAY_S * 1000 + 7_200_000);
    // Two servers come back at once, and look several times.
    let (mut one, mut other) = (scheduler(&room), scheduler(&room));
    let mut begun = 0;
    for _ in 0..3 {
        begun += one.look(TICK).await.unwrap().begun + other.look(TICK).await.unwrap().begun;
        work(&room).await;
    }
    assert_eq!((begun, automated(&room).await.len()), (1, 2));
    let told = room.judge.catalog.audit_list(&room.instance.project_id, 50).await.unwrap();
    let newest = told.iter().find(|event| event.action == "backup.create").unwrap();
    assert_eq!(newest.detail["late"], true);
    let counted = newest.detail["due"].as_str().unwrap().parse::<Timestamp>().unwrap();
    assert_eq!(counted, missed + SignedDuration::from_secs(2 * DAY_S), "the newest that was missed");
    next_day(&room, &mut one).await;
    assert_eq!(automated(&room).await.len(), 3, "and then every day as before");
    room.assert_all_restore().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t01_a_clock_that_jumps_begins_nothing_twice_and_removes_nothing() {
    let room = Room::new().await;
    set(&room, 2).await;
    let mut scheduler = scheduler(&room);
    let first = next_day(&room, &mut scheduler).await;
    let second = next_day(&room, &mut scheduler).await;
    // Ten minutes are no jump, a second more is one.
    room.advance_ms(limits::RETENTION_CLOCK_STEP_S * 1000 + 2_000);
    scheduler.look(TICK).await.unwrap();
    let hold = async || room.judge.service.policy_show(&room.scope().await, &shop()).await.unwrap().hold;
    assert_eq!(hold().await, None);
    // Forty days ahead: one backup for what was missed, and nothing is removed.
    let right = room.clock.now();
    room.advance_ms(40 * DAY_S * 1000);
    let looked = scheduler.look(TICK).await.unwrap();
    assert_eq!((looked.begun, looked.expired), (1, 0));
    work(&room).await;
    assert_eq!(hold().await.unwrap().moved_ms / 1000, 40 * DAY_S - 2);
    for _ in 0..3 {
        assert_eq!(pass(&room, &mut scheduler, 700).await, Looked::default(), "held for as long as it takes");
    }
    // Back again: what is owed is the next start, and it comes although one was begun in the future.
    let ahead = room.clock.now().duration_since(right).as_secs();
    room.advance_ms(-ahead * 1000);
    assert_eq!(scheduler.look(TICK).await.unwrap(), Looked::default());
    assert!(next_start(&room).await.duration_since(right) < SignedDuration::from_secs(DAY_S));
    for count in 4..7 {
        next_day(&room, &mut scheduler).await;
        assert_eq!(automated(&room).await.len(), count);
    }
    // Steps of an hour, as of a clock that is set: nothing is begun twice.
    for seconds in [-3_600, 3_600, -3_600, 3_600] {
        room.advance_ms(seconds * 1000);
        scheduler.look(TICK).await.unwrap();
        room.process().await.worker.run_due().await;
    }
    assert_eq!(automated(&room).await.len(), 6);
    // Somebody looks at the clock and says that it is right.
    assert!(room.state(&first).await.is_some() && room.state(&second).await.is_some());
    room.judge.service.retention_resume(&room.scope().await).await.unwrap();
    assert_eq!(hold().await, None);
    assert!(pass(&room, &mut scheduler, 700).await.expired >= 2);
    work(&room).await;
    assert_eq!((room.state(&first).await, room.state(&second).await), (None, None));
    room.assert_all_restore().await;
}

/// After a start nobody knows how long the server was away: more than a week is asked about.
#[tokio::test(flavor = "multi_thread")]
async fn t01_a_start_in_a_far_future_removes_nothing() {
    for (away_s, is_held) in
        [(limits::RETENTION_ABSENCE_S - 60, false), (limits::RETENTION_ABSENCE_S + 60, true)]
    {
        let room = Room::new().await;
        set(&room, 1).await;
        let mut before = scheduler(&room);
        next_day(&room, &mut before).await;
        before.look(Duration::from_secs(limits::RETENTION_INTERVAL_S)).await.unwrap();
        room.advance_ms(away_s * 1000);
        let mut after = scheduler(&room);
        after.look(Duration::ZERO).await.unwrap();
        let detail = room.judge.service.policy_show(&room.scope().await, &shop()).await.unwrap();
        assert_eq!(detail.hold.is_some(), is_held, "{away_s}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_runs_at_the_moment_is_waited_for() {
    let room = Room::new().await;
    let owed = set(&room, 7).await.next_start.unwrap();
    let mut scheduler = scheduler(&room);
    let missing = owed.duration_since(room.clock.now()).as_secs();
    pass(&room, &mut scheduler, missing - 1).await;
    let manual = room.ask("by-hand").await.unwrap();
    for _ in 0..3 {
        assert_eq!(pass(&room, &mut scheduler, 2).await.begun, 0);
    }
    assert!(automated(&room).await.is_empty());
    work(&room).await;
    assert_eq!(room.state(&manual).await, Some(BackupState::Completed));
    assert_eq!(pass(&room, &mut scheduler, 2).await.begun, 1);
    work(&room).await;
    assert_eq!(automated(&room).await.len(), 1);
    room.assert_all_restore().await;
}

/// It fails as every job does, is not begun again for the same moment, and its row goes in time.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_automated_backup_is_told_and_the_next_one_comes() {
    let room = Room::new().await;
    set(&room, 3).await;
    let mut scheduler = scheduler(&room);
    room.engine.play([Act::FailAfter(0, Error::new(ErrorKind::SourceRefused, "A right is missing."))]);
    let failed = next_day(&room, &mut scheduler).await;
    assert_eq!(failed.state, BackupState::Failed);
    assert_eq!(failed.failure.unwrap().code, "source_refused");
    assert_eq!(pass(&room, &mut scheduler, 600).await.begun, 0);
    for _ in 0..4 {
        assert_eq!(next_day(&room, &mut scheduler).await.state, BackupState::Completed);
    }
    work(&room).await;
    assert!(
        automated(&room).await.iter().all(|row| row.state == BackupState::Completed),
        "its days are over"
    );
    room.assert_all_restore().await;
}

/// Marked unreachable by somebody's check: an automated backup is tried all the same. Removed: never.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_was_away_is_tried_and_one_that_was_removed_is_not() {
    let room = Room::new().await;
    set(&room, 7).await;
    let mut scheduler = scheduler(&room);
    let (id, version, now) = (&room.instance.id, &room.instance.version, room.clock.now());
    let away = strongroom_core::instance::InstanceState::Unreachable;
    room.judge.catalog.instance_observe(id, away, version, now).await.unwrap();
    assert_eq!(next_day(&room, &mut scheduler).await.state, BackupState::Completed);
    let kept = automated(&room).await;
    room.judge.service.instance_remove(&room.scope().await, &shop()).await.unwrap();
    for _ in 0..20 {
        assert_eq!(pass(&room, &mut scheduler, DAY_S).await, Looked::default());
    }
    assert_eq!(automated(&room).await, kept, "no instance, no rule");
}

#[tokio::test(flavor = "multi_thread")]
async fn r02_rules_remove_what_is_over_and_never_the_last_good_backup() {
    let room = Room::new().await;
    set(&room, 2).await;
    let mut scheduler = scheduler(&room);
    let manual = room.completed("by-hand").await;
    let mut backups = Vec::new();
    for day in 0..8 {
        room.engine.touch(day);
        backups.push(next_day(&room, &mut scheduler).await);
        if day == 0 {
            let proved = BackupRef::Id(backups[0].id.clone());
            room.judge.service.backup_verify(&room.scope().await, &proved, Level::Decode).await.unwrap();
        }
        work(&room).await;
        room.assert_all_restore().await;
    }
    let left: Vec<&Backup> = {
        let mut left = Vec::new();
        for backup in &backups {
            if room.state(backup).await.is_some() {
                left.push(backup);
            }
        }
        left
    };
    let names = |rows: &[&Backup]| rows.iter().map(|row| row.name.to_string()).collect::<Vec<_>>();
    // The proved one, and those of the last two days; what went is gone from the repository too.
    assert_eq!(names(&left), names(&[&backups[0], &backups[6], &backups[7]]));
    assert!(room.state(&manual).await.is_some());
    assert_eq!(room.sealed().len(), 4);
    // Nothing is backed up any more, for years: the newest and the proved one stay for ever.
    room.engine.play((0..500).map(|_| Act::FailAfter(0, Error::new(ErrorKind::SourceRefused, "x"))));
    for _ in 0..5 {
        pass(&room, &mut scheduler, 6 * DAY_S).await;
        work(&room).await;
    }
    for (backup, stays) in [(&backups[0], true), (&backups[6], false), (&backups[7], true)] {
        assert_eq!(room.state(backup).await.is_some(), stays, "{}", backup.name);
    }
    room.assert_all_restore().await;
    // A person is obeyed, and the rule then protects what is left.
    let wanted = BackupRef::Any(backups[0].name.to_string());
    room.judge.service.backup_delete(&room.scope().await, &wanted).await.unwrap();
    work(&room).await;
    pass(&room, &mut scheduler, 700).await;
    work(&room).await;
    assert!(room.state(&backups[0]).await.is_none() && room.state(&backups[7]).await.is_some());
    room.assert_all_restore().await;
}

/// Many instances with one window and one project: each begins once, at its own moment inside the
/// window, and never more of them wait than may.
#[tokio::test(flavor = "multi_thread")]
async fn t04_many_instances_begin_spread_over_their_window() {
    let instances = depth::choose(48, 1_000);
    let room = Room::new().await;
    let scope = room.scope().await;
    set(&room, 7).await;
    for number in 1..instances {
        let name = format!("shop-{number}");
        room.judge.service.instance_add(&scope, new_instance(&name)).await.unwrap();
        room.judge.service.policy_set(&scope, &InstanceRef::Any(name), &change(7)).await.unwrap();
    }
    let mut scheduler = scheduler(&room);
    let opens = next_start(&room).await.as_second() / 3_600 * 3_600;
    let missing = opens - 1 - room.clock.now().as_second();
    assert_eq!(pass(&room, &mut scheduler, missing).await.begun, 0);
    let mut begun: BTreeMap<i64, usize> = BTreeMap::new();
    for minute in 0..WINDOW_S / 60 {
        pass(&room, &mut scheduler, 60).await;
        loop {
            let waiting = end_all(&room).await;
            assert!(waiting <= limits::AUTOMATED_WAITING_OF_PROJECT_MAX, "{waiting} wait at once");
            *begun.entry(minute / 5).or_default() += waiting;
            if scheduler.look(Duration::ZERO).await.unwrap().begun == 0 {
                break;
            }
        }
    }
    assert_eq!(begun.values().sum::<usize>(), instances, "all of them, in their window");
    let most = *begun.values().max().unwrap();
    assert!(begun.len() >= 10 && most <= 3 * instances / 12, "{begun:?}");
    let rows = room.judge.service.policy_list(&scope).await.unwrap();
    assert_eq!(rows.len(), instances);
    assert_eq!(pass(&room, &mut scheduler, 3_600).await.begun, 0, "none a second time");
    room.assert_whole().await;
}

/// Ends every job that waits, in place of a worker: what is tested is when they begin.
async fn end_all(room: &Room) -> usize {
    let (catalog, mut ended) = (&room.judge.catalog, 0);
    let worker = strongroom_core::id::WorkerId::from_stored("w".repeat(32));
    loop {
        let now = room.clock.now();
        let until = now + SignedDuration::from_secs(30);
        let Some(claim) = catalog.job_claim(&worker, &[JobKind::Backup], now, until).await.unwrap() else {
            return ended;
        };
        let failure = strongroom_core::backup::Failure {
            code: "cancelled".to_owned(),
            message: "Not done in this test.".to_owned(),
            hint: None,
        };
        let audit = strongroom_catalog::AuditEvent {
            at: now,
            project_id: claim.job.project_id.clone(),
            actor: "test".to_owned(),
            action: "job.end",
            object: claim.job.id.to_string(),
            request_id: None,
            detail: serde_json::json!({}),
        };
        catalog.job_fail(&claim.fence, &failure, JobState::Failed, now, &audit).await.unwrap();
        ended += 1;
    }
}
