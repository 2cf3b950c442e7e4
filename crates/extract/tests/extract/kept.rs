//! The kept repository that has everything format 1 knows: today's code, the extractor and the
//! decoder in Python read it, now and for ever.
//!
//! `STRONGROOM_WRITE_SPECIMEN=1 cargo test -p strongroom-extract kept` writes it anew, which is
//! right only while the format is not released.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom_core::engine::CancelToken;
use strongroom_core::id::AttemptId;
use strongroom_core::member::{Dedupe, MemberKind};
use strongroom_core::progress::Progress;
use strongroom_core::verification::Level;
use strongroom_repository::{Attempt, LocalStore, RecoveryKey, Repository, SealOutcome};

use crate::program::files;
use crate::python::decode;
use crate::room::{
    CountedRandomness, Members, Room, StandingClock, facts, framed, lineage_id, member, other_lineage_id,
    pages, project, record, touch,
};

const SPECIMEN: &str = "../../fixtures/formats/repository-1-full.bin";
const EXPECTED: &str = "../../fixtures/formats/repository-1-full.txt";

/// Members in the shapes that a format can tell apart; directories end with a slash here.
fn members(round: u8) -> Members {
    let mut members = Members::from([
        (b"data/".to_vec(), Vec::new()),
        (b"data/PG_VERSION".to_vec(), b"15\n".to_vec()),
        (b"data/base/1/".to_vec(), Vec::new()),
        (b"data/base/1/16384".to_vec(), pages(1, 300_000)),
        (b"data/base/1/16385".to_vec(), vec![0; 300_000]),
        (b"data/base/1/16386".to_vec(), [vec![0; 131_072], pages(2, 9_000), vec![7; 262_144]].concat()),
        (b"data/base/1/16387".to_vec(), [vec![0; 128 << 20], pages(5, 150_000)].concat()),
        (b"data/base/1/empty".to_vec(), Vec::new()),
        (b"data/pg_notify/".to_vec(), Vec::new()),
        (b"data/\xff\xfe \n".to_vec(), b"a name in no encoding".to_vec()),
        (b"meta/backup_manifest".to_vec(), b"{}\n".to_vec()),
        (b"tablespace/4711/PG_15/1/2".to_vec(), pages(6, 8_192)),
        (b"wal/000000010000000000000001".to_vec(), pages(3, 140_000)),
    ]);
    let mut noise = vec![0; 140_000];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    members.insert(b"data/noise".to_vec(), noise);
    if round == 0 {
        members
            .extend((0..600_u32).map(|number| (format!("data/many/{number:05}").into_bytes(), Vec::new())));
    }
    for seed in 0..round {
        touch(&mut members, seed + 1);
    }
    members
}

fn is_directory(path: &[u8]) -> bool {
    path.ends_with(b"/")
}

fn write(attempt: &Attempt, members: &Members) {
    use strongroom_core::engine::BackupSink;
    for (path, content) in members {
        let mut wanted = member(path.strip_suffix(b"/").unwrap_or(path), content.len() as u64);
        if is_directory(path) {
            (wanted.kind, wanted.mode, wanted.mtime_s) = (MemberKind::Directory, 0o700, -1);
        } else if path.starts_with(b"data/base") {
            wanted.page_size = 8192;
        } else if path.starts_with(b"wal/") {
            wanted.dedupe = Dedupe::Never;
        }
        let mut writer = attempt.open(wanted).unwrap();
        writer.write(content).unwrap();
        writer.finish().unwrap();
    }
}

fn back_up(room: &Room, members: &Members, parent: Option<AttemptId>) -> AttemptId {
    let id = room.next_attempt();
    let attempt = room.started(id, parent).unwrap();
    write(&attempt, members);
    let sealed = attempt.prove().unwrap().seal(&facts(), &record(id)).unwrap();
    assert!(matches!(sealed, SealOutcome::Sealed(_)));
    room.lineage.clear_intent(id).unwrap();
    id
}

