//! Damage: the file is named, nothing wrong is written as good, and what can be read can be had.

use std::fs;
use std::path::PathBuf;

use crate::program::{Desk, assert_same, files, written};
use crate::room::{Members, database, pages, touch};

/// Packs of the repository, the largest first: the data packs.
fn packs(desk: &Desk) -> Vec<PathBuf> {
    let mut found: Vec<(usize, PathBuf)> = desk
        .objects()
        .into_iter()
        .filter(|(path, _)| path.components().nth(2).is_some_and(|part| part.as_os_str() == "pk"))
        .map(|(path, bytes)| (bytes.len(), desk.repository().join(path)))
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, path)| path).collect()
}

fn flip(path: &PathBuf, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x20;
    fs::write(path, bytes).unwrap();
}

fn two_backups(desk: &Desk) -> Members {
    let mut members = database();
    members.insert(b"data/noise".to_vec(), {
        let mut noise = vec![0; 900_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        noise
    });
    let first = desk.room.back_up(&members, None).unwrap().attempt;
    touch(&mut members, 1);
    desk.room.back_up(&members, Some(first)).unwrap();
    members
}

#[test]
fn f11_a_flipped_byte_ends_it_with_the_files_name_and_keep_going_saves_the_rest() {
    let desk = Desk::new();
    let members = two_backups(&desk);
    // In the middle of the largest pack: a chunk of the noise.
    let pack = packs(&desk).remove(0);
    let middle = fs::metadata(&pack).unwrap().len() as usize / 2;
    flip(&pack, middle);

    let target = desk.target("copy");
    let order = ["extract", "@latest", "--target", target.to_str().unwrap()];
    let talk = desk.answered(&order, 5);
    assert!(talk.contains("data/noise cannot be read") && talk.contains("is damaged"), "{talk}");
    assert!(target.join(".strongroom-restore").exists(), "the target stays marked as not restored");

    let saved = desk.target("saved");
    let told = desk.json(&["extract", "@latest", "--target", saved.to_str().unwrap(), "--keep-going"], 5);
    let missing = told["missing"].as_array().unwrap();
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert_eq!(missing[0]["path"], "data/noise");
    let (offset, length) =
        (missing[0]["offset"].as_u64().unwrap() as usize, missing[0]["length"].as_u64().unwrap() as usize);
    assert_eq!(length, 131_072);
    let mut wanted = written(&members);
    wanted.get_mut(&PathBuf::from("noise")).unwrap()[offset..offset + length].fill(0);
    let mut found = files(&saved);
    let list = found.remove(&PathBuf::from("strongroom-missing.txt")).unwrap();
    assert!(String::from_utf8(list).unwrap().contains(&format!("data/noise bytes {offset} to")));
    assert_same(&found, &wanted, "what was saved");
    // The part that is sound is not accused.
    desk.answered(
        &["extract", "@latest", "--target", desk.target("part").to_str().unwrap(), "--path", "data/base"],
        0,
    );
}

#[test]
fn f11_any_flipped_byte_of_any_object_is_told_or_harmless() {
    let desk = Desk::new();
    let members = two_backups(&desk);
    let wanted = written(&members);
    for (number, (path, bytes)) in desk.objects().into_iter().enumerate() {
        let object = desk.repository().join(&path);
        flip(&object, bytes.len() / 3);
        let target = desk.target(&format!("copy{number}"));
        let output = desk.run(&["extract", "@latest", "--target", target.to_str().unwrap()]);
        if output.status.success() {
            assert_same(&files(&target), &wanted, path.to_str().unwrap());
        } else {
            let talk = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.code() == Some(5) || output.status.code() == Some(3), "{talk}");
        }
        if !path.ends_with("FORMAT.md") && !path.ends_with("FORMAT.md.b3") {
            let talk = desk.answered(&["check"], 5);
            assert!(talk.contains(path.to_str().unwrap()), "{}: {talk}", path.display());
        }
        fs::write(&object, bytes).unwrap();
    }
    desk.answered(&["check"], 0);
}

#[test]
fn f11_a_missing_pack_of_the_tree_leaves_what_can_be_named() {
    let desk = Desk::new();
    let mut members = Members::new();
    for number in 0..3000 {
        members.insert(format!("data/base/{number:05}").into_bytes(), pages(number, 50));
    }
    desk.room.back_up(&members, None).unwrap();
    let whole = packs(&desk);
    // Every meta pack is taken away in turn; the data packs are looked at above.
    for pack in &whole {
        let bytes = fs::read(pack).unwrap();
        if bytes[12] != 1 {
            continue;
        }
        fs::remove_file(pack).unwrap();
        let target = desk.target(&format!("saved{}", pack.file_name().unwrap().to_str().unwrap()));
        let order = ["extract", "@latest", "--target", target.to_str().unwrap(), "--keep-going"];
        let output = desk.run(&order);
        let found = files(&target);
        if output.status.success() {
            assert_same(&found, &written(&members), "nothing was needed of it");
        } else {
            assert_eq!(output.status.code(), Some(5));
            assert!(found.contains_key(&PathBuf::from("strongroom-missing.txt")));
        }
        fs::write(pack, bytes).unwrap();
    }
}
