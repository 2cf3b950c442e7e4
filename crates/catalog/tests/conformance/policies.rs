//! Policies: what is owed, who begins it, what goes by a rule.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use sqlx::query;
use strongroom_catalog::{BackupFilter, Deletable, DueStart, PolicyRow, Started};
use strongroom_core::backup::{Backup, BackupState, BackupType};
use strongroom_core::id::ProjectId;
use strongroom_core::instance::Instance;
use strongroom_core::job::{Job, JobKind};
use strongroom_core::policy::{Keep, PolicyChange, StartWindow, Weekdays};
use strongroom_core::retention::{Protection, Why};
use strongroom_core::text::BackupName;
use strongroom_core::verification::{Level, Outcome};
use strongroom_core::{ErrorKind, Field, limits};
use tokio::task::JoinSet;

use crate::room::{self, Room};

const DAY_S: i64 = 86_400;

fn change(keep_days: i64) -> PolicyChange {
    let window = Some(StartWindow::parse("01:00-02:00").unwrap());
    PolicyChange { keep: Keep::parse(keep_days, true).unwrap(), window, weekdays: None }
}

async fn set(room: &Room, instance: &Instance, change: &PolicyChange) -> PolicyRow {
    let (audit, now) = (room.audit("policy.set"), room.now());
    room.catalog.policy_change(&instance.project_id, &instance.id, change, &audit, now).await.unwrap()
}

fn automated(room: &Room, instance: &Instance) -> (Backup, Job) {
    let (backup, job) = room.new_backup(instance, "auto-source-1");
    (Backup { kind: BackupType::Auto, ..backup }, job)
}

async fn begin(room: &Room, found: &DueStart, instance: &Instance) -> Started {
    let (backup, job) = automated(room, instance);
    let next = found.schedule.timetable(&instance.id).next_after(room.now().max(found.due));
    let audit = room.audit("backup.create");
    room.catalog.policy_begin(found, found.due, next, &backup, &job, &audit).await.unwrap()
}

/// Moves the clock to the next moment that is owed.
async fn until_due(room: &Room, instance: &Instance) -> DueStart {
    let row = room.catalog.policy_find(&instance.project_id, &instance.id).await.unwrap().unwrap();
    let missing = row.next_due.unwrap().duration_since(room.now());
    room.advance_s(missing.as_secs().max(0) + 1);
    let due = room.catalog.policy_due(room.now()).await.unwrap();
    due.into_iter().find(|found| found.instance_id == instance.id).expect("it is due")
}

pub(crate) async fn a_policy_is_stored_changed_and_goes_with_its_instance(room: &Room) {
    let instance = room.add_instance("source").await;
    let found = async || room.catalog.policy_find(&room.project, &instance.id).await.unwrap();
    assert_eq!(found().await, None);
    let stored = set(room, &instance, &change(7)).await;
    assert_eq!(found().await.as_ref(), Some(&stored));
    assert_eq!(stored.policy.keep().days(), 7);
    assert_eq!(room.catalog.policy_list(&room.project).await.unwrap(), std::slice::from_ref(&stored));
    assert_eq!(room.catalog.policy_page(None, 10).await.unwrap(), std::slice::from_ref(&stored));
    assert!(room.catalog.policy_page(Some(&instance.id), 10).await.unwrap().is_empty());
    let told = &room.catalog.audit_list(&room.project, 1).await.unwrap()[0];
    assert_eq!(
        (&told.detail["before"]["keep_days"], &told.detail["after"]["keep_days"]),
        (&0.into(), &7.into())
    );

    let off = PolicyChange { keep: Keep::parse(0, false).unwrap(), window: None, weekdays: None };
    let off = set(room, &instance, &off).await;
    assert_eq!((off.next_due, off.policy.schedule()), (None, stored.policy.schedule()));
    assert_eq!(off.policy.keep(), Keep::Off { reserve: false });
    assert_eq!(found().await, Some(off));
    assert!(room.catalog.policy_page(None, 10).await.unwrap().is_empty(), "nothing is owed");

    let (foreign, audit) = (ProjectId::parse(&"b".repeat(32)).unwrap(), room.audit("policy.set"));
    let refused = room.catalog.policy_change(&foreign, &instance.id, &change(7), &audit, room.now()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InstanceNotFound);
    assert_eq!(room.catalog.policy_find(&foreign, &instance.id).await.unwrap(), None);

    let other = room.add_instance("other").await;
    let windowless = PolicyChange { window: None, ..change(7) };
    let refused = room.catalog.policy_change(&room.project, &other.id, &windowless, &audit, room.now()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Parameter(Field::StartTime));
    assert_eq!(room.catalog.policy_find(&room.project, &other.id).await.unwrap(), None);

    let audit = room.audit("instance.remove");
    room.catalog.instance_retire(&room.project, &instance.id, &audit, room.now()).await.unwrap();
    assert_eq!(found().await, None);
    let refused =
        room.catalog.policy_change(&room.project, &instance.id, &change(7), &audit, room.now()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InstanceNotFound);
}

