//! Retention: which automated backups go by a rule, and why the others are still here.
//!
//! A rule removes automated backups only, past their days, and neither the newest COMPLETED one of
//! their instance nor the newest that passed a verification (faults.md G8). What a person asks for is
//! not judged here.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use crate::backup::{BackupState, BackupType};
use crate::limits;
use crate::policy::Keep;
use crate::verification::Level;

/// What a rule looks at in a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    pub kind: BackupType,
    pub state: BackupState,
    pub finished: Option<Timestamp>,
    /// The deepest verification that it passed after the last one that it failed.
    pub passed: Option<Level>,
    /// A legal hold stands on it.
    pub is_held: bool,
}

/// What keeps a backup beyond its days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// The newest COMPLETED backup of its instance.
    Newest,
    /// The newest one that passed a verification of this level, or of a deeper one.
    Verified(Level),
    Held,
}

/// Why a backup is still here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// No rule removes a manual backup.
    Manual,
    Building,
    /// It is going already.
    Deleting,
    /// Automated backups are off, and those that were there stay.
    AutomationOff,
    WithinKeepDays,
    /// Its days are over since the policy keeps them less long, which is given time to be undone.
    PolicyShortened,
    Protected,
    /// Nothing keeps it: the next look removes it.
    Due,
}

/// What becomes of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    pub why: Why,
    /// When the rule removes it, as things stand.
    pub goes: Option<Timestamp>,
    /// What keeps it, or would keep it if its days were over now.
    pub protection: Option<Protection>,
}

impl Fate {
    /// Whether the rule removes it now.
    pub fn is_due(&self) -> bool {
        self.why == Why::Due
    }
}

/// Judges all backups of one instance together; the answers stand in the same order. `shortened` is
/// when the policy was last changed to keep less long.
pub fn judge(keep: Keep, shortened: Option<Timestamp>, backups: &[Judged], now: Timestamp) -> Vec<Fate> {
    let protections = protections(backups);
    let fate = |(index, backup): (usize, &Judged)| {
        let held = backup.is_held.then_some(Protection::Held);
        fate_of(keep, shortened, backup, held.or_else(|| protections.get(&index).copied()), now)
    };
    backups.iter().enumerate().map(fate).collect()
}

fn fate_of(
    keep: Keep,
    shortened: Option<Timestamp>,
    backup: &Judged,
    protection: Option<Protection>,
    now: Timestamp,
) -> Fate {
    let stays = |why| Fate { why, goes: None, protection };
    let finished = match (backup.state, backup.kind, backup.finished) {
        (BackupState::Deleting, _, _) => return stays(Why::Deleting),
        (BackupState::Building, _, _) | (_, BackupType::Auto, None) => return stays(Why::Building),
        (_, BackupType::Manual, _) => return stays(Why::Manual),
        (BackupState::Completed | BackupState::Failed, BackupType::Auto, Some(finished)) => finished,
    };
    let Some(kept_s) = keep.kept_s() else { return stays(Why::AutomationOff) };
    let later = |at: Timestamp, seconds| {
        at.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
    };
    let ends = later(finished, kept_s);
    let undoable = shortened.map_or(Timestamp::MIN, |at| later(at, limits::RETENTION_GRACE_S));
    match (ends > now, protection) {
        (true, _) => Fate { why: Why::WithinKeepDays, goes: Some(ends.max(undoable)), protection },
        (false, Some(_)) => stays(Why::Protected),
        (false, None) if undoable > now => {
            Fate { why: Why::PolicyShortened, goes: Some(undoable), protection }
        }
        (false, None) => Fate { why: Why::Due, goes: Some(now), protection },
    }
}

/// By place in the list: the newest COMPLETED backup, and the newest that passed at each level.
fn protections(backups: &[Judged]) -> HashMap<usize, Protection> {
    let newest = |wanted: &dyn Fn(&Judged) -> bool| {
        let complete =
            backups.iter().enumerate().filter(|(_, backup)| backup.state == BackupState::Completed);
        // Of equal times the one that stands first, so that there is always exactly one.
        complete
            .filter(|(_, backup)| wanted(backup))
            .rev()
            .max_by_key(|(_, backup)| backup.finished)
            .map(|(index, _)| index)
    };
    // The deepest last: it is the reason that is told. That it is the newest tells more still.
    let mut found = HashMap::new();
    for level in Level::ALL {
        if let Some(index) = newest(&|backup| backup.passed >= Some(level)) {
            found.insert(index, Protection::Verified(level));
        }
    }
    if let Some(index) = newest(&|_| true) {
        found.entry(index).or_insert(Protection::Newest);
    }
    found
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
