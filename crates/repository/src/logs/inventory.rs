//! What a listing says of streams of log.

use std::collections::BTreeMap;

use strongroom_core::Result;
use strongroom_core::logs::{LogPosition, LogRange, LogStreamId};

use crate::layout::{self, LogName};
use crate::lineage::Lineage;
use crate::store::Listed;

/// The objects of one stream.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    pub(crate) files: BTreeMap<u64, FileObjects>,
    pub(crate) has_about: bool,
    pub(crate) is_open: bool,
}

/// The objects of one file of log.
#[derive(Debug, Default)]
pub(crate) struct FileObjects {
    /// Length and size of the object. There is one: a file has one length.
    pub(crate) whole: Option<(u64, u64)>,
    /// First byte, length, size of the object; by the first byte, the longest of equal ones first.
    pub(crate) parts: Vec<(u64, u64, u64)>,
}

impl FileObjects {
    /// Stretches without a hole: first byte and the one behind the last.
    pub(crate) fn stretches(&self) -> Vec<(u64, u64)> {
        let mut out: Vec<(u64, u64)> = Vec::new();
        let parts = self.parts.iter().map(|(first, length, _)| (*first, first + length));
        for (first, end) in parts {
            match out.last_mut() {
                Some(last) if first <= last.1 => last.1 = last.1.max(end),
                _ => out.push((first, end)),
            }
        }
        out
    }

    /// Parts that another object covers.
    pub(crate) fn covered(&self) -> Vec<(u64, u64)> {
        let mut reach = self.whole.map_or(0, |(length, _)| length);
        let mut out = Vec::new();
        for (first, length, _) in &self.parts {
            // By order, whatever reaches so far begins at or before this one.
            if first + length <= reach && self.is_covered_by_one(*first, *length) {
                out.push((*first, *length));
            }
            reach = reach.max(first + length);
        }
        out
    }

    fn is_covered_by_one(&self, first: u64, length: u64) -> bool {
        let end = first + length;
        self.whole.is_some_and(|(whole, _)| end <= whole)
            || self.parts.iter().any(|(other, other_length, _)| {
                *other <= first && other + other_length >= end && (*other, *other_length) != (first, length)
            })
    }

    fn add(&mut self, name: LogName, size: u64) {
        match name {
            LogName::Whole { length, .. } => self.whole = self.whole.max(Some((length, size))),
            LogName::Part { first, length, .. } => self.parts.push((first, length, size)),
            LogName::About | LogName::Open => {}
        }
    }

    fn sort(&mut self) {
        self.parts.sort_by_key(|(first, length, _)| (*first, std::cmp::Reverse(*length)));
    }

    fn names(&self, file: u64) -> impl Iterator<Item = (LogName, u64)> {
        let parts = self.parts.iter().map(move |(first, length, size)| {
            (LogName::Part { file, first: *first, length: *length }, *size)
        });
        self.whole.map(|(length, size)| (LogName::Whole { file, length }, size)).into_iter().chain(parts)
    }
}

impl Inventory {
    pub(crate) fn of_stream(lineage: &Lineage, id: &LogStreamId) -> Result<Self> {
        let listed = lineage.shared.store.list(&layout::log_stream_prefix(lineage.id(), id))?;
        Ok(Self::sorted(lineage, listed).remove(id).unwrap_or_default())
    }

    /// All streams of a lineage.
    pub(crate) fn of_lineage(lineage: &Lineage) -> Result<BTreeMap<LogStreamId, Self>> {
        let listed = lineage.shared.store.list(&layout::logs_prefix(lineage.id()))?;
        Ok(Self::sorted(lineage, listed))
    }

    /// What is no name of ours is passed over: it is nothing that was stored by us.
    fn sorted(lineage: &Lineage, listed: Vec<Listed>) -> BTreeMap<LogStreamId, Self> {
        let mut streams: BTreeMap<LogStreamId, Self> = BTreeMap::new();
        for object in listed {
            let Some((stream, name)) = layout::parse_log(lineage.id(), &object.key) else { continue };
            let inventory = streams.entry(stream).or_default();
            match name {
                LogName::About => inventory.has_about = true,
                LogName::Open => inventory.is_open = true,
                LogName::Whole { file, .. } | LogName::Part { file, .. } => {
                    inventory.files.entry(file).or_default().add(name, object.size);
                }
            }
        }
        streams.values_mut().flat_map(|stream| stream.files.values_mut()).for_each(FileObjects::sort);
        streams
    }

