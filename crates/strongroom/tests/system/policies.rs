//! A policy that acts: set by a command, its backup begins by itself and restores.

use std::time::Duration;

use jiff::Timestamp;
use strongroom_core::id::InstanceId;
use strongroom_core::policy::{Schedule, StartWindow, Weekdays};

use crate::room::{Room, until};
use crate::source::{Source, digest, restores_to};

/// A look comes every two seconds; the rest is for a busy machine.
const SOON: Duration = Duration::from_mins(2);

/// A window that is open, and in which the moment of this instance has passed.
fn open_window(instance: &str, now: Timestamp) -> Option<StartWindow> {
    let id = InstanceId::from_stored(instance);
    let quarters = (0..96).filter_map(|quarter| StartWindow::from_stored(quarter * 15));
    quarters.into_iter().find(|window| {
        Schedule { window: *window, weekdays: Weekdays::ALL }.timetable(&id).first_from(now) <= now
    })
}

#[test]
fn a_policy_whose_window_is_open_leads_to_a_backup_that_restores() {
    let (room, source) = (Room::serving(), Source::filled(2));
    let wanted = digest(&source.server);
    // The moments of some ids come late in every window; another id has another moment.
    let (name, window) = (1..20)
        .find_map(|number| {
            let name = format!("shop-{number}");
            let added = source.register_as(&room, &name);
            let now: Timestamp = added["created"].as_str().unwrap().parse().unwrap();
            open_window(added["id"].as_str().unwrap(), now).map(|window| (name, window))
        })
        .expect("one of many moments has passed");

    let window = window.to_string();
    let set = ["policy", "set", &name, "--keep-days", "7", "--start-time", &window];
    let view = room.json(&set);
    assert_eq!((&view["automated"], &view["keep_days"]), (&true.into(), &7.into()));
    let backup = until("the automated backup completes", SOON, || {
        let list = room.json(&["backup", "list", "--instance", &name]);
        let found = list["backups"].as_array().unwrap().first().cloned()?;
        (found["status"] == "COMPLETED").then_some(found)
    });
    assert_eq!(backup["type"], "auto");
    let backup_name = backup["name"].as_str().unwrap().to_owned();
    restores_to(&room, &backup_name, &wanted);

    let view = room.json(&["policy", "show", &name, "--explain"]);
    assert_eq!(view["last_start"]["backup_id"], backup["id"]);
    assert_eq!(view["backups"][0]["why"], "within_keep_days");
    assert!(view["backups"][0]["goes"].is_string());
    let table = room.run(&["policy", "show", &name, "--explain"]).expect(0);
    assert!(table.stdout.contains("kept for 7 days"), "{}", table.stdout);

    // The same again begins no second one; the other dialects say the same.
    room.json(&set);
    let project = room.credential("project_id");
    let id = view["instance_id"].as_str().unwrap();
    let answer = room.http("GET", &format!("/v3/{project}/instances/{id}/backups/policy"), "");
    assert_eq!(answer.body["backup_policy"]["start_time"], window.as_str());
    assert_eq!(room.json(&["backup", "list", "--instance", &name])["backups"].as_array().unwrap().len(), 1);

    for (wrong, code) in [
        (vec!["policy", "set", &name, "--keep-days", "733"], 2),
        (vec!["policy", "set", &name, "--keep-days", "7", "--start-time", "01:10-02:10"], 2),
        (vec!["policy", "set", &name, "--keep-days", "7", "--period", "8"], 2),
        (vec!["policy", "show", "nobody"], 3),
    ] {
        room.run(&wrong).expect(code);
    }
    room.run(&["policy", "set", &name, "--keep-days", "0", "--remove-automated", "--explain"]).expect(0);
    let view = room.json(&["policy", "show", &name, "--explain"]);
    assert_eq!((&view["automated"], &view["backups"][0]["why"]), (&false.into(), &"protected".into()));
    let page = room.http_open("/metrics").body;
    let metrics = page.as_str().unwrap_or_default();
    assert!(
        metrics.contains("strongroom_policy_backups_begun_total{punctuality=\"in_window\"} 1"),
        "{metrics}"
    );
    room.run(&["backup", "delete", &backup_name]).expect(0);
    room.run(&["backup", "show", &backup_name]).expect(3);
}
