//! A drill as it goes on: what it has found, and how long it may still look.

use std::fmt;
use std::time::{Duration, Instant};

use strongroom_core::engine::{DrillOrder, DrillReport};
use strongroom_core::verification::{DrillCheck, Outcome};
use strongroom_core::{Error, Result};

use crate::Told;

/// Why a drill does not go on.
#[derive(Debug)]
pub enum Halt {
    /// Cancelled, or this machine does not let it.
    Stop(Error),
    /// Its time is over; what was found until then is told.
    OutOfTime,
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Stop(error)
    }
}

/// What a drill has found so far.
pub struct Findings<'a> {
    order: &'a DrillOrder<'a>,
    /// No moment when the timeout is longer than clocks count.
    until: Option<Instant>,
    pub report: DrillReport,
    /// What accuses the backup.
    pub failures: Told,
    /// What could not be looked at, for reasons that lie with this machine.
    pub unjudged: Told,
}

impl<'a> Findings<'a> {
    /// The time of the drill counts from here.
    pub fn begin(order: &'a DrillOrder<'a>) -> Self {
        let until = Instant::now().checked_add(order.timeout);
        let (failures, unjudged) = (Told::default(), Told::default());
        Self { order, until, report: DrillReport::default(), failures, unjudged }
    }

    /// Time left, or the reason to stop.
    pub fn remaining(&self) -> Result<Duration, Halt> {
        self.order.cancel.check()?;
        let Some(until) = self.until else { return Ok(self.order.timeout) };
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(Halt::OutOfTime) } else { Ok(left) }
    }

    pub fn note_check(&mut self, what: &str, outcome: Outcome, detail: impl fmt::Display) {
        let check = DrillCheck { what: what.to_owned(), outcome, detail: detail.to_string() };
        self.report.checks.push(check);
    }

    /// A drill must not hide what was known before it: a restore gives these pages as they are.
    /// `page` is the engine's word for one.
    pub fn tell_known_damage(&mut self, page: &str) {
        for damage in &self.order.facts.damage {
            self.failures.tell(format!(
                "{page} {} of {} was damaged at the source before the backup (checksum {}, computed {}).",
                damage.block, damage.relation, damage.found, damage.expected
            ));
        }
    }

    /// The report of a drill that ended so.
    pub fn conclude(mut self, ended: Result<(), Halt>) -> Result<DrillReport> {
        match ended {
            Ok(()) => {}
            Err(Halt::Stop(error)) => return Err(error),
            Err(Halt::OutOfTime) => self.unjudged.tell(format!(
                "The time for the drill ({} min) was over before it had come to its end.",
                self.order.timeout.as_secs() / 60
            )),
        }
        self.report.failures = self.failures.into_sentences();
        self.report.unjudged = self.unjudged.into_sentences();
        Ok(self.report)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use strongroom_core::engine::{
        BackupFacts, CancelToken, EngineKind, PageDamage, SourceIdentity, StopReason,
    };
    use strongroom_core::parent::Reading;
    use strongroom_core::progress::Progress;

    use super::*;

    fn facts() -> BackupFacts {
        BackupFacts {
            identity: SourceIdentity {
                engine: EngineKind::PostgreSql,
                version: "18.0".to_owned(),
                system_identifier: "7".to_owned(),
            },
            engine: serde_json::Value::Null,
            warnings: Vec::new(),
            damage: vec![PageDamage {
                relation: "shop.orders".to_owned(),
                block: 3,
                position: "0/1".to_owned(),
                expected: 1,
                found: 2,
            }],
            reading: Reading::default(),
            log: None,
        }
    }

    fn with_findings(timeout: Duration, cancel: &CancelToken, look: impl FnOnce(Findings<'_>)) {
        let (facts, progress) = (facts(), Progress::new());
        let nowhere = Path::new("/nonexistent");
        look(Findings::begin(&DrillOrder {
            target: nowhere,
            run_dir: nowhere,
            facts: &facts,
            server: nowhere,
            account: None,
            timeout,
            cancel,
            progress: &progress,
        }));
    }

    #[test]
    fn a_drill_that_runs_out_of_time_says_so_and_keeps_what_it_found() {
        with_findings(Duration::ZERO, &CancelToken::new(), |mut found| {
            found.tell_known_damage("Page");
            assert!(matches!(found.remaining(), Err(Halt::OutOfTime)));
            let report = found.conclude(Err(Halt::OutOfTime)).unwrap();
            assert_eq!(report.unjudged.len(), 1, "{report:?}");
            let [damage] = report.failures.as_slice() else { panic!("{report:?}") };
            assert!(damage.starts_with("Page 3 of shop.orders was damaged at the source"), "{damage}");
        });
    }

    #[test]
    fn a_cancelled_drill_has_no_report() {
        let cancel = CancelToken::new();
        cancel.stop(StopReason::Cancelled);
        with_findings(Duration::from_mins(1), &cancel, |found| {
            let halt = found.remaining().unwrap_err();
            assert!(matches!(halt, Halt::Stop(_)));
            found.conclude(Err(halt)).unwrap_err();
        });
    }

    #[test]
    fn a_timeout_longer_than_clocks_count_never_comes() {
        with_findings(Duration::MAX, &CancelToken::new(), |found| {
            assert_eq!(found.remaining().unwrap(), Duration::MAX);
        });
    }
}