    pub(crate) fn ranges(&self) -> Vec<LogRange> {
        let mut ranges: Vec<LogRange> = Vec::new();
        let mut add = |from: LogPosition, until: LogPosition| match ranges.last_mut() {
            Some(last) if last.until == from => last.until = until,
            _ => ranges.push(LogRange { from, until }),
        };
        for (file, objects) in &self.files {
            let at = |offset| LogPosition { file: *file, offset };
            match objects.whole {
                Some((length, _)) => {
                    let next = file.checked_add(1).map(LogPosition::start_of);
                    add(at(0), next.unwrap_or(at(length)));
                }
                None => objects.stretches().into_iter().for_each(|(first, end)| add(at(first), at(end))),
            }
        }
        ranges
    }

    /// Objects with log in them.
    pub(crate) fn objects(&self) -> u64 {
        self.files.values().map(|file| file.parts.len() as u64 + u64::from(file.whole.is_some())).sum()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.names_before(u64::MAX).iter().map(|(_, size)| size).sum()
    }

    /// Objects of files before this one, oldest first; with the last number there is, all.
    pub(crate) fn names_before(&self, file: u64) -> Vec<(LogName, u64)> {
        let of = |(number, objects): (&u64, &FileObjects)| objects.names(*number).collect::<Vec<_>>();
        self.files.iter().filter(|(number, _)| **number < file || file == u64::MAX).flat_map(of).collect()
    }

    /// Parts that a bigger object covers.
    pub(crate) fn covered_parts(&self) -> Vec<LogName> {
        let of = |(file, objects): (&u64, &FileObjects)| {
            let part = |(first, length)| LogName::Part { file: *file, first, length };
            objects.covered().into_iter().map(part).collect::<Vec<_>>()
        };
        self.files.iter().flat_map(of).collect()
    }

    pub(crate) fn last_file(&self) -> Option<u64> {
        self.files.keys().next_back().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[LogName]) -> Inventory {
        let mut inventory = Inventory::default();
        for name in names {
            if let LogName::Whole { file, .. } | LogName::Part { file, .. } = name {
                inventory.files.entry(*file).or_default().add(*name, 10);
            }
        }
        inventory.files.values_mut().for_each(FileObjects::sort);
        inventory
    }

    fn part(file: u64, first: u64, length: u64) -> LogName {
        LogName::Part { file, first, length }
    }

    fn range(from: (u64, u64), until: (u64, u64)) -> LogRange {
        let at = |(file, offset)| LogPosition { file, offset };
        LogRange { from: at(from), until: at(until) }
    }

    #[test]
    fn ranges_end_where_something_is_missing() {
        let whole = |file| LogName::Whole { file, length: 100 };
        assert_eq!(of(&[]).ranges(), []);
        let held = of(&[whole(7), part(8, 0, 10), part(8, 10, 5)]);
        assert_eq!(held.ranges(), [range((7, 0), (8, 15))]);
        // The end of file 8 is not held, whatever there is of the next.
        let held = of(&[whole(7), part(8, 0, 100), whole(9), part(10, 1, 9)]);
        assert_eq!(
            held.ranges(),
            [range((7, 0), (8, 100)), range((9, 0), (10, 0)), range((10, 1), (10, 10))]
        );
        let held = of(&[part(8, 0, 10), part(8, 5, 20), part(8, 26, 4), whole(6)]);
        assert_eq!(held.ranges(), [range((6, 0), (7, 0)), range((8, 0), (8, 25)), range((8, 26), (8, 30))]);
    }

    #[test]
    fn parts_are_covered_by_one_object_and_not_by_several() {
        let held = of(&[part(1, 0, 10), part(1, 0, 30), part(1, 20, 10), part(1, 25, 10), part(2, 3, 4)]);
        assert_eq!(held.covered_parts(), [part(1, 0, 10), part(1, 20, 10)]);
        let held = of(&[part(1, 0, 10), part(1, 5, 10), part(1, 2, 10)]);
        assert_eq!(held.covered_parts(), []);
        let held = of(&[LogName::Whole { file: 1, length: 40 }, part(1, 0, 10), part(1, 35, 5)]);
        assert_eq!(held.covered_parts(), [part(1, 0, 10), part(1, 35, 5)]);
    }
}
