//! What may be missing on a machine that runs the tests. Nothing may, unless it was named:
//! a missing server fails the test loudly, so that a green run means what it says.

use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};

/// Comma-separated names of what may be missing, such as `postgresql-17,mysql`.
const ALLOW_SKIP: &str = "STRONGROOM_TEST_ALLOW_SKIP";

static SKIPPED: AtomicU32 = AtomicU32::new(0);

/// Says that `what` is missing. Returns when its absence is allowed, with a counted line;
/// otherwise panics with the reason.
pub fn missing(what: &str, reason: &str) {
    let allowed = std::env::var(ALLOW_SKIP).unwrap_or_default();
    let is_allowed = allowed.split(',').any(|name| name.trim() == what);
    assert!(
        is_allowed,
        "{what} is needed by this test and missing: {reason}. Install it, or name it in {ALLOW_SKIP}."
    );
    say(what, reason);
}

fn say(what: &str, reason: &str) {
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    let line = format!("skipped ({count}): {what} is missing: {reason}\n");
    // The harness of the language cannot mark a test as skipped; the line is for whoever reads the log.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
