//! What an instance can be brought back to, and the wish to do it.

use jiff::Timestamp;

use crate::backup::InstanceRef;
use crate::id::BackupId;
use crate::text::InstanceName;

/// A stretch of time, each moment of which can be restored. Both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoreWindow {
    pub from: Timestamp,
    pub until: Timestamp,
}

impl RestoreWindow {
    /// A full backup without logs: the one moment that it holds.
    pub fn at(moment: Timestamp) -> Self {
        Self { from: moment, until: moment }
    }

    pub fn holds(&self, moment: Timestamp) -> bool {
        self.from <= moment && moment <= self.until
    }

    /// Whether any moment of it is in the other.
    pub fn meets(&self, other: &Self) -> bool {
        self.from <= other.until && other.from <= self.until
    }
}

/// Windows that touch become one; oldest first. A gap between two of them is a gap in what is stored.
pub fn union(mut windows: Vec<RestoreWindow>) -> Vec<RestoreWindow> {
    windows.sort_by_key(|window| (window.from, window.until));
    let mut out: Vec<RestoreWindow> = Vec::with_capacity(windows.len());
    for window in windows {
        match out.last_mut() {
            Some(last) if window.from <= last.until => last.until = last.until.max(window.until),
            _ => out.push(window),
        }
    }
    out
}

/// What to go back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestorePoint {
    Backup(BackupId),
    Moment(Timestamp),
}

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreTarget {
    /// The instance itself or another one that is registered.
    Existing(InstanceRef),
    New {
        name: InstanceName,
        /// The room it is to have, where somebody said so.
        volume_gb: Option<u64>,
    },
}

/// A wish to restore into an instance, all fields valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreWish {
    /// May be left out where the point is a backup, which knows its instance.
    pub source: Option<InstanceRef>,
    pub point: RestorePoint,
    pub target: RestoreTarget,
    /// Single databases and the names they get; none = everything.
    pub databases: Vec<(String, Vec<String>)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(from: i64, until: i64) -> RestoreWindow {
        let at = |second| Timestamp::from_second(second).unwrap();
        RestoreWindow { from: at(from), until: at(until) }
    }

    #[test]
    fn windows_that_touch_become_one_and_gaps_stay() {
        let found = union(vec![window(50, 60), window(1, 1), window(5, 10), window(7, 8), window(10, 20)]);
        assert_eq!(found, vec![window(1, 1), window(5, 20), window(50, 60)]);
        assert_eq!(union(vec![window(3, 3), window(3, 3)]), vec![window(3, 3)]);
        assert_eq!(union(Vec::new()), Vec::new());
    }

    #[test]
    fn both_ends_belong_to_a_window() {
        let one = window(5, 10);
        assert!(one.holds(one.from) && one.holds(one.until) && !one.holds(window(4, 4).from));
        assert!(one.meets(&window(10, 12)) && one.meets(&window(1, 5)) && one.meets(&window(6, 7)));
        assert!(!one.meets(&window(11, 12)));
    }
}
