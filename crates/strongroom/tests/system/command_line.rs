//! Exit codes, JSON and sentences of the commands.

use std::time::Duration;

use strongroom_testkit::port::Port;

use crate::room::{Done, Room};
use crate::source::{PASSWORD, ROLE, Source};

#[test]
fn exit_codes_tell_what_happened() {
    let room = Room::serving();
    for (code, arguments) in [
        (0, &["backup", "list"][..]),
        (0, &["help", "restore"]),
        (0, &["--version"]),
        (0, &["completions", "bash"]),
        (0, &["explain", "target_not_empty"]),
        (2, &["backup", "lst"]),
        (2, &["backup", "create", "shop"]),
        (2, &["restore", "x", "--to-dir", "/x", "--port", "0"]),
        (2, &["restore", "x", "--to-dir", "/x", "--start"]),
        (2, &["token", "create", "x", "--role", "king"]),
        (2, &["backup", "show", "@newest"]),
        (3, &["backup", "show", "nothing-there"]),
        (3, &["backup", "show", "@latest"]),
        (3, &["instance", "show", "nothing-there"]),
        (3, &["job", "show", "0123456789abcdef0123456789abcdef"]),
        (3, &["backup", "create", "nothing-there", "--name", "name"]),
        (3, &["explain", "no_such_code"]),
        (3, &["token", "revoke", "nothing-there"]),
        (4, &["restore", "x", "--to-dir", "/x", "--to-time", "2026-01-01T00:00:00Z"]),
    ] {
        let done = room.run(arguments);
        assert_eq!(done.code, code, "{arguments:?}: {}{}", done.stdout, done.stderr);
        assert!(code == 0 || done.stdout.is_empty(), "stdout is for data: {arguments:?} {}", done.stdout);
    }
}

#[test]
fn an_error_tells_what_happened_the_next_step_and_a_code() {
    let room = Room::serving();
    let done = room.run(&["backup", "show", "nothing-there"]).expect(3);
    assert!(done.stderr.contains("error: There is no such backup."), "{}", done.stderr);
    assert!(done.stderr.contains("hint: `strongroom backup list`"), "{}", done.stderr);
    assert!(done.stderr.contains("code: backup_not_found (strongroom explain backup_not_found), request "));
    let bad = room.run(&["backup", "create", "shop", "--name", "1st"]).expect(2);
    assert!(bad.stderr.contains("name"), "{}", bad.stderr);
}

#[test]
fn no_server_is_exit_6_with_the_way_out() {
    let mut room = Room::serving();
    room.stop();
    let done = room.run(&["backup", "list"]).expect(6);
    assert!(done.stderr.contains("strongroom serve"), "{}", done.stderr);
    let doctor = room.run(&["doctor"]).expect(1);
    assert!(doctor.stderr.contains("server") && doctor.stderr.contains("MISSING"), "{}", doctor.stderr);
    let nowhere = Room::empty();
    nowhere.run(&["backup", "list"]).expect(6);
}

#[test]
fn the_environment_names_the_server() {
    let room = Room::serving();
    let elsewhere = Room::empty();
    let call = |token: &str| {
        let mut command = elsewhere.command(&["backup", "list", "--output", "json"]);
        command.env("STRONGROOM_ENDPOINT", &room.endpoint).env("STRONGROOM_TOKEN", token);
        Done::of(&command.env("STRONGROOM_PROJECT_ID", room.credential("project_id")).output().unwrap())
    };
    assert_eq!(call(&room.credential("token")).expect(0).json()["schema"], 1);
    call("srt_wrong").expect(4);
    let mut command = elsewhere.command(&["backup", "list"]);
    let half = Done::of(&command.env("STRONGROOM_ENDPOINT", &room.endpoint).output().unwrap());
    assert_eq!(half.code, 2, "{}", half.stderr);
}

#[test]
fn roles_bound_what_a_token_may_do() {
    let room = Room::serving();
    let viewer = room.json(&["token", "create", "dashboard", "--role", "viewer"]);
    let call = |arguments: &[&str]| {
        let mut command = room.command(arguments);
        command
            .env("STRONGROOM_ENDPOINT", &room.endpoint)
            .env("STRONGROOM_TOKEN", viewer["token"].as_str().unwrap());
        Done::of(&command.output().unwrap())
    };
    call(&["backup", "list"]).expect(0);
    call(&["token", "list"]).expect(4);
    call(&["recovery-kit", "print"]).expect(4);
    room.run(&["token", "revoke", viewer["id"].as_str().unwrap()]).expect(0);
    call(&["backup", "list"]).expect(4);
}

