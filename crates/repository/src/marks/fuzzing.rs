//! Marks, as the fuzzer calls them.

use strongroom_core::id::{AttemptId, LineageId};

use super::{END_UNDONE, check, forgotten, next_tombstone, put_reader_intent, put_writer_intent};
use crate::binary::{Cursor, Put as _};
use crate::frame::{self, Kind};
use crate::keys::LineageKeys;
use crate::keys::fuzzing::fixed;
use crate::layout::{self, IntentOf};
use crate::store::{MemoryStore, Store as _};

fn attempt() -> AttemptId {
    AttemptId::from_bytes([9; 16])
}

/// Every kind of mark, by its name.
fn names(lineage: &LineageId, number: u32) -> [(Kind, String); 5] {
    let tombstone = layout::tombstone(lineage, attempt(), number);
    [
        (Kind::Intent, layout::intent(lineage, attempt())),
        (Kind::Intent, layout::reader_intent(lineage, &"a".repeat(32), number)),
        (Kind::TombstoneEnd, format!("{tombstone}.end")),
        (Kind::Tombstone, tombstone),
        (Kind::Hold, format!("{}{number}", layout::hold_prefix(lineage, attempt()))),
    ]
}

/// A kind, a number, and what the mark says. What is taken is taken under its own name only, and is
/// what a writer would write; what forgets a backup is in its name, and an end that takes it back
/// must say so.
pub(crate) fn marks(bytes: &[u8]) -> bool {
    let Some(([which, number @ ..], payload)) = bytes.split_first_chunk::<5>() else { return false };
    let (keys, number) = (fixed(), u32::from_le_bytes(*number));
    let lineage = &keys.lineage;
    let names = names(lineage, number);
    let (kind, key) = &names[usize::from(*which) % names.len()];
    let object = frame::wrap(*kind, key, payload);
    let _ = check(lineage, key, payload);
    let is_taken = check(lineage, key, &object).is_ok();
    for (_, other) in names.iter().filter(|(_, other)| other != key) {
        assert!(check(lineage, other, &object).is_err(), "{key} as {other}");
    }
    if is_taken && *kind == Kind::Intent {
        assert!(written_again(&keys, key, payload).is_none_or(|again| again == object), "{key}");
    }
    let store = MemoryStore::new();
    store.overwrite(key, object);
    let forgets = match kind {
        Kind::Tombstone => true,
        Kind::TombstoneEnd => *payload != [END_UNDONE],
        _ => false,
    };
    let gone = forgotten(&store, lineage).expect("damaged marks do not stand in the way of others");
    assert_eq!(gone.contains(&attempt()), forgets, "{key}");
    let next = next_tombstone(&store, lineage, attempt());
    let expected =
        if matches!(kind, Kind::Tombstone | Kind::TombstoneEnd) { number.checked_add(1) } else { Some(0) };
    assert_eq!(next.ok(), expected.map(|number| layout::tombstone(lineage, attempt(), number)));
    is_taken
}

/// `None` for a worker's name that is no text: we write none.
fn written_again(keys: &LineageKeys, key: &str, payload: &[u8]) -> Option<Vec<u8>> {
    let store = MemoryStore::new();
    let mut cursor = Cursor::new(payload);
    let named = cursor.array().ok()?;
    match layout::parse_intent(&keys.lineage, key)? {
        IntentOf::Writer(attempt) => {
            let parent = (named != [0; 16]).then(|| AttemptId::from_bytes(named));
            let (epoch, now_us) = (cursor.i64().ok()?, cursor.i64().ok()?);
            cursor.u16().ok()?;
            let worker = std::str::from_utf8(cursor.rest()).ok()?;
            put_writer_intent(&store, keys, attempt, parent, epoch, worker, now_us).ok()?;
        }
        IntentOf::Reader(_) => {
            let now_us = cursor.i64().ok()?;
            put_reader_intent(&store, key, AttemptId::from_bytes(named), now_us).ok()?;
        }
    }
    store.get(key).ok()?
}

fn seed(which: u8, number: u32, payload: &[u8]) -> Vec<u8> {
    [&[which][..], &number.to_le_bytes(), payload].concat()
}

pub(crate) fn writer() -> Vec<u8> {
    let mut payload = vec![3; 16];
    payload.put_i64(1);
    payload.put_i64(1_700_000_000_000_000);
    payload.put_u16(6);
    payload.extend_from_slice(b"worker");
    seed(0, 0, &payload)
}

pub(crate) fn reader() -> Vec<u8> {
    seed(1, 4, &[3; 24])
}

pub(crate) fn end() -> Vec<u8> {
    seed(2, 0, &[END_UNDONE])
}

/// Broke the search for the next one.
pub(crate) fn last_tombstone() -> Vec<u8> {
    seed(3, u32::MAX, &[3; 8])
}
