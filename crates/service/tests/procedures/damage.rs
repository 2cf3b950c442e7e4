//! Bytes that are not what was written, in each kind of stored object: never restored silently,
//! found by a verification, and told with the object and the backup.

use strongroom_core::ErrorKind;
use strongroom_core::backup::Backup;
use strongroom_core::verification::{Level, Outcome};
use strongroom_repository::Store;

use crate::checks::{LEVELS, checked, verified};
use crate::restores::Bench;
use crate::room::Room;

/// Two backups, the second one a delta of the first.
async fn specimen() -> (Room, [Backup; 2]) {
    let room = Room::new().await;
    let first = room.completed("first").await;
    room.engine.touch(7);
    let second = room.completed("second").await;
    (room, [first, second])
}

/// A restore of the backup: exactly right, or an error of a kind that says why.
async fn restores_right_or_not_at_all(room: Room, backup: &Backup, what: &str) -> (Room, bool) {
    match room.read(backup).await {
        Ok(read) => {
            assert!(read == room.expected(backup), "{what}: silently wrong");
            (room, true)
        }
        Err(error) => {
            let kinds = [ErrorKind::Damage, ErrorKind::WrongKey, ErrorKind::BackupNotFound];
            assert!(kinds.contains(&error.kind()), "{what}: {error:?}");
            (room, false)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f11_damage_in_any_object_is_found_by_verifying_and_never_restored() {
    let (mut room, backups) = specimen().await;
    let keys: Vec<String> = room.keys("").into_iter().filter(|key| !key.starts_with("FORMAT")).collect();
    assert!(keys.len() >= 8, "{keys:?}");
    for key in keys.iter().filter(|key| *key != "format") {
        let good = room.objects.get(key).unwrap().unwrap();
        let step = (good.len() / 9).max(1);
        for at in (0..good.len()).step_by(step).chain([good.len() - 1]) {
            let mut bad = good.clone();
            bad[at] ^= 0x20;
            room.objects.overwrite(key, bad);
            for backup in &backups {
                let what = format!("{key} byte {at}, backup {}", backup.name);
                let (back, restores) = restores_right_or_not_at_all(room, backup, &what).await;
                room = back;
                if restores {
                    continue;
                }
                let (outcome, findings) = verified(&room, backup, Level::Decode).await;
                assert_eq!(outcome, Outcome::Failed, "{what}");
                assert!(
                    findings.iter().any(|finding| finding.contains(key.as_str())),
                    "{what}: {findings:?}"
                );
            }
            let found = checked(&room, Level::Digest).await;
            assert!(found.iter().any(|(object, ..)| object == key), "{key} byte {at}: {found:?}");
        }
        room.objects.overwrite(key, good);
    }
    for backup in &backups {
        for level in LEVELS {
            assert_eq!(verified(&room, backup, level).await.0, Outcome::Passed, "nobody is accused wrongly");
        }
    }
    assert!(checked(&room, Level::Decode).await.is_empty());
    room.assert_all_restore().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f12_what_is_missing_or_cut_is_found_at_the_first_level() {
    let (mut room, backups) = specimen().await;
    let base = backups[0].attempt_id.unwrap().to_string();
    for key in room.keys("/pk/") {
        let good = room.objects.get(&key).unwrap().unwrap();
        for bad in [None, Some(good[..good.len() - 1].to_vec()), Some(Vec::new())] {
            match bad.clone() {
                None => room.objects.delete(&key).unwrap(),
                Some(bytes) => room.objects.overwrite(&key, bytes),
            }
            let found = checked(&room, Level::Presence).await;
            let finding = found.iter().find(|(object, ..)| *object == key);
            let (_, _, names) = finding.unwrap_or_else(|| panic!("{key}: {found:?}"));
            let own = if key.contains(&base) { "first" } else { "second" };
            assert!(names.iter().any(|name| name == own), "{key}: {names:?}");
            for backup in &backups {
                let (back, restores) = restores_right_or_not_at_all(room, backup, &key).await;
                room = back;
                if !restores {
                    let (outcome, findings) = verified(&room, backup, Level::Presence).await;
                    assert_eq!(outcome, Outcome::Failed, "{key}");
                    assert!(findings.iter().any(|finding| finding.contains(key.as_str())), "{findings:?}");
                }
            }
        }
        room.objects.overwrite(&key, good);
    }
    room.assert_all_restore().await;
}

/// The whole way to the disk: the command fails with the object's name, and never finishes.
#[tokio::test(flavor = "multi_thread")]
async fn f11_a_damaged_pack_ends_the_restore_and_a_mended_one_goes_on() {
    let bench = Bench::new().await;
    let packs = bench.room.keys("/pk/");
    let (mut failed, mut bench) = (0, bench);
    for (number, key) in packs.iter().enumerate() {
        let good = bench.room.objects.get(key).unwrap().unwrap();
        let mut bad = good.clone();
        bad[good.len() / 3] ^= 1;
        bench.room.objects.overwrite(key, bad);
        bench.options.target = bench.folder.path().join(format!("damaged-{number}"));
        match bench.run(&*bench.reader) {
            Ok(_) => bench.assert_restored(),
            Err(error) => {
                failed += 1;
                assert_eq!(error.kind(), ErrorKind::Damage);
                assert!(error.public().contains(key.as_str()), "{}", error.public());
                bench.room.objects.overwrite(key, good.clone());
                bench.run(&*bench.reader).unwrap();
                bench.assert_restored();
            }
        }
        bench.room.objects.overwrite(key, good);
    }
    assert!(failed > 0);
}

/// A damaged backup does not spoil the ones after it.
#[tokio::test(flavor = "multi_thread")]
async fn f13_a_backup_after_damage_is_whole_again() {
    let (room, backups) = specimen().await;
    for key in room.keys(&format!("/pk/{}/", backups[0].attempt_id.unwrap())) {
        room.objects.delete(&key).unwrap();
    }
    room.engine.touch(9);
    let third = room.completed("third").await;
    room.assert_restores(&third).await;
    assert_eq!(verified(&room, &third, Level::Decode).await.0, Outcome::Passed);
    assert_eq!(verified(&room, &backups[1], Level::Presence).await.0, Outcome::Failed);
}

/// A key that does not open touches every backup of its lineage, and is no lack of one.
#[tokio::test(flavor = "multi_thread")]
async fn rot_lineage_key_a_damaged_key_ends_jobs_clearly() {
    let (room, backups) = specimen().await;
    let key = room.keys("/l/").into_iter().find(|key| key.starts_with("keys/")).unwrap();
    let good = room.objects.get(&key).unwrap().unwrap();
    let mut bad = good.clone();
    bad[40] ^= 4;
    room.objects.overwrite(&key, bad);
    for backup in &backups {
        let (outcome, findings) = verified(&room, backup, Level::Presence).await;
        assert_eq!(outcome, Outcome::Failed);
        assert!(findings[0].contains(&key), "{findings:?}");
    }
    let backup = room.ask("keyless").await.unwrap();
    room.process().await.worker.run_due().await;
    let failure = room.row(&backup).await.unwrap().failure.unwrap();
    assert_eq!(failure.code, "damage");
    assert!(failure.message.contains(&key), "{}", failure.message);
    room.objects.overwrite(&key, good);
    room.assert_next_backup_works("after").await;
}

/// What only a name tells is gone with the name; the catalog remembers what it deleted.
#[tokio::test(flavor = "multi_thread")]
async fn rot_tombstone_one_that_is_gone_is_missed_by_the_catalog() {
    let (room, [_, second]) = specimen().await;
    room.delete(&second).await;
    room.process().await.worker.run_due().await;
    assert!(checked(&room, Level::Presence).await.is_empty());
    let tombstone = room.keys("/tb/").remove(0);
    let good = room.objects.get(&tombstone).unwrap().unwrap();
    room.objects.delete(&tombstone).unwrap();
    for level in LEVELS {
        let found = checked(&room, level).await;
        let [(object, problem, backups)] = &found[..] else { panic!("{found:?}") };
        assert_eq!((object, &backups[..]), (&tombstone, &["second".to_owned()][..]));
        assert!(problem.contains("deleted"), "{problem}");
    }
    room.objects.put_new(&tombstone, &good).unwrap();
    assert!(checked(&room, Level::Decode).await.is_empty());
}

/// The whole repository as it was some time ago: each backup made since is missed by name, none of
/// the older ones is accused.
#[tokio::test(flavor = "multi_thread")]
async fn f12_s22_a_repository_that_was_put_back_to_an_older_state_is_found() {
    let (room, _) = specimen().await;
    let older: Vec<String> = room.keys("");
    room.engine.touch(21);
    let newer = [room.completed("third").await, {
        room.engine.touch(22);
        room.completed("fourth").await
    }];
    for key in room.keys("").into_iter().filter(|key| !older.contains(key)) {
        room.objects.delete(&key).unwrap();
    }
    let found = checked(&room, Level::Decode).await;
    let mut accused: Vec<&String> = found.iter().flat_map(|(_, _, backups)| backups).collect();
    accused.sort();
    assert_eq!(accused, ["fourth", "third"], "{found:?}");
    for backup in &newer {
        assert_eq!(room.read(backup).await.unwrap_err().kind(), ErrorKind::BackupNotFound);
        assert_eq!(verified(&room, backup, Level::Presence).await.0, Outcome::Failed);
    }
    room.engine.touch(23);
    let next = room.completed("fifth").await;
    room.assert_restores(&next).await;
}
