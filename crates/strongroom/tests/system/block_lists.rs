//! The whole way where the source names the blocks that changed: what the records say, how little
//! is written, and that each backup restores by itself.

use serde_json::Value;
use strongroom_testkit::postgres::{Options, PostgresServer, require};

use crate::room::{Room, files};
use crate::source::{Source, digest, restore};

const VERSION: u32 = 18;

fn back_up(room: &Room, name: &str) -> Value {
    room.json(&["backup", "create", "shop", "--name", name, "--wait", "--progress", "none"])
}

/// What the job's record says about block lists.
fn said(room: &Room, backup: &Value) -> Value {
    let job = room.json(&["job", "show", backup["job_id"].as_str().unwrap()]);
    let steps = job["steps"].as_array().unwrap();
    let stream = steps.iter().find(|step| step["name"] == "stream").unwrap();
    stream["output"]["block_lists"].clone()
}

#[track_caller]
fn restores(room: &Room, name: &str, wanted: &str) {
    let target = room.scratch.path().join(format!("restored-{name}"));
    restore(room, name, &target).expect(0);
    let mut restored = PostgresServer::adopt(VERSION, &target).unwrap();
    assert_eq!(digest(&restored), wanted, "{name}");
    restored.stop().unwrap();
    restored.run_tool("pg_checksums", &["--check", "-D", &target.display().to_string()]).unwrap();
}

fn summarizing() -> Source {
    let conf = vec!["summarize_wal = on".to_owned(), "autovacuum = off".to_owned()];
    Source::with_options(VERSION, 20, &Options { conf, ..Options::default() })
}

#[test]
fn a_chain_of_changes_restores_and_an_unchanged_backup_is_next_to_nothing() {
    if !require(VERSION) {
        return;
    }
    let (room, source) = (Room::serving(), summarizing());
    source.register(&room);
    let first = back_up(&room, "first");
    assert_eq!(said(&room, &first)["reason"], "there is no earlier backup");
    let mut wanted = vec![("first", digest(&source.server))];
    for name in ["second", "third", "fourth"] {
        source.change(2);
        let backup = back_up(&room, name);
        assert_eq!(said(&room, &backup)["used"], true, "{}", said(&room, &backup));
        wanted.push((name, digest(&source.server)));
    }
    let before = files(&room.repository()).len();
    let unchanged = back_up(&room, "unchanged");
    let (written, said) = (files(&room.repository()).len() - before, said(&room, &unchanged));
    assert_eq!(said["used"], true);
    // Reading leaves its hints on pages that were changed before.
    assert!(said["received_blocks"].as_u64().unwrap() < 100, "{said}");
    assert!(written < 100, "{written} objects");
    println!("unchanged: {written} objects, {} bytes, {said}", unchanged["stored_bytes"]);
    wanted.push(("unchanged", digest(&source.server)));
    let plan =
        room.http("GET", &format!("/strongroom/v1/backups/{}/plan", unchanged["id"].as_str().unwrap()), "");
    assert_eq!(plan.body["facts"]["reading"]["method"], "block-lists");
    for (name, wanted) in &wanted {
        restores(&room, name, wanted);
    }
    source.is_released();
}

/// The parent rots on disk: the next backup completes without it, is restorable, and tells.
#[test]
fn f13_a_rotten_parent_costs_a_full_stream() {
    if !require(VERSION) {
        return;
    }
    let (room, source) = (Room::serving(), summarizing());
    source.register(&room);
    back_up(&room, "first");
    let packs = files(&room.repository()).into_iter().filter(|file| file.to_string_lossy().contains("/pk/"));
    for pack in packs {
        let mut bytes = std::fs::read(&pack).unwrap();
        // Byte 12 tells packs of data from those of trees. The first tenth holds the small files.
        if bytes[12] == 0 && bytes.len() > 1 << 20 {
            for at in (bytes.len() / 10..bytes.len() - 100_000).step_by(20_000) {
                bytes[at] ^= 1;
            }
            std::fs::write(&pack, bytes).unwrap();
        }
    }
    source.server.psql("postgres", "update accounts set amount = 7 where id < 2000").unwrap();
    let wanted = digest(&source.server);
    let second = back_up(&room, "second");
    assert_eq!(second["status"], "COMPLETED");
    let said = said(&room, &second);
    assert_eq!(said["used"], false);
    assert!(said["reason"].as_str().unwrap().contains("the earlier backup"), "{said}");
    let warnings = second["warnings"].as_array().unwrap();
    let is_told = |warning: &Value| warning.as_str().unwrap().contains("An earlier backup is damaged");
    assert!(warnings.iter().any(is_told), "{warnings:?}");
    source.is_released();
    restores(&room, "second", &wanted);
}
