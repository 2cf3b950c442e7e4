//! Small marks beside a backup: intents (somebody writes or reads it), tombstones (it is
//! forgotten), holds (it must not be). The protocol between them is `repository.md` sections 5–7.

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;

use std::collections::{BTreeMap, BTreeSet};

use strongroom_core::id::{AttemptId, LineageId};
use strongroom_core::{Error, ErrorKind, Result, Retry};

use crate::binary::{Cursor, Parsed, Put as _};
use crate::frame::{self, Kind};
use crate::keys::LineageKeys;
use crate::layout::{self, IntentOf};
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
    match store.put_new(&key, &frame::wrap(Kind::Intent, &key, &payload))? {
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
    store.put_new(key, &frame::wrap(Kind::Intent, key, &payload)).map(|_| ())
}

/// The attempts of a lineage that are forgotten: their newest tombstone has no end `undone`. An
/// end whose tombstone is missing counts as that tombstone, and an end that cannot be read is not
/// `undone`: damage must neither bring a backup back nor stand in the way of all the others.
pub(crate) fn forgotten(store: &dyn Store, lineage: &LineageId) -> Result<BTreeSet<AttemptId>> {
    let mut newest: BTreeMap<AttemptId, (u32, bool)> = BTreeMap::new();
    for object in store.list(&layout::tombstone_prefix(lineage))? {
        let Some((attempt, number, is_end)) = layout::parse_tombstone(lineage, &object.key) else {
            continue;
        };
        let undone = is_end && is_surely_undone(store, &object.key)?;
        let mark = newest.entry(attempt).or_insert((number, undone));
        *mark =
            if number > mark.0 { (number, undone) } else { (mark.0, mark.1 || (number == mark.0 && undone)) };
    }
    Ok(newest.into_iter().filter(|(_, (_, undone))| !undone).map(|(attempt, _)| attempt).collect())
}

/// What a tombstone's end says.
pub(crate) const END_SWEPT: u8 = 1;
const END_UNDONE: u8 = 2;

fn is_surely_undone(store: &dyn Store, key: &str) -> Result<bool> {
    match end_is_undone(store, key) {
        Err(error) if error.kind() == ErrorKind::Damage => {
            tracing::warn!(
                object = key,
                "A damaged end of a tombstone is not taken for undone: {}",
                error.public()
            );
            Ok(false)
        }
        other => other,
    }
}

/// Whether the end takes its tombstone back.
fn end_is_undone(store: &dyn Store, key: &str) -> Result<bool> {
    read_end(key, &store.get(key)?.ok_or_else(|| frame::missing(key))?)
}

/// Whether an end says `undone`.
pub(crate) fn read_end(key: &str, object: &[u8]) -> Result<bool> {
    match frame::unwrap(key, Kind::TombstoneEnd, object)? {
        [END_SWEPT] => Ok(false),
        [END_UNDONE] => Ok(true),
        _ => Err(frame::damage(key, "it is neither swept nor undone")),
    }
}

/// The name of the tombstone that would forget the backup now.
pub(crate) fn next_tombstone(store: &dyn Store, lineage: &LineageId, attempt: AttemptId) -> Result<String> {
    let listed = store.list(&layout::tombstone_prefix(lineage))?;
    let tombstones = listed.iter().filter_map(|object| layout::parse_tombstone(lineage, &object.key));
    let number = match tombstones.filter(|(of, _, _)| *of == attempt).map(|(_, number, _)| number).max() {
        None => 0,
        // We never come near; somebody else made it.
        Some(last) => last.checked_add(1).ok_or_else(|| {
            frame::damage(&layout::tombstone(lineage, attempt, last), "its number leaves no next one")
        })?,
    };
    Ok(layout::tombstone(lineage, attempt, number))
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
    if forgotten(store, &keys.lineage)?.contains(&attempt) {
        return Ok(());
    }
    let mut payload = Vec::new();
    payload.put_i64(now_us);
    let key = next_tombstone(store, &keys.lineage, attempt)?;
    // Already there means that somebody else forgot it at the same moment. Neither answer is
    // believed: without its tombstone the backup would come back once its row is gone.
    store.put_new(&key, &frame::wrap(Kind::Tombstone, &key, &payload))?;
    match store.get(&key)? {
        Some(object) => check(&keys.lineage, &key, &object),
        None => Err(frame::missing(&key).with_retry(Retry::Later)),
    }
}

