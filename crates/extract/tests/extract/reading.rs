//! Listing, looking and extracting, byte for byte; nothing is written into the repository.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::program::{Desk, assert_same, files, written};
use crate::room::{Members, database, pages, touch};

/// Several backups of one source: deltas, fills, small and large files.
fn history(desk: &Desk, rounds: u8) -> Vec<Members> {
    let (mut members, mut kept, mut parent) = (database(), Vec::new(), None);
    members.insert(b"meta/backup_manifest".to_vec(), b"{}".to_vec());
    members.insert(b"tablespace/4711/PG_15/1".to_vec(), pages(9, 200_000));
    for round in 0..rounds {
        parent = Some(desk.room.back_up(&members, parent).unwrap().attempt);
        kept.push(members.clone());
        touch(&mut members, round + 1);
    }
    kept
}

#[test]
fn every_backup_is_listed_and_extracted_byte_for_byte() {
    let desk = Desk::new();
    let kept = history(&desk, 7);
    let before = desk.objects();
    let list = desk.json(&["list"], 0);
    let backups = list["backups"].as_array().unwrap();
    assert_eq!((backups.len(), list["damaged"].as_array().unwrap().len()), (7, 0));
    assert_eq!((&backups[0]["instance_name"], &backups[0]["forgotten"]), (&"shop".into(), &false.into()));
    for (number, (backup, members)) in backups.iter().zip(&kept).enumerate() {
        let (target, spaces) =
            (desk.target(&format!("copy{number}")), desk.target(&format!("spaces{number}")));
        let mapping = format!("4711={}", spaces.display());
        let name = if number == 6 { "@latest" } else { backup["name"].as_str().unwrap() };
        let told = desk.json(
            &[
                "extract",
                name,
                "--target",
                target.to_str().unwrap(),
                "--tablespace",
                &mapping,
                "--threads",
                "3",
            ],
            0,
        );
        assert_eq!(told["attempt"], backup["attempt"]);
        assert_same(&files(&target), &written(members), &number.to_string());
        assert_eq!(files(&spaces).into_values().next().unwrap(), members[&b"tablespace/4711/PG_15/1"[..]]);
    }
    assert_same(&desk.objects(), &before, "nothing is ever written into the repository");
}

#[test]
fn files_and_cat_show_what_is_in_a_backup() {
    let desk = Desk::new();
    let kept = history(&desk, 2);
    let listed = desk.answered(&["files", "@latest", "--output", "json"], 0);
    let lines: Vec<serde_json::Value> =
        listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), kept[1].len());
    assert!(lines.iter().any(|line| line["path"]["hex"] == "646174612f626173652ffffe"), "{listed}");
    let below = desk.answered(&["files", "@latest", "--path", "data/base/1/"], 0);
    assert_eq!(below.lines().count(), 4, "{below}");
    for path in ["data/base/1/16384", "data/base/1/16386", "meta/backup_manifest", "data/base/1/empty"] {
        let output = desk.run(&["cat", "@latest", path]);
        assert!(output.status.success());
        assert_eq!(output.stdout, kept[1][path.as_bytes()], "{path}");
    }
    assert!(desk.answered(&["cat", "@latest", "data/nothing"], 3).contains("holds no file"));
}

#[test]
fn a_part_is_extracted_alone() {
    let desk = Desk::new();
    let kept = history(&desk, 1);
    let target = desk.target("part");
    let target_text = target.to_str().unwrap();
    let talk = desk.answered(&["extract", "@latest", "--target", target_text, "--path", "data/base/1"], 0);
    assert!(talk.contains("not startable"), "{talk}");
    let mut wanted = written(&kept[0]);
    wanted.retain(|path, _| path.starts_with("base/1"));
    assert_same(&files(&target), &wanted, "what was written");
    assert!(desk.answered(&["extract", "@latest", "--target", target_text], 4).contains("not empty"));
    assert_same(&files(&target), &wanted, "what was written");
    let other = desk.target("other");
    let nothing = ["extract", "@latest", "--target", other.to_str().unwrap(), "--path", "data/none"];
    assert!(desk.answered(&nothing, 3).contains("data/none"));
}

#[test]
fn a_deleted_backup_is_taken_only_when_that_is_wished() {
    let desk = Desk::new();
    let kept = history(&desk, 2);
    let backups = desk.json(&["list"], 0)["backups"].clone();
    let name = backups[0]["name"].as_str().unwrap();
    let attempt = desk.room.lineage.backups().unwrap()[0].attempt;
    desk.room.lineage.forget(attempt).unwrap();
    assert_eq!(desk.json(&["list"], 0)["backups"][0]["forgotten"], true);
    let target = desk.target("copy");
    let order = ["extract", name, "--target", target.to_str().unwrap()];
    assert!(desk.answered(&order, 4).contains("--forgotten"));
    assert!(!target.exists());
    desk.answered(&[&order[..], &["--forgotten"]].concat(), 0);
    assert_same(&files(&target), &written(&kept[0]), "what was written");
}

#[test]
fn a_wrong_key_or_place_is_said_and_makes_nothing() {
    let desk = Desk::new();
    history(&desk, 1);
    let kit = desk.target("kit.txt");
    let page = fs::read_to_string(&kit).unwrap();
    let other = Desk::new().room.key.to_text().replace("SR1-", "");
    for wrong in ["nothing of a key", &page.replace("SR1-", "SR1-0"), &format!("SR1-{other}x")] {
        fs::write(&kit, wrong).unwrap();
        assert!(desk.answered(&["list"], 7).contains("recovery key"), "{wrong}");
    }
    fs::write(&kit, page).unwrap();
    let nowhere = desk.target("nowhere");
    fs::rename(desk.repository(), &nowhere).unwrap();
    desk.answered(&["list"], 6);
    assert!(!desk.repository().exists(), "a mistyped place is not made");
    fs::create_dir(desk.repository()).unwrap();
    desk.answered(&["list"], 6);
    assert_eq!(files(&desk.repository()).len(), 0);
}

/// A copy on a disk that cannot be written to is as good as the repository itself.
#[test]
fn a_read_only_copy_is_read() {
    let desk = Desk::new();
    let kept = history(&desk, 1);
    let lock = |mode: u32| {
        let mut open = vec![desk.repository()];
        while let Some(directory) = open.pop() {
            fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
            let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
            open.extend(entries.filter(|path| path.is_dir()));
        }
    };
    fs::remove_dir_all(desk.repository().join("tmp")).unwrap();
    lock(0o555);
    let target = desk.target("copy");
    let outcome = desk.run(&["extract", "@latest", "--target", target.to_str().unwrap()]);
    lock(0o755);
    assert!(outcome.status.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
    assert_same(&files(&target), &written(&kept[0]), "what was written");
    assert!(!desk.repository().join("tmp").exists());
}
