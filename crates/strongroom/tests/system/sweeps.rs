//! Space comes back: measured on the disk, killed in the middle, and without room; what is left
//! restores on a real server.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use strongroom_testkit::depth;
use strongroom_testkit::disk::SmallDisk;

use crate::identity::run_as;
use crate::room::{Room, files, pause, until};
use crate::source::{Source, digest, restores_to};

/// A lease, three tries and their pauses.
const SETTLED: Duration = Duration::from_mins(3);

/// What the disk says, as `du` counts it.
fn taken(repository: &Path) -> u64 {
    files(&repository.join("l"))
        .iter()
        .map(|path| path.metadata().map_or(0, |found| found.blocks() * 512))
        .sum()
}

fn served(options: &[&str]) -> (Room, Source) {
    let mut room = Room::empty();
    room.options = options.iter().map(|option| (*option).to_owned()).collect();
    room.serve();
    let source = Source::filled(20);
    source.register(&room);
    (room, source)
}

/// Backups by these names, each after rows changed and a table was replaced by another one; with what
/// each holds.
fn history(room: &Room, source: &Source, names: &[&str]) -> BTreeMap<String, String> {
    let mut wanted = BTreeMap::new();
    for (round, name) in names.iter().enumerate() {
        if round > 0 {
            source.change(30);
            let anew = format!("update bookings set what = md5(id::text || '{name}') where id % 4 = 0");
            source.server.psql("postgres", &anew).unwrap();
            source.server.psql("postgres", "checkpoint").unwrap();
        }
        let passing = "drop table if exists passing;
             create table passing as select i, md5(random()::text || i) as what from generate_series(1, 60000) i";
        source.server.psql("postgres", passing).unwrap();
        room.json(&["backup", "create", "shop", "--name", name, "--wait", "--progress", "none"]);
        wanted.insert((*name).to_owned(), digest(&source.server));
    }
    wanted
}

/// Gone from the list when this answers.
fn delete(room: &Room, wanted: &mut BTreeMap<String, String>, names: &[&str]) {
    for name in names {
        room.run(&["backup", "delete", name]).expect(0);
        until("the backup leaves the list", SETTLED, || {
            (room.run(&["backup", "show", name]).code == 3).then_some(())
        });
        wanted.remove(*name);
    }
}

fn all_restore(room: &Room, wanted: &BTreeMap<String, String>) {
    room.run(&["repository", "check", "--level", "decode", "--progress", "none"]).expect(0);
    for (name, digest) in wanted {
        restores_to(room, name, digest);
    }
}

fn sweep(room: &Room) -> Value {
    room.json(&["repository", "sweep", "--wait", "--threshold", "1", "--progress", "none"])
}

fn number(of: &Value) -> u64 {
    of.as_u64().unwrap_or_else(|| panic!("{of} is no number"))
}

#[test]
fn r04_deleted_backups_give_their_space_back() {
    let (room, source) = served(&["--sweep-delay-seconds", "never"]);
    let mut wanted = history(&room, &source, &["first", "second", "third", "fourth", "fifth"]);
    let full = taken(&room.repository());
    let before = room.json(&["repository", "stat"]);
    assert_eq!((&before["reclaimable_bytes"], &before["last_sweep"]), (&0.into(), &Value::Null), "{before}");
    delete(&room, &mut wanted, &["first", "third", "fourth"]);
    let stat = room.json(&["repository", "stat"]);
    assert_eq!((&stat["backups"], &stat["pending_backups"]), (&2.into(), &3.into()), "{stat}");
    assert!(number(&stat["dead_packs"]) + number(&stat["partly_dead_packs"]) > 0, "{stat}");
    assert_eq!(stat["next_sweep"], Value::Null, "nobody asked for one");

    let planned = room.json(&["repository", "sweep", "--dry-run", "--threshold", "1", "--progress", "none"]);
    // Of a pack of which less than a hundredth is dead nothing comes back.
    let dead = number(&planned["bytes_freed"]) + number(&planned["dead_kept"]["bytes"]);
    assert_eq!(dead, number(&stat["reclaimable_bytes"]), "{planned} {stat}");
    assert!(number(&planned["bases"]["records"]) > 0, "changes stand on what was deleted: {planned}");
    assert!(taken(&room.repository()) >= full, "a dry run takes nothing away");
    let told = room.run(&["repository", "sweep", "--dry-run", "--progress", "none"]).expect(0);
    for line in ["would give back", "bases of deltas", "that backups need"] {
        assert!(told.stdout.contains(line), "{line}: {}", told.stdout);
    }

    let swept = sweep(&room);
    let (freed, now) = (number(&swept["bytes_freed"]), taken(&room.repository()));
    assert_eq!(swept["bytes_freed"], planned["bytes_freed"]);
    assert!(freed > 2 << 20, "three of five were deleted: {freed} of {full}");
    let gone = full - now;
    // Blocks are counted, and three small marks were added for each delete.
    assert!(gone + (256 << 10) > freed && gone < freed + (256 << 10), "{gone} on the disk, {freed} told");
    all_restore(&room, &wanted);
    let stat = room.json(&["repository", "stat"]);
    assert_eq!(stat["reclaimable_bytes"], swept["dead_kept"]["bytes"], "{stat}");
    assert_eq!((&stat["dead_packs"], &stat["pending_backups"]), (&0.into(), &0.into()), "{stat}");
    assert!(stat["last_sweep"].is_string(), "{stat}");
    depth::report(format_args!("{full} bytes on the disk before, {now} after: {freed} were told"));

    // The next backup stands on what is left.
    wanted.extend(history(&room, &source, &["sixth"]));
    all_restore(&room, &wanted);
    let page = room.http_open("/metrics").body;
    let page = page.as_str().unwrap();
    assert!(page.contains(&format!("strongroom_repository_swept_bytes_total {freed}")), "{page}");
    assert!(!page.contains("strongroom_repository_last_sweep_timestamp_seconds 0\n"), "{page}");
}

