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

    pub fn add_stored(&self, bytes: u64) {
        self.stored_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn read(&self) -> ProgressReading {
        ProgressReading {
            phase: self.phase.lock().map(|phase| phase.clone()).unwrap_or_default(),
            done_bytes: self.done_bytes.load(Ordering::Relaxed),
            total_bytes: self.total_bytes.load(Ordering::Relaxed),
            stored_bytes: self.stored_bytes.load(Ordering::Relaxed),
        }
    }
}
