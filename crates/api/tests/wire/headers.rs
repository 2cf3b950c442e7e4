//! Headers, methods and shapes of paths.

use strongroom_catalog::Role;
use strongroom_core::time::from_micros;

use crate::client::{Ask, Reply};
use crate::room::{Room, room};
use crate::rules::check_every_answer;

async fn checked(room: &Room, ask: Ask) -> Reply {
    let reply = room.send(ask.clone()).await;
    check_every_answer(&ask, &reply);
    reply
}

/// The body without what differs from call to call.
fn constant(reply: &Reply) -> String {
    reply.text().replace(reply.header("X-Request-Id").unwrap(), "ID")
}

#[tokio::test]
async fn a11_every_wrong_token_gets_the_same_answer() {
    let room = room().await;
    let admin = room.ours.admin();
    let before = from_micros(room.now_micros() - 1);
    room.add_token(&room.ours, Role::Admin, "expired", Some(before)).await;
    room.add_token(&room.ours, Role::Admin, "ends-now", Some(from_micros(room.now_micros()))).await;
    for path in [room.ours.v1("/backups"), "/strongroom/v1/backups".to_owned()] {
        let ask = Ask::get(&path);
        let reference = constant(&checked(&room, ask.clone()).await);
        let wrong = [
            ask.clone().token(""),
            ask.clone().token("made-up"),
            ask.clone().token("expired"),
            ask.clone().token("ends-now"),
            ask.clone().token(&admin.to_uppercase()),
            ask.clone().token(&format!("{admin}x")),
            ask.clone().token(&format!("{admin} {admin}")),
            ask.clone().token(&"x".repeat(20_000)),
            ask.clone().token("\u{fc}"),
            ask.clone().token("eyJhbGciOiJub25lIn0.e30."),
            ask.clone().token(&admin).token(&admin),
            ask.clone().token(&admin).token("made-up"),
            ask.clone().header("Authorization", &format!("Bearer {admin}")),
            ask.clone().header("X-Subject-Token", &admin),
            ask.clone().header("Cookie", &format!("X-Auth-Token={admin}")),
        ];
        for ask in wrong {
            let reply = checked(&room, ask).await;
            assert_eq!((reply.status, constant(&reply)), (401, reference.clone()));
        }
    }
}

#[tokio::test]
async fn a12_a_token_in_the_address_is_no_token() {
    let room = room().await;
    for key in ["X-Auth-Token", "x-auth-token", "token", "access_token"] {
        let path = format!("{}?{key}={}", room.ours.v1("/backups"), room.ours.admin());
        assert_eq!(checked(&room, Ask::get(&path)).await.status, 401);
    }
}

#[tokio::test]
async fn a15_the_project_of_the_header_must_be_that_of_the_path() {
    let room = room().await;
    let (ours, theirs) = (room.ours.project.as_str(), room.theirs.project.as_str());
    let upper = ours.to_uppercase();
    for path in [room.ours.v1("/backups"), "/strongroom/v1/backups".to_owned()] {
        let ask = Ask::get(&path).token(&room.ours.admin());
        assert_eq!(checked(&room, ask.clone().header("X-Project-Id", ours)).await.status, 200);
        for wrong in [theirs, "", "\u{fc}", upper.as_str()] {
            assert_eq!(
                checked(&room, ask.clone().header("X-Project-Id", wrong)).await.status,
                403,
                "{wrong}"
            );
        }
        let both = ask.clone().header("X-Project-Id", ours).header("X-Project-Id", theirs);
        assert_eq!(checked(&room, both).await.status, 403);
    }
    for project in [theirs, &"c".repeat(32), &upper, "%61", "short"] {
        let ask = Ask::get(&format!("/rds/v1/{project}/backups")).token(&room.ours.admin());
        assert_eq!(checked(&room, ask).await.status, 403, "{project}");
    }
}

#[tokio::test]
async fn content_types_that_clients_send_are_taken() {
    let room = room().await;
    let ask = Ask::post(&room.ours.v1("/backups"), "{}").token(&room.ours.admin());
    // What is wrong with these is the document only.
    for kind in ["application/json", "application/json;charset=utf8", "Application/JSON; charset=UTF-8"] {
        let reply = checked(&room, ask.clone().header("Content-Type", kind)).await;
        assert!(reply.v1_message().contains("backup: is missing"), "{kind}: {}", reply.text());
    }
    assert!(checked(&room, ask.clone()).await.v1_message().contains("backup: is missing"));
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""] {
        let reply = checked(&room, ask.clone().header("Content-Type", kind)).await;
        assert_eq!(reply.status, 400);
        assert!(reply.v1_message().contains("Content-Type"), "{kind}: {}", reply.text());
    }
    let packed = checked(&room, ask.clone().header("Content-Encoding", "gzip")).await;
    assert!(packed.status == 400 && packed.v1_message().contains("compressed"), "{}", packed.text());
    let plain = checked(&room, ask.header("Content-Encoding", "identity")).await;
    assert!(plain.v1_message().contains("backup: is missing"), "{}", plain.text());
}

