//! `kill -9` in the middle, on a real server: nothing COMPLETED that does not restore, nothing
//! left at the source, the next backup works.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use strongroom_testkit::postgres::PostgresServer;

use crate::room::{Done, Room, files, pause, until};
use crate::source::{Source, VERSION, digest, restore, restores_to};

/// Within this after a restart every job has ended or goes on.
const SETTLED: Duration = Duration::from_mins(2);

fn create(room: &Room, name: &str) -> serde_json::Value {
    room.json(&["backup", "create", "shop", "--name", name])
}

/// Seals of the repository: the commit points.
fn verdicts(room: &Room) -> Vec<PathBuf> {
    let is_verdict = |path: &PathBuf| path.parent().is_some_and(|parent| parent.ends_with("at"));
    files(&room.repository().join("l")).into_iter().filter(is_verdict).collect()
}

#[test]
fn p03_killed_in_the_middle_of_a_backup() {
    let (mut room, source) = (Room::serving(), Source::filled(60));
    source.register(&room);
    let wanted = digest(&source.server);
    for (round, pause_ms) in [30, 150, 400, 900, 1500].into_iter().enumerate() {
        let name = format!("round-{round}");
        create(&room, &name);
        pause(Duration::from_millis(pause_ms));
        room.kill();
        room.serve();
        let restarted = Instant::now();
        let view = room.ended(&name);
        assert!(restarted.elapsed() < SETTLED, "it took {:?}", restarted.elapsed());
        assert_eq!(view["status"], "COMPLETED", "{view}");
        restores_to(&room, &name, &wanted);
        source.is_released();
    }
    // Nobody waits for the lease of a process that is gone.
    assert!(room.log().contains("they go on now"), "{}", room.log());
    let jobs = room.json(&["job", "list"]);
    // What the killed attempts have left is swept a minute later.
    let mut backups = jobs["jobs"].as_array().unwrap().iter().filter(|job| job["kind"] != "sweep");
    assert!(backups.all(|job| job["state"] == "succeeded"), "{jobs}");
    room.run(&["repository", "check", "--level", "decode", "--progress", "none"]).expect(0);
}

/// The seal exists, the row does not say so yet: whoever comes next finds it and publishes it.
#[test]
fn p04_killed_between_seal_and_row() {
    let (mut room, source) = (Room::serving(), Source::filled(4));
    source.register(&room);
    let wanted = digest(&source.server);
    let mut hits = 0;
    for round in 0..12 {
        let name = format!("round-{round}");
        let before = verdicts(&room).len();
        let job = create(&room, &name)["job_id"].as_str().unwrap().to_owned();
        let begun = Instant::now();
        while verdicts(&room).len() == before {
            assert!(begun.elapsed() < SETTLED, "no seal came");
            std::thread::yield_now();
        }
        room.kill();
        let sealed = verdicts(&room).len();
        room.serve();
        assert_eq!(room.ended(&name)["status"], "COMPLETED");
        if room.json(&["job", "show", &job])["attempts"] == 2 {
            hits += 1;
            assert_eq!(verdicts(&room).len(), sealed, "published as it was, not taken again");
        }
        if hits == 3 {
            break;
        }
    }
    assert!(hits > 0, "the kill never came between seal and row");
    restores_to(&room, "round-0", &wanted);
    source.is_released();
    assert_eq!(room.json(&["backup", "list"])["backups"].as_array().unwrap().len(), verdicts(&room).len());
}

#[test]
fn p06_a_restore_that_is_killed_goes_on() {
    let (mut room, source) = (Room::serving(), Source::filled(120));
    source.register(&room);
    let wanted = digest(&source.server);
    room.json(&["backup", "create", "shop", "--name", "whole", "--wait", "--progress", "none"]);
    let target = room.scratch.path().join("target");
    let to = target.display().to_string();
    for pause_ms in [50, 250, 700] {
        let arguments = ["restore", "whole", "--progress", "none", "--streams", "1", "--to-dir", &to];
        let mut command = room.command(&arguments).stderr(std::process::Stdio::null()).spawn().unwrap();
        pause(Duration::from_millis(pause_ms));
        let _ = command.kill();
        command.wait().unwrap();
        if !target.join("PG_VERSION").exists() {
            continue;
        }
        // Half a restore says so, to us and to whoever looks for another backup's place.
        if target.join(".strongroom-restore").exists() {
            assert_eq!(
                room.json(&["restore", "whole", "--to-dir", &to, "--plan"])["target_state"],
                "resumable"
            );
        }
    }
    // The server dies under the restore as well.
    let arguments = ["restore", "whole", "--progress", "none", "--streams", "1", "--to-dir", &to];
    let command = room.command(&arguments).stderr(std::process::Stdio::piped()).spawn().unwrap();
    pause(Duration::from_millis(300));
    room.kill();
    let ended = Done::of(&command.wait_with_output().unwrap());
    assert!(matches!(ended.code, 0 | 6), "{} {}", ended.code, ended.stderr);
    room.serve();
    if ended.code == 6 {
        restore(&room, "whole", &target).expect(0);
    }
    assert!(!target.join(".strongroom-restore").exists());
    let restored = PostgresServer::adopt(VERSION, &target).unwrap();
    assert_eq!(digest(&restored), wanted);
    drop(restored);
    // It is a database now: no restore touches it again.
    let refused = restore(&room, "whole", &target).expect(4);
    assert!(refused.stderr.contains("not empty"), "{}", refused.stderr);
}

