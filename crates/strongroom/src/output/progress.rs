//! Progress of long work: a bar on a terminal, lines elsewhere, JSON for programs.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{is_terminal, note, size};

/// A line at least this often, whatever the mode.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
const JSON_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressMode {
    /// A bar on a terminal, lines elsewhere
    Auto,
    Plain,
    /// One object a line, on stderr
    Json,
    None,
}

/// What is known of the work at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) phase: String,
    pub(crate) done_bytes: u64,
    /// 0 while unknown.
    pub(crate) total_bytes: u64,
    pub(crate) rate_bytes_per_s: u64,
    pub(crate) eta_s: Option<u64>,
}

impl View {
    fn line(&self) -> String {
        let mut line = format!("{:<12} {}", self.phase, size(self.done_bytes));
        if self.total_bytes > 0 {
            let percent = u128::from(self.done_bytes) * 100 / u128::from(self.total_bytes);
            let _ = write!(line, " of {} ({} %)", size(self.total_bytes), percent.min(100));
        }
        if self.rate_bytes_per_s > 0 {
            let _ = write!(line, "  {}/s", size(self.rate_bytes_per_s));
        }
        if let Some(left) = self.eta_s {
            let _ = write!(line, "  {left} s left");
        }
        line
    }
}

enum Shape {
    Bar(ProgressBar),
    Plain,
    Json,
    None,
}

/// Shows views as they come.
pub(crate) struct Reporter {
    shape: Shape,
    shown: Option<(String, Instant)>,
}

impl Reporter {
    pub(crate) fn new(mode: ProgressMode) -> Self {
        let shape = match mode {
            ProgressMode::Auto if is_terminal() => Shape::Bar(bar()),
            ProgressMode::Auto | ProgressMode::Plain => Shape::Plain,
            ProgressMode::Json => Shape::Json,
            ProgressMode::None => Shape::None,
        };
        Self { shape, shown: None }
    }

    /// Shows the view when it is due: at each new phase, and regularly.
    pub(crate) fn show(&mut self, view: &View) {
        match &self.shape {
            Shape::Bar(bar) => {
                bar.set_length(view.total_bytes.max(view.done_bytes));
                bar.set_position(view.done_bytes);
                bar.set_message(view.line());
            }
            Shape::Plain => {
                if self.due(view, LINE_INTERVAL) {
                    note(format_args!("  {}", view.line()));
                }
            }
            Shape::Json => {
                if self.due(view, JSON_INTERVAL) {
                    note(json!({
                        "phase": view.phase,
                        "done_bytes": view.done_bytes,
                        "total_bytes": view.total_bytes,
                        "rate_bytes_per_s": view.rate_bytes_per_s,
                        "eta_s": view.eta_s,
                    }));
                }
            }
            Shape::None => {}
        }
    }

    /// A sentence in between, that does not tear the bar.
    pub(crate) fn say(&self, line: &str) {
        match &self.shape {
            Shape::Bar(bar) => bar.suspend(|| note(line)),
            Shape::Plain => note(line),
            Shape::Json | Shape::None => {}
        }
    }

    pub(crate) fn end(&self) {
        if let Shape::Bar(bar) = &self.shape {
            bar.finish_and_clear();
        }
    }

    fn due(&mut self, view: &View, interval: Duration) -> bool {
        let is_due =
            self.shown.as_ref().is_none_or(|(phase, at)| *phase != view.phase || at.elapsed() >= interval);
        if is_due {
            self.shown = Some((view.phase.clone(), Instant::now()));
        }
        is_due
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("  [{bar:26}] {msg}") {
        bar.set_style(style.progress_chars("##-"));
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_phase_bytes_rate_and_time_left() {
        let view = View {
            phase: "copying".to_owned(),
            done_bytes: 3 << 30,
            total_bytes: 5 << 30,
            rate_bytes_per_s: 200 << 20,
            eta_s: Some(10),
        };
        assert_eq!(view.line(), "copying      3.0 GiB of 5.0 GiB (60 %)  200.0 MiB/s  10 s left");
        assert_eq!(View::default().line().trim(), "0 B");
    }
}
