//! What a client sends, as the fuzzer calls it.

use crate::{body, path};

/// Every target by its name.
pub const TARGETS: &[strongroom_core::fuzzing::Target] = &[("api-body", body), ("api-path", path)];

/// A body that is taken is an object in which no key comes twice. (Numbers beyond 64 bits lose their
/// last digits, so it need not be the same when it is read again.)
fn body(bytes: &[u8]) {
    if let Ok(object) = body::parse(bytes) {
        let again = serde_json::to_vec(&object).expect("an object can be written");
        assert!(body::parse(&again).is_ok_and(|read| read.len() == object.len()));
    }
}

/// What passes as a path needs no more cleaning.
fn path(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let trimmed = path::trimmed(text);
        if path::check(trimmed).is_ok() {
            assert!(!trimmed.contains("//") && !trimmed.split('/').any(|part| part == ".."), "{text:?}");
        }
    }
}
