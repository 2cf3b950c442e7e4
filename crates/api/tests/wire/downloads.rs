//! A backup as one file, by a signed link.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use strongroom_api::ApiSettings;
use strongroom_catalog::Role;
use strongroom_core::limits::DOWNLOAD_LINK_LIFE_S;

use crate::client::{Ask, Reply};
use crate::contents::{long_name, members, room_with_backup, spoil};
use crate::room::Room;
use crate::rules::check_every_answer;

const LINK: &str = "/strongroom/v1/backups/nightly/download-link";

async fn link(room: &Room) -> Value {
    let reply = room.send(Ask::post(LINK, "").token(&room.ours.token(Role::Restorer))).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// What stands behind the address of the server.
fn path_of(link: &Value) -> String {
    let url = link["url"].as_str().unwrap();
    url.strip_prefix("http://strongroom").unwrap_or_else(|| panic!("{url}")).to_owned()
}

async fn fetch(room: &Room, path: &str, range: Option<&str>) -> Reply {
    let ask = Ask::get(path);
    room.send(range.map_or(ask.clone(), |range| ask.header("Range", range))).await
}

fn number(reply: &Reply, header: &str) -> u64 {
    reply.header(header).unwrap().parse().unwrap()
}

/// A file unpacked: its bytes and mode.
type Unpacked = BTreeMap<Vec<u8>, (Vec<u8>, u32)>;

fn unpack(archive: &[u8]) -> Unpacked {
    let folder = tempfile::tempdir().unwrap();
    let (file, target) = (folder.path().join("a.tar.zst"), folder.path().join("target"));
    std::fs::write(&file, archive).unwrap();
    std::fs::create_dir(&target).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).arg(&file).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{program}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    run("zstd", &["--test", "-q"]);
    let listed = run("tar", &["--zstd", "-tvf"]);
    assert!(listed.lines().all(|line| line.contains(" player/player ")), "{listed}");
    run("tar", &["--zstd", "-C", target.to_str().unwrap(), "--no-same-owner", "-xpf"]);
    let mut out = Unpacked::new();
    gather(&target, &target, &mut out);
    assert_eq!(std::fs::metadata(&target).unwrap().permissions().mode() & 0o7777, 0o700);
    assert!(target.join("pg_played").is_dir());
    out
}

fn gather(root: &Path, folder: &Path, out: &mut Unpacked) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            gather(root, &path, out);
            continue;
        }
        let name = path.strip_prefix(root).unwrap().to_owned().into_os_string().into_vec();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o7777;
        out.insert(name, (std::fs::read(&path).unwrap(), mode));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_comes_as_one_file_that_stock_tools_unpack() {
    let room = room_with_backup(ApiSettings::default()).await;
    let link = link(&room).await;
    let path = path_of(&link);
    let whole = fetch(&room, &path, None).await;
    assert_eq!(whole.status, 200);
    assert_eq!(whole.header("Content-Type"), Some("application/zstd"));
    let name = link["file_name"].as_str().unwrap();
    assert_eq!(whole.header("Content-Disposition").unwrap(), format!("attachment; filename=\"{name}\""));
    assert_eq!(whole.body.len() as u64, link["bytes"].as_u64().unwrap(), "the size is told exactly");
    let mut found = unpack(&whole.body);
    let notes = String::from_utf8(found.remove(&b"strongroom-notes.txt"[..]).unwrap().0).unwrap();
    assert!(notes.contains("nightly") && notes.contains("This was played."), "{notes}");
    let mut wanted: Unpacked = members()
        .into_iter()
        .map(|(path, content)| (path.strip_prefix(b"data/").unwrap().to_vec(), (content, 0o600)))
        .collect();
    wanted.insert(b"played.conf".to_vec(), (b"played = on\n".to_vec(), 0o640));
    wanted.insert(b"base/1/16385".to_vec(), (b"instead".to_vec(), 0o600));
    wanted.remove(&b"base/1/empty"[..]);
    assert!(wanted.contains_key(long_name().as_bytes()));
    let names = |files: &Unpacked| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&wanted));
    assert!(found == wanted, "the content differs");
    // What compresses went out compressed.
    let plain: usize = found.values().map(|(content, _)| content.len()).sum();
    assert!(whole.body.len() + 1_000_000 < plain, "{} of {plain}", whole.body.len());
}