/// Makes the repository and the text that says what must come out of it.
fn make(root: &Path) -> String {
    let mut room = Room::new(Arc::new(LocalStore::open(root).unwrap()));
    let mut expected = String::from("Recovery kit of the repository beside this file.\n\n");
    writeln!(expected, "Recovery key  {}\n", room.key.to_text()).unwrap();
    let mut parent = None;
    let rounds: Vec<(AttemptId, Members)> = (0..7)
        .map(|round| {
            let attempt = back_up(&room, &members(round), parent);
            parent = Some(attempt);
            (attempt, members(round))
        })
        .collect();
    let put = |name: String, kind: u16, payload: &[u8]| {
        room.store.put_new(&name, &framed(kind, &name, payload)).unwrap();
    };
    room.lineage.forget(rounds[0].0).unwrap();
    room.lineage.forget(rounds[1].0).unwrap();
    let lineage = lineage_id();
    put(format!("l/{lineage}/tb/{}.0.end", rounds[1].0), 5, &[2]);
    put(format!("l/{lineage}/hold/{}.0", rounds[2].0), 6, b"kept for the auditors");
    put(format!("l/{lineage}/in/r-{}.0", "0".repeat(32)), 3, &[rounds[2].0.as_bytes(), &[0; 8][..]].concat());
    let abandoned = room.next_attempt();
    drop(room.started(abandoned, parent).unwrap());
    room.lineage.abandon(abandoned).unwrap();
    for (number, (attempt, members)) in rounds.iter().enumerate() {
        tell(&mut expected, attempt, if number == 0 { "forgotten" } else { "there" }, Some(members));
    }
    tell(&mut expected, &abandoned, "abandoned", None);
    room.lineage = room.repository.lineage(&project(), &other_lineage_id()).unwrap();
    let other = Members::from([(b"data/other".to_vec(), b"of another database".to_vec())]);
    tell(&mut expected, &back_up(&room, &other, None), "there", Some(&other));
    expected
}

fn tell(expected: &mut String, attempt: &AttemptId, state: &str, members: Option<&Members>) {
    writeln!(expected, "attempt {attempt} {state}").unwrap();
    let Some(members) = members else { return };
    let mut lines: Vec<(Vec<u8>, String)> = Vec::new();
    for (path, content) in members {
        let page_size = if path.starts_with(b"data/base") { 8192 } else { 0 };
        let name = path.strip_suffix(b"/").unwrap_or(path);
        let line = if is_directory(path) {
            format!("directory 700 -1 0 0 - {}", hex::encode(name))
        } else {
            let digest = blake3::hash(content);
            format!("file 600 1700000000 {} {page_size} {digest} {}", content.len(), hex::encode(name))
        };
        lines.push((name.to_vec(), line));
    }
    lines.sort();
    for (_, line) in lines {
        writeln!(expected, "{line}").unwrap();
    }
}

/// Attempt → state and lines of its members, as the text beside the repository has them.
fn expected(text: &str) -> BTreeMap<String, (String, Vec<String>)> {
    let mut found = BTreeMap::new();
    let mut last = String::new();
    for line in text.lines().skip_while(|line| !line.starts_with("attempt ")) {
        if let Some(rest) = line.strip_prefix("attempt ") {
            let (attempt, state) = rest.split_once(' ').unwrap();
            attempt.clone_into(&mut last);
            found.insert(attempt.to_owned(), (state.to_owned(), Vec::new()));
        } else {
            found.get_mut(&last).unwrap().1.push(line.to_owned());
        }
    }
    found
}

/// Name and content of each object, each behind its length in four bytes, little-endian.
fn pack(root: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    for (path, content) in files(root).iter().filter(|(path, _)| !path.starts_with("tmp")) {
        for field in [path.to_str().unwrap().as_bytes(), content] {
            out.extend_from_slice(&u32::try_from(field.len()).unwrap().to_le_bytes());
            out.extend_from_slice(field);
        }
    }
    out
}

