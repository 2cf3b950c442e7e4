//! Small marks beside a backup: intents (somebody writes or reads it), tombstones (it is
//! forgotten), holds (it must not be). The protocol between them is `repository.md` sections 5–7.

use std::collections::{BTreeMap, BTreeSet};

use strongroom_core::id::AttemptId;
use strongroom_core::{Error, ErrorKind, Result};

use crate::binary::Put as _;
use crate::frame::{self, Kind};
use crate::keys::LineageKeys;
use crate::layout;
use crate::store::{Put, Store};

/// Says that an attempt is being written, and which parent's records it refers to.
pub(crate) fn put_writer_intent(
    store: &dyn Store,
    keys: &LineageKeys,
    attempt: AttemptId,
    parent: Option<AttemptId>,
    epoch: i64,
    worker: &str,
    now_us: i64,
) -> Result<()> {
    let mut payload = Vec::new();
    payload.extend_from_slice(parent.as_ref().map_or(&[0_u8; 16][..], |parent| parent.as_bytes()));
    payload.put_i64(epoch);
    payload.put_i64(now_us);
    payload.put_u16(worker.len() as u16);
    payload.extend_from_slice(worker.as_bytes());
    let key = layout::intent(&keys.lineage, attempt);
    match store.put_new(&key, &frame::wrap(Kind::Intent, &payload))? {
        Put::Created => Ok(()),
        Put::AlreadyThere => Err(Error::new(
            ErrorKind::Fenced,
            "This attempt was begun before; a try has an attempt of its own. Nothing stored was changed.",
        )),
    }
}

/// Says that somebody reads `target`.
pub(crate) fn put_reader_intent(store: &dyn Store, key: &str, target: AttemptId, now_us: i64) -> Result<()> {
    let mut payload = Vec::new();
    payload.extend_from_slice(target.as_bytes());
    payload.put_i64(now_us);
    store.put_new(key, &frame::wrap(Kind::Intent, &payload)).map(|_| ())
}

/// The attempts of a lineage that are forgotten: their newest tombstone has no end `undone`. An
/// end whose tombstone is missing counts as that tombstone: damage must not bring a backup back.
pub(crate) fn forgotten(store: &dyn Store, keys: &LineageKeys) -> Result<BTreeSet<AttemptId>> {
    let mut newest: BTreeMap<AttemptId, (u32, bool)> = BTreeMap::new();
    for object in store.list(&layout::tombstone_prefix(&keys.lineage))? {
        let Some((attempt, number, is_end)) = layout::parse_tombstone(&keys.lineage, &object.key) else {
            continue;
        };
        let undone = is_end && end_is_undone(store, &object.key)?;
        let mark = newest.entry(attempt).or_insert((number, undone));
        *mark =
            if number > mark.0 { (number, undone) } else { (mark.0, mark.1 || (number == mark.0 && undone)) };
    }
    Ok(newest.into_iter().filter(|(_, (_, undone))| !undone).map(|(attempt, _)| attempt).collect())
}

const END_SWEPT: u8 = 1;
const END_UNDONE: u8 = 2;

fn end_is_undone(store: &dyn Store, key: &str) -> Result<bool> {
    let object = store.get(key)?.ok_or_else(|| frame::missing(key))?;
    match frame::unwrap(key, Kind::TombstoneEnd, &object)? {
        [END_SWEPT] => Ok(false),
        [END_UNDONE] => Ok(true),
        _ => Err(frame::damage(key, "it is neither swept nor undone")),
    }
}

/// Forgets a backup: one small object. Refuses while a hold stands; again is fine.
pub(crate) fn forget(store: &dyn Store, keys: &LineageKeys, attempt: AttemptId, now_us: i64) -> Result<()> {
    if !store.list(&layout::hold_prefix(&keys.lineage, attempt))?.is_empty() {
        return Err(Error::new(
            ErrorKind::BackupHeld,
            "The backup is under a legal hold; it was not deleted.",
        )
        .with_hint("lift the hold first"));
    }
    if forgotten(store, keys)?.contains(&attempt) {
        return Ok(());
    }
    let last = store
        .list(&layout::tombstone_prefix(&keys.lineage))?
        .iter()
        .filter_map(|object| layout::parse_tombstone(&keys.lineage, &object.key))
        .filter(|(of, _, _)| *of == attempt)
        .map(|(_, number, _)| number + 1)
        .max();
    let mut payload = Vec::new();
    payload.put_i64(now_us);
    let key = layout::tombstone(&keys.lineage, attempt, last.unwrap_or(0));
    // Already there means that somebody else forgot it at the same moment.
    store.put_new(&key, &frame::wrap(Kind::Tombstone, &payload)).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{RecoveryKey, open_or_create};
    use crate::store::MemoryStore;
    use strongroom_core::id::{LineageId, ProjectId};
    use strongroom_core::time::Randomness;

    struct Zero;

    impl Randomness for Zero {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }

    fn lineage() -> (MemoryStore, LineageKeys, AttemptId) {
        let store = MemoryStore::new();
        let id = uuid::Uuid::from_u128(1);
        let (project, lineage) = (ProjectId::issue(id), LineageId::issue(id));
        let keys = open_or_create(&store, &RecoveryKey::generate(&Zero), &Zero, &project, &lineage).unwrap();
        (store, keys, AttemptId::new(uuid::Uuid::from_u128(9)))
    }

    #[test]
    fn r05_a_hold_refuses_to_forget() {
        let (store, keys, attempt) = lineage();
        let hold = format!("{}1", layout::hold_prefix(&keys.lineage, attempt));
        store.put_new(&hold, &frame::wrap(Kind::Hold, b"")).unwrap();
        assert_eq!(forget(&store, &keys, attempt, 0).unwrap_err().kind(), ErrorKind::BackupHeld);
        assert!(forgotten(&store, &keys).unwrap().is_empty());
    }

    #[test]
    fn undo_and_forget_again() {
        let (store, keys, attempt) = lineage();
        forget(&store, &keys, attempt, 0).unwrap();
        forget(&store, &keys, attempt, 0).unwrap();
        assert!(forgotten(&store, &keys).unwrap().contains(&attempt));
        let end = format!("{}.end", layout::tombstone(&keys.lineage, attempt, 0));
        store.put_new(&end, &frame::wrap(Kind::TombstoneEnd, &[END_UNDONE])).unwrap();
        assert!(forgotten(&store, &keys).unwrap().is_empty());
        forget(&store, &keys, attempt, 0).unwrap();
        assert!(forgotten(&store, &keys).unwrap().contains(&attempt));
        assert!(store.head(&layout::tombstone(&keys.lineage, attempt, 1)).unwrap().is_some());
    }

    #[test]
    fn an_end_without_its_tombstone_still_forgets() {
        let (store, keys, attempt) = lineage();
        let end = format!("{}.end", layout::tombstone(&keys.lineage, attempt, 0));
        store.put_new(&end, &frame::wrap(Kind::TombstoneEnd, &[END_SWEPT])).unwrap();
        assert!(forgotten(&store, &keys).unwrap().contains(&attempt));
    }
}
