//! Damage of each kind of stored object: found by `check` with its name, never restored silently,
//! and nothing undamaged accused.

use std::fs;
use std::path::{Path, PathBuf};

use crate::room::{Room, files};
use crate::source::{Source, restore};

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x40;
    fs::write(path, bytes).unwrap();
}

/// The objects of a kind: the folder they stand in.
fn of_kind(room: &Room, kind: &str) -> Vec<PathBuf> {
    let stands_in = |path: &PathBuf| {
        path.parent().and_then(Path::parent).is_some_and(|parent| parent.ends_with(kind))
            || path.parent().is_some_and(|parent| parent.ends_with(kind))
    };
    files(&room.repository()).into_iter().filter(stands_in).collect()
}

#[test]
fn f11_a_flipped_byte_in_each_kind_of_object_is_found_and_never_restored() {
    let (room, source) = (Room::serving(), Source::filled(12));
    source.register(&room);
    room.json(&["backup", "create", "shop", "--name", "good", "--wait", "--progress", "none"]);
    room.run(&["repository", "check", "--level", "decode", "--progress", "none"]).expect(0);
    let (packs, verdicts) = (of_kind(&room, "pk"), of_kind(&room, "at"));
    assert!(packs.len() >= 2 && verdicts.len() == 1, "{packs:?} {verdicts:?}");
    let mut specimens: Vec<(PathBuf, usize)> = Vec::new();
    for pack in &packs {
        let length = usize::try_from(fs::metadata(pack).unwrap().len()).unwrap();
        // Header, first record, middle, slot table and trailer.
        specimens.extend([20, 200, length / 2, length - 100, length - 20].map(|at| (pack.clone(), at)));
    }
    let length = usize::try_from(fs::metadata(&verdicts[0]).unwrap().len()).unwrap();
    specimens.extend([20, length / 2, length - 10].map(|at| (verdicts[0].clone(), at)));
    for (path, at) in specimens {
        let kept = fs::read(&path).unwrap();
        flip(&path, at);
        let found = room.run(&["repository", "check", "--level", "digest", "--progress", "none"]);
        assert_eq!(found.code, 5, "{} at {at}: {}", path.display(), found.stdout);
        assert!(found.stdout.contains(path.file_name().unwrap().to_str().unwrap()), "{}", found.stdout);
        let target = room.scratch.path().join("target");
        let restored = restore(&room, "good", &target);
        if restored.code == 0 {
            // Not every byte is needed by a restore; what was needed was read and compared.
            fs::write(&path, &kept).unwrap();
            same_tree(&room, &target);
        } else {
            assert_eq!(restored.code, 5, "{} at {at}: {}", path.display(), restored.stderr);
        }
        let _ = fs::remove_dir_all(&target);
        fs::write(&path, &kept).unwrap();
    }
    room.run(&["repository", "check", "--level", "decode", "--progress", "none"]).expect(0);
}

/// The tree is the one that an undamaged repository gives.
fn same_tree(room: &Room, found: &Path) {
    same_tree_of(room, "good", found);
}

fn same_tree_of(room: &Room, backup: &str, found: &Path) {
    let wanted = room.scratch.path().join("wanted");
    restore(room, backup, &wanted).expect(0);
    for path in files(&wanted) {
        let name = path.strip_prefix(&wanted).unwrap();
        assert!(fs::read(&path).unwrap() == fs::read(found.join(name)).unwrap(), "{}", name.display());
    }
    fs::remove_dir_all(&wanted).unwrap();
}

#[test]
fn a_pack_that_is_gone_is_told_by_name() {
    let (room, source) = (Room::serving(), Source::filled(2));
    source.register(&room);
    room.json(&["backup", "create", "shop", "--name", "good", "--wait", "--progress", "none"]);
    // The largest one holds the data; a restore needs no roster.
    let pack = of_kind(&room, "pk").into_iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    fs::rename(&pack, room.scratch.path().join("pack")).unwrap();
    let found =
        room.run(&["backup", "verify", "good", "--level", "presence", "--progress", "none"]).expect(5);
    assert!(found.stdout.contains(pack.file_name().unwrap().to_str().unwrap()), "{}", found.stdout);
    let view = room.json(&["backup", "show", "good"]);
    assert_eq!((&view["status"], &view["verification"]["result"]), (&"COMPLETED".into(), &"failed".into()));
    restore(&room, "good", &room.scratch.path().join("target")).expect(5);
}

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    Flipped,
    Truncated,
    Zeroed,
    Swapped,
    Replayed,
    Removed,
}

const DAMAGES: [Damage; 6] =
    [Damage::Flipped, Damage::Truncated, Damage::Zeroed, Damage::Swapped, Damage::Replayed, Damage::Removed];

