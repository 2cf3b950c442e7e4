//! Stories: requests and the answers they must get, as text files that people read.
//!
//! ```text
//! Whatever begins with none of the marks is for the reader.
//!
//! ! an instance called orders        something happens behind the server
//! > GET /rds/v1/$PROJECT/backups     a request: line, headers, an empty line, the body
//! > X-Auth-Token: $VIEWER
//! < 200                              its answer: status, headers that must be there, body
//! <
//! < {"backups": [{"id": "$BACKUP", …
//! ```
//!
//! `$NAME` stands for a text. In an answer a name that is not known yet is learnt, `$_` is any
//! text or number. Bodies that are JSON are compared as JSON: every field, no other.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use strongroom_catalog::Role;

use crate::client::{Ask, Reply};
use crate::events::happen;
use crate::room::{Room, room};
use crate::rules::check_every_answer;

pub(crate) type Names = BTreeMap<String, String>;

#[derive(Debug)]
enum Step {
    Event(String),
    Exchange { line: usize, request: Vec<String>, answer: Vec<String> },
}

fn parse(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let Some((mark, rest)) = line.split_at_checked(1) else { continue };
        let rest = rest.strip_prefix(' ').unwrap_or(rest).to_owned();
        match (mark, steps.last_mut()) {
            ("!", _) => steps.push(Step::Event(rest)),
            (">", Some(Step::Exchange { request, answer, .. })) if answer.is_empty() => request.push(rest),
            (">", _) => {
                steps.push(Step::Exchange { line: at + 1, request: vec![rest], answer: Vec::new() });
            }
            ("<", Some(Step::Exchange { answer, .. })) => answer.push(rest),
            ("<", _) => panic!("line {}: an answer without a request", at + 1),
            _ => {}
        }
    }
    steps
}

/// Replaces every `$NAME` that is known; others stay.
fn filled(text: &str, names: &Names) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        let length = name_length(&from[1..]);
        let (name, after) = from[1..].split_at(length);
        out.push_str(before);
        match names.get(name) {
            Some(value) => out.push_str(value),
            None => out.push_str(&from[..=length]),
        }
        rest = after;
    }
    out + rest
}

fn name_length(text: &str) -> usize {
    text.bytes().take_while(|b| b.is_ascii_uppercase() || *b == b'_').count()
}

/// Whether a text is as wanted; learns the one name in it that is new.
fn fits(wanted: &str, found: &str, names: &mut Names) -> bool {
    let wanted = filled(wanted, names);
    let Some(at) = wanted.find('$') else { return wanted == found };
    let (before, from) = wanted.split_at(at);
    let (name, after) = from[1..].split_at(name_length(&from[1..]));
    let middle = found.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    match middle {
        Some(middle) if !middle.is_empty() => {
            if name != "_" {
                names.insert(name.to_owned(), middle.to_owned());
            }
            true
        }
        _ => false,
    }
}

/// Says where two documents differ.
fn difference(place: &str, wanted: &Value, found: &Value, names: &mut Names) -> Option<String> {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            let keys = |object: &serde_json::Map<String, Value>| object.keys().cloned().collect::<Vec<_>>();
            let (mut left, mut right) = (keys(wanted), keys(found));
            left.sort();
            right.sort();
            if left != right {
                return Some(format!("{place} has the fields {right:?}, wanted {left:?}"));
            }
            wanted
                .iter()
                .find_map(|(key, value)| difference(&format!("{place}.{key}"), value, &found[key], names))
        }
        (Value::Array(wanted), Value::Array(found)) if wanted.len() == found.len() => {
            let pairs = wanted.iter().zip(found).enumerate();
            pairs
                .into_iter()
                .find_map(|(at, (wanted, found))| difference(&format!("{place}[{at}]"), wanted, found, names))
        }
        (Value::String(wanted), Value::String(found)) if fits(wanted, found, names) => None,
        (Value::String(wanted), Value::Number(_) | Value::Object(_)) if wanted == "$_" => None,
        _ if wanted == found => None,
        _ => Some(format!("{place} is {found}, wanted {wanted}")),
    }
}

