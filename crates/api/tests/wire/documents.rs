//! The OpenAPI documents: committed, current, and complete.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Value, json};
use strongroom_core::limits::{TAG_KEY_CHARS_MAX, TAG_VALUE_CHARS_MAX, TAGS_MAX};

use crate::client::{Ask, Reply};
use crate::events::complete;
use crate::room::{Room, room};
use crate::rules::check_every_answer;

/// `STRONGROOM_WRITE_GOLDEN=1 cargo nextest run -p strongroom-api documents` writes them anew.
fn golden(name: &str, document: &Value) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi");
    let (path, text) = (folder.join(name), serde_json::to_string_pretty(document).unwrap() + "\n");
    if std::env::var_os("STRONGROOM_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == text, "{} is not current; see docs/openapi/README.md", path.display());
}

#[test]
fn the_committed_documents_are_current() {
    golden("native.json", &strongroom_api::native_document());
    golden("identity.json", &strongroom_api::identity_document());
    golden("rds-v1.json", &strongroom_api::v1_document());
    golden("rds-v3.json", &strongroom_api::v3_document());
}

fn operations(document: &Value) -> BTreeSet<(String, String)> {
    let paths = document["paths"].as_object().unwrap();
    let each = |(path, methods): (&String, &Value)| {
        let methods = methods.as_object().unwrap().keys();
        methods.map(|method| (path.clone(), method.clone())).collect::<Vec<_>>()
    };
    paths.iter().flat_map(each).collect()
}

#[test]
fn every_route_is_in_a_document_and_the_other_way_round() {
    let described: BTreeSet<_> = documents().iter().flat_map(operations).collect();
    let routed: BTreeSet<_> = strongroom_api::routes()
        .into_iter()
        .map(|(path, method)| (path.to_owned(), method.to_owned()))
        .collect();
    assert_eq!(described, routed);
}

fn documents() -> [Value; 4] {
    [
        strongroom_api::identity_document(),
        strongroom_api::native_document(),
        strongroom_api::v1_document(),
        strongroom_api::v3_document(),
    ]
}

#[test]
fn references_lead_somewhere_and_ids_are_unique() {
    let mut ids = Vec::new();
    for document in documents() {
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"").skip(1) {
            let name = reference.split('"').next().unwrap().rsplit('/').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
        for name in schemas.keys() {
            // Lines of a stream have no place of their own in such a document.
            let is_line = ["MemberLine", "MembersFailure"].contains(&name.as_str());
            assert!(is_line || text.contains(&format!("/schemas/{name}\"")), "nothing uses {name}");
        }
        let paths = document["paths"].as_object().unwrap().values();
        let operations = paths.flat_map(|path| path.as_object().unwrap().values());
        ids.extend(operations.map(|operation| operation["operationId"].as_str().unwrap().to_owned()));
    }
    // In all documents together: a program may be made from several.
    let unique: BTreeSet<_> = ids.iter().collect();
    assert_eq!(ids.len(), unique.len(), "{ids:?}");
}

#[tokio::test]
async fn the_native_document_is_served_to_everybody() {
    let room = room().await;
    let served = room.send(Ask::get("/strongroom/v1/openapi.json")).await;
    assert_eq!(served.json(), strongroom_api::native_document());
}

/// Values that a parameter may have by its schema, and others.
fn values(schema: &Value) -> (Vec<String>, Vec<String>) {
    let texts = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    if let Some(words) = schema["enum"].as_array() {
        return (
            words.iter().map(|word| word.as_str().unwrap().to_owned()).collect(),
            texts(&["", "no-word"]),
        );
    }
    match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("integer"), _) => {
            let (least, most) = (schema["minimum"].as_u64().unwrap(), schema["maximum"].as_u64().unwrap());
            let mut bad = texts(&["", "x", "-1", "1.5"]);
            bad.push((u128::from(most) + 1).to_string());
            bad.extend(least.checked_sub(1).map(|below| below.to_string()));
            let default = schema["default"].as_u64().unwrap_or(most);
            (vec![least.to_string(), most.to_string(), default.to_string()], bad)
        }
        (Some("boolean"), _) => (texts(&["true", "false"]), texts(&["perhaps", "1"])),
        (_, Some("date-time")) => (
            texts(&["2026-03-04T05:06:07Z", "2026-03-04T05:06:07%2B01:00", "2026-03-04T05:06:07"]),
            texts(&["yesterday", "2026-03-04", "1772600767"]),
        ),
        (_, Some("date")) => (texts(&["2026-03-04"]), texts(&["04.03.2026", "2026-02-30", ""])),
        _ => (Vec::new(), Vec::new()),
    }
}

