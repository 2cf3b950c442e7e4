//! The decoder in Python, which was written from the document alone, reads what the writer wrote.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use strongroom_core::engine::{CancelToken, EngineKind};
use strongroom_core::logs::{LogPosition, LogStream, LogStreamId};
use strongroom_core::progress::Progress;
use strongroom_repository::SweepOptions;

use crate::program::{Desk, assert_same, files, written};
use crate::room::{Members, database, pages, touch};

const DECODER: &str = "../../fixtures/formats/decoder.py";
/// Names a Python that has the decoder's packages.
const PYTHON: &str = "STRONGROOM_TEST_PYTHON";

/// A Python with the decoder's packages: the one that is named, or the one that `cargo xtask test`
/// keeps beside the build.
fn python() -> Option<PathBuf> {
    let beside_the_build = || {
        let program = std::env::current_exe().ok()?;
        Some(program.ancestors().nth(3)?.join("decoder-python/bin/python"))
    };
    let found = std::env::var_os(PYTHON).map(PathBuf::from).or_else(beside_the_build);
    let found = found.filter(|python| python.exists());
    if found.is_none() {
        strongroom_testkit::skip::missing(
            "python-decoder",
            "`cargo xtask test` makes a Python with the packages of fixtures/formats/decoder-requirements.txt",
        );
    }
    found
}

/// Runs the decoder; nothing when this machine has no Python for it.
pub(crate) fn decode(repository: &Path, key: &Path, arguments: &[&str]) -> Option<Output> {
    let mut command = Command::new(python()?);
    Some(command.arg(DECODER).arg(repository).arg(key).args(arguments).output().unwrap())
}

