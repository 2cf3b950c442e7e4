//! Tenants are invisible to each other: what belongs to somebody else answers as what never was.

use serde_json::json;

use crate::client::{Ask, Reply};
use crate::events::complete;
use crate::room::{Room, room};
use crate::rules::check_every_answer;

/// Everything of an answer that a prober could compare.
fn seen(reply: &Reply) -> (u16, String, Vec<(String, String)>) {
    let id = reply.header("X-Request-Id").unwrap();
    let changing = |name: &str| ["x-request-id", "x-openstack-request-id", "date"].contains(&name);
    let headers =
        reply.headers.iter().filter(|(name, _)| !changing(&name.to_ascii_lowercase())).cloned().collect();
    (reply.status, reply.text().replace(id, "ID"), headers)
}

async fn probe(room: &Room, ask: Ask) -> (u16, String, Vec<(String, String)>) {
    let ask = ask.token(&room.ours.admin());
    let reply = room.send(ask.clone()).await;
    check_every_answer(&ask, &reply);
    seen(&reply)
}

/// Backup, instance, node and job of the other tenant.
struct Foreign {
    backup: String,
    backup_name: String,
    instance: String,
    node: String,
    job: String,
    token: String,
    access_key: String,
}

async fn foreign(room: &Room) -> Foreign {
    let instance = room.add_instance(&room.theirs, "orders").await;
    let body = json!({ "backup": { "name": "nightly", "instance": instance.node_id.as_str() } });
    let ask = Ask::post(&room.theirs.v1("/backups"), body.to_string()).token(&room.theirs.admin());
    let made = room.send(ask).await.json();
    complete(room).await;
    let tag = r#"{"action":"create","tags":[{"key":"orders-tag","value":"orders"}]}"#;
    let ask = Ask::post(&room.theirs.v3(&format!("/instances/{}/tags/action", instance.id)), tag);
    assert_eq!(room.send(ask.token(&room.theirs.admin())).await.status, 200);
    let ask = Ask::post("/strongroom/v1/access-keys", "{}").token(&room.theirs.admin());
    let key = room.send(ask).await.json();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    Foreign {
        backup: text(&made["backup"]["id"]),
        backup_name: "nightly".to_owned(),
        instance: instance.id.to_string(),
        node: instance.node_id.to_string(),
        job: text(&made["extendparam"]["jobs"][0]),
        token: format!("id-{}", room.theirs.admin()),
        access_key: text(&key["access_key"]),
    }
}

/// The policy of a foreign instance and of none, in each dialect.
fn of_policies(room: &Room, theirs: &Foreign) -> Vec<(Ask, Ask)> {
    let v1 = r#"{"policy":{"keepday":7,"starttime":"01:00"}}"#;
    let v3 = r#"{"backup_policy":{"keep_days":7,"start_time":"01:00-02:00","period":"1"}}"#;
    let native = r#"{"keep_days":7,"start_time":"01:00-02:00"}"#;
    let mut pairs = Vec::new();
    for (before, id, after, body) in [
        (room.ours.v1("/instances"), &theirs.node, "/backups/policy", v1),
        (room.ours.v3("/instances"), &theirs.instance, "/backups/policy", v3),
        ("/strongroom/v1/instances".to_owned(), &theirs.instance, "/policy", native),
    ] {
        let absent = "0".repeat(id.len());
        let put = |id: &str| Ask {
            body: body.as_bytes().to_vec(),
            ..Ask::new("PUT", &format!("{before}/{id}{after}"))
        };
        let get = |id: &str| Ask::get(&format!("{before}/{id}{after}"));
        pairs.extend([(get(id), get(&absent)), (put(id), put(&absent))]);
    }
    pairs
}

/// The tags of a foreign instance and of none.
fn of_tags(room: &Room, theirs: &Foreign) -> Vec<(Ask, Ask)> {
    let (ours, id) = (room.ours.v3("/instances"), &theirs.instance);
    let action = r#"{"action":"delete","tags":[{"key":"stage"}]}"#;
    let replace = r#"{"tags":[]}"#;
    let (absent, mut pairs) = ("0".repeat(id.len()), Vec::new());
    for (method, before, after, body) in [
        ("GET", ours.as_str(), "/tags", ""),
        ("POST", &ours, "/tags/action", action),
        ("GET", "/strongroom/v1/instances", "/tags", ""),
        ("PUT", "/strongroom/v1/instances", "/tags", replace),
    ] {
        let ask = |id: &str| Ask {
            body: body.as_bytes().to_vec(),
            ..Ask::new(method, &format!("{before}/{id}{after}"))
        };
        pairs.push((ask(id), ask(&absent)));
    }
    pairs
}