#[test]
fn b11_nothing_is_saved_until_the_source_is_right() {
    let (room, source) = (Room::serving(), Source::filled(1));
    source.server.psql("postgres", &format!("alter role {ROLE} noreplication")).unwrap();
    let port = source.server.port().to_string();
    let add = |password: &str, port: &str| {
        let mut command = room.command(&[
            "instance",
            "add",
            "shop",
            "--engine",
            "postgresql",
            "--host",
            "127.0.0.1",
            "--port",
            port,
            "--user",
            ROLE,
            "--tls",
            "disable",
            "--password-env",
            "PW",
        ]);
        Done::of(&command.env("PW", password).output().unwrap())
    };
    let refused = add(PASSWORD, &port).expect(4);
    assert!(refused.stderr.contains(&format!("ALTER ROLE \"{ROLE}\" REPLICATION")), "{}", refused.stderr);
    assert!(refused.stderr.contains("nothing was saved"), "{}", refused.stderr);
    assert_eq!(room.json(&["instance", "list"])["instances"], serde_json::json!([]));
    source.server.psql("postgres", &format!("alter role {ROLE} replication")).unwrap();
    let wrong = add("wrong", &port);
    assert!(wrong.code != 0 && !wrong.stderr.contains("panicked"), "{}", wrong.stderr);
    let closed = Port::hold().unwrap();
    let unreachable = add(PASSWORD, &closed.number().to_string());
    assert!(matches!(unreachable.code, 4 | 6), "{} {}", unreachable.code, unreachable.stderr);
    assert_eq!(room.json(&["instance", "list"])["instances"], serde_json::json!([]));
    add(PASSWORD, &port).expect(0);
    room.run(&["instance", "check", "shop"]).expect(0);
    // A backup keeps its instance's row, also after it is retired.
    let made = room.json(&["backup", "create", "shop", "--name", "kept", "--wait", "--progress", "none"]);
    room.run(&["instance", "remove", "shop"]).expect(0);
    assert_eq!(room.json(&["instance", "list"])["instances"], serde_json::json!([]));
    let instance = made["instance_id"].as_str().unwrap();
    let left = room.json(&["backup", "list", "--instance", instance]);
    assert_eq!(left["backups"][0]["name"], "kept");
}

#[test]
fn progress_is_told_to_people_and_programs() {
    let (room, source) = (Room::serving(), Source::filled(30));
    source.register(&room);
    let done =
        room.run(&["backup", "create", "shop", "--name", "first", "--wait", "--progress", "json"]).expect(0);
    let lines: Vec<serde_json::Value> = done
        .stderr
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(!lines.is_empty(), "{}", done.stderr);
    for line in &lines {
        for key in ["phase", "done_bytes", "total_bytes", "rate_bytes_per_s", "eta_s"] {
            assert!(line.get(key).is_some(), "{line}");
        }
    }
    assert!(done.stderr.contains("next: strongroom backup verify first"), "{}", done.stderr);
    let plain = room
        .run(&["backup", "create", "shop", "--name", "second", "--wait", "--progress", "plain"])
        .expect(0);
    assert!(plain.stderr.contains("COMPLETED  second"), "{}", plain.stderr);
    // Names, ids, their beginnings and @latest mean the same backup.
    let id = room.json(&["backup", "show", "second"])["id"].as_str().unwrap().to_owned();
    for wanted in [id.as_str(), "@latest", &id[..24]] {
        assert_eq!(room.json(&["backup", "show", wanted])["id"], id, "{wanted}");
    }
    let taken = room.run(&["backup", "create", "shop", "--name", "second"]).expect(4);
    assert!(taken.stderr.contains("backup_name_taken"), "{}", taken.stderr);
    let whole = room.run(&["repository", "check", "--level", "engine"]).expect(4);
    assert!(whole.stderr.contains("not_supported"), "{}", whole.stderr);
    room.run(&["backup", "verify", "second", "--level", "decode", "--progress", "none"]).expect(0);
    assert_eq!(room.json(&["backup", "show", "@latest-verified"])["name"], "second");
}

/// As an ordinary account `--start` brings the server up; root is told who may.
#[test]
fn a_restored_server_is_started_on_request() {
    let (room, source) = (Room::serving(), Source::filled(1));
    source.register(&room);
    room.json(&["backup", "create", "shop", "--name", "first", "--wait", "--progress", "none"]);
    let target = room.scratch.path().join("restored");
    let held = Port::hold().unwrap();
    let port = held.number().to_string();
    let to = target.display().to_string();
    let done = room.run(&[
        "restore",
        "first",
        "--to-dir",
        &to,
        "--start",
        "--port",
        &port,
        "--progress",
        "none",
        "--output",
        "json",
    ]);
    if rustix::process::geteuid().is_root() {
        assert_ne!(done.code, 0, "PostgreSQL refuses to run as root");
        assert!(done.stderr.contains("root"), "{}", done.stderr);
        assert!(target.join("PG_VERSION").exists(), "the restore itself is whole");
        return;
    }
    let started = done.expect(0).json()["started"].clone();
    let stop = started["stop_command"].as_str().unwrap().to_owned();
    let stopped = std::process::Command::new("sh").args(["-c", &stop]).output().unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
    crate::room::until("it is gone", Duration::from_secs(30), || {
        (!target.join("postmaster.pid").exists()).then_some(())
    });
}
