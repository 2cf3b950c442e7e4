//! The only place of the chores that prints.
//!
//! Results go to stdout, talk about the work goes to stderr; a closed pipe is not an error.

use std::fmt::Display;
use std::io::Write;

/// One line of result.
pub(crate) fn result(line: impl Display) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// One line about what is being done.
pub(crate) fn note(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// The heading of a step.
pub(crate) fn step(title: impl Display) {
    note(format_args!("\n── {title}"));
}

/// Why the chore failed, with the whole chain of causes.
pub(crate) fn failure(error: &anyhow::Error) {
    note(format_args!("error: {error:#}"));
}