/// Tokens that may do much in the project, and nothing for the domain: an operator's, and that of
/// somebody who administers this one project.
fn tokens_of_others(room: &Room) -> [String; 2] {
    let operator = room.json(&["token", "create", "tape", "--role", "operator"]);
    let secret = room.scratch.path().join("ada-password");
    std::fs::write(&secret, "correct horse battery\n").unwrap();
    room.json(&["user", "create", "ada", "--password-file", &secret.display().to_string()]);
    room.run(&["user", "grant", "ada", "admin"]).expect(0);
    let log_in = serde_json::json!({ "auth": { "identity": {
        "methods": ["password"],
        "password": { "user": { "name": "ada", "password": "correct horse battery" } },
    } } });
    let answer = room.http("POST", "/v3/auth/tokens", &log_in.to_string());
    assert_eq!(answer.status, 201, "{}", answer.body);
    let ada = answer.head.lines().find_map(|line| line.strip_prefix("x-subject-token: ")).unwrap();
    [operator["token"].as_str().unwrap().to_owned(), ada.to_owned()]
}

/// `--rebase` is for administrators of the domain; nothing is begun for anybody else.
fn assert_is_refused_to_others(room: &Room) {
    let jobs = room.json(&["job", "list"]);
    for token in tokens_of_others(room) {
        run_as(room, &token, &["backup", "list"]).expect(0);
        let refused = run_as(room, &token, &["repository", "sweep", "--rebase", "--wait"]).expect(4);
        assert!(refused.stdout.is_empty(), "{}", refused.stdout);
    }
    assert_eq!(room.json(&["job", "list"]), jobs, "no job was begun");
}