/// Whether a mark says what its name promises, whatever it then means.
pub(crate) fn check(lineage: &LineageId, key: &str, object: &[u8]) -> Result<()> {
    if let Some((_, _, is_end)) = layout::parse_tombstone(lineage, key) {
        return if is_end {
            read_end(key, object).map(|_| ())
        } else {
            let payload = frame::unwrap(key, Kind::Tombstone, object)?;
            shape(key, payload, |cursor| cursor.i64().map(|_| ()))
        };
    }
    match layout::parse_intent(lineage, key) {
        Some(IntentOf::Writer(_)) => shape(key, frame::unwrap(key, Kind::Intent, object)?, |cursor| {
            cursor.array::<16>()?;
            cursor.array::<16>()?;
            let length = usize::from(cursor.u16()?);
            cursor.take(length).map(|_| ())
        }),
        Some(IntentOf::Reader(_)) => shape(key, frame::unwrap(key, Kind::Intent, object)?, |cursor| {
            cursor.array::<16>()?;
            cursor.i64().map(|_| ())
        }),
        None if layout::parse_hold(lineage, key).is_some() => {
            frame::unwrap(key, Kind::Hold, object).map(|_| ())
        }
        None => Err(frame::damage(key, "its name is not one of ours")),
    }
}

fn shape(key: &str, payload: &[u8], read: impl FnOnce(&mut Cursor<'_>) -> Parsed<()>) -> Result<()> {
    let mut cursor = Cursor::new(payload);
    read(&mut cursor).and_then(|()| cursor.end()).map_err(frame::malformed(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{RecoveryKey, open_or_create};
    use crate::store::MemoryStore;
    use strongroom_core::id::ProjectId;
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
        store.put_new(&hold, &frame::wrap(Kind::Hold, &hold, b"")).unwrap();
        assert_eq!(forget(&store, &keys, attempt, 0).unwrap_err().kind(), ErrorKind::BackupHeld);
        assert!(forgotten(&store, &keys.lineage).unwrap().is_empty());
    }

    #[test]
    fn undo_and_forget_again() {
        let (store, keys, attempt) = lineage();
        forget(&store, &keys, attempt, 0).unwrap();
        forget(&store, &keys, attempt, 0).unwrap();
        assert!(forgotten(&store, &keys.lineage).unwrap().contains(&attempt));
        let end = format!("{}.end", layout::tombstone(&keys.lineage, attempt, 0));
        store.put_new(&end, &frame::wrap(Kind::TombstoneEnd, &end, &[END_UNDONE])).unwrap();
        assert!(forgotten(&store, &keys.lineage).unwrap().is_empty());
        forget(&store, &keys, attempt, 0).unwrap();
        assert!(forgotten(&store, &keys.lineage).unwrap().contains(&attempt));
        assert!(store.head(&layout::tombstone(&keys.lineage, attempt, 1)).unwrap().is_some());
    }

    #[test]
    fn rot_tombstone_a_damaged_end_neither_revives_nor_blocks() {
        let (store, keys, attempt) = lineage();
        let other = AttemptId::new(uuid::Uuid::from_u128(10));
        forget(&store, &keys, attempt, 0).unwrap();
        forget(&store, &keys, other, 0).unwrap();
        for (of, state) in [(attempt, END_SWEPT), (other, END_UNDONE)] {
            let end = format!("{}.end", layout::tombstone(&keys.lineage, of, 0));
            store.put_new(&end, &frame::wrap(Kind::TombstoneEnd, &end, &[state])).unwrap();
        }
        assert_eq!(forgotten(&store, &keys.lineage).unwrap(), BTreeSet::from([attempt]));
        // The end of the one under the name of the other.
        let (end, others) = (
            format!("{}.end", layout::tombstone(&keys.lineage, attempt, 0)),
            format!("{}.end", layout::tombstone(&keys.lineage, other, 0)),
        );
        store.overwrite(&end, store.get(&others).unwrap().unwrap());
        assert_eq!(forgotten(&store, &keys.lineage).unwrap(), BTreeSet::from([attempt]));
    }

    #[test]
    fn a_tombstone_of_the_last_number_has_no_next_one() {
        let (store, keys, attempt) = lineage();
        let last = layout::tombstone(&keys.lineage, attempt, u32::MAX);
        store.put_new(&last, b"whatever").unwrap();
        let error = next_tombstone(&store, &keys.lineage, attempt).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damage);
    }

    #[test]
    fn an_end_without_its_tombstone_still_forgets() {
        let (store, keys, attempt) = lineage();
        let end = format!("{}.end", layout::tombstone(&keys.lineage, attempt, 0));
        store.put_new(&end, &frame::wrap(Kind::TombstoneEnd, &end, &[END_SWEPT])).unwrap();
        assert!(forgotten(&store, &keys.lineage).unwrap().contains(&attempt));
    }
}