fn unpack(mut bytes: &[u8], root: &Path) {
    let mut field = || {
        let (length, after) = bytes.split_first_chunk()?;
        let (field, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        bytes = after;
        Some(field.to_vec())
    };
    while let (Some(name), Some(content)) = (field(), field()) {
        let path = root.join(String::from_utf8(name).unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// The kept repository in a scratch folder, with the file that holds its kit.
fn kept() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    if std::env::var_os("STRONGROOM_WRITE_SPECIMEN").is_some() {
        let text = make(&folder.path().join("made"));
        fs::write(SPECIMEN, pack(&folder.path().join("made"))).unwrap();
        fs::write(EXPECTED, text).unwrap();
    }
    unpack(&fs::read(SPECIMEN).unwrap(), folder.path());
    (folder, fs::canonicalize(EXPECTED).unwrap())
}

#[test]
fn f15_v10_kept_by_todays_code() {
    let (folder, kit) = kept();
    let text = fs::read_to_string(kit).unwrap();
    let key = RecoveryKey::find(&text).unwrap();
    let store = LocalStore::open_read_only(folder.path()).unwrap();
    let random = Arc::new(CountedRandomness::starting_at(1 << 40));
    let repository = Repository::open(Arc::new(store), &key, Arc::new(StandingClock), random).unwrap();
    let report = repository.check(Level::Decode, &CancelToken::new(), &Progress::new()).unwrap();
    assert!(report.passed() && report.objects_checked > 30, "{report:#?}");
    // The tree must hold what the README says of it.
    let lineage = repository.lineage(&project(), &lineage_id()).unwrap();
    let totals: Vec<_> = lineage.backups().unwrap().iter().map(|summary| summary.totals).collect();
    assert!(totals.iter().all(|totals| totals.chunks_fill > 0) && totals[0].members > 600);
    assert!(totals[1..].iter().any(|totals| totals.chunks_delta > 0), "{totals:?}");
}

#[test]
fn f15_v10_kept_by_the_extractor() {
    let (folder, kit) = kept();
    let text = fs::read_to_string(&kit).unwrap();
    let (target, mut looked) = (tempfile::tempdir().unwrap(), 0);
    for (attempt, (state, lines)) in expected(&text) {
        if state == "abandoned" {
            continue;
        }
        let (data, spaces) = (target.path().join(&attempt), target.path().join(format!("{attempt}-space")));
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_strongroom-extract"))
            .args(["extract", &attempt, "--forgotten", "--progress", "none", "--repository"])
            .arg(folder.path())
            .arg("--recovery-kit")
            .arg(&kit)
            .arg("--target")
            .arg(&data)
            .args(
                lines
                    .iter()
                    .any(|line| line.contains(&hex::encode("tablespace/")))
                    .then(|| format!("--tablespace=4711={}", spaces.display())),
            )
            .output()
            .unwrap();
        assert!(output.status.success(), "{attempt}: {}", String::from_utf8_lossy(&output.stderr));
        for line in &lines {
            looked += usize::from(is_written_so(line, &data, &spaces));
        }
        fs::remove_dir_all(data).unwrap();
    }
    assert!(looked > 600, "{looked}");
}

/// Compares a member with its line; false when an extraction does not write it.
fn is_written_so(line: &str, data: &Path, spaces: &Path) -> bool {
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::fs::MetadataExt;
    let words: Vec<&str> = line.split(' ').collect();
    let [kind, mode, time, size, _, digest, path] = words[..] else { panic!("{line}") };
    let path = PathBuf::from(std::ffi::OsString::from_vec(hex::decode(path).unwrap()));
    let place = if let Ok(below) = path.strip_prefix("data") {
        data.join(below)
    } else if let Ok(below) = path.strip_prefix("wal") {
        data.join("pg_wal").join(below)
    } else if let Ok(below) = path.strip_prefix("tablespace/4711") {
        spaces.join(below)
    } else {
        return false;
    };
    let metadata = fs::metadata(&place).unwrap();
    assert_eq!(metadata.is_dir(), kind == "directory", "{line}");
    if kind == "file" {
        let content = fs::read(&place).unwrap();
        assert_eq!(
            (content.len().to_string().as_str(), blake3::hash(&content).to_string().as_str()),
            (size, digest)
        );
        assert_eq!(metadata.mtime().to_string(), time, "{line}");
        assert_eq!(format!("{:o}", metadata.mode() & 0o7777), mode, "{line}");
    }
    true
}

#[test]
fn f15_v10_kept_by_the_python_decoder() {
    let (folder, kit) = kept();
    let text = fs::read_to_string(&kit).unwrap();
    let Some(list) = decode(folder.path(), &kit, &["list"]) else { return };
    let list = String::from_utf8(list.stdout).unwrap();
    let wanted = expected(&text);
    assert_eq!(list.lines().count(), wanted.len(), "{list}");
    for (attempt, (state, lines)) in wanted {
        assert!(list.contains(&format!("{attempt} {state}")), "{attempt} {state}: {list}");
        if state == "abandoned" {
            continue;
        }
        let output = decode(folder.path(), &kit, &["digests", &attempt]).unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        let talk = String::from_utf8_lossy(&output.stderr);
        assert!(told.lines().eq(lines.iter().map(String::as_str)), "{attempt}: {talk}");
    }
}
