//! What a client sends, as the fuzzer calls it.

use axum::extract::Query;
use http::Uri;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use strongroom_service::Cursor;

use crate::native::{backups, jobs, wire};
use crate::{body, path};

/// Every target by its name.
pub const TARGETS: &[strongroom_core::fuzzing::Target] = &[
    ("api-body", body),
    ("api-documents", documents),
    ("api-log-in", crate::identity::tokens::fuzzing::log_in),
    ("api-new-backup", crate::v1::backups::fuzzing::new_backup_body),
    ("api-path", path),
    ("api-query", query),
    ("api-rds-bodies", crate::v3::fuzzing::bodies),
    ("api-rds-queries", crate::v3::fuzzing::queries),
    ("api-signature", crate::signature::fuzzing::signature),
];

/// A body that is taken is an object in which no key comes twice. (Numbers beyond 64 bits lose their
/// last digits, so it need not be the same when it is read again.)
fn body(bytes: &[u8]) -> bool {
    let Ok(object) = body::parse(bytes) else { return false };
    let again = serde_json::to_vec(&object).expect("an object can be written");
    assert!(body::parse(&again).is_ok_and(|read| read.len() == object.len()));
    true
}

/// What passes as a path needs no more cleaning.
fn path(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let trimmed = path::trimmed(text);
    let is_plain = path::check(trimmed).is_ok();
    if is_plain {
        assert!(!trimmed.contains("//") && !trimmed.split('/').any(|part| part == ".."), "{text:?}");
    }
    is_plain
}

/// Whether an object is taken as a document.
type Taken = fn(&Map<String, Value>) -> bool;

/// One body as each document of the native API.
fn documents(bytes: &[u8]) -> bool {
    let Ok(object) = body::parse(bytes) else { return false };
    let documents: [Taken; 14] = [
        keeps::<wire::InstanceRequest>,
        keeps::<wire::BackupRequest>,
        keeps::<wire::PolicyRequest>,
        keeps::<wire::TagsRequest>,
        keeps::<wire::CheckRequest>,
        keeps::<wire::ForgetRequest>,
        keeps::<wire::ContentRequest>,
        keeps::<wire::TokenRequest>,
        keeps::<wire::ProjectRequest>,
        keeps::<wire::UserRequest>,
        keeps::<wire::PasswordRequest>,
        keeps::<wire::RoleRequest>,
        keeps::<wire::AccessKeyRequest>,
        keeps::<wire::RestorePlanView>,
    ];
    documents.into_iter().filter(|taken| taken(&object)).count() > 0
}

/// A document that is taken is the same when it is written and read again.
fn keeps<T: DeserializeOwned + Serialize>(object: &Map<String, Value>) -> bool {
    tells_no_value(object, |object| body::shaped::<T>(object).map(|_| ()));
    let Ok(document) = body::shaped::<T>(object.clone()) else { return false };
    let Ok(Value::Object(written)) = serde_json::to_value(&document) else {
        panic!("a document is an object");
    };
    let again = body::shaped::<T>(written.clone()).expect("what was taken is taken again");
    assert_eq!(serde_json::to_value(&again).ok(), Some(Value::Object(written)));
    true
}

/// Whatever is wrong with a value, the refusal does not repeat it: it may be a password.
pub(crate) fn tells_no_value(
    object: &Map<String, Value>,
    shaped: impl Fn(Map<String, Value>) -> strongroom_core::Result<()>,
) {
    const CANARY: &str = "canary expected `canary`, of canary";
    for key in object.keys().filter(|key| !key.contains("canary")).take(8) {
        for value in [CANARY.into(), Value::from(vec![CANARY]), serde_json::json!({"a": CANARY})] {
            let mut other = object.clone();
            other.retain(|name, value| !name.contains("canary") && !value.to_string().contains("canary"));
            other.insert(key.clone(), value);
            if let Err(error) = shaped(other) {
                let told = format!("{} {}", error.public(), error.hint().unwrap_or_default());
                assert!(!told.contains("canary"), "{told}");
            }
        }
    }
}

/// The query strings of both lists, and the place in a list that one of them names.
fn query(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    if let Ok(cursor) = Cursor::parse(text) {
        assert_eq!(Cursor::parse(&cursor.to_string()).ok(), Some(cursor));
    }
    let Ok(uri) = format!("/?{text}").parse::<Uri>() else { return false };
    let backups = Query::<backups::ListQuery>::try_from_uri(&uri).is_ok();
    let jobs = Query::<jobs::ListQuery>::try_from_uri(&uri).is_ok();
    backups || jobs
}
