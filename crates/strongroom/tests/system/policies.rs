//! A policy that acts: set by a command, its backup begins by itself and restores.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use strongroom_core::id::InstanceId;
use strongroom_core::policy::{Schedule, StartWindow, Weekdays};

use crate::room::{Room, until};
use crate::source::{Source, digest, restores_to};

/// A look comes every two seconds; the rest is for a busy machine.
const SOON: Duration = Duration::from_mins(2);

/// Windows that are open, and in which the moment of this instance has passed.
fn open_windows(instance: &str, now: Timestamp) -> Vec<StartWindow> {
    let id = InstanceId::from_stored(instance);
    let quarters = (0..96).filter_map(|quarter| StartWindow::from_stored(quarter * 15));
    let is_open = |window: &StartWindow| {
        Schedule { window: *window, weekdays: Weekdays::ALL }.timetable(&id).first_from(now) <= now
    };
    quarters.filter(is_open).collect()
}

/// An instance for which so many windows are open. The moments of some ids come late in every window;
/// another id has another moment.
fn registered(room: &Room, source: &Source, windows: usize) -> (String, Vec<StartWindow>) {
    let found = (1..30).find_map(|number| {
        let name = format!("shop-{number}");
        let added = source.register_as(room, &name);
        let now: Timestamp = added["created"].as_str().unwrap().parse().unwrap();
        let open = open_windows(added["id"].as_str().unwrap(), now);
        (open.len() >= windows).then_some((name, open))
    });
    found.expect("the moments of one of many have passed")
}

/// The newest automated backup, once there are so many.
fn automated(room: &Room, name: &str, count: usize) -> Value {
    until("the automated backup completes", SOON, || {
        let list = room.json(&["backup", "list", "--instance", name]);
        let found = list["backups"].as_array().unwrap();
        let newest = found.first().filter(|newest| newest["status"] == "COMPLETED").cloned()?;
        (found.len() == count).then_some(newest)
    })
}

#[test]
fn a_policy_whose_window_is_open_leads_to_a_backup_that_restores() {
    let (room, source) = (Room::serving(), Source::filled(2));
    let wanted = digest(&source.server);
    let (name, windows) = registered(&room, &source, 1);
    // The one that is open for longest.
    let window = windows[windows.len() - 1].to_string();
    let set = ["policy", "set", &name, "--keep-days", "7", "--start-time", &window];
    let view = room.json(&set);
    assert_eq!((&view["automated"], &view["keep_days"]), (&true.into(), &7.into()));
    let backup = automated(&room, &name, 1);
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

/// Of two automated backups a change would let the older one go: the command says so and changes
/// nothing, until somebody says that it may.
#[test]
fn r01_a_change_that_loses_backups_wants_a_word_for_it() {
    let (room, source) = (Room::serving(), Source::filled(1));
    let (name, windows) = registered(&room, &source, 2);
    let mut backups = Vec::new();
    // Another window is another moment that is owed.
    for (at, window) in windows.iter().rev().take(2).enumerate() {
        room.json(&["policy", "set", &name, "--keep-days", "7", "--start-time", &window.to_string()]);
        backups.push(automated(&room, &name, at + 1)["name"].as_str().unwrap().to_owned());
    }
    assert_ne!(backups[0], backups[1]);
    let before = room.json(&["policy", "show", &name]);
    let fates = || {
        let rows = room.json(&["policy", "show", &name, "--explain"])["backups"].clone();
        let why = |of: &String| {
            let row = rows.as_array().unwrap().iter().find(|row| row["name"] == of.as_str()).unwrap();
            row["why"].as_str().unwrap().to_owned()
        };
        backups.iter().map(why).collect::<Vec<_>>()
    };

    let off = ["policy", "set", &name, "--keep-days", "0", "--remove-automated"];
    let refused = room.run(&off).expect(4);
    assert!(refused.stderr.contains("1 backups would go that stay now"), "{}", refused.stderr);
    assert!(
        refused.stderr.contains(&backups[0]) && !refused.stderr.contains(&backups[1]),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains("nothing was changed") && refused.stderr.contains("--yes"));
    assert_eq!(room.json(&["policy", "show", &name]), before, "nothing was changed");
    assert_eq!(fates(), ["within_keep_days", "within_keep_days"]);
    // What loses nothing needs no word: days that are not over, and off with what is there kept.
    room.run(&["policy", "set", &name, "--keep-days", "1"]).expect(0);
    room.run(&["policy", "set", &name, "--keep-days", "0"]).expect(0);
    room.run(&["policy", "set", &name, "--keep-days", "7"]).expect(0);

    let off: Vec<&str> = off.into_iter().chain(["--yes"]).collect();
    room.run(&off).expect(0);
    assert_eq!(fates(), ["policy_shortened", "protected"], "for an hour it can be undone");
    room.run(&["policy", "set", &name, "--keep-days", "7"]).expect(0);
    assert_eq!(fates(), ["within_keep_days", "within_keep_days"]);
    assert_eq!(room.json(&["backup", "list", "--instance", &name])["backups"].as_array().unwrap().len(), 2);
}
