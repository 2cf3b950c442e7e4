//! Secrets stay secret: nothing that is written or shown holds one in clear.

use std::fs;

use crate::room::{Room, files};
use crate::source::{PASSWORD, Source};

#[test]
fn g10_no_secret_in_logs_answers_metrics_or_files() {
    let (mut room, source) = (Room::serving(), Source::filled(1));
    source.register(&room);
    room.json(&["backup", "create", "shop", "--name", "first", "--wait", "--progress", "none"]);
    let made = room.json(&["token", "create", "ci", "--role", "operator"]);
    let made = made["token"].as_str().unwrap().to_owned();
    let project = room.credential("project_id");
    let shown: String = [
        room.http("GET", &format!("/rds/v1/{project}/instances"), "").body.to_string(),
        room.http("GET", "/strongroom/v1/instances", "").body.to_string(),
        room.http("GET", "/strongroom/v1/tokens", "").body.to_string(),
        room.http("GET", "/strongroom/v1/jobs", "").body.to_string(),
        room.http("GET", "/metrics", "").body.to_string(),
        room.http(
            "POST",
            &format!("/rds/v1/{project}/backups"),
            &format!("{{\"backup\":{{\"name\":\"{PASSWORD}\"}}}}"),
        )
        .body
        .to_string(),
    ]
    .concat();
    let key = fs::read_to_string(room.data_dir().join("recovery.key")).unwrap();
    let secrets = [
        PASSWORD.to_owned(),
        made.clone(),
        room.credential("token"),
        room.credential("secret_key"),
        key.trim().to_owned(),
    ];
    room.stop();
    for secret in &secrets {
        assert!(!room.log().contains(secret.as_str()), "the log holds {secret}");
        assert!(!shown.contains(secret.as_str()), "an answer holds {secret}");
    }
    for path in files(&room.data_dir()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = fs::read(&path).unwrap();
        for secret in &secrets {
            let is_there = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            // These three are made to hold some of them, for their owner only.
            let may = matches!(name.as_str(), "bootstrap.json" | "openrc" | "recovery.key");
            assert!(may || !is_there, "{} holds {secret}", path.display());
        }
    }
    room.serve();
    let instances = room.json(&["instance", "list"]).to_string();
    assert!(!instances.contains(PASSWORD));
}
