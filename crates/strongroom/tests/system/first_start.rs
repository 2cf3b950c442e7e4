//! The data directory: made once, completed after a kill, never made over something that exists.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::room::Room;

#[test]
fn everything_it_makes_is_private() {
    let mut room = Room::serving();
    for name in ["", "recovery.key", "bootstrap.json", "openrc", "catalog.sqlite", "repository"] {
        let mode = fs::metadata(room.data_dir().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}: {mode:o}");
    }
    for name in [
        "endpoint",
        "region",
        "domain_id",
        "domain_name",
        "user_id",
        "user_name",
        "password",
        "project_id",
        "project_name",
        "token",
        "access_key",
        "secret_key",
        "openrc",
    ] {
        assert!(!room.credential(name).is_empty(), "{name}");
    }
    let token = room.credential("token");
    assert!(room.stop().success());
    room.serve();
    assert_eq!(room.credential("token"), token, "a restart changes only where it listens");
    room.run(&["doctor"]).expect(0);
    fs::set_permissions(room.data_dir().join("recovery.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let red = room.run(&["doctor"]).expect(1);
    assert!(red.stderr.contains("chmod go="), "{}", red.stderr);
}

#[test]
fn a_first_start_that_is_killed_anywhere_is_completed_by_the_next() {
    for pause_ms in [0, 5, 10, 15, 20, 25, 30, 40, 60, 90] {
        let mut room = Room::empty();
        room.serve_and_kill_after(Duration::from_millis(pause_ms));
        room.serve();
        assert_eq!(room.json(&["backup", "list"])["backups"], serde_json::json!([]), "after {pause_ms} ms");
    }
}

#[test]
fn a_data_directory_may_have_any_name() {
    let mut room = Room::empty();
    room.name = "d %41 ? # ä".to_owned();
    room.serve();
    assert_eq!(room.json(&["backup", "list"])["backups"], serde_json::json!([]));
    assert!(room.data_dir().join("catalog.sqlite").exists());
}

#[test]
fn one_server_at_a_time() {
    let room = Room::serving();
    let second = room.serve_refused().expect(4);
    assert!(second.stderr.contains("another strongroom"), "{}", second.stderr);
}

/// A second data directory does not let a second server onto a catalog, wherever that lies.
#[test]
fn one_server_at_a_time_works_on_a_catalog_in_a_file() {
    for is_elsewhere in [true, false] {
        let mut room = Room::empty();
        let elsewhere = room.scratch.path().join("elsewhere.sqlite");
        let catalog = if is_elsewhere { elsewhere } else { room.data_dir().join("catalog.sqlite") };
        let named = ("STRONGROOM_DATABASE_URL".to_owned(), format!("sqlite://{}", catalog.display()));
        if is_elsewhere {
            room.environment.push(named.clone());
        }
        room.serve();
        room.name = "other".to_owned();
        room.environment = vec![named];
        let second = room.serve_refused().expect(4);
        let said = format!("another strongroom serves {} already", catalog.display());
        assert!(second.stderr.contains(&said), "{}", second.stderr);
    }
}

#[test]
fn a_missing_or_wrong_key_is_exit_7_and_changes_nothing() {
    let mut room = Room::serving();
    room.stop();
    let (key, aside) = (room.data_dir().join("recovery.key"), room.scratch.path().join("key"));
    fs::rename(&key, &aside).unwrap();
    room.serve_refused().expect(7);
    assert!(!key.exists(), "no new key was made");
    let other = Room::serving();
    fs::copy(other.data_dir().join("recovery.key"), &key).unwrap();
    room.serve_refused().expect(7);
    fs::write(&key, "SR1-nonsense").unwrap();
    room.serve_refused().expect(7);
    fs::rename(&aside, &key).unwrap();
    room.serve();
}

#[test]
fn d07_another_repository_at_the_place_is_refused() {
    let mut room = Room::serving();
    room.stop();
    let kept = room.scratch.path().join("kept");
    fs::rename(room.repository(), &kept).unwrap();
    // An unmounted disk: the mount point is empty, and stays so.
    room.serve_refused().expect(6);
    assert!(!room.repository().join("format").exists());
    // The same key, another repository.
    let mut other = Room::empty();
    fs::create_dir(other.data_dir()).unwrap();
    fs::copy(room.data_dir().join("recovery.key"), other.data_dir().join("recovery.key")).unwrap();
    other.serve();
    other.stop();
    let _ = fs::remove_dir_all(room.repository());
    fs::rename(other.repository(), room.repository()).unwrap();
    let refused = room.serve_refused().expect(4);
    assert!(refused.stderr.contains("nothing was touched"), "{}", refused.stderr);
}

#[test]
fn a_lost_catalog_is_not_replaced_by_an_empty_one() {
    let (mut room, source) = (Room::serving(), crate::source::Source::filled(1));
    source.register(&room);
    room.json(&["backup", "create", "shop", "--name", "kept", "--wait", "--progress", "none"]);
    room.stop();
    let (catalog, aside) = (room.data_dir().join("catalog.sqlite"), room.scratch.path().join("catalog"));
    fs::rename(&catalog, &aside).unwrap();
    room.serve_refused().expect(4);
    assert!(!catalog.exists(), "no new catalog was made");
    let key = room.data_dir().join("recovery.key");
    fs::rename(&key, room.scratch.path().join("key")).unwrap();
    room.serve_refused().expect(7);
    assert!(!key.exists(), "no new key was made");
    fs::rename(room.scratch.path().join("key"), &key).unwrap();
    fs::rename(&aside, &catalog).unwrap();
    room.serve();
    assert_eq!(room.json(&["backup", "show", "kept"])["status"], "COMPLETED");
}

#[test]
fn configuration_is_told_by_its_place() {
    let mut room = Room::empty();
    let file = room.scratch.path().join("s.toml");
    fs::write(&file, "region = 'eu-nl'\nlisten_on = '127.0.0.1:0'\n").unwrap();
    room.options = vec!["--config".to_owned(), file.display().to_string()];
    let refused = room.serve_refused().expect(2);
    assert!(refused.stderr.contains("line 2") && refused.stderr.contains("`listen`"), "{}", refused.stderr);
    fs::write(&file, "region = 'eu-nl'\n").unwrap();
    room.serve();
    assert_eq!(
        (room.credential("region"), room.credential("project_name")),
        ("eu-nl".into(), "eu-nl".into())
    );
    for (exit, wrong) in [
        (4, ["--listen", "0.0.0.0:0"]),
        (4, ["--repository", "s3://bucket"]),
        (2, ["--database-url", "mysql://u@h/d"]),
        (2, ["--database-url", "postgres://h/d"]),
    ] {
        let mut other = Room::empty();
        other.options = wrong.map(str::to_owned).to_vec();
        other.serve_refused().expect(exit);
        assert!(!other.data_dir().exists(), "{wrong:?} made something");
    }
}
