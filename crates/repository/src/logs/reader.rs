//! Reading log back. Objects may be replaced by bigger ones while they are read: whoever finds one
//! gone looks at the listing again and goes on from where it is.

use strongroom_core::logs::{LogPosition, LogRange, LogStreamId};
use strongroom_core::{Error, ErrorKind, Result};

use super::inventory::FileObjects;
use super::{Depth, Inventory, Walked, walk};
use crate::layout::{self, LogName};
use crate::lineage::Lineage;

/// How often in a row an object may be gone before it is held to be lost.
const LOOKS: usize = 4;

pub(super) fn read(
    lineage: &Lineage,
    id: &LogStreamId,
    range: LogRange,
    take: &mut dyn FnMut(LogPosition, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut at = range.from;
    let mut fruitless = 0;
    while at < range.until && fruitless < LOOKS {
        let inventory = Inventory::of_stream(lineage, id)?;
        let before = at;
        read_listed(lineage, id, &inventory, &mut at, range.until, take)?;
        fruitless = if at == before { fruitless + 1 } else { 0 };
    }
    if at >= range.until { Ok(()) } else { Err(not_held(id, at)) }
}

/// Reads on, as long as what was listed is there.
fn read_listed(
    lineage: &Lineage,
    id: &LogStreamId,
    inventory: &Inventory,
    at: &mut LogPosition,
    until: LogPosition,
    take: &mut dyn FnMut(LogPosition, &[u8]) -> Result<()>,
) -> Result<()> {
    while *at < until {
        let Some(objects) = inventory.files.get(&at.file) else { return Ok(()) };
        if objects.whole.is_some_and(|(length, _)| length == at.offset) {
            *at = next_file(*at);
            continue;
        }
        let Some(name) = object_at(objects, *at) else { return Ok(()) };
        let (first, length) = match name {
            LogName::Whole { length, .. } => (0, length),
            LogName::Part { first, length, .. } => (first, length),
            LogName::About | LogName::Open => return Ok(()),
        };
        let end = if until.file == at.file { until.offset } else { u64::MAX };
        let mut place = first;
        let key = layout::log(lineage.id(), id, name);
        let store = &*lineage.shared.store;
        let walked = walk(store, &lineage.keys, &key, length, Depth::Decode, &mut |piece| {
            let (start, stop) = (place.max(at.offset), (place + piece.len() as u64).min(end));
            if start < stop {
                // Both lie in the piece.
                let wanted = &piece[(start - place) as usize..(stop - place) as usize];
                take(LogPosition { file: at.file, offset: start }, wanted)?;
                at.offset = stop;
            }
            place += piece.len() as u64;
            Ok(())
        })?;
        if walked == Walked::Gone {
            return Ok(());
        }
    }
    Ok(())
}

/// The object with the byte at this place that reaches furthest.
fn object_at(objects: &FileObjects, at: LogPosition) -> Option<LogName> {
    let file = at.file;
    if let Some((length, _)) = objects.whole.filter(|(length, _)| at.offset < *length) {
        return Some(LogName::Whole { file, length });
    }
    let holds = |(first, length, _): &&(u64, u64, u64)| *first <= at.offset && at.offset < first + length;
    let (first, length, _) =
        objects.parts.iter().filter(holds).max_by_key(|(first, length, _)| first + length)?;
    Some(LogName::Part { file, first: *first, length: *length })
}

fn next_file(at: LogPosition) -> LogPosition {
    at.file.checked_add(1).map_or(LogPosition { offset: u64::MAX, ..at }, LogPosition::start_of)
}

fn not_held(id: &LogStreamId, at: LogPosition) -> Error {
    Error::new(
        ErrorKind::NoRestorePoint,
        format!("The log archive does not hold the log of the stream {id} from {at} on."),
    )
    .with_hint("the restore times of the instance say which moments there are")
}
