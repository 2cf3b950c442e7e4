//! What must never come out: causes, panics, passwords. What is for the log stays in the log.

use serde_json::json;

use crate::client::Ask;
use crate::engine::CANARY;
use crate::room::room;
use crate::rules::check_every_answer;

fn source(user: &str) -> String {
    json!({
        "name": "orders", "engine": "postgresql", "host": "127.0.0.1", "port": 5432, "user": user,
        "password": "typed-password"
    })
    .to_string()
}

#[tokio::test]
async fn c12_causes_stay_inside_and_faults_of_ours_say_nothing() {
    let room = room().await;
    for (user, status, code) in
        [("away", 409, "source_unreachable"), ("broken", 500, "internal"), ("panics", 500, "internal")]
    {
        let ask = Ask::post("/strongroom/v1/instances", source(user)).token(&room.ours.admin());
        let reply = room.send(ask.clone()).await;
        check_every_answer(&ask, &reply);
        assert_eq!((reply.status, reply.native_code().as_str()), (status, code), "{}", reply.text());
        assert!(
            !reply.text().contains(CANARY) && !reply.text().contains("typed-password"),
            "{}",
            reply.text()
        );
    }
}

#[tokio::test]
async fn a_handler_that_panics_answers_500_and_the_next_call_is_served() {
    let room = room().await;
    let instance = room.add_instance(&room.ours, "orders").await;
    let before = room.stored().await;
    // The first number of a request is its id; the second is drawn in the use case.
    room.random.arm(2);
    let node = instance.node_id.as_str();
    let body = json!({ "backup": { "name": "nightly", "instance": node } }).to_string();
    let ask = Ask::post(&room.ours.v1("/backups"), body).token(&room.ours.admin());
    let reply = room.send(ask.clone()).await;
    check_every_answer(&ask, &reply);
    assert_eq!((reply.status, reply.v1_code().as_str()), (500, "RDS.9999"), "{}", reply.text());
    assert_eq!(reply.v1_message(), "Internal error.");
    assert_eq!(room.stored().await, before);
    assert_eq!(room.send(ask).await.status, 200);
}

#[tokio::test]
async fn a_catalog_that_is_gone_is_503_and_says_when_to_come_again() {
    let room = room().await;
    room.catalog.close().await;
    for (path, code) in [(room.ours.v1("/backups"), "errCode"), ("/strongroom/v1/backups".to_owned(), "code")]
    {
        let ask = Ask::get(&path).token(&room.ours.admin());
        let reply = room.send(ask.clone()).await;
        check_every_answer(&ask, &reply);
        assert_eq!(reply.status, 503, "{}", reply.text());
        assert!(reply.header("Retry-After").is_some() && reply.json()[code].is_string(), "{}", reply.text());
    }
    for path in ["/readyz", "/metrics"] {
        let reply = room.send(Ask::get(path)).await;
        check_every_answer(&Ask::get(path), &reply);
        assert_eq!(reply.status, 503, "{path}: {}", reply.text());
    }
    assert_eq!(room.send(Ask::get("/healthz")).await.status, 200);
}

#[tokio::test]
async fn d06_a_repository_that_vanished_is_not_ready() {
    let room = room().await;
    assert_eq!(room.send(Ask::get("/readyz")).await.status, 200);
    std::fs::rename(room.folder.path().join("repository"), room.folder.path().join("elsewhere")).unwrap();
    let reply = room.send(Ask::get("/readyz")).await;
    check_every_answer(&Ask::get("/readyz"), &reply);
    assert_eq!((reply.status, reply.json()["status"].as_str()), (503, Some("not ready")));
    assert_eq!(room.send(Ask::get("/healthz")).await.status, 200);
}
