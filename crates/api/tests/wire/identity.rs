//! Logging in and signing, where a story cannot tell it: time, sources, bytes, the audit chain.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use secrecy::SecretString;
use serde_json::json;
use strongroom_catalog::{AccessKey, Role};
use strongroom_core::limits::{SESSION_LIFE_S, SIGNATURE_SKEW_S_MAX};
use strongroom_core::time::Clock;
use strongroom_service::{sha256_hex, signature_of};

use crate::client::{Ask, Reply, send_from};
use crate::room::{Room, room};
use crate::rules::check_every_answer;

const HOST: &str = "strongroom";

async fn checked(room: &Room, ask: Ask) -> Reply {
    let reply = room.send(ask.clone()).await;
    check_every_answer(&ask, &reply);
    reply
}

fn log_in(password: &str) -> Ask {
    let user = json!({ "name": "ours", "domain": { "name": "Domain" }, "password": password });
    let identity = json!({ "methods": ["password"], "password": { "user": user } });
    Ask::post("/v3/auth/tokens", json!({ "auth": { "identity": identity } }).to_string())
}

const RIGHT: &str = "correct horse battery";

/// Adds what a signer adds; `variant` is nothing, or the scope that the key is derived from.
pub(crate) fn sign(ask: Ask, secret: &str, date: &str, variant: Option<&[String; 3]>) -> Ask {
    let (path, query) = ask.path.split_once('?').unwrap_or((&ask.path, ""));
    let canonical = format!(
        "{}\n{path}/\n{query}\nhost:{HOST}\nx-sdk-date:{date}\n\nhost;x-sdk-date\n{}",
        ask.method,
        sha256_hex(&ask.body)
    );
    let mut text = format!("SDK-HMAC-SHA256\n{date}\n");
    let mut who = "Access=AK1".to_owned();
    if let Some([day, region, service]) = variant {
        writeln!(text, "{day}/{region}/{service}/sdk_request").unwrap();
        who = format!("Credential=AK1/{day}/{region}/{service}/sdk_request");
    }
    text += &sha256_hex(canonical.as_bytes());
    let signature = signature_of(secret, variant, &text);
    ask.header("X-Sdk-Date", date).header(
        "Authorization",
        &format!("SDK-HMAC-SHA256 {who}, SignedHeaders=host;x-sdk-date, Signature={signature}"),
    )
}

pub(crate) fn date(room: &Room, seconds: i64) -> String {
    let at = room.clock.now().as_second() + seconds;
    jiff::Timestamp::from_second(at).unwrap().strftime("%Y%m%dT%H%M%SZ").to_string()
}

async fn add_key(room: &Room, role: Role) {
    let key = AccessKey {
        id: "AK1".to_owned(),
        user_id: room.ours.user.clone(),
        project_id: room.ours.project.clone(),
        role,
        created: room.clock.now(),
    };
    let (secret, audit) = (SecretString::from("SK1"), room.audit(&room.ours, "access_key.create"));
    room.catalog.access_key_create(&key, &secret, &audit).await.unwrap();
}

#[tokio::test]
async fn a11_a_signature_is_good_for_its_request_its_quarter_of_an_hour_and_its_project() {
    let room = room().await;
    add_key(&room, Role::Operator).await;
    let list = || Ask::get(&room.ours.v1("/backups"));
    let now = date(&room, 0);
    let scope = ["20260304", "", ""].map(str::to_owned);
    let yesterday = ["20260303", "", ""].map(str::to_owned);
    let theirs = Ask::get(&room.theirs.v1("/backups"));
    let wish = json!({ "backup": { "name": "nightly", "instance": "none" } }).to_string();
    let create = Ask::post(&room.ours.v1("/backups"), wish);
    let altered = Ask { body: b"{}".to_vec(), ..sign(create.clone(), "SK1", &now, None) };
    let admins = Ask::get("/strongroom/v1/tokens");
    for (what, ask, status) in [
        ("plain", sign(list(), "SK1", &now, None), 200),
        ("again", sign(list(), "SK1", &now, None), 200),
        ("derived", sign(list(), "SK1", &now, Some(&scope)), 200),
        ("of another day", sign(list(), "SK1", &now, Some(&yesterday)), 401),
        ("another secret", sign(list(), "SK2", &now, None), 401),
        ("as old as may be", sign(list(), "SK1", &date(&room, -SIGNATURE_SKEW_S_MAX), None), 200),
        ("too old", sign(list(), "SK1", &date(&room, -SIGNATURE_SKEW_S_MAX - 1), None), 401),
        ("too new", sign(list(), "SK1", &date(&room, SIGNATURE_SKEW_S_MAX + 1), None), 401),
        ("another project", sign(theirs, "SK1", &now, None), 403),
        ("a body", sign(create, "SK1", &now, None), 404),
        ("another body", altered, 401),
        ("keystone", sign(Ask::get("/v3/projects?name=project-of-ours"), "SK1", &now, Some(&scope)), 200),
        ("beyond the role", sign(admins, "SK1", &now, None), 403),
        ("with a token as well", sign(list(), "SK1", &now, None).token(&room.ours.admin()), 401),
        (
            "with a hint",
            sign(list(), "SK1", &now, None).header("X-Project-Id", room.ours.project.as_str()),
            200,
        ),
        (
            "with a wrong hint",
            sign(list(), "SK1", &now, None).header("X-Project-Id", room.theirs.project.as_str()),
            403,
        ),
    ] {
        let reply = checked(&room, ask).await;
        assert_eq!(reply.status, status, "{what}: {}", reply.text());
    }
    let audit = room.audit(&room.ours, "access_key.revoke");
    room.catalog.access_key_revoke(&room.ours.project, "AK1", &audit).await.unwrap();
    assert_eq!(checked(&room, sign(list(), "SK1", &now, None)).await.v1_code(), "RDS.0010");
}

