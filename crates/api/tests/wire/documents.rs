//! The OpenAPI documents: committed, current, and complete.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

use crate::client::Ask;
use crate::room::room;

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
