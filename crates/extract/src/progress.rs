//! Progress of long work: bytes, rate and time left, on stderr.

use std::fmt::Write as _;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde_json::json;
use strongroom_core::progress::Progress;
use strongroom_core::size::ByteSize;

use crate::cli::ProgressMode;
use crate::output;

const MOVING_INTERVAL: Duration = Duration::from_millis(250);
const LINE_INTERVAL: Duration = Duration::from_secs(5);
const JSON_INTERVAL: Duration = Duration::from_secs(1);

/// Does the work and shows its progress meanwhile.
pub(crate) fn shown<T>(progress: &Progress, mode: ProgressMode, work: impl FnOnce() -> T) -> T {
    let shape = match mode {
        ProgressMode::Auto if output::is_terminal() => Shape::Moving,
        ProgressMode::Auto | ProgressMode::Plain => Shape::Plain,
        ProgressMode::Json => Shape::Json,
        ProgressMode::None => return work(),
    };
    let interval = match shape {
        Shape::Moving => MOVING_INTERVAL,
        Shape::Plain => LINE_INTERVAL,
        Shape::Json => JSON_INTERVAL,
    };
    std::thread::scope(|scope| {
        let (ended, end) = mpsc::channel::<()>();
        let watching = scope.spawn(move || {
            let mut meter = Meter { since: Instant::now(), before: None };
            while let Err(RecvTimeoutError::Timeout) = end.recv_timeout(interval) {
                shape.show(&meter.view(progress));
            }
            if matches!(shape, Shape::Moving) {
                output::moving("");
            }
        });
        let answer = work();
        drop(ended);
        let _ = watching.join();
        answer
    })
}

#[derive(Clone, Copy)]
enum Shape {
    Moving,
    Plain,
    Json,
}

impl Shape {
    fn show(self, view: &View) {
        match self {
            Self::Moving => output::moving(format_args!("  {}", view.line())),
            Self::Plain => output::note(format_args!("  {}", view.line())),
            Self::Json => output::note(json!({
                "phase": view.phase,
                "done_bytes": view.done_bytes,
                "total_bytes": view.total_bytes,
                "rate_bytes_per_s": view.rate_bytes_per_s,
                "eta_s": view.eta_s,
            })),
        }
    }
}

/// What is known of the work at one moment.
struct View {
    phase: String,
    done_bytes: u64,
    total_bytes: u64,
    rate_bytes_per_s: u64,
    eta_s: Option<u64>,
}

impl View {
    fn line(&self) -> String {
        let size = |bytes| ByteSize::new(bytes).to_string();
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

/// Turns counters into a rate and a time left.
struct Meter {
    since: Instant,
    /// Bytes that an earlier run had done already.
    before: Option<u64>,
}

impl Meter {
    fn view(&mut self, progress: &Progress) -> View {
        let reading = progress.read();
        if reading.total_bytes > 0 && self.before.is_none_or(|before| reading.done_bytes < before) {
            (self.since, self.before) = (Instant::now(), Some(reading.done_bytes));
        }
        let done = reading.done_bytes.saturating_sub(self.before.unwrap_or(reading.done_bytes));
        let elapsed_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = done.saturating_mul(1000) / elapsed_ms;
        let left = reading.total_bytes.saturating_sub(reading.done_bytes);
        View {
            phase: reading.phase,
            done_bytes: reading.done_bytes,
            total_bytes: reading.total_bytes,
            rate_bytes_per_s: rate,
            eta_s: (rate > 0).then(|| left / rate),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_phase_bytes_rate_and_time_left() {
        let view = View {
            phase: "restoring".to_owned(),
            done_bytes: 3 << 30,
            total_bytes: 5 << 30,
            rate_bytes_per_s: 200 << 20,
            eta_s: Some(10),
        };
        assert_eq!(view.line(), "restoring    3.0 GiB of 5.0 GiB (60 %)  200.0 MiB/s  10 s left");
    }
}