pub(crate) async fn a_schedule_that_stays_owes_the_same_start(room: &Room) {
    let instance = room.add_instance("source").await;
    let first = set(room, &instance, &change(7)).await;
    room.advance_s(3 * DAY_S);
    assert_eq!(set(room, &instance, &change(9)).await.next_due, first.next_due, "it is owed still");
    let tuesdays = PolicyChange { weekdays: Some(Weekdays::parse("2").unwrap()), ..change(9) };
    let moved = set(room, &instance, &tuesdays).await;
    let schedule = moved.policy.active().unwrap();
    assert_eq!(moved.next_due, Some(schedule.timetable(&instance.id).first_from(room.now())));
    set(room, &instance, &change(0)).await;
    room.advance_s(9 * DAY_S);
    let again = set(room, &instance, &change(1)).await;
    assert_eq!(again.policy.active(), Some(schedule), "remembered");
    assert!(again.next_due.unwrap() > room.now(), "what passed while it was off is not owed");
}

pub(crate) async fn t02_one_backup_is_begun_for_one_moment(room: &Room) {
    let instance = room.add_instance("source").await;
    set(room, &instance, &change(7)).await;
    assert!(room.catalog.policy_due(room.now()).await.unwrap().is_empty());
    let found = until_due(room, &instance).await;
    assert_eq!(begin(room, &found, &instance).await, Started::Begun);
    assert!(room.catalog.policy_due(room.now()).await.unwrap().is_empty());
    let begun = room.catalog.policy_last_start(&instance.id).await.unwrap().unwrap();
    assert_eq!((begun.due, begun.started), (found.due, room.now()));
    let job = room.backup(&room.catalog.backup_by_id(&begun.backup_id).await.unwrap().unwrap()).await.job_id;
    let claim = room.claim_of(&job).await;
    let backup = room.catalog.backup_by_id(&begun.backup_id).await.unwrap().unwrap();
    assert_eq!(backup.kind, BackupType::Auto);
    room.publish(&claim.fence, &backup).await.unwrap();

    assert_eq!(begin(room, &found, &instance).await, Started::Taken, "somebody was faster");
    // However it came to be owed again: a moment is begun for once.
    let row = room.catalog.policy_find(&room.project, &instance.id).await.unwrap().unwrap();
    assert!(room.catalog.policy_owe(&row, found.due).await.unwrap());
    assert!(!room.catalog.policy_owe(&row, found.due).await.unwrap(), "it was changed meanwhile");
    assert_eq!(begin(room, &found, &instance).await, Started::Before);
    let row = room.catalog.policy_find(&room.project, &instance.id).await.unwrap().unwrap();
    assert!(row.next_due.unwrap() > found.due, "the next one is owed");
    let name = BackupName::from_stored("auto-source-1");
    let by_name = room.catalog.backup_by_name(&room.project, &name).await;
    assert_eq!(by_name.unwrap().map(|found| found.id), Some(backup.id));
}

pub(crate) async fn a_running_backup_is_waited_for(room: &Room) {
    let instance = room.add_instance("source").await;
    set(room, &instance, &change(7)).await;
    let found = until_due(room, &instance).await;
    let manual = room.add_backup(&instance, "by-hand").await;
    assert!(room.catalog.policy_due(room.now()).await.unwrap().is_empty(), "it takes nobody's place");
    assert_eq!(begin(room, &found, &instance).await, Started::InProgress, "a manual one was faster");
    assert_eq!(room.catalog.policy_last_start(&instance.id).await.unwrap(), None);
    let claim = room.claim_of(&manual.job_id).await;
    room.publish(&claim.fence, &manual).await.unwrap();
    assert_eq!(
        room.catalog.policy_due(room.now()).await.unwrap(),
        std::slice::from_ref(&found),
        "owed as before"
    );
    assert_eq!(begin(room, &found, &instance).await, Started::Begun);
}

