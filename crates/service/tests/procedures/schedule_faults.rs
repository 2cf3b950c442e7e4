//! What cannot be begun, or looked through, keeps nothing else from beginning and from going. The rows
//! of one instance are damaged behind the back of the server.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use strongroom_core::backup::{BackupState, InstanceRef};
use strongroom_core::policy::{Keep, PolicyChange, StartWindow};
use strongroom_core::time::Clock;
use strongroom_core::{ErrorKind, limits};
use strongroom_service::Scheduler;

use crate::room::{Room, new_instance};

const DAY_S: i64 = 86_400;
/// The instance whose rows are damaged, and the others.
const BROKEN: &str = "broken";
const SOUND: [&str; 3] = ["early", "later", "shop"];

async fn run(room: &Room, statement: &'static str) {
    let options = SqliteConnectOptions::new().filename(room.folder.path().join("catalog.db"));
    let mut connection = options.connect().await.unwrap();
    let done = sqlx::query(statement).execute(&mut connection).await.unwrap();
    assert!(done.rows_affected() > 0, "{statement}");
    connection.close().await.unwrap();
}

/// Four instances with a policy, the broken one neither first nor last by whatever order.
async fn room_with_policies() -> Room {
    let room = Room::new().await;
    let scope = room.scope().await;
    for name in ["early", BROKEN, "later"] {
        room.judge.service.instance_add(&scope, new_instance(name)).await.unwrap();
    }
    let window = Some(StartWindow::parse("01:00-02:00").unwrap());
    let change = PolicyChange { keep: Keep::parse(1, true).unwrap(), window, weekdays: None };
    for name in SOUND.into_iter().chain([BROKEN]) {
        let wanted = InstanceRef::Any(name.to_owned());
        room.judge.service.policy_set(&scope, &wanted, &change).await.unwrap();
    }
    room
}

/// The day is over: everything that was due in it is due now.
async fn pass_a_day(room: &Room, scheduler: &mut Scheduler) -> strongroom_core::Result<usize> {
    room.advance_ms(DAY_S * 1000);
    let looked = scheduler.look(Duration::from_secs(DAY_S.unsigned_abs())).await;
    looked.map(|looked| looked.begun)
}

/// Names of the instances of which an automated backup was begun since.
async fn begun_since(room: &Room, since: Timestamp) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let scope = room.scope().await;
    for instance in room.judge.service.instance_list(&scope).await.unwrap() {
        let last = room.judge.catalog.policy_last_start(&instance.id).await.unwrap();
        if last.is_some_and(|last| last.started >= since) {
            names.insert(instance.name.to_string());
        }
    }
    names
}

/// Names of the instances of which a backup is being removed.
async fn going(room: &Room) -> BTreeSet<String> {
    let rows = room.rows().await.into_iter().filter(|row| row.state == BackupState::Deleting);
    rows.map(|row| row.name.as_str().split('-').nth(1).unwrap().to_owned()).collect()
}

fn sound() -> BTreeSet<String> {
    SOUND.into_iter().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn m03_an_instance_that_cannot_be_read_keeps_no_other_backup_from_beginning() {
    let room = room_with_policies().await;
    let mut scheduler = Scheduler::new(room.judge.service.clone());
    scheduler.look(Duration::ZERO).await.unwrap();
    run(&room, "UPDATE instances SET tls = 'odd' WHERE name = 'broken'").await;
    let failed = pass_a_day(&room, &mut scheduler).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Damage, "and the failure is told: {failed:?}");
    let since = room.clock.now();
    run(&room, "UPDATE instances SET tls = 'disable' WHERE name = 'broken'").await;
    assert_eq!(begun_since(&room, since).await, sound());
    // Mended, it has its turn at once.
    assert_eq!(scheduler.look(Duration::from_secs(2)).await.unwrap().begun, 1);
    assert_eq!(begun_since(&room, since).await.len(), SOUND.len() + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn m03_a_policy_that_cannot_be_read_keeps_no_other_backup_from_beginning() {
    let room = room_with_policies().await;
    let mut scheduler = Scheduler::new(room.judge.service.clone());
    scheduler.look(Duration::ZERO).await.unwrap();
    run(&room, "UPDATE policies SET weekdays = 999 WHERE instance_id IN (SELECT id FROM instances WHERE name = 'broken')").await;
    room.advance_ms(DAY_S * 1000);
    let since = room.clock.now();
    let failed = scheduler.look(Duration::from_secs(DAY_S.unsigned_abs())).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Damage, "rules stand still while one is not known: {failed:?}");
    assert_eq!(begun_since(&room, since).await, sound());
}

/// The backups of one instance cannot be looked through: those of the others go, and begin.
#[tokio::test(flavor = "multi_thread")]
async fn m03_a_rule_that_fails_for_one_instance_acts_on_the_others() {
    let room = room_with_policies().await;
    let mut scheduler = Scheduler::new(room.judge.service.clone());
    scheduler.look(Duration::ZERO).await.unwrap();
    for _ in 0..2 {
        assert_eq!(pass_a_day(&room, &mut scheduler).await.unwrap(), SOUND.len() + 1);
        room.process().await.worker.run_due().await;
    }
    run(&room, "UPDATE backups SET created = 'long ago' WHERE name LIKE 'auto-broken-%'").await;
    let failed = pass_a_day(&room, &mut scheduler).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Internal, "{failed:?}");
    let since = room.clock.now();
    assert!(begun_since(&room, since).await.is_superset(&sound()));
    run(
        &room,
        "UPDATE backups SET created = finished WHERE name LIKE 'auto-broken-%' AND state <> 'building'",
    )
    .await;
    assert_eq!(going(&room).await, sound(), "those of the others are over");
    // Mended, its own go with the next look.
    room.advance_ms(1000 * i64::try_from(limits::RETENTION_INTERVAL_S).unwrap());
    let looked = scheduler.look(Duration::from_secs(limits::RETENTION_INTERVAL_S)).await.unwrap();
    assert_eq!(looked.expired, 1);
    assert_eq!(going(&room).await.len(), SOUND.len() + 1);
}