/// Answers whether there was another content to put there.
fn damage(path: &Path, how: Damage, sibling: Option<&PathBuf>, older: &Path) -> bool {
    let good = fs::read(path).unwrap();
    let bad = match how {
        Damage::Removed => {
            fs::remove_file(path).unwrap();
            return true;
        }
        Damage::Flipped => {
            let mut bytes = good.clone();
            bytes[good.len() / 2] ^= 0x20;
            bytes
        }
        Damage::Truncated => good[..good.len() / 2].to_vec(),
        Damage::Zeroed => vec![0; good.len()],
        Damage::Swapped => sibling.map_or_else(|| good.clone(), |sibling| fs::read(sibling).unwrap()),
        Damage::Replayed => fs::read(older).unwrap(),
    };
    fs::write(path, &bad).unwrap();
    bad != good
}

/// The objects that a check must name: what a check says and how it ends.
fn accused(room: &Room) -> (i32, Vec<(String, Vec<String>)>) {
    let done =
        room.run(&["repository", "check", "--level", "decode", "--progress", "none", "--output", "json"]);
    let findings = done.json()["findings"].as_array().cloned().unwrap_or_default();
    let texts = |value: &serde_json::Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    let found =
        findings.iter().map(|found| (found["object"].as_str().unwrap().to_owned(), texts(&found["backups"])));
    (done.code, found.collect())
}

#[test]
fn rot_format_key_pack_verdict_tombstone_each_damaged_in_each_way() {
    let (mut room, source) = (Room::empty(), Source::filled(4));
    // What the deleted backup left must stay for as long as this takes.
    room.options = vec!["--sweep-delay-seconds".to_owned(), "never".to_owned()];
    room.serve();
    source.register(&room);
    for name in ["gone", "first", "second"] {
        room.json(&["backup", "create", "shop", "--name", name, "--wait", "--progress", "none"]);
        source.change(3);
    }
    room.run(&["backup", "delete", "gone"]).expect(0);
    let root = room.repository();
    let name = |path: &Path| path.strip_prefix(&root).unwrap().display().to_string();
    let all: Vec<PathBuf> = files(&root).into_iter().filter(|path| !name(path).starts_with("tmp/")).collect();
    // Of what belongs to a deleted backup only the tombstone is watched.
    let mut attempts: Vec<String> = of_kind(&room, "at")
        .iter()
        .map(|verdict| verdict.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    attempts.sort();
    let [gone, first, second] = &attempts[..] else { panic!("{attempts:?}") };
    let (mut cases, mut refused) = (0, 0);
    for path in all.iter().filter(|path| !name(path).contains(gone) || name(path).contains("/tb/")) {
        let folder = path.parent().unwrap();
        let sibling = all.iter().find(|other| *other != path && other.parent() == Some(folder));
        let older = all.iter().find(|other| *other != path && name(other).contains("/pk/")).unwrap();
        let good = fs::read(path).unwrap();
        for how in DAMAGES {
            if !damage(path, how, sibling, older) {
                continue;
            }
            let what = format!("{} {how:?}", name(path));
            // Without its identity the repository is no repository: a missing disk, not damage.
            if name(path) == "format" && how == Damage::Removed {
                let done = room.run(&["repository", "check", "--progress", "none"]);
                assert!(
                    done.code != 0 && done.stderr.contains("its identity is missing"),
                    "{what}: {}",
                    done.stderr
                );
                fs::write(path, &good).unwrap();
                continue;
            }
            let (code, found) = accused(&room);
            assert_eq!(code, 5, "{what}");
            let objects: Vec<&str> = found.iter().map(|(object, _)| object.as_str()).collect();
            // A manifest that is gone is missed by the row of its backup as well.
            let objects: Vec<&str> =
                objects.into_iter().filter(|object| !object.starts_with("backup ")).collect();
            let is_key = name(path).starts_with("keys/") && how == Damage::Removed;
            assert!(objects == [name(path)] || (is_key && objects.len() == 1), "{what}: {found:?}");
            for (own, backup) in [(first, "first"), (second, "second")] {
                let is_own = name(path).contains(own);
                let is_told = found[0].1.iter().any(|told| told == backup || told.contains(own));
                assert!(is_told || !is_own, "{what}: {backup} is not named: {found:?}");
            }
            cases += 1;
            if how == Damage::Flipped {
                refused += usize::from(!restores_right_or_not_at_all(&room, path, &good, &what));
            }
            fs::write(path, &good).unwrap();
        }
    }
    assert_eq!(accused(&room), (0, Vec::new()), "nothing is accused once all is mended");
    strongroom_testkit::depth::report(format_args!("{cases} cases of damage, {refused} restores refused"));
    assert!(cases > 50 && refused > 2, "{cases} {refused}");
}

/// Answers whether it was restored.
fn restores_right_or_not_at_all(room: &Room, path: &Path, good: &[u8], what: &str) -> bool {
    let target = room.scratch.path().join("under-damage");
    let bad = fs::read(path).unwrap();
    let done = restore(room, "second", &target);
    fs::write(path, good).unwrap();
    let restored = done.code == 0;
    if restored {
        same_tree_of(room, "second", &target);
    } else {
        assert!([3, 5, 6].contains(&done.code), "{what}: {} {}", done.code, done.stderr);
    }
    let _ = fs::remove_dir_all(&target);
    fs::write(path, bad).unwrap();
    restored
}
