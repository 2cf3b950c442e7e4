//! Repositories as released formats wrote them, kept for ever: every later version reads them.
//!
//! `STRONGROOM_WRITE_SPECIMEN=1 cargo test -p strongroom-repository --test specimens` writes the
//! one of the current format anew, which is right only while that format is not released.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

mod room;

use std::sync::Arc;

use room::{CountedRandomness, Members, Room, StandingClock, lineage_id, pages, project, touch};
use strongroom_core::engine::CancelToken;
use strongroom_core::id::AttemptId;
use strongroom_core::progress::Progress;
use strongroom_core::verification::Level;
use strongroom_repository::{MemoryStore, RecoveryKey, Repository, Store, Verdict};

const SPECIMEN: &str = "../../fixtures/formats/repository-1.bin";
const RECOVERY_KEY: &str =
    "SR1-71e0a991-73564931-c0b8acc5-2d2685a8-e39c64dc-52e3d023-90fdac2a-12b155cb-a003827c";
/// Three sealed backups and one that was abandoned.
const ATTEMPTS: u128 = 4;

/// The members of the n-th backup, from rules and not from the specimen.
fn members(round: u8) -> Members {
    let mut members = Members::from([
        (b"data/PG_VERSION".to_vec(), b"15\n".to_vec()),
        (b"data/base/1/16384".to_vec(), rows(140_000)),
        (b"data/base/1/16385".to_vec(), vec![0; 300_000]),
        (b"data/base/1/empty".to_vec(), Vec::new()),
        (b"data/\xff\xfe".to_vec(), b"a name in no encoding".to_vec()),
        (b"wal/000000010000000000000001".to_vec(), pages(3, 3000)),
    ]);
    for seed in 0..round {
        touch(&mut members, seed + 1);
    }
    members
}

/// Text that takes little room when it is compressed.
fn rows(length: usize) -> Vec<u8> {
    let rows = (0..).flat_map(|row| format!("{row:>7}|{:>4}|a row\n", row % 37).into_bytes());
    rows.take(length).collect()
}

fn attempt(number: u128) -> AttemptId {
    AttemptId::new(uuid::Uuid::from_u128(number))
}

fn made() -> (MemoryStore, String) {
    let store = MemoryStore::new();
    let room = Room::new(Arc::new(store.clone()));
    let mut parent = None;
    for round in 0..3 {
        parent = Some(room.back_up(&members(round), parent).unwrap().attempt);
    }
    let abandoned = room.next_attempt();
    assert_eq!(abandoned, attempt(ATTEMPTS));
    drop(room.started(abandoned, None).unwrap());
    room.lineage.abandon(abandoned).unwrap();
    room.lineage.forget(attempt(1)).unwrap();
    (store, room.key.to_text())
}

/// Name and content of each object, each behind its length in four bytes, little-endian.
fn pack(store: &MemoryStore) -> Vec<u8> {
    let mut out = Vec::new();
    for object in store.list("").unwrap() {
        for field in [object.key.as_bytes(), &store.get(&object.key).unwrap().unwrap()] {
            out.extend_from_slice(&u32::try_from(field.len()).unwrap().to_le_bytes());
            out.extend_from_slice(field);
        }
    }
    out
}

fn unpack(bytes: &[u8]) -> MemoryStore {
    let store = MemoryStore::new();
    let mut rest = bytes;
    let mut field = || {
        let (length, after) = rest.split_first_chunk()?;
        let (field, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        rest = after;
        Some(field.to_vec())
    };
    while let (Some(name), Some(content)) = (field(), field()) {
        store.put_new(&String::from_utf8(name).unwrap(), &content).unwrap();
    }
    store
}

#[test]
fn f15_v10_a_repository_of_format_1_is_read_for_ever() {
    if std::env::var_os("STRONGROOM_WRITE_SPECIMEN").is_some() {
        let (store, key) = made();
        std::fs::write(SPECIMEN, pack(&store)).unwrap();
        panic!("the specimen was written anew; its recovery key is {key}");
    }
    let store = unpack(&std::fs::read(SPECIMEN).unwrap());
    let key = RecoveryKey::parse(RECOVERY_KEY).unwrap();
    let random = Arc::new(CountedRandomness::starting_at(1 << 40));
    let repository =
        Repository::open(Arc::new(store.clone()), &key, Arc::new(StandingClock), random).unwrap();
    let report = repository.check(Level::Decode, &CancelToken::new(), &Progress::new()).unwrap();
    assert!(report.passed() && report.objects_checked > 20, "{report:#?}");
    let lineage = repository.lineage(&project(), &lineage_id()).unwrap();
    assert!(lineage.is_forgotten(attempt(1)).unwrap());
    for round in 1..3 {
        assert_eq!(room::read(&lineage, attempt(u128::from(round) + 1)).unwrap(), members(round));
    }
    assert_eq!(lineage.verdict(attempt(ATTEMPTS)).unwrap(), Some(Verdict::Abandoned));
    let summary = lineage.backups().unwrap().pop().unwrap();
    assert_eq!((summary.catalog.instance_name.as_str(), summary.parent), ("shop", Some(attempt(2))));
    // What it writes today stands on what was written then.
    assert_eq!(lineage.latest_parent().unwrap(), Some(attempt(3)));
}
