//! Users, projects, keys through the commands.

use crate::room::{Done, Room};

/// As somebody else than the first administrator.
pub(crate) fn run_as(room: &Room, token: &str, arguments: &[&str]) -> Done {
    let mut command = room.command(arguments);
    command.env("STRONGROOM_ENDPOINT", &room.endpoint).env("STRONGROOM_TOKEN", token);
    Done::of(&command.output().unwrap())
}

#[test]
fn an_administrator_makes_a_project_and_a_user_and_takes_them_away() {
    let room = Room::serving();
    let secret = room.scratch.path().join("password");
    std::fs::write(&secret, "correct horse battery\n").unwrap();
    let secret = secret.display().to_string();

    let project = room.json(&["project", "create", "sales", "--backup-quota", "3"]);
    assert_eq!((&project["name"], &project["backup_quota"]), (&"sales".into(), &3.into()));
    room.run(&["project", "create", "sales"]).expect(2);
    let user = room.json(&["user", "create", "ada", "--password-file", &secret]);
    room.run(&["user", "grant", "ada", "operator", "--project", "sales"]).expect(0);
    room.run(&["user", "grant", "ada", "king", "--project", "sales"]).expect(2);
    room.run(&["user", "grant", "nobody", "viewer"]).expect(3);

    let log_in = format!(
        r#"{{"auth":{{"identity":{{"methods":["password"],"password":{{"user":{{"name":"ada","password":"{}"}}}}}}}}}}"#,
        "correct horse battery"
    );
    let answer = room.http("POST", "/v3/auth/tokens", &log_in);
    assert_eq!(answer.status, 201, "{}", answer.body);
    assert_eq!(answer.body["token"]["project"]["id"], project["id"], "her only project");
    assert_eq!(answer.body["token"]["user"]["id"], user["id"]);
    let token =
        answer.head.lines().find_map(|line| line.strip_prefix("x-subject-token: ")).unwrap().to_owned();
    run_as(&room, &token, &["backup", "list"]).expect(0);
    run_as(&room, &token, &["user", "list"]).expect(4);
    run_as(&room, &token, &["access-key", "create"]).expect(4);

    room.run(&["user", "revoke", "ada", "--project", "sales"]).expect(0);
    assert_ne!(run_as(&room, &token, &["backup", "list"]).code, 0, "without a role nothing is open");
    room.run(&["user", "grant", "ada", "admin", "--project", "sales"]).expect(0);
    run_as(&room, &token, &["backup", "list"]).expect(0);
    run_as(&room, &token, &["recovery-kit", "print"]).expect(4);
    let made =
        run_as(&room, &token, &["access-key", "create", "--role", "viewer", "--output", "json"]).expect(0);
    let key = made.json()["access_key"].as_str().unwrap().to_owned();
    assert!(!run_as(&room, &token, &["access-key", "list"]).expect(0).stdout.contains("secret"));
    room.run(&["access-key", "delete", &key]).expect(3);
    run_as(&room, &token, &["access-key", "delete", &key]).expect(0);

    std::fs::write(&secret, "another horse battery\n").unwrap();
    room.run(&["user", "set-password", "ada", "--password-file", &secret]).expect(0);
    assert_ne!(run_as(&room, &token, &["backup", "list"]).code, 0, "another password ends what was open");
    assert_eq!(room.http("POST", "/v3/auth/tokens", &log_in).status, 401);

    let listed = room.run(&["user", "list"]).expect(0);
    assert!(listed.stdout.contains("admin in sales"), "{}", listed.stdout);
    room.run(&["user", "delete", "admin"]).expect(4);
    room.run(&["user", "delete", "ada"]).expect(0);
    room.run(&["project", "delete", "sales"]).expect(0);
    room.run(&["project", "delete", "sales"]).expect(3);
    assert_eq!(room.json(&["project", "list"])["projects"].as_array().unwrap().len(), 1);
}