#[test]
fn r04_what_stands_on_deleted_backups_is_stored_anew_by_the_command() {
    let (room, source) = served(&["--sweep-delay-seconds", "never"]);
    let mut wanted = history(&room, &source, &["first", "second", "third", "fourth", "fifth", "sixth"]);
    delete(&room, &mut wanted, &["first", "second", "fourth", "fifth"]);
    let swept = sweep(&room);
    assert_eq!(swept["rebase"], Value::Null, "nobody asked for it: {swept}");
    let (plain, objects) = (taken(&room.repository()), files(&room.repository()));
    let dry = ["repository", "sweep", "--dry-run", "--threshold", "1", "--progress", "none"];
    let look = room.json(&dry);
    let cost = number(&look["bases"]["bytes"]);
    assert!(number(&look["bases"]["records"]) > 0 && cost > 0, "{look}");
    assert!(room.run(&dry).expect(0).stdout.contains("(--rebase)"), "the text says what helps");

    let refused = room.run(&["repository", "sweep", "--dry-run", "--rebase"]).expect(2);
    assert!(
        refused.stderr.contains("--dry-run") && refused.stderr.contains("--rebase"),
        "{}",
        refused.stderr
    );
    let asked = room.http("POST", "/strongroom/v1/repository/sweep", r#"{"dry_run":true,"rebase":true}"#);
    assert_eq!(asked.status, 400, "{}", asked.body);
    assert!(asked.body["message"].as_str().unwrap().starts_with("rebase: "), "{}", asked.body);
    assert_is_refused_to_others(&room);
    assert_eq!(files(&room.repository()), objects, "nothing has changed");

    let before = room.json(&["backup", "list"]);
    let command = ["repository", "sweep", "--rebase", "--wait", "--threshold", "1", "--progress", "none"];
    let done = room.json(&command);
    let rebase = &done["rebase"];
    assert_eq!(
        (&done["schema"], &done["dry_run"], &done["doubts"]),
        (&1.into(), &false.into(), &serde_json::json!([]))
    );
    assert_eq!(
        (&rebase["backups"], &rebase["stored_anew"], &rebase["left"]),
        (&2.into(), &2.into(), &0.into())
    );
    assert!(number(&rebase["chunks"]) > 0 && number(&rebase["bytes"]) > 0, "{done}");
    let now = taken(&room.repository());
    assert!(now < plain, "{now} on the disk, {plain} before");
    assert_eq!(room.json(&dry)["bases"], serde_json::json!({ "records": 0, "bytes": 0 }));
    assert_eq!(room.json(&["backup", "list"]), before, "for users nothing has changed");
    all_restore(&room, &wanted);
    depth::report(format_args!(
        "{plain} bytes on the disk after the sweep, bases of deltas {cost}; {now} after storing anew"
    ));

    let again = room.run(&command).expect(0);
    assert!(again.stdout.contains("stored anew: 0 of 2 backups"), "{}", again.stdout);
    wanted.extend(history(&room, &source, &["seventh"]));
    all_restore(&room, &wanted);
}

#[test]
fn r04_a_sweep_follows_deletes_by_itself() {
    let (room, source) = served(&["--sweep-delay-seconds", "2"]);
    let mut wanted = history(&room, &source, &["first", "second", "third", "fourth"]);
    let full = taken(&room.repository());
    delete(&room, &mut wanted, &["first", "second", "third"]);
    let stat = until("everything is swept", SETTLED, || {
        let stat = room.json(&["repository", "stat"]);
        (stat["pending_backups"] == 0 && stat["next_sweep"].is_null()).then_some(stat)
    });
    assert_eq!(stat["dead_packs"], 0, "{stat}");
    assert!(taken(&room.repository()) < full);
    let jobs = room.json(&["job", "list"]);
    let sweeps: Vec<&Value> =
        jobs["jobs"].as_array().unwrap().iter().filter(|job| job["kind"] == "sweep").collect();
    assert!((1..=3).contains(&sweeps.len()), "{sweeps:?}");
    assert!(sweeps.iter().all(|job| job["state"] == "succeeded"), "{sweeps:?}");
    all_restore(&room, &wanted);
}

#[test]
fn r04_p03_a_sweep_that_is_killed_goes_on() {
    let (mut room, source) = served(&["--sweep-delay-seconds", "never"]);
    let mut wanted = BTreeMap::new();
    let mut interrupted = 0;
    for round in 0..depth::choose(3_u64, 12) {
        let names = [format!("gone-{round}"), format!("also-gone-{round}"), format!("kept-{round}")];
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        wanted.extend(history(&room, &source, &names));
        delete(&room, &mut wanted, &names[..2]);
        let accepted = room.json(&["repository", "sweep", "--threshold", "1"]);
        let job = accepted["job_id"].as_str().unwrap().to_owned();
        let path = format!("/strongroom/v1/jobs/{job}");
        until("it has begun", SETTLED, || {
            (room.http("GET", &path, "").body["state"] != "ready").then_some(())
        });
        pause(Duration::from_millis(round * 5));
        room.kill();
        room.serve();
        let ended = until("the sweep ends", SETTLED, || {
            let view = room.json(&["job", "show", &job]);
            (view["state"] != "ready" && view["state"] != "leased").then_some(view)
        });
        assert_eq!(ended["state"], "succeeded", "{ended}");
        interrupted += u64::from(number(&ended["attempts"]) > 1);
        let again = sweep(&room);
        assert_eq!((&again["bytes_freed"], &again["doubts"]), (&0.into(), &serde_json::json!([])), "{again}");
        assert!(files(&room.repository().join("tmp")).is_empty(), "no half pack is left");
    }
    assert!(interrupted > 0, "no kill came in the middle");
    all_restore(&room, &wanted);
    depth::report(format_args!("{interrupted} sweeps were killed in the middle"));
}

/// Where there is no room for a pack to be written anew it stays, what only goes has gone, and the
/// command says so.
#[test]
fn d01_a_sweep_without_room_loses_nothing() {
    let Some(disk) = SmallDisk::volume(400 << 20) else { return };
    let repository = disk.path().join("repository");
    let (room, source) = served(&[
        "--sweep-delay-seconds",
        "never",
        "--repository",
        &format!("file://{}", repository.display()),
    ]);
    let mut wanted = history(&room, &source, &["first", "second", "third", "fourth"]);
    delete(&room, &mut wanted, &["second", "third"]);
    let planned = room.json(&["repository", "sweep", "--dry-run", "--threshold", "1", "--progress", "none"]);
    assert!(number(&planned["packs_rewritten"]) > 0, "{planned}");
    let full = taken(&repository);
    let ballast = disk.fill(8 << 20).unwrap();
    let refused =
        room.run(&["repository", "sweep", "--wait", "--threshold", "1", "--progress", "none"]).expect(1);
    for part in ["disk_full", "no room", "nothing is lost", "free room"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    let removed = number(&planned["packs_removed"]);
    assert!(removed == 0 || taken(&repository) < full, "what only goes has gone");
    assert!(files(&repository.join("tmp")).is_empty(), "no half pack is left");
    all_restore(&room, &wanted);
    drop(ballast);
    let swept = sweep(&room);
    assert!(number(&swept["packs_rewritten"]) > 0, "{swept}");
    let again = sweep(&room);
    assert_eq!(again["bytes_freed"], 0, "{again}");
    all_restore(&room, &wanted);
}