/// Every part of the file is what it is in the whole, from whatever place it is asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a27_any_range_is_the_same_bytes_as_in_the_whole() {
    let room = room_with_backup(ApiSettings::default()).await;
    let path = path_of(&link(&room).await);
    let whole = fetch(&room, &path, None).await.body;
    let size = whole.len() as u64;
    let head = room.send(Ask::new("HEAD", &path)).await;
    assert_eq!((head.status, number(&head, "Content-Length"), head.body.len()), (200, size, 0));
    assert_eq!(head.header("Accept-Ranges"), Some("bytes"));
    let etag = head.header("ETag").unwrap().to_owned();
    let mut state = 7_u64;
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut ranges = vec![(0, 1), (0, size), (size - 1, size), (size - 30, size), (1, 2)];
    // The beginning and the end hold the small frames, the middle the large ones.
    for near in [40_000, size] {
        ranges.extend((0..40).map(|_| {
            let (a, b) = (draw(near), draw(near));
            (a.min(b), a.max(b) + 1)
        }));
    }
    ranges.extend((0..40).map(|_| (size - 1 - draw(3_000), size)));
    for (from, to) in ranges {
        let part = fetch(&room, &path, Some(&format!("bytes={from}-{}", to - 1))).await;
        assert_eq!(part.status, 206, "{from}-{to}");
        assert_eq!(part.header("Content-Range").unwrap(), format!("bytes {from}-{}/{size}", to - 1));
        assert_eq!(part.header("ETag"), Some(etag.as_str()));
        assert!(part.body == whole[from as usize..to as usize], "{from}-{to}");
    }
    let part = room.send(Ask::new("HEAD", &path).header("Range", "bytes=5-9")).await;
    assert_eq!((part.status, number(&part, "Content-Length")), (206, 5));
    let behind = fetch(&room, &path, Some(&format!("bytes={size}-"))).await;
    assert_eq!((behind.status, behind.header("Content-Range").unwrap()), (416, &*format!("bytes */{size}")));
    let stale = Ask::get(&path).header("Range", "bytes=5-9").header("If-Range", "\"older\"");
    assert_eq!(room.send(stale).await.body.len() as u64, size);
    // Another link of the same backup leads to the same bytes: a download goes on with it.
    room.advance_s(10);
    let again = fetch(&room, &path_of(&link(&room).await), Some("bytes=-1000000")).await;
    assert!(again.body == whole[whole.len() - 1_000_000..]);
}