/// The clock was years ahead, a backup was begun; now it is right again.
pub(crate) async fn t01_a_start_of_a_far_future_counts_for_nothing(room: &Room) {
    let instance = room.add_instance("source").await;
    set(room, &instance, &change(7)).await;
    let found = until_due(room, &instance).await;
    for (ahead_s, begun) in [
        (limits::SCHEDULE_CLOCK_STEP_S - 60, Started::Before),
        (limits::SCHEDULE_CLOCK_STEP_S + 60, Started::Begun),
    ] {
        let pool = room.raw_pool().await;
        if room.url.contains(":memory:") {
            return;
        }
        let started = found.due + SignedDuration::from_secs(ahead_s);
        query("DELETE FROM policy_starts").execute(&pool).await.unwrap();
        query(
            "INSERT INTO policy_starts (instance_id, due, backup_id, started) VALUES ($1, $2, 'ahead', $3)",
        )
        .bind(instance.id.as_str())
        .bind(found.due.as_microsecond())
        .bind(started.as_microsecond())
        .execute(&pool)
        .await
        .unwrap();
        query("UPDATE policies SET next_due = $1")
            .bind(found.due.as_microsecond())
            .execute(&pool)
            .await
            .unwrap();
        assert_eq!(begin(room, &found, &instance).await, begun, "{ahead_s}");
    }
}

pub(crate) async fn t04_places_are_shared_between_projects(room: &Room) {
    let other = ProjectId::parse(&"b".repeat(32)).unwrap();
    room.add_project(&other, None).await;
    let mut instances = BTreeMap::new();
    for number in 0..2 * limits::AUTOMATED_WAITING_OF_PROJECT_MAX {
        for project in [&room.project, &other] {
            let name = format!("source-{number}");
            let instance = Instance { project_id: project.clone(), ..room.new_instance(&name) };
            room.admit_instance(&instance).await.unwrap();
            set(room, &instance, &change(7)).await;
            instances.insert(instance.id.clone(), instance);
        }
    }
    room.advance_s(2 * DAY_S);
    let due = room.catalog.policy_due(room.now()).await.unwrap();
    let of = |project: &ProjectId| due.iter().filter(|found| found.project_id == *project).count();
    let places = limits::AUTOMATED_WAITING_OF_PROJECT_MAX;
    assert_eq!((of(&room.project), of(&other)), (places, places));
    assert!(due.chunks(2).all(|pair| pair[0].project_id != pair[1].project_id), "they take turns");
    for found in due.iter().filter(|found| found.project_id == other) {
        assert_eq!(begin(room, found, &instances[&found.instance_id]).await, Started::Begun);
    }
    let left = room.catalog.policy_due(room.now()).await.unwrap();
    assert!(left.iter().all(|found| found.project_id == room.project), "the other one's places are taken");
    assert_eq!(left.len(), places);
    // A worker takes one: its place is free again.
    room.claim().await.unwrap();
    assert_eq!(room.catalog.policy_due(room.now()).await.unwrap().len(), places + 1);
}

/// As many processes as there are, each with connections of its own: every start is begun once.
pub(crate) async fn p08_many_schedulers_begin_each_start_once(room: &Room) {
    const SCHEDULERS: usize = 6;
    const STARTS: usize = limits::AUTOMATED_WAITING_OF_PROJECT_MAX;
    let mut instances = Vec::new();
    for number in 0..STARTS {
        let instance = room.add_instance(&format!("source-{number}")).await;
        set(room, &instance, &change(7)).await;
        instances.push(instance);
    }
    room.advance_s(2 * DAY_S);
    let due = room.catalog.policy_due(room.now()).await.unwrap();
    assert_eq!(due.len(), STARTS);
    let mut schedulers = JoinSet::new();
    for _ in 0..SCHEDULERS {
        let catalog =
            if room.catalog.is_shared() { room::open(&room.url).await } else { room.catalog.clone() };
        let wishes: Vec<_> = due
            .iter()
            .map(|found| {
                let instance = instances.iter().find(|instance| instance.id == found.instance_id).unwrap();
                let (backup, job) = automated(room, instance);
                let next = found.schedule.timetable(&instance.id).next_after(room.now());
                (found.clone(), next, backup, job, room.audit("backup.create"))
            })
            .collect();
        schedulers.spawn(async move {
            let mut begun = 0;
            for (found, next, backup, job, audit) in wishes {
                match catalog.policy_begin(&found, found.due, next, &backup, &job, &audit).await.unwrap() {
                    Started::Begun => begun += 1,
                    Started::Taken => {}
                    other => panic!("{other:?}"),
                }
            }
            begun
        });
    }
    let begun: usize = schedulers.join_all().await.into_iter().sum();
    assert_eq!(begun, STARTS);
    let rows = room.catalog.backup_page(&room.project, &BackupFilter::default(), None, 100).await.unwrap();
    assert_eq!(rows.len(), STARTS);
}