#[test]
fn p05_a_delete_that_is_killed_goes_on() {
    let (mut room, source) = (Room::serving(), Source::filled(1));
    source.register(&room);
    for round in 0..5_u64 {
        let name = format!("round-{round}");
        room.json(&["backup", "create", "shop", "--name", &name, "--wait", "--progress", "none"]);
        let id = room.json(&["backup", "show", &name])["id"].as_str().unwrap().to_owned();
        let path = format!("/rds/v1/{}/backups/{id}", room.credential("project_id"));
        assert_eq!(room.http("DELETE", &path, "").status, 200);
        pause(Duration::from_millis(round * 4));
        room.kill();
        room.serve();
        until("the backup is gone", SETTLED, || {
            let done = room.run(&["backup", "show", &name, "--output", "json"]);
            assert!(done.code == 3 || done.json()["status"] == "DELETING", "{}", done.stdout);
            (done.code == 3).then_some(())
        });
    }
    let stat = room.json(&["repository", "stat"]);
    assert_eq!((&stat["backups"], &stat["forgotten_backups"]), (&0.into(), &5.into()), "{stat}");
}

#[test]
fn p12_a_drain_gives_the_job_back() {
    let (mut room, source) = (Room::serving(), Source::filled(80));
    source.register(&room);
    let wanted = digest(&source.server);
    create(&room, "drained");
    until("bytes move", SETTLED, || {
        let job = room.json(&["job", "list"])["jobs"][0].clone();
        (job["progress"]["done_bytes"].as_u64().unwrap() > 0).then_some(())
    });
    let begun = Instant::now();
    assert!(room.stop().success());
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    source.is_released();
    room.serve();
    let view = room.ended("drained");
    assert_eq!(view["status"], "COMPLETED", "{view}");
    let job = room.json(&["job", "show", view["job_id"].as_str().unwrap()]);
    assert!(job["attempts"].as_u64().unwrap() <= 1, "a drain is not the job's fault: {job}");
    restores_to(&room, "drained", &wanted);
}

#[test]
fn a_cancelled_backup_is_failed_and_the_next_one_works() {
    let (room, source) = (Room::serving(), Source::filled(80));
    source.register(&room);
    let job = create(&room, "unwanted")["job_id"].as_str().unwrap().to_owned();
    let cancelled = room.json(&["job", "cancel", &job]);
    assert_eq!(cancelled["state"], "cancelled", "{cancelled}");
    let view = room.json(&["backup", "show", "unwanted"]);
    assert_eq!(
        (&view["status"], &view["failure"]["code"]),
        (&"FAILED".into(), &"cancelled".into()),
        "{view}"
    );
    source.is_released();
    room.json(&["backup", "create", "shop", "--name", "wanted", "--wait", "--progress", "none"]);
    // A FAILED backup is deleted like any other and frees its name.
    room.json(&["backup", "delete", "unwanted"]);
    room.run(&["backup", "show", "unwanted"]).expect(3);
}

/// B01: the source dies under a backup. The job is tried again and says why when it ends.
#[test]
fn b01_the_source_is_killed_in_the_middle() {
    let (room, mut source) = (Room::serving(), Source::filled(80));
    source.register(&room);
    let wanted = digest(&source.server);
    create(&room, "shaken");
    until("bytes move", SETTLED, || {
        let job = room.json(&["job", "list"])["jobs"][0].clone();
        (job["progress"]["done_bytes"].as_u64().unwrap() > 0).then_some(())
    });
    source.server.kill9().unwrap();
    source.server.launch().unwrap();
    let view = room.ended("shaken");
    assert_eq!(view["status"], "COMPLETED", "{view}");
    restores_to(&room, "shaken", &wanted);
    source.is_released();
}
