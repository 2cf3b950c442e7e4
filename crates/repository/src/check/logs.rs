//! The log archive: every object is one of ours, and as it was written. A gap between two ranges is no
//! damage: it was told when it came about.

use std::collections::{BTreeMap, BTreeSet};

use strongroom_core::Result;
use strongroom_core::logs::LogStreamId;
use strongroom_core::verification::Level;

use super::Check;
use crate::layout::{self, LogName};
use crate::logs::{Depth, check_open, open_about, walk};

impl Check<'_> {
    pub(super) fn logs(&mut self, level: Level) -> Result<()> {
        let id = self.lineage.id().clone();
        let mut streams: BTreeMap<LogStreamId, BTreeSet<LogName>> = BTreeMap::new();
        for object in self.lineage.shared.store.list(&layout::logs_prefix(&id))? {
            match layout::parse_log(&id, &object.key) {
                Some((stream, name)) => {
                    streams.entry(stream).or_default().insert(name);
                }
                None => self.finding(&object.key, "its name is not one of ours"),
            }
        }
        for (stream, names) in &streams {
            let has_log = names.iter().any(|name| !matches!(name, LogName::About | LogName::Open));
            if has_log && !names.contains(&LogName::About) {
                let key = layout::log(&id, stream, LogName::About);
                self.finding(&key, "it is missing: log of this stream is there");
            }
            for name in names {
                self.report.objects_checked += 1;
                if level >= Level::Digest {
                    self.cancel.check()?;
                    self.log_object(stream, *name, level)?;
                }
            }
        }
        Ok(())
    }

    /// An object may be taken away, or be replaced by a bigger one, between the listing and this look.
    fn log_object(&mut self, stream: &LogStreamId, name: LogName, level: Level) -> Result<()> {
        let lineage = self.lineage;
        let (store, key) = (&*lineage.shared.store, layout::log(lineage.id(), stream, name));
        let length = match name {
            LogName::Whole { length, .. } | LogName::Part { length, .. } => length,
            LogName::About | LogName::Open => {
                let Some(Some(object)) = self.found(&key, store.get(&key))? else { return Ok(()) };
                self.report.bytes_checked += object.len() as u64;
                let opened = match name {
                    LogName::About => open_about(&lineage.keys, stream, &key, &object).map(|_| ()),
                    _ => check_open(&key, &object),
                };
                return self.found(&key, opened).map(|_| ());
            }
        };
        let depth = if level >= Level::Decode { Depth::Decode } else { Depth::Digest };
        let walked = walk(store, &lineage.keys, &key, length, depth, &mut |_| self.cancel.check());
        self.found(&key, walked)?;
        self.report.bytes_checked += length;
        Ok(())
    }
}