async fn whys(room: &Room, instance: &Instance) -> BTreeMap<String, (Why, Option<Protection>)> {
    let rows = room.catalog.retention_rows(&room.project, &instance.id, None, room.now()).await.unwrap();
    rows.into_iter().map(|row| (row.name.as_str().to_owned(), (row.fate.why, row.fate.protection))).collect()
}

async fn apply(room: &Room, instance: &Instance) -> usize {
    let candidates = room.catalog.retention_candidates(None, room.now(), 10).await.unwrap();
    let expired = room.catalog.retention_apply(&instance.id, room.now(), "scheduler").await.unwrap();
    assert!(expired.is_empty() || candidates.contains(&instance.id), "a look finds what is to go");
    expired.len()
}

pub(crate) async fn g8_rules_take_what_is_over_and_nothing_else(room: &Room) {
    let instance = room.add_instance("source").await;
    set(room, &instance, &change(2)).await;
    room.add_completed(&instance, "by-hand").await;
    let mut backups = Vec::new();
    for number in 0..5 {
        room.advance_s(DAY_S);
        backups.push(room.add_automated(&instance, &format!("auto-{number}")).await);
    }
    room.verify(&backups[1], Level::Decode, Outcome::Passed).await;
    let end = backups[2].finished.unwrap() + SignedDuration::from_hours(48);
    let missing = end.duration_since(room.now()).as_secs();
    room.advance_s(missing - 1);
    assert_eq!(whys(room, &instance).await["auto-2"].0, Why::WithinKeepDays);
    room.advance_s(1);
    let found = whys(room, &instance).await;
    assert_eq!(found["by-hand"], (Why::Manual, None));
    assert_eq!(found["auto-0"], (Why::Due, None));
    assert_eq!(found["auto-1"], (Why::Protected, Some(Protection::Verified(Level::Decode))));
    assert_eq!(found["auto-2"], (Why::Due, None));
    assert_eq!(found["auto-4"], (Why::WithinKeepDays, Some(Protection::Newest)));

    assert_eq!(apply(room, &instance).await, 2);
    assert_eq!(apply(room, &instance).await, 0, "taken on once");
    for (number, state) in
        [(0, BackupState::Deleting), (1, BackupState::Completed), (2, BackupState::Deleting)]
    {
        assert_eq!(room.backup(&backups[number]).await.state, state, "{number}");
    }
    let told = room.catalog.audit_list(&room.project, 1).await.unwrap();
    assert_eq!((told[0].action.as_str(), told[0].actor.as_str()), ("backup.expire", "scheduler"));
    for _ in 0..2 {
        let claim = room.claim().await.unwrap();
        assert_eq!(claim.job.kind, JobKind::Delete);
        let (id, audit) = (claim.job.backup_id.clone().unwrap(), room.audit("backup.gone"));
        room.catalog.backup_remove(&claim.fence, &id, &audit, room.now()).await.unwrap();
    }
    // Years without a backup: what is newest, and what was proved, stays.
    room.advance_s(900 * DAY_S);
    assert_eq!(apply(room, &instance).await, 1, "auto-3");
    assert_eq!(whys(room, &instance).await["auto-4"], (Why::Protected, Some(Protection::Newest)));
    // Off, and what is there stays; off, and it goes: but for what no rule takes.
    set(room, &instance, &change(0)).await;
    assert_eq!(whys(room, &instance).await["auto-4"].0, Why::AutomationOff);
    let audit = room.audit("instance.remove");
    let claim = room.claim().await.unwrap();
    let gone = claim.job.backup_id.clone().unwrap();
    room.catalog.backup_remove(&claim.fence, &gone, &audit, room.now()).await.unwrap();
    room.catalog.instance_retire(&room.project, &instance.id, &audit, room.now()).await.unwrap();
    assert_eq!(apply(room, &instance).await, 0, "no instance, no rule");
}

