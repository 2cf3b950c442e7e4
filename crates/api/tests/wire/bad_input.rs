//! Bad input at every edge of the v1 create: the right code, the field's name, and nothing stored.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strongroom_core::instance::Instance;
use strongroom_core::limits::{
    BODY_SIZE_BYTES_MAX, DESCRIPTION_LENGTH_CHARS_MAX, ID_LENGTH_CHARS_MAX, NAME_LENGTH_CHARS_MAX,
    NAME_LENGTH_CHARS_MIN,
};

use crate::client::{Ask, Reply};
use crate::events::complete;
use crate::room::{Room, room};
use crate::rules::check_every_answer;

/// A room with an instance, and the look at what is stored before and after.
struct Desk {
    room: Room,
    instance: Instance,
    before: String,
}

impl Desk {
    async fn new() -> Self {
        let room = room().await;
        let instance = room.add_instance(&room.ours, "orders").await;
        let before = room.stored().await;
        Self { room, instance, before }
    }

    async fn post(&self, body: impl Into<Vec<u8>>) -> Reply {
        let ask = Ask::post(&self.room.ours.v1("/backups"), body).token(&self.room.ours.admin());
        let reply = self.room.send(ask.clone()).await;
        check_every_answer(&ask, &reply);
        reply
    }

    /// Refused with this code, the field named, and nothing stored.
    async fn refused(&self, body: impl Into<Vec<u8>>, status: u16, code: &str, names: &str) {
        let body = body.into();
        let shown = String::from_utf8_lossy(&body[..body.len().min(120)]).into_owned();
        let reply = self.post(body).await;
        assert_eq!((reply.status, reply.v1_code().as_str()), (status, code), "{shown}: {}", reply.text());
        assert!(reply.v1_message().contains(names), "{shown}: {} does not name {names}", reply.text());
        assert_eq!(self.room.stored().await, self.before, "{shown} stored something");
    }

    /// Taken, and ended, so that the next one may come.
    async fn taken(&self, backup: Value) -> Value {
        let reply = self.post(json!({ "backup": backup }).to_string()).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        complete(&self.room).await;
        reply.json()["backup"].clone()
    }

    fn named(&self, name: &Value) -> String {
        json!({ "backup": { "name": name, "instance": self.instance.node_id.as_str() } }).to_string()
    }

    fn described(&self, description: &Value) -> String {
        let node = self.instance.node_id.as_str();
        json!({ "backup": { "name": "nightly", "instance": node, "description": description } }).to_string()
    }
}

#[tokio::test]
async fn a04_names_that_break_their_rule_are_refused_and_nothing_is_stored() {
    let desk = Desk::new().await;
    let (short, long) = ("a".repeat(NAME_LENGTH_CHARS_MIN - 1), "a".repeat(NAME_LENGTH_CHARS_MAX + 1));
    let mut bad: Vec<String> =
        ["", "1abc", "-abc", "_abc", " abc", "abcd ", "abcd\n", "abcd\r\n", "\nabcd", "ab\0cd"]
            .map(str::to_owned)
            .to_vec();
    bad.extend(
        ["../abcd", "ab%2e", "ab%00cd", "\u{430}bcd", "abc\u{e9}", "ab\u{202e}cd", "\u{ff41}bcd"]
            .map(str::to_owned),
    );
    bad.extend([short, long]);
    let every_other =
        (0_u8..128).map(char::from).filter(|c| !c.is_ascii_alphanumeric() && !"-_".contains(*c));
    bad.extend(every_other.map(|c| format!("ab{c}cd")));
    for name in bad {
        desk.refused(desk.named(&json!(name)), 400, "RDS.5044", "name").await;
    }
}

#[tokio::test]
async fn a04_names_at_their_edges_are_taken_as_they_are() {
    let desk = Desk::new().await;
    let edges = ["a".repeat(NAME_LENGTH_CHARS_MIN), "Z".repeat(NAME_LENGTH_CHARS_MAX), "aA0-_".to_owned()];
    for name in edges {
        let node = desk.instance.node_id.as_str();
        assert_eq!(desk.taken(json!({ "name": name, "instance": node })).await["name"], json!(name));
    }
}

