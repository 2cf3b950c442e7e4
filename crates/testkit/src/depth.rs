//! How far a test goes: a sample at every run, everything at night.

use std::fmt::Arguments;
use std::io::Write;

/// `full` asks for everything; anything else, or nothing, for the sample.
pub const VARIABLE: &str = "STRONGROOM_TEST_DEPTH";

/// Whether the long matrices run whole.
pub fn is_full() -> bool {
    std::env::var(VARIABLE).is_ok_and(|depth| depth == "full")
}

/// The number for this run.
pub fn choose<T>(sample: T, full: T) -> T {
    if is_full() { full } else { sample }
}

/// Thins a list out: every item at full depth, else about `sample` of them, spread evenly and
/// always the first one.
pub fn thin<T>(items: Vec<T>, sample: usize) -> Vec<T> {
    let step = choose(items.len().div_ceil(sample.max(1)), 1).max(1);
    items.into_iter().step_by(step).collect()
}

/// Says how many cases ran: a matrix that shrinks unseen shows nothing any more.
pub fn report(line: Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
