//! The order of checks (contract section 2): who asks, where, how, what; the first that fails
//! answers, and what stands behind it is not even looked at.

use serde_json::json;
use strongroom_catalog::Role;

use crate::client::{Ask, Reply};
use crate::events::complete;
use crate::room::{Room, room};
use crate::rules::check_every_answer;

async fn told(room: &Room, ask: Ask) -> (u16, String) {
    let reply: Reply = room.send(ask.clone()).await;
    check_every_answer(&ask, &reply);
    (reply.status, reply.v1_code())
}

fn wish(name: &str, instance: &str) -> String {
    json!({ "backup": { "name": name, "instance": instance } }).to_string()
}

#[tokio::test]
async fn the_first_check_that_fails_answers() {
    let room = room().await;
    let instance = room.add_instance(&room.ours, "orders").await;
    let (node, admin, viewer) = (instance.node_id.as_str(), room.ours.admin(), room.ours.token(Role::Viewer));
    let (ours, theirs) = (room.ours.v1("/backups"), room.theirs.v1("/nowhere"));
    let cases = [
        // Each request breaks its own rule and every one that comes later.
        ("401 before the project", Ask::post(&theirs, "{").token("x"), 401, "RDS.0010"),
        ("403 before the route", Ask::post(&theirs, "{").token(&viewer), 403, "RDS.0015"),
        ("404 before the body", Ask::post(&room.ours.v1("/nowhere"), "{").token(&viewer), 404, "RDS.0016"),
        ("405 before the body", Ask::new("PUT", &ours).token(&viewer), 405, "RDS.0042"),
        ("the role before the body", Ask::post(&ours, "{").token(&viewer), 403, "RDS.5045"),
        ("the body before its fields", Ask::post(&ours, "{").token(&admin), 400, "RDS.0001"),
        ("no body", Ask::post(&ours, "").token(&admin), 400, "RDS.0006"),
        (
            "a type before a rule",
            Ask::post(&ours, r#"{"backup":{"name":"1","instance":2}}"#).token(&admin),
            400,
            "RDS.0001",
        ),
        ("fields before the target", Ask::post(&ours, wish("1", "unknown")).token(&admin), 400, "RDS.5044"),
        ("the target", Ask::post(&ours, wish("nightly", "unknown")).token(&admin), 404, "RDS.0002"),
        ("all right", Ask::post(&ours, wish("nightly", node)).token(&admin), 200, ""),
        (
            "the target before conflicts",
            Ask::post(&ours, wish("nightly", "unknown")).token(&admin),
            404,
            "RDS.0002",
        ),
        ("running before taken", Ask::post(&ours, wish("nightly", node)).token(&admin), 409, "RDS.3004"),
        ("fields before conflicts", Ask::post(&ours, wish("no", node)).token(&admin), 400, "RDS.5044"),
    ];
    for (what, ask, status, code) in cases {
        assert_eq!(told(&room, ask).await, (status, code.to_owned()), "{what}");
    }
    complete(&room).await;
    assert_eq!(
        told(&room, Ask::post(&ours, wish("nightly", node)).token(&admin)).await,
        (409, "RDS.0031".to_owned())
    );
}

/// Routes that need no token at all, besides those of Keystone.
const OPEN_ROUTES: usize = 8;

#[tokio::test]
async fn a28_what_is_open_to_all_says_nothing_of_tenants() {
    let room = room().await;
    room.add_instance(&room.ours, "orders").await;
    let all = strongroom_api::routes();
    let mut open = 0;
    for (path, method) in all.into_iter().filter(|route| *route != ("/v3/auth/tokens", "post")) {
        let ask = Ask::new(&method.to_uppercase(), &path.replace("{version}", "v1").replace(['{', '}'], ""));
        let reply = room.send(ask.clone()).await;
        check_every_answer(&ask, &reply);
        if reply.status != 401 {
            open += 1;
            // A download is open to whoever has a link, and this is none.
            assert_eq!(reply.status, if path.starts_with("/downloads/") { 403 } else { 200 }, "{path}");
            for private in ["orders", "db.example", "ours", room.ours.project.as_str()] {
                assert!(!reply.text().contains(private), "{path} tells {private}");
            }
        }
    }
    assert_eq!(open, OPEN_ROUTES + 1, "and the version of Keystone");
}
