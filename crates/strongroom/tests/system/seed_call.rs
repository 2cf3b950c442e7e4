//! The one call that all of this is for, and what follows from it.

use strongroom_testkit::postgres::PostgresServer;

use crate::room::Room;
use crate::source::{Source, VERSION, digest, restores_to};

#[test]
fn the_seeds_request_ends_in_a_restorable_backup() {
    let (room, source) = (Room::serving(), Source::filled(20));
    let node = source.register(&room)["primary_node_id"].as_str().unwrap().to_owned();
    let path = format!("/rds/v1/{}/backups", room.credential("project_id"));
    let body = serde_json::json!({"backup": {"name": "before-upgrade", "instance": node, "description": "My Backup"}});
    let answer = room.http("POST", &path, &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.head.to_ascii_lowercase().contains("content-type: application/json"));
    let backup = &answer.body["backup"];
    assert_eq!((&backup["status"], &backup["instance_id"]), (&"BUILDING".into(), &node.clone().into()));
    assert!(backup["size"].is_null() && backup["updated"].is_null() && backup["locationRef"].is_null());
    let job = answer.body["extendparam"]["jobs"][0].as_str().unwrap();

    let view = room.ended("before-upgrade");
    assert_eq!(view["status"], "COMPLETED", "{view}");
    assert_eq!(view["job_id"], job);
    assert_eq!(view["verification"]["result"], "not_run");
    let list = room.http("GET", &path, "").body;
    assert_eq!(list["backups"][0]["status"], "COMPLETED");
    assert!(list["backups"][0]["size"].as_f64().unwrap() > 0.0);
    let id = list["backups"][0]["id"].as_str().unwrap();
    assert_eq!(id, view["id"]);
    let shown = room.http("GET", &format!("/rds/v1/{}/jobs/{job}", room.credential("project_id")), "");
    assert_eq!(shown.body["job"]["status"], "Completed", "{}", shown.body);

    let wanted = digest(&source.server);
    source.server.psql("postgres", "drop table accounts").unwrap();
    restores_to(&room, "before-upgrade", &wanted);
    source.is_released();

    assert_eq!(room.http("DELETE", &format!("{path}/{id}"), "").status, 200);
    crate::room::until("the row leaves the list", std::time::Duration::from_secs(20), || {
        let list = room.http("GET", &path, "").body;
        (list["backups"].as_array().unwrap().is_empty()).then_some(())
    });
    let stat = room.json(&["repository", "stat"]);
    assert_eq!((&stat["backups"], &stat["forgotten_backups"]), (&0.into(), &1.into()), "{stat}");
    assert!(stat["reclaimable_bytes"].as_u64().unwrap() > 0);
}

#[test]
fn a_second_backup_costs_what_changed_and_both_restore() {
    let (room, source) = (Room::serving(), Source::filled(60));
    source.register(&room);
    let first = room.json(&["backup", "create", "shop", "--name", "first", "--wait", "--progress", "none"]);
    let before = digest(&source.server);
    source.change(1);
    let second = room.json(&["backup", "create", "shop", "--name", "second", "--wait", "--progress", "none"]);
    let after = digest(&source.server);
    assert_ne!(before, after);
    let stored = |view: &serde_json::Value| view["stored_bytes"].as_u64().unwrap();
    assert!(stored(&second) * 8 < stored(&first), "{} of {}", stored(&second), stored(&first));
    restores_to(&room, "first", &before);
    restores_to(&room, "second", &after);

    // The first goes; what the second shares with it stays.
    room.json(&["backup", "delete", "first"]);
    room.run(&["backup", "show", "first"]).expect(3);
    let verified = room.json(&["backup", "verify", "second", "--level", "decode"]);
    assert_eq!(
        (&verified["verification"]["level"], &verified["verification"]["result"]),
        (&"decode".into(), &"passed".into())
    );
    restores_to(&room, "second", &after);
    room.run(&["repository", "forget", "second"]).expect(0);
    room.run(&["backup", "show", "second"]).expect(3);
}

#[test]
fn b17_tablespaces_go_where_they_are_mapped_and_never_home() {
    let (room, source) = (Room::serving(), Source::filled(2));
    let home = source.server.make_folder("space äöü").unwrap();
    source
        .server
        .psql("postgres", &format!("create tablespace cellar location '{}'", home.display()))
        .unwrap();
    source.server.psql("postgres", "create table kept tablespace cellar as select 42 as answer").unwrap();
    source.register(&room);
    room.json(&["backup", "create", "shop", "--name", "spaces", "--wait", "--progress", "none"]);
    let target = room.scratch.path().join("restored");
    let to = target.display().to_string();
    let plan = room.json(&["restore", "spaces", "--to-dir", &to, "--plan"]);
    assert_eq!(plan["tablespaces"][0]["source_path"], home.display().to_string());
    assert_eq!(plan["tablespaces"][0]["by_default"], true);
    assert!(!target.exists(), "a plan writes nothing");

    room.run(&["restore", "spaces", "--to-dir", &to, "--tablespace-map", "99=/x"]).expect(2);
    let moved = room.scratch.path().join("moved");
    let map = format!("{}={}", home.display(), moved.display());
    let restored = room.json(&["restore", "spaces", "--to-dir", &to, "--tablespace-map", &map]);
    assert!(restored["bytes"].as_u64().unwrap() > 0);
    for folder in [&target, &moved] {
        assert!(folder.exists());
    }
    strongroom_testkit::account::Account::ordinary().own(&moved).unwrap();
    let server = PostgresServer::adopt(VERSION, &target).unwrap();
    let found = server.psql(
        "postgres",
        "select answer, pg_tablespace_location(oid) from kept, pg_tablespace where spcname = 'cellar'",
    );
    assert_eq!(found.unwrap(), format!("42|{}", moved.display()));
}
