//! The log of a source, captured: switched on by a command, led to by a backup that begins by itself,
//! counted in the restore times, without a gap over kills, and gone from the source when switched off.

use std::time::Duration;

use serde_json::Value;
use strongroom_testkit::postgres::Options;

use crate::room::{Room, until};
use crate::source::{Source, VERSION};

/// Log is durable after seconds, a lease is over after half a minute; the rest is for a busy machine.
const SOON: Duration = Duration::from_mins(4);

fn bounded(conf: &[&str]) -> Source {
    let conf = conf.iter().map(|line| (*line).to_owned()).collect();
    Source::with_options(VERSION, 2, &Options { conf, ..Options::default() })
}

pub(crate) fn logs(room: &Room) -> Value {
    room.json(&["instance", "logs", "shop"])
}

/// Until when the newest window of v3 reaches, and how many there are.
pub(crate) fn windows(room: &Room) -> Vec<(i64, i64)> {
    let id = room.json(&["instance", "show", "shop"])["id"].as_str().unwrap().to_owned();
    let project = room.credential("project_id");
    let answer = room.http("GET", &format!("/v3/{project}/instances/{id}/restore-time"), "");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let times = answer.body["restore_time"].as_array().unwrap().clone();
    let ms = |time: &Value, end: &str| time[end].as_i64().unwrap();
    times.iter().map(|time| (ms(time, "start_time"), ms(time, "end_time"))).collect()
}

/// Waits until the one window holds what the source does now.
fn reaches_now(room: &Room, source: &Source) {
    source.change(3);
    let now = "select (extract(epoch from clock_timestamp()) * 1000)::bigint";
    let now: i64 = source.server.psql("postgres", now).unwrap().parse().unwrap();
    until("the restore times reach what was just written", SOON, || {
        let found = windows(room);
        let [(from, to)] = found[..] else { panic!("one window: {found:?}") };
        (from < to && to >= now).then_some(())
    });
}

#[test]
fn p03_a_log_that_is_captured_counts_in_the_restore_times_whatever_is_killed() {
    let mut room = Room::serving();
    let source = bounded(&["max_slot_wal_keep_size = -1"]);
    source.register(&room);
    assert_eq!((logs(&room)["state"].as_str(), windows(&room).len()), (Some("off"), 0));
    // Refused with the statement that mends it, and mended by it.
    let refused = room.run(&["instance", "logs", "shop", "--capture", "on"]).expect(4);
    let statements = refused.stderr.split("at the source: ").nth(1).unwrap().trim();
    assert_eq!((logs(&room)["state"].as_str(), source.slots()), (Some("off"), 0));
    for statement in statements.lines().next().unwrap().split_inclusive(';') {
        source.server.psql("postgres", statement).unwrap();
    }
    until("the bound is taken up", SOON, || {
        let on = room.run(&["instance", "logs", "shop", "--capture", "on"]);
        (on.code == 0).then_some(())
    });
    until("a backup leads to the log", SOON, || {
        let view = logs(&room);
        (view["has_backup"] == true && view["state"] == "capturing").then_some(())
    });
    let list = room.json(&["backup", "list"]);
    assert_eq!((list["backups"].as_array().unwrap().len(), &list["backups"][0]["type"]), (1, &"auto".into()));
    reaches_now(&room, &source);

    for _ in 0..2 {
        room.kill();
        source.change(5);
        room.serve();
        reaches_now(&room, &source);
    }
    room.stop();
    source.change(5);
    room.serve();
    reaches_now(&room, &source);
    let view = logs(&room);
    assert_eq!(view["ranges"].as_array().unwrap().len(), 1, "{view}");
    let page = room.http_open("/metrics").body;
    let metrics = page.as_str().unwrap_or_default();
    for name in ["strongroom_log_lag_seconds{instance_id=", "strongroom_rpo_seconds{instance_id="] {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{metrics}"));
        let seconds: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(seconds < 120.0, "{line}");
    }
    let report = room.json(&["repository", "check", "--level", "decode"]);
    assert_eq!(report["findings"].as_array().map(Vec::len), Some(0), "{report}");

    room.run(&["instance", "remove", "shop"]).expect(4);
    room.run(&["instance", "logs", "shop", "--capture", "off"]).expect(0);
    until("the capture ends", SOON, || (logs(&room)["state"] == "off").then_some(()));
    source.is_released();
    // What was captured still counts.
    assert_eq!(windows(&room).len(), 1);
    room.run(&["instance", "remove", "shop"]).expect(0);
}

#[test]
fn b08_log_that_is_gone_at_the_source_is_a_gap_in_the_restore_times_and_a_new_backup_follows() {
    let mut room = Room::serving();
    let source = bounded(&["max_slot_wal_keep_size = 32MB", "wal_keep_size = 0", "max_wal_size = 64MB"]);
    source.register(&room);
    room.run(&["instance", "logs", "shop", "--capture", "on"]).expect(0);
    until("a backup leads to the log", SOON, || (logs(&room)["has_backup"] == true).then_some(()));
    reaches_now(&room, &source);
    let before = windows(&room)[0];
    room.kill();
    until("the server lets go", SOON, || {
        source.change(90);
        source.server.psql("postgres", "select pg_switch_wal()").unwrap();
        source.server.psql("postgres", "checkpoint").unwrap();
        let status = source.server.psql("postgres", "select wal_status from pg_replication_slots").unwrap();
        (status == "lost").then_some(())
    });
    room.serve();
    let found = until("a second window", SOON, || Some(windows(&room)).filter(|found| found.len() == 2));
    // Until the last moment that was known to be whole, and not a moment into the gap.
    assert!(
        found[0].0 == before.0 && found[0].1 >= before.1 && found[0].1 < found[1].0,
        "{before:?} {found:?}"
    );
    let view = logs(&room);
    assert_eq!(view["ranges"].as_array().unwrap().len(), 2, "{view}");
    assert_eq!(room.json(&["backup", "list"])["backups"].as_array().unwrap().len(), 2);
    assert!(room.log().contains("Log is missing from the archive"), "{}", room.log());
}