#[tokio::test]
async fn a05_descriptions_that_break_their_rule_are_refused_and_nothing_is_stored() {
    let desk = Desk::new().await;
    let long = DESCRIPTION_LENGTH_CHARS_MAX + 1;
    let too_long = ["a".repeat(long), "\u{fc}".repeat(long), "\u{1f980}".repeat(long)];
    for text in too_long {
        desk.refused(desk.described(&json!(text)), 400, "RDS.0001", "description").await;
    }
    for forbidden in ['!', '<', '>', '=', '\'', '&', '"', '\0'] {
        for text in [format!("{forbidden}"), format!("a{forbidden}"), format!("{forbidden}b")] {
            desk.refused(desk.described(&json!(text)), 400, "RDS.0001", "description").await;
        }
    }
}

#[tokio::test]
async fn a05_descriptions_at_their_edge_come_back_as_given() {
    let desk = Desk::new().await;
    let full = "\u{1f980}".repeat(DESCRIPTION_LENGTH_CHARS_MAX);
    let node = desk.instance.node_id.as_str();
    let given = [json!(full), json!("two\r\nlines\tand \u{1b}"), json!(""), Value::Null];
    for (at, description) in given.into_iter().enumerate() {
        let wish = json!({ "name": format!("number-{at}"), "instance": node, "description": description });
        assert_eq!(desk.taken(wish).await["description"], description);
    }
}

#[tokio::test]
async fn a06_missing_null_and_mistyped_fields_are_named() {
    let desk = Desk::new().await;
    let node = desk.instance.node_id.as_str();
    let wrong = [json!(1), json!(1.5), json!(true), json!([]), json!(["nightly"]), json!({}), Value::Null];
    for value in &wrong {
        desk.refused(desk.named(value), 400, "RDS.0001", "backup.name").await;
        let body = json!({ "backup": { "name": "nightly", "instance": value } }).to_string();
        desk.refused(body, 400, "RDS.0001", "backup.instance").await;
        // An empty object is an object; its first field is missing.
        desk.refused(json!({ "backup": value }).to_string(), 400, "RDS.0001", "backup").await;
        if !value.is_null() {
            desk.refused(desk.described(value), 400, "RDS.0001", "backup.description").await;
        }
    }
    desk.refused("{}", 400, "RDS.0001", "backup").await;
    desk.refused(json!({ "backup": { "instance": node } }).to_string(), 400, "RDS.0001", "backup.name").await;
    desk.refused(json!({ "backup": { "name": "nightly" } }).to_string(), 400, "RDS.0001", "backup.instance")
        .await;
    desk.refused(
        json!({ "Backup": { "name": "nightly", "instance": node } }).to_string(),
        400,
        "RDS.0001",
        "backup",
    )
    .await;
    desk.refused(
        json!([{ "backup": { "name": "nightly", "instance": node } }]).to_string(),
        400,
        "RDS.0001",
        "body",
    )
    .await;
}

