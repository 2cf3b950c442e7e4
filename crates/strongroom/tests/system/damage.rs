//! A flipped byte in each kind of stored object: found by `check`, never restored silently.

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
    let wanted = room.scratch.path().join("wanted");
    restore(room, "good", &wanted).expect(0);
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
