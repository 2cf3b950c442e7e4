//! Everything that prints. stdout is data, stderr is talk; a closed pipe is not an error.

mod progress;
mod table;

use std::fmt::Display;
use std::io::{IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::exit::Stop;

pub(crate) use progress::{ProgressMode, Reporter, View};
pub(crate) use table::{Table, moment, or_dash, size};

/// How data is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

/// One line of data.
pub(crate) fn data(line: impl Display) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// One line of talk.
pub(crate) fn note(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// The next useful command, after a success.
pub(crate) fn next(command: impl Display) {
    note(format_args!("  next: {command}"));
}

/// A document as data.
pub(crate) fn json(document: &impl Serialize) {
    match serde_json::to_string_pretty(document) {
        Ok(text) => data(text),
        Err(error) => note(format_args!("error: the answer cannot be written as JSON: {error}")),
    }
}

pub(crate) fn is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Why a command stopped: what happened, the next step, the code, where to look.
pub(crate) fn failure(stop: &Stop) {
    note(format_args!("error: {}", stop.message));
    if let Some(hint) = &stop.hint {
        note(format_args!("  hint: {hint}"));
    }
    if let Some(code) = &stop.code {
        let request = stop.request_id.as_ref().map(|id| format!(", request {id}")).unwrap_or_default();
        note(format_args!("  code: {code} (strongroom explain {code}){request}"));
    }
}