/// What the decoder tells of a member, with the digest of what went in.
fn line(path: &[u8], content: &[u8]) -> String {
    let digest = blake3::hash(content);
    format!("file 600 1700000000 {} 0 {digest} {}", content.len(), hex::encode(path))
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn f26_the_python_decoder_gives_back_every_byte_of_every_backup() {
    let desk = Desk::new();
    let mut members = database();
    members.insert(b"data/noise".to_vec(), {
        let mut noise = vec![0; 300_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        noise
    });
    // Two segments, the first one nothing but zeroes.
    members.insert(b"data/base/1/large".to_vec(), [vec![0; 128 << 20], pages(5, 200_000)].concat());
    let (mut kept, mut parent): (Vec<(String, Members)>, _) = (Vec::new(), None);
    for round in 0..6 {
        let attempt = desk.room.back_up(&members, parent).unwrap().attempt;
        parent = Some(attempt);
        kept.push((attempt.to_string(), members.clone()));
        touch(&mut members, round + 1);
        members.remove(&b"data/base/1/large"[..]);
    }
    let forgotten = &kept[0].0;
    desk.room.lineage.forget(desk.room.lineage.backups().unwrap()[0].attempt).unwrap();
    let abandoned = desk.room.next_attempt();
    desk.room.lineage.abandon(abandoned).unwrap();
    let (repository, key) = (desk.repository(), desk.target("kit.txt"));
    let Some(list) = decode(&repository, &key, &["list"]) else { return };
    let list = text(&list);
    assert_eq!(list.lines().count(), 7, "{list}");
    assert!(list.starts_with(&format!("{forgotten} forgotten name-")), "{list}");
    assert!(list.contains(&format!("{abandoned} abandoned")), "{list}");
    assert_eq!(list.matches(" there ").count(), 5, "{list}");
    for (number, (attempt, members)) in kept.iter().enumerate() {
        let folder = desk.target(&format!("decoded{number}"));
        let told = text(&decode(&repository, &key, &["extract", attempt, folder.to_str().unwrap()]).unwrap());
        let wanted: Vec<String> = members.iter().map(|(path, content)| line(path, content)).collect();
        assert_eq!(told.lines().collect::<Vec<_>>(), wanted, "{attempt}");
        for (path, content) in members {
            use std::os::unix::ffi::OsStrExt;
            let found = std::fs::read(folder.join(std::ffi::OsStr::from_bytes(path))).unwrap();
            assert!(found == *content, "{} of {attempt} differs", path.escape_ascii());
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn f26_the_python_decoder_and_the_extractor_read_what_a_sweep_left() {
    let desk = Desk::new();
    let (mut members, mut kept, mut parent) = (database(), Vec::new(), None);
    for round in 0..5 {
        let attempt = desk.room.back_up(&members, parent).unwrap().attempt;
        parent = Some(attempt);
        kept.push((attempt, members.clone()));
        touch(&mut members, round + 1);
    }
    for number in [3, 2, 0] {
        desk.room.lineage.forget(kept.remove(number).0).unwrap();
    }
    let tightest = SweepOptions { dead_percent: SweepOptions::TIGHTEST_PERCENT, ..SweepOptions::default() };
    let swept = desk.room.repository.sweep(&tightest, &CancelToken::new(), &Progress::new()).unwrap();
    assert!(swept.packs_rewritten > 0, "{swept:?}");
    let (repository, key) = (desk.repository(), desk.target("kit.txt"));
    for (number, (attempt, members)) in kept.iter().enumerate() {
        let target = desk.target(&format!("extracted{number}"));
        desk.answered(&["extract", &format!("name-{attempt}"), "--target", target.to_str().unwrap()], 0);
        assert_same(&files(&target), &written(members), "swept");
        let Some(told) = decode(&repository, &key, &["digests", &attempt.to_string()]) else { continue };
        let wanted: Vec<String> = members.iter().map(|(path, content)| line(path, content)).collect();
        assert_eq!(text(&told).lines().collect::<Vec<_>>(), wanted, "{attempt}");
    }
}

/// A decoder that finds nothing would be no proof.
#[test]
fn f26_the_python_decoder_finds_a_flipped_byte_in_any_object_it_needs() {
    let desk = Desk::new();
    let members = database();
    let attempt = desk.room.back_up(&members, None).unwrap().attempt.to_string();
    let (repository, key) = (desk.repository(), desk.target("kit.txt"));
    let mut found = 0;
    for (path, bytes) in desk.objects() {
        // The document that travels along is for people.
        if path.to_str().unwrap().starts_with("FORMAT") {
            continue;
        }
        let mut broken = bytes.clone();
        broken[bytes.len() / 2] ^= 1;
        std::fs::write(repository.join(&path), broken).unwrap();
        let Some(output) = decode(&repository, &key, &["digests", &attempt]) else { return };
        let talk = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && talk.starts_with("damage: "), "{}: {talk}", path.display());
        std::fs::write(repository.join(&path), bytes).unwrap();
        found += 1;
    }
    assert!(found >= 6, "format, two keys, verdict and packs, not {found}");
}

/// The log archive, from the document alone.
#[test]
fn f26_the_python_decoder_gives_back_every_byte_of_the_log() {
    let desk = Desk::new();
    let id = LogStreamId::parse("7-1").unwrap();
    let about = LogStream {
        id: id.clone(),
        engine: EngineKind::PostgreSql,
        origin: None,
        facts: serde_json::json!({ "timeline": 1 }),
    };
    // Three pieces, some of which do not compress; a file of parts.
    let mut noise = vec![0; 1 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    let whole = [&vec![7; 300_000][..], &noise, &pages(3, 900_000)].concat();
    let mut writer = desk.room.lineage.open_log(&about).unwrap();
    writer.begin(LogPosition::start_of(5)).unwrap();
    for piece in whole.chunks(700_000) {
        writer.write(piece).unwrap();
        writer.flush().unwrap();
    }
    assert!(writer.finish_file().unwrap());
    let parts = pages(4, 5_000);
    for piece in parts.chunks(200) {
        writer.write(piece).unwrap();
        writer.flush().unwrap();
    }
    let (repository, key, folder) = (desk.repository(), desk.target("kit.txt"), desk.target("log"));
    let Some(told) = decode(&repository, &key, &["log", "7-1", folder.to_str().unwrap()]) else { return };
    let line = |file: u64, what: &str, bytes: &[u8]| {
        format!("7-1 {file:016x} 0 {} {what} {}", bytes.len(), blake3::hash(bytes))
    };
    let wanted = ["7-1 of postgresql".to_owned(), line(5, "whole", &whole), line(6, "part", &parts)];
    assert_eq!(text(&told).lines().collect::<Vec<_>>(), wanted);
    assert_eq!(text(&told), text(&decode(&repository, &key, &["logs"]).unwrap()));
    assert_eq!(std::fs::read(folder.join(format!("{:016x}.0", 5))).unwrap(), whole);
    for (path, bytes) in
        desk.objects().into_iter().filter(|(path, _)| path.to_str().unwrap().contains("/lg/"))
    {
        for at in [0, 9, 40, bytes.len() / 2, bytes.len() - 40, bytes.len() - 1] {
            let mut broken = bytes.clone();
            broken[at] ^= 1;
            std::fs::write(repository.join(&path), broken).unwrap();
            let output = decode(&repository, &key, &["logs"]).unwrap();
            let talk = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && talk.starts_with("damage: "), "{}: {talk}", path.display());
        }
        std::fs::write(repository.join(&path), bytes).unwrap();
    }
    // The extractor lists it, and a check of it accuses nothing.
    let listed = desk.json(&["list"], 0);
    let [stream] = &listed["logs"].as_array().unwrap()[..] else { panic!("{listed}") };
    assert_eq!((&stream["stream"], &stream["engine"]), (&"7-1".into(), &"postgresql".into()));
    let until = serde_json::json!({ "file": 6, "offset": 5_000 });
    assert_eq!(stream["ranges"][0]["until"], until);
    desk.answered(&["check", "--level", "decode"], 0);
}