async fn ask(room: &Room, path: &str, query: &[String]) -> Reply {
    let ask = Ask::get(&format!("{path}?{}", query.join("&"))).token(&room.ours.admin());
    let reply = room.send(ask.clone()).await;
    check_every_answer(&ask, &reply);
    reply
}

/// What must stand beside a parameter for a call to be judged by it alone.
fn beside(name: &str, parameters: &[Value], ids: &[(&str, String)]) -> Vec<String> {
    let mut query = Vec::new();
    for parameter in parameters.iter().filter(|parameter| parameter["name"] != name) {
        let other = parameter["name"].as_str().unwrap();
        let goes_with =
            ["begin_time", "end_time"].contains(&name) && ["begin_time", "end_time"].contains(&other);
        let value = match other {
            "begin_time" if goes_with => "2026-01-01T00:00:00Z".to_owned(),
            "end_time" if goes_with => "2027-01-01T00:00:00Z".to_owned(),
            "instance_id" => ids.iter().find(|(id, _)| *id == "instance_id").unwrap().1.clone(),
            _ if parameter["required"] == true => {
                let known = ids.iter().find(|(id, _)| *id == other).map(|(_, value)| value.clone());
                known.unwrap_or_else(|| "1".to_owned())
            }
            _ => continue,
        };
        query.push(format!("{other}={value}"));
    }
    query
}

/// Each number at its bounds, each word, each moment: what a document allows is taken, and what it
/// does not is refused.
#[tokio::test]
async fn queries_are_read_as_the_documents_say() {
    let room = room().await;
    let instance = room.add_instance(&room.ours, "orders").await;
    let made = room.create_backup("nightly", &instance).await.json();
    complete(&room).await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let ids = [
        ("project_id", room.ours.project.to_string()),
        ("instance_id", instance.id.to_string()),
        ("instance", "orders".to_owned()),
        ("engine", "postgresql".to_owned()),
        ("backup_id", text(&made["backup"]["id"])),
        ("id", text(&made["extendparam"]["jobs"][0])),
    ];
    let mut tried = 0;
    for document in documents() {
        for (path, methods) in document["paths"].as_object().unwrap() {
            let Some(parameters) = methods["get"]["parameters"].as_array() else { continue };
            let parameters: Vec<Value> =
                parameters.iter().filter(|one| one["in"] == "query").cloned().collect();
            let path =
                ids.iter().fold(path.clone(), |path, (name, id)| path.replace(&format!("{{{name}}}"), id));
            for parameter in &parameters {
                let (name, (good, bad)) = (text(&parameter["name"]), values(&parameter["schema"]));
                let beside = beside(&name, &parameters, &ids);
                for (value, is_good) in
                    good.iter().map(|value| (value, true)).chain(bad.iter().map(|value| (value, false)))
                {
                    let query = [beside.clone(), vec![format!("{name}={value}")]].concat();
                    let reply = ask(&room, &path, &query).await;
                    assert_eq!(reply.status != 400, is_good, "{path} {query:?}: {}", reply.text());
                    tried += 1;
                }
                if parameter["required"] == true && !path.starts_with("/downloads") {
                    assert_eq!(ask(&room, &path, &beside).await.status, 400, "{path} without {name}");
                }
            }
        }
    }
    assert!(tried > 100, "{tried} values were tried");
}

#[test]
fn the_documents_tell_the_limits_of_tags() {
    for (document, wish, tag) in [
        (strongroom_api::v3_document(), "TagActionBody", "TagWish"),
        (strongroom_api::native_document(), "TagsRequest", "TagEntry"),
    ] {
        let schemas = &document["components"]["schemas"];
        assert_eq!(schemas[wish]["properties"]["tags"]["maxItems"], json!(TAGS_MAX), "{wish}");
        let properties = &schemas[tag]["properties"];
        assert_eq!(properties["key"]["maxLength"], json!(TAG_KEY_CHARS_MAX));
        assert_eq!(properties["value"]["maxLength"], json!(TAG_VALUE_CHARS_MAX));
    }
}
