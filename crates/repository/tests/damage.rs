//! Damage: each stored byte flipped, objects truncated, swapped, removed, replayed. A check finds
//! it and names the object; a read never answers a wrong byte.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

mod room;

use std::sync::Arc;

use room::{Members, Room, pages, touch};
use strongroom_core::ErrorKind;
use strongroom_core::engine::CancelToken;
use strongroom_core::id::AttemptId;
use strongroom_core::progress::Progress;
use strongroom_core::verification::Level;
use strongroom_repository::{CheckReport, MemoryStore, Store};

struct Specimen {
    store: MemoryStore,
    room: Room,
    kept: Vec<(AttemptId, Members)>,
}

/// Two backups, the second a delta of the first; small enough to damage every byte.
fn specimen() -> Specimen {
    let store = MemoryStore::new();
    let room = Room::new(Arc::new(store.clone()));
    let mut members = Members::from([
        (b"data/base/1/16384".to_vec(), pages(1, 140_000)),
        (b"data/PG_VERSION".to_vec(), b"15\n".to_vec()),
    ]);
    let (mut kept, mut parent) = (Vec::new(), None);
    for round in 0..2 {
        let summary = room.back_up(&members, parent).unwrap();
        parent = Some(summary.attempt);
        kept.push((summary.attempt, members.clone()));
        touch(&mut members, round + 1);
    }
    Specimen { store, room, kept }
}

impl Specimen {
    fn check(&self, level: Level) -> CheckReport {
        self.room.lineage.check(None, level, &CancelToken::new(), &Progress::new()).unwrap()
    }

    /// Every backup reads exactly, or fails as damaged.
    fn reads_right_or_not_at_all(&self, what: &str) {
        for (attempt, members) in &self.kept {
            match self.room.read(*attempt) {
                Ok(read) => assert_eq!(&read, members, "{what}"),
                Err(error) => assert!(
                    matches!(
                        error.kind(),
                        ErrorKind::Damage
                            | ErrorKind::WrongKey
                            | ErrorKind::Unavailable
                            | ErrorKind::BackupNotFound
                    ),
                    "{what}: {error:?}"
                ),
            }
        }
    }

    fn objects(&self) -> Vec<String> {
        let listed = self.store.list("").unwrap();
        listed.into_iter().map(|object| object.key).filter(|key| !key.starts_with("FORMAT")).collect()
    }
}

#[test]
fn f11_a_flipped_byte_in_any_object_is_found_and_never_restored() {
    let specimen = specimen();
    assert!(specimen.check(Level::Decode).passed());
    for key in specimen.objects().into_iter().filter(|key| key != "format") {
        let good = specimen.store.get(&key).unwrap().unwrap();
        // Every byte of small objects, and a net over the large ones: ends, and every 97th byte.
        let places = (0..good.len())
            .filter(|at| good.len() < 400 || *at < 200 || *at + 200 > good.len() || at % 97 == 0);
        for at in places {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            specimen.store.overwrite(&key, bad);
            let report = specimen.check(Level::Digest);
            let named: Vec<&str> = report.findings.iter().map(|finding| finding.object.as_str()).collect();
            assert_eq!(named, [key.as_str()], "byte {at}");
            if at % 11 == 0 {
                specimen.reads_right_or_not_at_all(&format!("{key} byte {at}"));
            }
        }
        specimen.store.overwrite(&key, good);
    }
    assert!(specimen.check(Level::Decode).passed(), "no accusation of undamaged data");
}

#[test]
fn f12_truncated_removed_and_swapped_objects_are_found() {
    let specimen = specimen();
    let packs: Vec<String> = specimen.objects().into_iter().filter(|key| key.contains("/pk/")).collect();
    for key in &packs {
        let good = specimen.store.get(key).unwrap().unwrap();
        for length in [0, 1, 100, good.len() / 2, good.len() - 1] {
            specimen.store.overwrite(key, good[..length].to_vec());
            assert!(!specimen.check(Level::Presence).passed(), "{key} cut to {length}");
            specimen.reads_right_or_not_at_all(key);
        }
        specimen.store.overwrite(key, vec![0; good.len()]);
        assert!(!specimen.check(Level::Digest).passed(), "{key} zeroed");
        specimen.store.delete(key).unwrap();
        assert!(!specimen.check(Level::Presence).passed(), "{key} removed");
        specimen.reads_right_or_not_at_all(key);
        for other in packs.iter().filter(|other| *other != key) {
            let sibling = specimen.store.get(other).unwrap().unwrap();
            specimen.store.overwrite(key, sibling);
            assert!(!specimen.check(Level::Digest).passed(), "{other} under the name {key}");
            specimen.reads_right_or_not_at_all(key);
        }
        specimen.store.overwrite(key, good);
    }
    assert!(specimen.check(Level::Decode).passed());
}

#[test]
fn s22_a_manifest_under_another_name_is_not_believed() {
    let specimen = specimen();
    let verdicts: Vec<String> = specimen.objects().into_iter().filter(|key| key.contains("/at/")).collect();
    let [first, second] = &verdicts[..] else { panic!("{verdicts:?}") };
    let older = specimen.store.get(first).unwrap().unwrap();
    specimen.store.overwrite(second, older);
    assert_eq!(specimen.room.read(specimen.kept[1].0).unwrap_err().kind(), ErrorKind::Damage);
    assert!(!specimen.check(Level::Presence).passed());
}

#[test]
fn f13_a_lost_base_is_reported_for_all_chains_on_it_and_stored_again() {
    let specimen = specimen();
    let (attempt, members) = &specimen.kept[1];
    let base = format!("/pk/{}/", specimen.kept[0].0);
    let pack = specimen.objects().into_iter().find(|key| key.contains(&base)).unwrap();
    specimen.store.delete(&pack).unwrap();
    let report = specimen.check(Level::Presence);
    let finding = report.findings.iter().find(|finding| finding.object == pack).unwrap();
    assert_eq!(finding.attempts, specimen.kept.iter().map(|(attempt, _)| *attempt).collect::<Vec<_>>());
    // Built upon all the same, the next backup does not fail: what cannot be decoded is stored in
    // full again. By itself it is not chosen as parent any more: the next backup is a whole one.
    let mut changed = members.clone();
    touch(&mut changed, 77);
    let next = specimen.room.back_up(&changed, Some(*attempt)).unwrap();
    assert!(next.totals.chunks_full > 0);
    specimen.room.lineage.forget(next.attempt).unwrap();
    assert_eq!(specimen.room.lineage.latest_parent().unwrap(), None);
    let whole = specimen.room.back_up(&changed, None).unwrap();
    assert_eq!(specimen.room.read(whole.attempt).unwrap(), changed);
    assert_eq!(specimen.room.lineage.latest_parent().unwrap(), Some(whole.attempt));
}
