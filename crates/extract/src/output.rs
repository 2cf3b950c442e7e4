//! Everything that prints. stdout is data, stderr is talk; a closed pipe is not an error.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

use strongroom_core::{Error, ErrorKind};

/// One line of data.
pub(crate) fn data(line: impl Display) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Bytes of a file, as they are. Here a closed pipe matters: the reader did not get all of it.
pub(crate) fn bytes(bytes: &[u8]) -> std::io::Result<()> {
    std::io::stdout().lock().write_all(bytes)
}

/// One line of talk.
pub(crate) fn note(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// A line that takes the place of the one before, on a terminal.
pub(crate) fn moving(line: impl Display) {
    let mut stderr = std::io::stderr().lock();
    let _ = write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush());
}

pub(crate) fn is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// A document as data.
pub(crate) fn json(document: &serde_json::Value) {
    data(format_args!("{document:#}"));
}

/// Columns of a table, each as wide as its widest cell; the last one ends where it ends.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        data(cells.join("  ").trim_end());
    }
}

/// Why a command stopped, and the next step.
pub(crate) fn failure(error: &Error) {
    match error.kind() {
        ErrorKind::Internal => note(format_args!("error: {}", error.chain())),
        _ => note(format_args!("error: {}", error.public())),
    }
    // Below us hints speak of the server's commands, which may be gone.
    let hint = match error.kind() {
        ErrorKind::Damage => Some(
            "`strongroom-extract check` says which backups are touched, `list` names those that can be opened; \
             `extract NAME --keep-going` writes what can be read",
        ),
        _ => error.hint(),
    };
    if let Some(hint) = hint {
        note(format_args!("  hint: {hint}"));
    }
}