async fn refused(room: &Room, path: &str) -> u16 {
    let ask = Ask::get(path);
    let reply = room.send(ask.clone()).await;
    check_every_answer(&ask, &reply);
    assert!(reply.header("ETag").is_none() && reply.json()["code"].is_string(), "{path}: {}", reply.text());
    reply.status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a27_a_link_is_good_for_one_backup_and_only_as_it_was_made() {
    let room = room_with_backup(ApiSettings::default()).await;
    let path = path_of(&link(&room).await);
    let (file, query) = path.split_once('?').unwrap();
    for position in file.len() + 1..path.len() {
        let mut other = path.clone().into_bytes();
        other[position] = if other[position] == b'1' { b'2' } else { b'1' };
        let other = String::from_utf8(other).unwrap();
        assert_eq!(refused(&room, &other).await, 403, "{other}");
    }
    let theirs = query.replace(room.ours.project.as_str(), room.theirs.project.as_str());
    let other_file = file.replace("br03.tar.zst", "br04.tar.zst");
    for other in [
        file.to_owned(),
        format!("{file}?{theirs}"),
        format!("{other_file}?{query}"),
        format!("{file}?{query}&project=x"),
        format!("{file}?{}", query.split_once('&').unwrap().1),
        format!("{path}0"),
        format!("{path}%0a"),
    ] {
        assert_eq!(refused(&room, &other).await, 403, "{other}");
    }
    assert_eq!(room.send(Ask::post(&path, "")).await.status, 405);
    // A token opens nothing here, and spoils nothing either.
    assert_eq!(room.send(Ask::new("HEAD", file).token(&room.ours.admin())).await.status, 403);
    assert_eq!(room.send(Ask::new("HEAD", &path).token("wrong")).await.status, 200);
    let events = room.catalog.audit_list_of_none(1_000).await.unwrap();
    assert!(events.iter().any(|event| event.action == "caller.refuse"), "{events:?}");
    let made = room.catalog.audit_list(&room.ours.project, 1_000).await.unwrap();
    assert!(made.iter().any(|event| event.action == "backup.link"), "who made a link is on record");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a27_a_link_dies_with_its_hour_its_right_and_its_backup() {
    let room = room_with_backup(ApiSettings::default()).await;
    let made = link(&room).await;
    let path = path_of(&made);
    room.advance_s(DOWNLOAD_LINK_LIFE_S - 1);
    assert_eq!(room.send(Ask::new("HEAD", &path)).await.status, 200);
    room.advance_s(1);
    assert_eq!(refused(&room, &path).await, 403);
    let path = path_of(&link(&room).await);
    let (user, project) = (&room.ours.user, &room.ours.project);
    let audit = || room.audit(&room.ours, "role.assign");
    for (role, status) in [(Role::Operator, 403), (Role::Restorer, 200)] {
        room.catalog.role_assign(user, project, role, &audit()).await.unwrap();
        assert_eq!(room.send(Ask::new("HEAD", &path)).await.status, status, "{role:?}");
    }
    room.catalog.role_unassign(user, project, &audit()).await.unwrap();
    assert_eq!(refused(&room, &path).await, 403);
    room.catalog.role_assign(user, project, Role::Admin, &audit()).await.unwrap();
    let backup = made["backup_id"].as_str().unwrap();
    let gone = room.ask(Ask::delete(&format!("/strongroom/v1/backups/{backup}"))).await;
    assert_eq!(gone.status, 202, "{}", gone.text());
    assert!([404, 409].contains(&refused(&room, &path).await));
    assert!([404, 409].contains(&room.ask(Ask::post(LINK, "")).await.status));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_needs_the_right_to_read_and_a_backup_that_is_there() {
    let room = room_with_backup(ApiSettings::default()).await;
    for role in [Role::Viewer, Role::Operator] {
        assert_eq!(room.send(Ask::post(LINK, "").token(&room.ours.token(role))).await.status, 403);
    }
    assert_eq!(room.send(Ask::post(LINK, "").token(&room.theirs.admin())).await.status, 404);
    let instance = room.add_instance(&room.ours, "other").await;
    assert_eq!(room.create_backup("building", &instance).await.status, 200);
    let building = room.ask(Ask::post("/strongroom/v1/backups/building/download-link", "")).await;
    assert_eq!((building.status, building.native_code().as_str()), (409, "backup_state"));
    let odd = Ask::post(LINK, "").token(&room.ours.admin()).header("Host", "evil.example/x");
    assert_eq!(room.send(odd).await.status, 400);
}

/// A transfer that meets damage ends before its length, which every client takes for a failure; no
/// wrong byte goes out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f11_damage_breaks_a_download_and_never_ends_it_well() {
    let room = room_with_backup(ApiSettings::default()).await;
    let path = path_of(&link(&room).await);
    let whole = fetch(&room, &path, None).await.body;
    spoil(&room.repository_folder());
    let broken = fetch(&room, &path, None).await;
    assert_eq!(number(&broken, "Content-Length"), whole.len() as u64);
    assert!(broken.body.len() < whole.len(), "it ended well");
    assert!(whole.starts_with(&broken.body), "a wrong byte");
    assert!(!broken.body.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_v3_call_answers_by_the_contract() {
    let room = room_with_backup(ApiSettings::default()).await;
    let made = link(&room).await;
    let backup = made["backup_id"].as_str().unwrap();
    let files = |backup: &str| room.ours.v3(&format!("/backup-files?backup_id={backup}"));
    let reply = room.ask(Ask::get(&files(backup))).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let document = reply.json();
    let file = &document["files"][0];
    assert_eq!(file["name"], format!("{backup}.tar.zst"));
    assert_eq!(file["size"].as_u64().unwrap(), made["bytes"].as_u64().unwrap().div_ceil(1024));
    assert_eq!(file["link_expired_time"], "2026-03-04T06:06:07+0000");
    assert!(file["database_name"].is_null() && document["bucket"] == "strongroom");
    let path = file["download_link"].as_str().unwrap().strip_prefix("http://strongroom").unwrap();
    assert_eq!(room.send(Ask::new("HEAD", path)).await.status, 200);
    let instance = room.add_instance(&room.ours, "other").await;
    let building = room.create_backup("building", &instance).await.json();
    let building = building["backup"]["id"].as_str().unwrap().to_owned();
    let unknown = "0".repeat(32) + "br03";
    for (path, status, code) in [
        (room.ours.v3("/backup-files"), 400, "DBS.280404"),
        (files(""), 400, "DBS.280404"),
        (files(&"x".repeat(65)), 400, "DBS.280404"),
        (files(&unknown), 404, "DBS.201010"),
        (files(&building), 409, "DBS.201014"),
    ] {
        let ask = Ask::get(&path).token(&room.ours.admin());
        let reply = room.send(ask.clone()).await;
        check_every_answer(&ask, &reply);
        assert_eq!((reply.status, reply.v3_code().as_str()), (status, code), "{path}: {}", reply.text());
    }
    let weak = room.send(Ask::get(&files(backup)).token(&room.ours.token(Role::Operator))).await;
    assert_eq!((weak.status, weak.v3_code().as_str()), (403, "DBS.200010"));
}
