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

/// For administrators of the domain: its numbers are those of all tenants.
fn of_the_repository() -> [(Role, Ask); 4] {
    let native = |rest: &str| format!("/strongroom/v1/repository{rest}");
    [
        (Role::Admin, Ask::get(&native(""))),
        (Role::Admin, Ask::post(&native("/check"), "{}")),
        (Role::Admin, Ask::post(&native("/sweep"), "{")),
        (Role::Admin, Ask::post(&native("/forget"), "{}")),
    ]
}

/// What each role may do. A call that is allowed may still fail for another reason.
#[tokio::test]
async fn the_table_of_roles() {
    let room = room().await;
    let instance = room.add_instance(&room.ours, "orders").await;
    let native = |rest: &str| format!("/strongroom/v1{rest}");
    let of_instance = native(&format!("/instances/{}", instance.id));
    let job = native("/jobs/00000000000000000000000000000000");
    let calls = [
        (Role::Viewer, Ask::get(&room.ours.v1("/backups"))),
        (Role::Viewer, Ask::get(&room.ours.v1("/instances"))),
        (Role::Viewer, Ask::get(&room.ours.v1("/instances/none"))),
        (Role::Viewer, Ask::get(&room.ours.v1("/datastores/postgresql/versions"))),
        (Role::Viewer, Ask::get(&room.ours.v1("/jobs/none"))),
        (Role::Operator, Ask::post(&room.ours.v1("/backups"), "{}")),
        (Role::Operator, Ask::delete(&room.ours.v1("/backups/none"))),
        (Role::Viewer, Ask::get(&room.ours.v3("/backups"))),
        (Role::Operator, Ask::post(&room.ours.v3("/backups"), "{}")),
        (Role::Operator, Ask::delete(&room.ours.v3("/backups/none"))),
        (Role::Restorer, Ask::get(&room.ours.v3("/backup-files?backup_id=none"))),
        (Role::Viewer, Ask::get(&room.ours.v3("/jobs"))),
        (Role::Viewer, Ask::get(&native("/instances"))),
        (Role::Operator, Ask::post(&native("/instances"), "{}")),
        (Role::Viewer, Ask::get(&of_instance)),
        (Role::Operator, Ask::delete(&native("/instances/none"))),
        (Role::Operator, Ask::post(&native("/instances/none/check"), "")),
        (Role::Viewer, Ask::get(&native("/backups"))),
        (Role::Operator, Ask::post(&native("/backups"), "{}")),
        (Role::Viewer, Ask::get(&native("/backups/none"))),
        (Role::Operator, Ask::delete(&native("/backups/none"))),
        (Role::Operator, Ask::post(&native("/backups/none/verify"), "{}")),
        (Role::Restorer, Ask::get(&native("/backups/none/plan"))),
        (Role::Restorer, Ask::get(&native("/backups/none/members"))),
        (Role::Restorer, Ask::post(&native("/backups/none/content"), "{}")),
        (Role::Restorer, Ask::post(&native("/backups/none/download-link"), "")),
        (Role::Viewer, Ask::get(&native("/jobs"))),
        (Role::Viewer, Ask::get(&job)),
        (Role::Operator, Ask::post(&format!("{job}/cancel"), "")),
        (Role::Viewer, Ask::get(&format!("{job}/events"))),
        (Role::Admin, Ask::get(&native("/tokens"))),
        (Role::Admin, Ask::post(&native("/tokens"), "{}")),
        (Role::Admin, Ask::delete(&native("/tokens/none"))),
        (Role::Admin, Ask::get(&native("/access-keys"))),
        (Role::Admin, Ask::post(&native("/access-keys"), "{")),
        (Role::Admin, Ask::delete(&native("/access-keys/none"))),
        (Role::Admin, Ask::get(&native("/projects"))),
        (Role::Admin, Ask::post(&native("/projects"), "{}")),
        (Role::Admin, Ask::delete(&native("/projects/none"))),
        (Role::Admin, Ask::get(&native("/users"))),
        (Role::Admin, Ask::post(&native("/users"), "{}")),
        (Role::Admin, Ask::delete(&native("/users/none"))),
        (Role::Admin, Ask::post(&native("/users/none/password"), "{}")),
        (Role::Admin, Ask::post(&native("/users/none/roles"), "{}")),
        (Role::Admin, Ask::delete(&native("/users/none/roles/none"))),
    ];
    let calls: Vec<_> =
        calls.into_iter().chain(of_policies_and_the_server(&room)).chain(of_the_repository()).collect();
    let of_roles = strongroom_api::routes().into_iter().filter(|(path, _)| !is_identity(path)).count();
    assert_eq!(calls.len(), of_roles - OPEN_ROUTES, "a route without a row here");
    for (least, ask) in calls {
        for role in Role::ALL {
            let ask = ask.clone().token(&room.ours.token(role));
            let reply = room.send(ask.clone()).await;
            check_every_answer(&ask, &reply);
            let refused = reply.status == 403;
            assert_eq!(refused, role < least, "{} {} as {role:?}: {}", ask.method, ask.path, reply.text());
        }
    }
}

fn of_policies_and_the_server(room: &Room) -> [(Role, Ask); 9] {
    let v1 = room.ours.v1("/instances/none/backups/policy");
    let v3 = room.ours.v3("/instances/none/backups/policy");
    let native = "/strongroom/v1/instances/none/policy";
    [
        (Role::Viewer, Ask::get(&v1)),
        (Role::Operator, Ask::new("PUT", &v1)),
        (Role::Viewer, Ask::get(&v3)),
        (Role::Operator, Ask::new("PUT", &v3)),
        (Role::Viewer, Ask::get(native)),
        (Role::Operator, Ask::new("PUT", native)),
        (Role::Admin, Ask::post("/strongroom/v1/retention/resume", "")),
        (Role::Admin, Ask::get("/strongroom/v1/recovery-kit")),
        (Role::Viewer, Ask::get("/strongroom/v1/doctor")),
    ]
}

/// Routes that need no token at all, besides those of Keystone.
const OPEN_ROUTES: usize = 8;

/// Keystone's routes ask who somebody is, not what they may do.
fn is_identity(path: &str) -> bool {
    path == "/v3" || path.starts_with("/v3/auth/") || path == "/v3/projects"
}

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
