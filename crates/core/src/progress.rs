//! Progress of long work: counters that a thread raises and anybody reads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// Shared counters of one running job.
#[derive(Debug, Default)]
pub struct Progress {
    phase: Mutex<String>,
    done_bytes: AtomicU64,
    total_bytes: AtomicU64,
    stored_bytes: AtomicU64,
}

/// A reading of [`Progress`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressReading {
    /// One word: `connecting`, `copying`, `log`, `reading-back`, `sealing` …
    pub phase: String,
    pub done_bytes: u64,
    /// 0 while unknown.
    pub total_bytes: u64,
    /// What went into the repository so far.
    pub stored_bytes: u64,
    /// How long the worker had been at it when this was read; 0 while nobody is.
    #[serde(default)]
    pub elapsed_ms: u64,
}

impl ProgressReading {
    /// Bytes a second since the work began.
    pub fn rate_bytes_per_s(&self) -> u64 {
        match self.elapsed_ms {
            0 => 0,
            elapsed_ms => self.done_bytes.saturating_mul(1000) / elapsed_ms,
        }
    }

    /// Seconds left at that rate, when the whole is known.
    pub fn eta_s(&self) -> Option<u64> {
        let left = self.total_bytes.saturating_sub(self.done_bytes);
        match (self.total_bytes, self.rate_bytes_per_s()) {
            (0, _) | (_, 0) => None,
            (_, rate) => Some(left / rate),
        }
    }
}

impl Progress {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn set_phase(&self, phase: &str) {
        if let Ok(mut current) = self.phase.lock() {
            phase.clone_into(&mut current);
        }
    }

    pub fn add_done(&self, bytes: u64) {
        self.done_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn set_done(&self, bytes: u64) {
        self.done_bytes.store(bytes, Ordering::Relaxed);
    }

    pub fn set_total(&self, bytes: u64) {
        self.total_bytes.store(bytes, Ordering::Relaxed);
    }

    pub fn add_total(&self, bytes: u64) {
        self.total_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn add_stored(&self, bytes: u64) {
        self.stored_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn read(&self) -> ProgressReading {
        ProgressReading {
            phase: self.phase.lock().map(|phase| phase.clone()).unwrap_or_default(),
            done_bytes: self.done_bytes.load(Ordering::Relaxed),
            total_bytes: self.total_bytes.load(Ordering::Relaxed),
            stored_bytes: self.stored_bytes.load(Ordering::Relaxed),
            elapsed_ms: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_over_the_whole_time_and_the_rest_follows_it() {
        let reading = ProgressReading {
            done_bytes: 3_000,
            total_bytes: 9_000,
            elapsed_ms: 2_000,
            ..ProgressReading::default()
        };
        assert_eq!((reading.rate_bytes_per_s(), reading.eta_s()), (1_500, Some(4)));
        assert_eq!(ProgressReading::default().eta_s(), None);
        let unknown = ProgressReading { total_bytes: 0, ..reading };
        assert_eq!(unknown.eta_s(), None);
    }

    #[test]
    fn what_an_older_release_stored_is_still_read() {
        let stored = r#"{"phase":"copying","done_bytes":1,"total_bytes":2,"stored_bytes":3}"#;
        let reading: ProgressReading = serde_json::from_str(stored).unwrap();
        assert_eq!((reading.done_bytes, reading.elapsed_ms, reading.rate_bytes_per_s()), (1, 0, 0));
    }
}
