//! What the worker of this process has done, in numbers for the metrics page. Ids and texts of
//! tenants never come here.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use strongroom_core::engine::EngineKind;
use strongroom_core::job::JobStep;

use crate::parts::Service;

/// Something that was done, to be counted once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Measurement {
    /// A backup became COMPLETED.
    Backup { source_bytes: u64, stored_bytes: u64 },
    /// A step of a backup that completed took so long.
    Phase { engine: EngineKind, phase: String, elapsed: Duration },
    /// A check of a backup found it not as it was written.
    VerifyFailed { reason: &'static str },
    /// A check of the repository found so many objects that are not as they were written.
    CorruptObjects { count: u64 },
    /// An automated backup was begun, in its window or after it.
    PolicyBegun { is_late: bool },
    /// So many backups were taken on to remove by a rule.
    PolicyExpired { count: u64 },
    /// A sweep of the repository came to its end.
    Sweep { bytes_freed: u64 },
}

/// Kept while nobody asks for the page; the oldest go first.
const WAITING_MAX: usize = 4096;

/// What waits to be counted.
#[derive(Debug, Default)]
pub(crate) struct Measures(Mutex<VecDeque<Measurement>>);

impl Measures {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<Measurement>> {
        self.0.lock().expect("no thread panics while it holds the measurements")
    }

    pub(crate) fn add(&self, measurement: Measurement) {
        let mut waiting = self.waiting();
        if waiting.len() == WAITING_MAX {
            waiting.pop_front();
        }
        waiting.push_back(measurement);
    }

    /// The time between one recorded step of a try and the next belongs to the next.
    pub(crate) fn add_phases(&self, engine: EngineKind, attempt: u32, steps: &[JobStep]) {
        let of_try: Vec<&JobStep> = steps.iter().filter(|step| step.attempt == attempt).collect();
        for pair in of_try.windows(2) {
            let elapsed = pair[1].at.duration_since(pair[0].at);
            let elapsed = Duration::try_from(elapsed).unwrap_or_default();
            self.add(Measurement::Phase { engine, phase: pair[1].name.clone(), elapsed });
        }
    }
}

impl Service {
    /// What was done since this was asked last.
    pub fn measurements(&self) -> Vec<Measurement> {
        self.inner.measures.waiting().drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use strongroom_core::time::from_micros;

    use super::*;

    fn step(attempt: u32, name: &str, at_s: i64) -> JobStep {
        JobStep {
            attempt,
            name: name.to_owned(),
            at: from_micros(at_s * 1_000_000),
            output: serde_json::json!({}),
        }
    }

    #[test]
    fn a_phase_is_the_time_before_its_step_in_the_same_try() {
        let measures = Measures::default();
        let steps = [step(1, "open", 5), step(2, "open", 100), step(2, "stream", 130), step(2, "seal", 131)];
        measures.add_phases(EngineKind::PostgreSql, 2, &steps);
        let phase = |phase: &str, seconds| Measurement::Phase {
            engine: EngineKind::PostgreSql,
            phase: phase.to_owned(),
            elapsed: Duration::from_secs(seconds),
        };
        assert_eq!(Vec::from(measures.waiting().clone()), [phase("stream", 30), phase("seal", 1)]);
    }

    #[test]
    fn what_nobody_asks_for_is_bounded() {
        let measures = Measures::default();
        for count in 0..=WAITING_MAX as u64 {
            measures.add(Measurement::CorruptObjects { count });
        }
        assert_eq!(measures.waiting().len(), WAITING_MAX);
        assert_eq!(measures.waiting()[0], Measurement::CorruptObjects { count: 1 });
    }
}
