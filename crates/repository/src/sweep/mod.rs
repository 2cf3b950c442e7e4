//! The sweep: space that no visible backup needs comes back. No locks, no clocks that decide; the
//! order of the listings is the safety argument, searched whole by `tests/protocol`.
//!
//! ```text
//! packs, log → tombstones → holds → decide → intents → verdicts → plan → remove → rewrite → intents go
//! ```
//!
//! What only goes comes before what is written anew: whoever deletes backups because a disk is full
//! has no room for a new generation yet.
//!
//! Killed anywhere, the next sweep begins at the beginning. On any doubt about what is needed nothing
//! of the lineage is removed, and the report says which object is to blame.

mod act;
mod decide;
mod logs;
mod look;
mod plan;
mod report;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use strongroom_core::engine::CancelToken;
use strongroom_core::id::{AttemptId, LineageId, ProjectId};
use strongroom_core::logs::LogStreamId;
use strongroom_core::progress::Progress;
use strongroom_core::{Error, ErrorKind, Result, Retry};

use crate::generations::Generations;
use crate::lineage::Lineage;
use crate::logs::Inventory;
use crate::repository::Repository;
use plan::Windows;

pub use report::{Doubt, Reasons, Share, SweepReport};

/// How a sweep is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepOptions {
    /// Only says what would be done.
    pub is_dry_run: bool,
    /// A pack is rewritten when at least this share of its bytes, in percent, is dead. 1 to 100.
    pub dead_percent: u8,
    /// A backup is decided to be gone only when it was forgotten at least this long ago.
    pub grace_s: i64,
    /// An attempt nobody has sealed or given up is abandoned when it was begun this long ago.
    pub abandon_after_s: i64,
}

impl SweepOptions {
    /// Rewrites whatever holds a dead record.
    pub const TIGHTEST_PERCENT: u8 = 1;
}

impl Default for SweepOptions {
    fn default() -> Self {
        Self { is_dry_run: false, dead_percent: 25, grace_s: 0, abandon_after_s: 7 * 24 * 3600 }
    }
}

/// How often a sweep begins anew because another one went further.
const TRIES: usize = 8;

impl Repository {
    /// Sweeps every lineage. A doubt is no error; an error means that the sweep could not go on, and
    /// the next one begins anew.
    pub fn sweep(
        &self,
        options: &SweepOptions,
        cancel: &CancelToken,
        progress: &Progress,
    ) -> Result<SweepReport> {
        let mut report = SweepReport::default();
        for (project, lineage) in self.sweep_begin(options)? {
            self.sweep_lineage(&project, &lineage, options, cancel, progress, &mut report)?;
        }
        Ok(report)
    }

    /// What there is to sweep, lineage by lineage.
    pub fn sweep_begin(&self, options: &SweepOptions) -> Result<Vec<(ProjectId, LineageId)>> {
        self.check_identity()?;
        if self.shared.store.is_read_only() && !options.is_dry_run {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "The repository is read-only: nothing can be removed from it. Nothing was changed.",
            )
            .with_hint("mount the repository's disk for writing, then sweep again")
            .with_retry(Retry::Never));
        }
        self.lineages()
    }

    /// Sweeps one lineage and adds to the report.
    pub fn sweep_lineage(
        &self,
        project: &ProjectId,
        lineage: &LineageId,
        options: &SweepOptions,
        cancel: &CancelToken,
        progress: &Progress,
        report: &mut SweepReport,
    ) -> Result<()> {
        cancel.check()?;
        self.check_identity()?;
        report.lineages += 1;
        let swept = self
            .open_lineage(project, lineage)
            .and_then(|lineage| Sweep::new(&lineage, *options, cancel, progress).run(report));
        match swept {
            Err(error) if matches!(error.kind(), ErrorKind::Damage | ErrorKind::WrongKey) => {
                report.lineages_kept += 1;
                report.doubts.push(Doubt::of(&error));
                Ok(())
            }
            other => other,
        }
    }
}

/// The sweep of one lineage.
pub(crate) struct Sweep<'a> {
    lineage: &'a Lineage,
    options: SweepOptions,
    cancel: &'a CancelToken,
    progress: &'a Progress,
    /// Of this try.
    report: SweepReport,
    /// What was listed of the log archive.
    logs: BTreeMap<LogStreamId, Inventory>,
}

impl<'a> Sweep<'a> {
    pub(crate) fn new(
        lineage: &'a Lineage,
        options: SweepOptions,
        cancel: &'a CancelToken,
        progress: &'a Progress,
    ) -> Self {
        Self { lineage, options, cancel, progress, report: SweepReport::default(), logs: BTreeMap::new() }
    }

    /// Sweeps, and adds to the report also what was done before a failure.
    pub(crate) fn run(mut self, report: &mut SweepReport) -> Result<()> {
        let swept = self.sweep_until_alone(report);
        report.add(self.report);
        swept
    }

    fn sweep_until_alone(&mut self, report: &mut SweepReport) -> Result<()> {
        for _ in 0..TRIES {
            let (packs, gone) = self.list_and_decide()?;
            match self.sweep(&packs, &gone) {
                // Another sweep decided more since, and took what this one still looked for.
                Err(error) if error.kind() == ErrorKind::Damage && self.is_overtaken(&gone)? => {
                    tracing::info!("Another sweep went further; this one begins anew: {}", error.public());
                    let tried = std::mem::take(&mut self.report);
                    if !self.options.is_dry_run {
                        report.add_done(&tried);
                    }
                }
                other => return other,
            }
        }
        // The other one does what is to be done.
        Ok(())
    }

    fn list_and_decide(&mut self) -> Result<(Generations, BTreeSet<AttemptId>)> {
        self.progress.set_phase("marking");
        // First: a pack's intent is always older than the pack.
        let (packs, unknown) = Generations::of(self.lineage, self.lineage.listed_packs()?);
        for key in unknown {
            self.leave(&key, "its name is not one of ours", "move it away when nobody needs it");
        }
        // So is that of a backup which stands on log that ends here, or it is seen as open.
        self.logs = Inventory::of_lineage(self.lineage)?;
        let gone = self.decide()?;
        Ok((packs, gone))
    }

    fn sweep(&mut self, packs: &Generations, gone: &BTreeSet<AttemptId>) -> Result<()> {
        let seen = self.look(packs, gone)?;
        let mut windows = Windows::new(packs);
        // Everything is planned before anything is removed: a doubt about the last pack keeps the first.
        let planned = self.plan(packs, &seen, &mut windows)?;
        self.progress.add_total(planned);
        self.sweep_logs(&seen)?;
        if !self.options.is_dry_run {
            self.act(packs, &seen, &mut windows)?;
            self.clear_intents(&seen)?;
        }
        Ok(())
    }

    fn leave(&mut self, key: &str, problem: &str, advice: &str) {
        tracing::warn!(object = key, "The sweep leaves an object alone: {problem}.");
        self.report.doubts.push(Doubt {
            object: key.to_owned(),
            problem: problem.to_owned(),
            advice: advice.to_owned(),
        });
    }

    fn now_us(&self) -> i64 {
        self.lineage.shared.clock.now().as_microsecond()
    }

    fn is_older(&self, time_us: i64, than_s: i64) -> bool {
        self.now_us().saturating_sub(time_us) >= than_s.saturating_mul(1_000_000)
    }
}