fn ask(lines: &[String], names: &Names) -> Ask {
    let mut lines = lines.iter().map(|line| filled(line, names));
    let first = lines.next().expect("a request has a first line");
    let (method, path) = first.split_once(' ').expect("a request line is METHOD path");
    let mut ask = Ask::new(method, path);
    for line in lines.by_ref().take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").expect("a header is `Name: value`");
        ask = ask.header(name, value);
    }
    ask.body = lines.collect::<Vec<_>>().join("\n").into_bytes();
    ask
}

fn judge(lines: &[String], reply: &Reply, names: &mut Names) -> Option<String> {
    let mut lines = lines.iter();
    let status = lines.next().expect("an answer has a status");
    if reply.status.to_string() != *status {
        return Some(format!("status {} with {}, wanted {status}", reply.status, reply.text()));
    }
    for line in lines.by_ref().take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").expect("a header is `Name: value`");
        match reply.header(name) {
            Some(found) if fits(value, found, names) => {}
            other => return Some(format!("header {name} is {other:?}, wanted {value}")),
        }
    }
    let body = lines.cloned().collect::<Vec<_>>().join("\n");
    match serde_json::from_str::<Value>(&body) {
        Ok(wanted) => difference("the body", &wanted, &reply.json(), names),
        Err(_) if fits(&body, &reply.text(), names) => None,
        Err(_) => Some(format!("the body is {:?}, wanted {body:?}", reply.text())),
    }
}

fn cast(room: &Room) -> Names {
    let mut names = Names::from([
        ("PROJECT".to_owned(), room.ours.project.to_string()),
        ("FOREIGN_PROJECT".to_owned(), room.theirs.project.to_string()),
        ("STRANGER".to_owned(), room.theirs.admin()),
    ]);
    for role in Role::ALL {
        names.insert(role.word().to_uppercase(), room.ours.token(role));
    }
    names
}

/// Plays one story in a room of its own.
async fn play(path: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(path).unwrap();
    let room = room().await;
    let mut names = cast(&room);
    for step in parse(&text) {
        match step {
            Step::Event(event) => happen(&room, &filled(&event, &names), &mut names).await,
            Step::Exchange { line, request, answer } => {
                let ask = ask(&request, &names);
                let reply = room.send(ask.clone()).await;
                check_every_answer(&ask, &reply);
                if let Some(difference) = judge(&answer, &reply, &mut names) {
                    return Err(format!("{}:{line}: {difference}", path.display()));
                }
            }
        }
    }
    Ok(())
}

async fn play_all(folder: &str, at_least: usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/wire").join(folder);
    let mut stories: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "story"))
        .collect();
    stories.sort();
    assert!(stories.len() >= at_least, "only {} stories in {}", stories.len(), folder.display());
    let mut failures = Vec::new();
    for story in &stories {
        if let Err(failure) = play(story).await {
            failures.push(failure);
        }
    }
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
}

#[tokio::test]
async fn the_stories_of_v1() {
    play_all("v1", 7).await;
}

#[tokio::test]
async fn the_stories_of_v3() {
    play_all("v3", 10).await;
}

#[tokio::test]
async fn the_stories_of_keystone() {
    play_all("keystone", 3).await;
}

#[tokio::test]
async fn the_stories_of_the_native_api() {
    play_all("native", 6).await;
}

/// The runner is not to be believed before it has found something.
#[test]
fn a_broken_story_is_found() {
    let mut names = Names::from([("KNOWN".to_owned(), "k".to_owned())]);
    let found = serde_json::json!({ "a": 1, "b": ["k", "new"] });
    for (wanted, fits) in [
        (serde_json::json!({ "a": 1, "b": ["$KNOWN", "$LEARNT"] }), true),
        (serde_json::json!({ "a": 1, "b": ["k", "$LEARNT"] }), true),
        (serde_json::json!({ "a": 1, "b": ["k", "$LEARNTx"] }), false),
        (serde_json::json!({ "a": 1, "b": ["$KNOWN"] }), false),
        (serde_json::json!({ "a": 1 }), false),
        (serde_json::json!({ "a": 1, "b": ["k", "new"], "c": null }), false),
        (serde_json::json!({ "a": 1.0, "b": ["k", "new"] }), false),
        (serde_json::json!({ "a": "1", "b": ["k", "new"] }), false),
    ] {
        assert_eq!(difference("", &wanted, &found, &mut names).is_none(), fits, "{wanted}");
    }
    assert_eq!(names["LEARNT"], "new");
}
