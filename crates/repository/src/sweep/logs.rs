//! Log that leads on from no backup any more. It has no roster: a file of log is needed as long as a
//! backup stands on one before it, in its own stream or in the one that this stream left.
//!
//! A backup that is being made stands on log that no manifest names yet: as long as there is one, all
//! log of its lineage stays. One that begins after the listing stands on log that was not listed.

use strongroom_core::logs::{LogPoint, LogStream, LogStreamId};
use strongroom_core::{ErrorKind, Result};

use super::Sweep;
use super::look::Seen;
use crate::layout;

/// How often a history may have left another one; a chain that is longer is a circle.
const ORIGINS_MAX: usize = 10_000;

/// What of a stream is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    All,
    /// From this file on.
    From(u64),
    Nothing,
}

impl Sweep<'_> {
    /// Removes log that nobody needs, or says how much that would be.
    pub(super) fn sweep_logs(&mut self, seen: &Seen) -> Result<()> {
        let logs = std::mem::take(&mut self.logs);
        if seen.has_open_attempt {
            self.report.log_waiting += u64::from(logs.values().any(|stream| stream.objects() > 0));
            return Ok(());
        }
        for (id, inventory) in &logs {
            let Some(last) = inventory.last_file() else { continue };
            let before = match self.need(id, inventory.is_open, &seen.log_points)? {
                Need::All => continue,
                // What is written at this moment is never asked for.
                Need::From(file) => file.min(last),
                Need::Nothing => u64::MAX,
            };
            for (name, size) in inventory.names_before(before) {
                self.cancel.check()?;
                if !self.options.is_dry_run {
                    self.lineage.shared.store.delete(&layout::log(self.lineage.id(), id, name))?;
                }
                self.report.log_objects_removed += 1;
                self.report.log_bytes_freed += size;
            }
        }
        Ok(())
    }

    fn need(&mut self, id: &LogStreamId, is_open: bool, points: &[LogPoint]) -> Result<Need> {
        let Some(origins) = self.origins(id)? else { return Ok(Need::All) };
        let leads_here = |origin: &LogPoint| {
            points.iter().any(|point| point.stream == origin.stream && point.position <= origin.position)
        };
        let own = points.iter().filter(|point| point.stream == *id).map(|point| point.position.file).min();
        Ok(match own {
            _ if origins.iter().any(leads_here) => Need::All,
            Some(file) => Need::From(file),
            None if is_open => Need::All,
            None => Need::Nothing,
        })
    }

    /// Where the stream left another one, where that one did, and so on; `None` when it is not known.
    fn origins(&mut self, id: &LogStreamId) -> Result<Option<Vec<LogPoint>>> {
        let mut origins: Vec<LogPoint> = Vec::new();
        let mut next = id.clone();
        while origins.len() < ORIGINS_MAX {
            let about: Option<LogStream> = match self.lineage.log_stream(&next) {
                Err(error) if error.kind() == ErrorKind::Damage => {
                    let key = layout::log(self.lineage.id(), &next, layout::LogName::About);
                    self.leave(
                        &key,
                        error.public(),
                        "bring it back from a copy; the log of its stream stays",
                    );
                    return Ok(None);
                }
                other => other?,
            };
            match about.map(|about| about.origin) {
                Some(Some(origin)) => {
                    next = origin.stream.clone();
                    origins.push(origin);
                }
                Some(None) => return Ok(Some(origins)),
                // A stream of which nothing was ever captured: backups may stand on it all the same.
                None => return Ok(if next == *id { None } else { Some(origins) }),
            }
        }
        Ok(None)
    }
}