pub(crate) async fn g8_a_failed_verification_protects_nothing(room: &Room) {
    let instance = room.add_instance("source").await;
    set(room, &instance, &change(1)).await;
    let mut backups = Vec::new();
    for number in 0..4 {
        room.advance_s(60);
        backups.push(room.add_automated(&instance, &format!("auto-{number}")).await);
    }
    room.verify(&backups[0], Level::Engine, Outcome::Passed).await;
    room.verify(&backups[1], Level::Decode, Outcome::Passed).await;
    room.verify(&backups[2], Level::Engine, Outcome::Passed).await;
    room.advance_s(60);
    room.verify(&backups[2], Level::Presence, Outcome::Failed).await;
    room.verify(&backups[1], Level::Engine, Outcome::NotRun).await;
    room.advance_s(DAY_S);
    let found = whys(room, &instance).await;
    assert_eq!(found["auto-0"], (Why::Protected, Some(Protection::Verified(Level::Engine))));
    assert_eq!(found["auto-1"], (Why::Protected, Some(Protection::Verified(Level::Decode))));
    assert_eq!(found["auto-2"], (Why::Due, None), "a later failure outweighs what passed before");
    // It passes again, as far as that goes.
    room.verify(&backups[2], Level::Digest, Outcome::Passed).await;
    let found = whys(room, &instance).await;
    assert_eq!(found["auto-2"], (Why::Protected, Some(Protection::Verified(Level::Digest))));
    assert_eq!(apply(room, &instance).await, 0);
    assert_eq!(room.ask_person_s_delete(&backups[0]).await.map(|_| ()), Ok(()), "a person is obeyed");
    assert_eq!(whys(room, &instance).await["auto-1"].1, Some(Protection::Verified(Level::Decode)));
}

pub(crate) async fn r01_a_shortened_policy_removes_nothing_at_once(room: &Room) {
    let instance = room.add_instance("source").await;
    set(room, &instance, &change(700)).await;
    let old = room.add_automated(&instance, "auto-0").await;
    room.advance_s(60);
    room.add_automated(&instance, "auto-1").await;
    room.advance_s(30 * DAY_S);
    let keep = Some(Keep::parse(1, true).unwrap());
    let planned = room.catalog.retention_rows(&room.project, &instance.id, keep, room.now()).await.unwrap();
    assert_eq!(planned.iter().filter(|row| row.fate.is_due()).count(), 1, "a plan says what would go");
    set(room, &instance, &change(1)).await;
    assert_eq!(whys(room, &instance).await["auto-0"].0, Why::PolicyShortened);
    assert_eq!(apply(room, &instance).await, 0);
    room.advance_s(limits::RETENTION_GRACE_S - 1);
    set(room, &instance, &change(1)).await;
    assert_eq!(apply(room, &instance).await, 0);
    room.advance_s(1);
    assert_eq!(apply(room, &instance).await, 1, "saying the same again is no new change");
    assert_eq!(room.backup(&old).await.state, BackupState::Deleting);
}

pub(crate) async fn many_looks_remove_each_backup_once(room: &Room) {
    let instance = room.add_instance("source").await;
    set(room, &instance, &change(1)).await;
    for number in 0..=limits::RETENTION_BATCH_MAX {
        room.advance_s(1);
        room.add_automated(&instance, &format!("auto-{number}")).await;
    }
    room.advance_s(3 * DAY_S);
    let mut looks = JoinSet::new();
    for _ in 0..6 {
        let catalog =
            if room.catalog.is_shared() { room::open(&room.url).await } else { room.catalog.clone() };
        let (instance, now) = (instance.id.clone(), room.now());
        looks.spawn(async move { catalog.retention_apply(&instance, now, "scheduler").await.unwrap().len() });
    }
    let taken: Vec<usize> = looks.join_all().await;
    assert_eq!(taken.iter().sum::<usize>(), limits::RETENTION_BATCH_MAX, "{taken:?}");
    assert!(taken.iter().all(|taken| *taken <= limits::RETENTION_BATCH_MAX));
    assert_eq!(
        whys(room, &instance).await[&format!("auto-{}", limits::RETENTION_BATCH_MAX)].0,
        Why::Protected
    );
}

pub(crate) async fn a_person_s_delete_of_an_automated_backup_is_obeyed(room: &Room) {
    let instance = room.add_instance("source").await;
    set(room, &instance, &change(7)).await;
    let backup = room.add_automated(&instance, "auto-0").await;
    room.verify(&backup, Level::Engine, Outcome::Passed).await;
    assert_eq!(room.ask_delete(&backup).await.unwrap_err().kind(), ErrorKind::BackupNotManual);
    room.ask_person_s_delete(&backup).await.unwrap();
    assert_eq!(room.backup(&backup).await.state, BackupState::Deleting);
    assert_eq!(whys(room, &instance).await["auto-0"].0, Why::Deleting);
}

impl Room {
    async fn ask_person_s_delete(&self, backup: &Backup) -> Result<Timestamp, ErrorKind> {
        let (job, audit) = (self.new_job_on(JobKind::Delete, backup), self.audit("backup.delete"));
        let project = &backup.project_id;
        let asked = self.catalog.backup_delete_admit(project, &backup.id, Deletable::Any, &job, &audit);
        asked.await.map(|_| self.now()).map_err(|error| error.kind())
    }
}