#[tokio::test]
async fn a14_what_is_foreign_answers_as_what_is_not_there() {
    let room = room().await;
    let theirs = foreign(&room).await;
    let before = room.stored().await;
    let create = |instance: &str| {
        let body = json!({ "backup": { "name": "mine", "instance": instance } }).to_string();
        Ask::post(&room.ours.v1("/backups"), body)
    };
    let create_v3 = |instance: &str| {
        let body = json!({ "name": "mine", "instance_id": instance }).to_string();
        Ask::post(&room.ours.v3("/backups"), body)
    };
    let native = |method: &str, rest: &str, body: &str| Ask {
        body: body.as_bytes().to_vec(),
        ..Ask::new(method, &format!("/strongroom/v1{rest}"))
    };
    let forget = |id: &str| native("POST", "/repository/forget", &json!({ "backup": id }).to_string());
    let make = |id: &str| native("POST", "/backups", &json!({ "name": "mine", "instance": id }).to_string());
    let unknown = |like: &str| "0".repeat(like.len());
    let files = |id: &str| Ask::get(&room.ours.v3(&format!("/backup-files?backup_id={id}")));
    let mut pairs = vec![
        (create(&theirs.node), create(&unknown(&theirs.node))),
        (create(&theirs.instance), create(&unknown(&theirs.instance))),
        (create_v3(&theirs.instance), create_v3(&unknown(&theirs.instance))),
        (create_v3(&theirs.node), create_v3(&unknown(&theirs.node))),
        (make(&theirs.instance), make(&unknown(&theirs.instance))),
        (make("orders"), make("absent")),
        (files(&theirs.backup), files(&unknown(&theirs.backup))),
        (forget(&theirs.backup), forget(&unknown(&theirs.backup))),
    ];
    let mut by_path = |method: &str, before: &str, id: &str, after: &str, body: &str| {
        let ask = |id: &str| Ask {
            body: body.as_bytes().to_vec(),
            ..Ask::new(method, &format!("{before}/{id}{after}"))
        };
        pairs.push((ask(id), ask(&unknown(id))));
    };
    by_path("DELETE", &room.ours.v1("/backups"), &theirs.backup, "", "");
    by_path("GET", &room.ours.v1("/instances"), &theirs.node, "", "");
    by_path("GET", &room.ours.v1("/jobs"), &theirs.job, "", "");
    by_path("DELETE", &room.ours.v3("/backups"), &theirs.backup, "", "");
    let level = r#"{"level":"digest"}"#;
    for id in [&theirs.backup, &theirs.backup_name] {
        by_path("GET", "/strongroom/v1/backups", id, "", "");
        by_path("DELETE", "/strongroom/v1/backups", id, "", "");
        by_path("POST", "/strongroom/v1/backups", id, "/verify", level);
        by_path("GET", "/strongroom/v1/backups", id, "/plan", "");
        by_path("GET", "/strongroom/v1/backups", id, "/members", "");
        by_path("POST", "/strongroom/v1/backups", id, "/content", r#"{"segments":[[0,0]]}"#);
    }
    by_path("GET", "/strongroom/v1/instances", &theirs.instance, "", "");
    by_path("POST", "/strongroom/v1/instances", &theirs.node, "/check", "");
    by_path("DELETE", "/strongroom/v1/instances", &theirs.instance, "", "");
    by_path("GET", "/strongroom/v1/jobs", &theirs.job, "", "");
    by_path("POST", "/strongroom/v1/jobs", &theirs.job, "/cancel", "");
    by_path("GET", "/strongroom/v1/jobs", &theirs.job, "/events", "");
    by_path("DELETE", "/strongroom/v1/tokens", &theirs.token, "", "");
    by_path("DELETE", "/strongroom/v1/access-keys", &theirs.access_key, "", "");
    by_path("GET", "/strongroom/v1/backups?instance=x", &theirs.instance, "", "");
    pairs.extend(of_policies(&room, &theirs));
    pairs.extend(of_tags(&room, &theirs));
    for (foreign, absent) in pairs {
        let what = format!("{} {}", foreign.method, foreign.path);
        let (foreign, absent) = (probe(&room, foreign).await, probe(&room, absent).await);
        assert_eq!(foreign, absent, "{what}");
        assert_eq!(foreign.0, 404, "{what}");
    }
    assert_eq!(room.stored().await, before);
}

#[tokio::test]
async fn a14_lists_hold_what_is_ours_only() {
    let room = room().await;
    let theirs = foreign(&room).await;
    let lists = [
        room.ours.v1("/backups"),
        room.ours.v1("/instances"),
        room.ours.v1("/datastores/postgresql/versions"),
        room.ours.v3("/instances"),
        room.ours.v3("/instances?tags=orders-tag"),
        room.ours.v3("/tags"),
        "/strongroom/v1/backups".to_owned(),
        "/strongroom/v1/instances".to_owned(),
        "/strongroom/v1/jobs".to_owned(),
        "/strongroom/v1/tokens".to_owned(),
        "/strongroom/v1/access-keys".to_owned(),
        "/v3/projects".to_owned(),
        "/v3/auth/projects".to_owned(),
        "/strongroom/v1/doctor".to_owned(),
    ];
    for list in lists {
        let (status, text, _) = probe(&room, Ask::get(&list)).await;
        assert_eq!(status, 200, "{list}");
        for secret in
            [&theirs.backup, &theirs.instance, &theirs.node, &theirs.job, &theirs.token, &theirs.access_key]
        {
            assert!(!text.contains(secret.as_str()), "{list}: {text}");
        }
        assert!(!text.contains("orders") && !text.contains("15.18"), "{list}: {text}");
    }
}

/// The same names in two projects do not meet.
#[tokio::test]
async fn names_are_taken_in_one_project_only() {
    let room = room().await;
    foreign(&room).await;
    let instance = room.add_instance(&room.ours, "orders").await;
    assert_eq!(room.create_backup("nightly", &instance).await.status, 200);
}

/// An administrator of a project is none of the installation.
#[tokio::test]
async fn a14_what_is_not_one_projects_is_for_administrators_of_the_domain() {
    let room = room().await;
    for path in ["recovery-kit", "repository", "projects", "users"] {
        let ask = Ask::get(&format!("/strongroom/v1/{path}"));
        for (token, status) in [(room.theirs.admin(), 403), (room.ours.admin(), 200)] {
            let reply = room.send(ask.clone().token(&token)).await;
            check_every_answer(&ask, &reply);
            assert_eq!(reply.status, status, "{path}: {}", reply.text());
        }
    }
}
