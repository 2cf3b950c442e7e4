//! The body that logs in, as the fuzzer calls it.

use super::{AuthRequest, Proof, Value, body, wish};
use crate::fuzzing::tells_no_value;

/// A body that is taken proves something in one way; one that is refused is not repeated.
pub(crate) fn log_in(bytes: &[u8]) -> bool {
    let Ok(object) = body::parse(bytes) else { return false };
    tells_no_value(&object, |object| body::shaped::<AuthRequest>(object).map(|_| ()));
    if let Some(Value::Object(auth)) = object.get("auth") {
        tells_no_value(auth, |auth| {
            let around = [("auth".to_owned(), Value::Object(auth))].into_iter().collect();
            wish(body::shaped::<AuthRequest>(around)?.auth).map(|_| ())
        });
    }
    let methods = object.get("auth").and_then(|auth| auth.pointer("/identity/methods")).cloned();
    let Ok(request) = body::shaped::<AuthRequest>(object) else { return false };
    let Ok(log_in) = wish(request.auth) else { return false };
    let method = match log_in.proof {
        Proof::Password { .. } => "password",
        Proof::Token(_) => "token",
    };
    assert_eq!(methods, Some(serde_json::json!([method])));
    true
}