#[tokio::test]
async fn a06_a_key_that_comes_twice_is_refused() {
    let desk = Desk::new().await;
    let node = desk.instance.node_id.as_str();
    for body in [
        format!(r#"{{"backup":{{"name":"nightly","name":"nightly","instance":"{node}"}}}}"#),
        format!(r#"{{"backup":{{"name":"nightly","instance":"{node}"}},"backup":{{}}}}"#),
        format!(r#"{{"backup":{{"name":"nightly","instance":"{node}","x":{{"name":1,"n\u0061me":2}}}}}}"#),
    ] {
        desk.refused(body, 400, "RDS.0001", "twice").await;
    }
}

#[tokio::test]
async fn a04_ids_of_instances_at_their_edges() {
    let desk = Desk::new().await;
    let body = |instance: &str| json!({ "backup": { "name": "nightly", "instance": instance } }).to_string();
    let long = "x".repeat(ID_LENGTH_CHARS_MAX + 1);
    for bad in ["", long.as_str(), "a b", "a\n", "\0", "\u{e4}", "\u{7f}"] {
        desk.refused(body(bad), 400, "RDS.0001", "backup.instance").await;
    }
    let unknown = "x".repeat(ID_LENGTH_CHARS_MAX);
    for looked_up in ["x", unknown.as_str(), "';DROP/**/TABLE/**/backups;--", "%", "orders"] {
        desk.refused(body(looked_up), 404, "RDS.0002", "instance").await;
    }
}

fn padded(text: &str, bytes: usize) -> String {
    format!("{text}{}", " ".repeat(bytes - text.len()))
}

#[tokio::test]
async fn a07_a_body_at_the_limit_is_read_and_one_byte_more_is_not() {
    let desk = Desk::new().await;
    let wish = desk.named(&json!("nightly"));
    desk.refused(padded(&wish, BODY_SIZE_BYTES_MAX + 1), 413, "RDS.0042", "body").await;
    desk.refused(vec![b'x'; 1 << 20], 413, "RDS.0042", "body").await;
    let reply = desk.post(padded(&wish, BODY_SIZE_BYTES_MAX)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[tokio::test]
async fn a08_documents_made_to_break_a_parser_are_refused_at_once() {
    let desk = Desk::new().await;
    let began = Instant::now();
    for deep in ["[".repeat(60_000), "{\"a\":".repeat(12_000), format!("{{\"backup\":{}", "[".repeat(60_000))]
    {
        desk.refused(deep, 400, "RDS.0001", "body").await;
    }
    for large in ["[".repeat(100_000), "{\"a\":".repeat(100_000)] {
        desk.refused(large, 413, "RDS.0042", "body").await;
    }
    let keys: serde_json::Map<String, Value> = (0..5_000).map(|n| (format!("k{n}"), json!(0))).collect();
    desk.refused(Value::Object(keys).to_string(), 400, "RDS.0001", "backup").await;
    for body in [
        &b"\xff\xfe{}"[..],
        b"\xef\xbb\xbf{}",
        b"{\"backup\":\"\xff\"}",
        b"{\"backup\":{\"name\":\"\\ud800\"}}",
        b"{\"backup\":",
        b"{}{}",
        b"{} x",
        b"{'backup':1}",
        b"{backup:1}",
        b"{\"backup\":01}",
        b"{\"backup\":NaN}",
        b"{\"backup\":1e999}",
        b"null",
        b"true",
        b"1",
        b"\"backup\"",
        b"[]",
        b"backup=1",
        b"\0",
    ] {
        desk.refused(body, 400, "RDS.0001", "body").await;
    }
    desk.refused(format!("{{\"backup\":{}}}", "9".repeat(60_000)), 400, "RDS.0001", "body").await;
    for blank in ["", " ", "\r\n\t "] {
        desk.refused(blank, 400, "RDS.0006", "body").await;
    }
    assert!(began.elapsed() < Duration::from_mins(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a19_fields_that_only_the_server_sets_are_ignored() {
    let desk = Desk::new().await;
    let made = desk
        .taken(json!({
            "name": "nightly", "instance": desk.instance.node_id.as_str(), "id": "mine", "status": "COMPLETED",
            "project_id": desk.room.theirs.project.as_str(), "size": 1, "backuptype": "0", "created": "2000-01-01T00:00:00",
            "kind": "auto", "parent_id": "x", "job_id": "x", "__proto__": { "admin": true }
        }))
        .await;
    assert_eq!((&made["status"], &made["backuptype"]), (&json!("BUILDING"), &json!("1")));
    assert_eq!((&made["size"], &made["parent_id"]), (&Value::Null, &Value::Null));
    assert_eq!(made["created"], json!("2026-03-04T05:06:07"));
    assert_ne!(made["id"], json!("mine"));
    let theirs =
        desk.room.send(Ask::get(&desk.room.theirs.v1("/backups")).token(&desk.room.theirs.admin())).await;
    assert_eq!(theirs.json(), json!({ "backups": [] }));
}
