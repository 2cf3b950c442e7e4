//! What holds for every answer, whoever asked for what.

use crate::client::{Ask, Reply};
use crate::engine::CANARY;

/// Secrets and causes that rooms are furnished with; none may ever come out.
const NEVER: [&str; 3] = [CANARY, "canary", "panicked"];

pub(crate) fn check_every_answer(ask: &Ask, reply: &Reply) {
    let what = format!("{} {} -> {}", ask.method, ask.path, reply.status);
    let id = reply.header("X-Request-Id").unwrap_or_else(|| panic!("{what}: no X-Request-Id"));
    assert!(
        id.len() == 32 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)),
        "{what}: {id}"
    );
    assert_eq!(reply.header("x-openstack-request-id"), Some(id), "{what}");
    let kind = reply.header("Content-Type");
    assert!(kind.is_some() || reply.status == 204, "{what}: no Content-Type");
    if reply.status >= 400 {
        assert_eq!(kind, Some("application/json"), "{what}");
    }
    assert_eq!(reply.header("Cache-Control"), Some("no-store"), "{what}");
    assert_eq!(reply.header("X-Content-Type-Options"), Some("nosniff"), "{what}");
    for secret in NEVER {
        let body = String::from_utf8_lossy(&reply.body);
        assert!(!body.contains(secret), "{what}: {secret:?} in {body}");
    }
    if reply.status >= 400 && ask.method != "HEAD" {
        check_error(ask, reply, &what);
    }
}

/// Both keys are always there, and are text (contract section 2).
fn check_error(ask: &Ask, reply: &Reply, what: &str) {
    let body = reply.json();
    let filled = |key: &str| body[key].as_str().is_some_and(|text| !text.is_empty());
    match ask.path.split('/').nth(1).unwrap_or_default().split('?').next() {
        Some("rds") => {
            assert_eq!(body.as_object().unwrap().len(), 2, "{what}: {body}");
            assert!(filled("errCode") && filled("externalMessage"), "{what}: {body}");
        }
        Some("v3" | "v3.1") if body["error"].is_null() => {
            assert_eq!(body.as_object().unwrap().len(), 2, "{what}: {body}");
            assert!(filled("error_code") && filled("error_msg"), "{what}: {body}");
        }
        Some("strongroom") => {
            // A failed check answers with the check itself.
            let is_check = reply.status == 422 && body["check"].is_object();
            let is_error =
                filled("code") && filled("message") && filled("request_id") && body["hint"].is_string();
            assert!(is_check || is_error, "{what}: {body}");
        }
        Some("v1.0") => {
            let (_, error) = body.as_object().unwrap().iter().next().unwrap();
            assert_eq!(error["code"], reply.status, "{what}: {body}");
        }
        Some("v3") => {
            let error = &body["error"];
            assert_eq!(error["code"], reply.status, "{what}: {body}");
            assert!(error["title"].is_string() && error["message"].is_string(), "{what}: {body}");
        }
        _ => assert!(filled("message") || filled("status"), "{what}: {body}"),
    }
}