#[tokio::test]
async fn a20_methods_are_what_they_are() {
    let room = room().await;
    let list = room.ours.v1("/backups");
    for method in ["HEAD", "OPTIONS", "TRACE", "PUT", "PATCH", "DELETE", "get", "BREW"] {
        let reply = checked(&room, Ask::new(method, &list).token(&room.ours.admin())).await;
        assert_eq!(reply.status, 405, "{method}");
        assert_eq!(reply.header("Allow"), Some("GET, POST"), "{method}");
        assert_eq!(reply.body.is_empty(), method == "HEAD", "{method}");
    }
    let disguised = Ask::get(&list).token(&room.ours.admin()).header("X-HTTP-Method-Override", "DELETE");
    assert_eq!(checked(&room, disguised).await.status, 200);
    let unknown = checked(&room, Ask::new("HEAD", &room.ours.v1("/nowhere")).token(&room.ours.admin())).await;
    assert_eq!((unknown.status, unknown.header("Allow")), (404, None));
    // Probes of load balancers ask so.
    for path in ["/healthz", "/readyz"] {
        assert_eq!(checked(&room, Ask::new("HEAD", path)).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a20_one_trailing_slash_is_taken_and_no_other_shape() {
    let room = room().await;
    let admin = room.ours.admin();
    let project = room.ours.project.as_str();
    for (path, status) in [
        (format!("/rds/v1/{project}/backups"), 200),
        (format!("/rds/v1/{project}/backups/"), 200),
        (format!("/rds/v1/{project}/backups/?limit=1"), 200),
        (format!("/rds/v1/{project}/backups?"), 200),
        (format!("/rds/v1/{project}/backups//"), 404),
        (format!("/rds/v1/{project}//backups"), 404),
        (format!("/rds/v1/{project}/./backups"), 404),
        (format!("/rds/v1/{project}/instances/../backups"), 404),
        (format!("/rds/v1/{project}/instances/%2e%2e/backups"), 404),
        (format!("/rds/v1/{project}/instances%2f..%2fbackups"), 404),
        (format!("/rds/v1/{project}/Backups"), 404),
        (format!("/rds/v1/{project}/backups;x=1"), 404),
        (format!("/rds/v1/{project}"), 404),
        (format!("/rds/v2/{project}/backups"), 404),
        (format!("/rds/v1/{project}/instances/%ff"), 400),
        ("/strongroom/v1/backups/a%00b".to_owned(), 400),
        ("/strongroom/v1/instances/a%20b".to_owned(), 400),
        ("/strongroom/v1/jobs/a%0ab".to_owned(), 400),
        ("/strongroom/v1/backups/".to_owned(), 200),
        ("/strongroom/v1/backups//".to_owned(), 404),
        ("/strongroom/v1".to_owned(), 404),
        ("/strongroom/".to_owned(), 404),
        ("/healthz/".to_owned(), 200),
        ("//".to_owned(), 404),
        ("/favicon.ico".to_owned(), 404),
    ] {
        let reply = checked(&room, Ask::get(&path).token(&admin)).await;
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
    }
}

#[tokio::test]
async fn the_target_of_a_request_may_be_written_as_an_address() {
    let room = room().await;
    let whole = format!("http://strongroom{}", room.ours.v1("/backups"));
    assert_eq!(checked(&room, Ask::get(&whole).token(&room.ours.admin())).await.status, 200);
    let reply = room.send(Ask::new("OPTIONS", "*")).await;
    assert_eq!((reply.status, reply.header("Content-Type")), (404, Some("application/json")));
}

#[tokio::test]
async fn request_ids_differ_and_are_ours() {
    let room = room().await;
    let ask = || Ask::get("/healthz").header("X-Request-Id", "chosen-by-the-caller");
    let (first, second) = (checked(&room, ask()).await, checked(&room, ask()).await);
    assert_ne!(first.header("X-Request-Id"), second.header("X-Request-Id"));
}

#[tokio::test]
async fn a16_statements_in_every_text_are_only_texts() {
    let room = room().await;
    let instance = room.add_instance(&room.ours, "orders").await;
    assert_eq!(room.create_backup("nightly", &instance).await.status, 200);
    let before = room.stored().await;
    let (admin, attack) = (room.ours.admin(), "'%20OR%201=1;DROP%20TABLE%20backups;--");
    for (ask, status) in [
        (Ask::get(&room.ours.v1(&format!("/instances/{attack}"))), 400),
        (Ask::get(&room.ours.v1("/instances/'OR'1'='1")), 404),
        (Ask::delete(&room.ours.v1("/backups/'OR'1'='1")), 404),
        (Ask::get(&room.ours.v1("/jobs/'OR'1'='1")), 404),
        (Ask::get("/strongroom/v1/backups/'OR'1'='1"), 404),
        (Ask::get(&format!("/strongroom/v1/backups?instance={attack}")), 400),
        (Ask::get("/strongroom/v1/backups?instance='OR'1'='1"), 404),
        (Ask::get("/strongroom/v1/jobs?state='OR'1'='1"), 400),
        (Ask::delete("/strongroom/v1/tokens/'OR'1'='1"), 404),
    ] {
        let reply = checked(&room, ask.clone().token(&admin)).await;
        assert_eq!(reply.status, status, "{}: {}", ask.path, reply.text());
    }
    let reply = checked(&room, Ask::get(&room.ours.v1("/backups")).token("' OR 1=1 --")).await;
    assert_eq!(reply.status, 401);
    assert_eq!(room.stored().await, before);
}