#[tokio::test]
async fn a11_refused_callers_are_in_the_audit_chain() {
    let room = room().await;
    let list = room.ours.v1("/backups");
    for _ in 0..20 {
        checked(&room, Ask::get(&list).token("made-up")).await;
        checked(&room, Ask::get(&room.theirs.v1("/backups")).token(&room.ours.admin())).await;
        checked(&room, Ask::get("/strongroom/v1/tokens").token(&room.ours.token(Role::Viewer))).await;
    }
    for _ in 0..7 {
        checked(&room, log_in("wrong password")).await;
    }
    checked(&room, sign(Ask::get(&list), "SK1", &date(&room, 0), None)).await;
    let of_none = room.catalog.audit_list_of_none(100).await.unwrap();
    let ours = room.catalog.audit_list(&room.ours.project, 100).await.unwrap();
    let theirs = room.catalog.audit_list(&room.theirs.project, 100).await.unwrap();
    let told = |records: &[strongroom_catalog::AuditRecord]| {
        let refusals = records.iter().filter(|record| record.action == "caller.refuse");
        let mut told: Vec<_> = refusals.map(|one| (one.object.clone(), one.actor.clone())).collect();
        told.sort();
        told
    };
    let row = |object: &str, actor: &str| (object.to_owned(), actor.to_owned());
    let nobody = ["password", "signature", "token", "wait"].map(|reason| row(reason, "nobody"));
    assert_eq!(told(&of_none), nobody);
    assert_eq!(told(&ours), ["project", "role"].map(|reason| row(reason, room.ours.user.as_str())));
    assert_eq!(told(&theirs), [], "nobody sees who knocks at other doors");

    room.advance_s(60);
    checked(&room, Ask::get(&list).token("made-up")).await;
    let of_none = room.catalog.audit_list_of_none(100).await.unwrap();
    let counts: u64 = of_none
        .iter()
        .filter(|record| record.action == "caller.refuse" && record.object == "token")
        .map(|record| record.detail["count"].as_u64().unwrap())
        .sum();
    assert_eq!(counts, 21, "each of them is counted");
    room.catalog.audit_verify().await.unwrap();
}

#[tokio::test]
async fn a23_guessing_waits_and_its_victim_elsewhere_does_not() {
    let room = room().await;
    let (attacker, owner) = (Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3));
    for _ in 0..5 {
        assert_eq!(send_from(room.addr, attacker, &log_in("guess-me-if-you-can")).await.status, 401);
    }
    let waits = send_from(room.addr, attacker, &log_in(RIGHT)).await;
    assert_eq!((waits.status, waits.header("Retry-After")), (429, Some("1")), "{}", waits.text());
    assert_eq!(send_from(room.addr, owner, &log_in(RIGHT)).await.status, 201);
    room.advance_s(1);
    assert_eq!(send_from(room.addr, attacker, &log_in("guess-me-if-you-can")).await.status, 401);
    let waits = send_from(room.addr, attacker, &log_in(RIGHT)).await;
    assert_eq!((waits.status, waits.header("Retry-After")), (429, Some("2")));
    room.advance_s(2);
    assert_eq!(send_from(room.addr, attacker, &log_in(RIGHT)).await.status, 201);

    // An account that is not there waits as well.
    let nobody = |password| {
        let ask = log_in(password);
        Ask {
            body: String::from_utf8(ask.body).unwrap().replace("\"ours\"", "\"nobody\"").into_bytes(),
            ..ask
        }
    };
    let statuses = async |count: usize| {
        let mut statuses = Vec::new();
        for _ in 0..count {
            statuses.push(send_from(room.addr, owner, &nobody("guess-me-if-you-can")).await.status);
        }
        statuses
    };
    assert_eq!(statuses(6).await, [401, 401, 401, 401, 401, 429]);
}

#[tokio::test]
async fn a11_a_log_in_ends_after_its_day() {
    let room = room().await;
    let session = checked(&room, log_in(RIGHT)).await.header("X-Subject-Token").unwrap().to_owned();
    let list = Ask::get(&room.ours.v1("/backups")).token(&session);
    room.advance_s(SESSION_LIFE_S - 1);
    assert_eq!(checked(&room, list.clone()).await.status, 200);
    room.advance_s(1);
    assert_eq!(checked(&room, list).await.status, 401);
}

#[tokio::test]
async fn keystone_may_be_asked_for_heads() {
    let room = room().await;
    let token = room.ours.admin();
    let head = Ask::new("HEAD", "/v3/auth/tokens").token(&token).header("X-Subject-Token", &token);
    let reply = checked(&room, head).await;
    assert_eq!((reply.status, reply.body.len()), (200, 0));
    let absent = Ask::new("HEAD", "/v3/auth/tokens").token(&token).header("X-Subject-Token", "srs_absent");
    assert_eq!(checked(&room, absent).await.status, 404);
}

#[tokio::test]
async fn the_catalog_leads_back_the_way_the_caller_came() {
    let room = room().await;
    let catalog = checked(&room, Ask::get("/v3/auth/catalog").token(&room.ours.admin())).await.json();
    let url = format!("http://{HOST}/v3/{}", room.ours.project);
    assert_eq!(catalog["catalog"][1]["endpoints"][0]["url"], url);
    let odd = Ask::get("/v3").header("Host", "two.example");
    assert_eq!(room.send(odd).await.status, 400);
}
