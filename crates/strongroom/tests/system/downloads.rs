//! A backup as one file: a link from the command, stock tools, and a server on what they unpack.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use strongroom_testkit::account::Account;
use strongroom_testkit::postgres::{Options, PostgresServer};

use crate::room::{Done, Room};
use crate::source::{Source, VERSION, digest};

/// What a worker or a server may take (faults.md P09).
const MEMORY_KIB_MAX: u64 = 128 << 10;

pub(crate) struct Fetched {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

/// One request without any header of ours; reads until the server closes.
pub(crate) fn fetch(url: &str, method: &str, range: &str) -> Fetched {
    let rest = url.strip_prefix("http://").unwrap();
    let (authority, path) = rest.split_at(rest.find('/').unwrap());
    let mut stream = TcpStream::connect(authority).unwrap();
    let range = if range.is_empty() { String::new() } else { format!("Range: bytes={range}\r\n") };
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {authority}\r\n{range}Connection: close\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Fetched { status, head, body: answer.split_off(end + 4) }
}

pub(crate) fn link(room: &Room, backup: &str) -> (String, u64) {
    let link = room.json(&["backup", "link", backup]);
    (link["url"].as_str().unwrap().to_owned(), link["bytes"].as_u64().unwrap())
}

/// Unpacks as root does or as anybody does, and hands the files to the account of test servers.
pub(crate) fn unpack(archive: &Path, target: &Path) -> PathBuf {
    fs::create_dir(target).unwrap();
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{command:?}: {output:?}");
    };
    run(Command::new("zstd").args(["--test", "-q"]).arg(archive));
    run(Command::new("tar").args(["--zstd", "-xpf"]).arg(archive).arg("-C").arg(target));
    Account::ordinary().own(target).unwrap();
    target.to_owned()
}

fn back_up(room: &Room, name: &str) {
    room.json(&["backup", "create", "shop", "--name", name, "--wait", "--progress", "none"]);
}

/// Whole backups, backups on backups, tablespaces: each comes back from what `tar` unpacks.
#[test]
fn a_download_is_a_data_directory_that_a_server_starts_on() {
    let (room, source) = (Room::serving(), Source::filled(30));
    let place = source.server.make_folder("space").unwrap();
    let sql = format!("create tablespace fast location '{}'", place.display());
    source.server.psql("postgres", &sql).unwrap();
    source.server.psql("postgres", "alter table bookings set tablespace fast").unwrap();
    source.register(&room);
    let mut wanted = Vec::new();
    for name in ["first", "second"] {
        back_up(&room, name);
        wanted.push((name, digest(&source.server)));
        source.change(3);
    }
    for (name, wanted) in wanted {
        let (url, bytes) = link(&room, name);
        let whole = fetch(&url, "GET", "");
        assert_eq!((whole.status, whole.body.len() as u64), (200, bytes), "{}", whole.head);
        any_range_is_the_same(&url, &whole.body);
        let archive = room.scratch.path().join(format!("{name}.tar.zst"));
        fs::write(&archive, &whole.body).unwrap();
        let target = unpack(&archive, &room.scratch.path().join(name));
        let said = fs::read_to_string(target.join("strongroom-notes.txt")).unwrap();
        assert!(said.contains("Archiving, replication and subscriptions"), "{said}");
        assert!(said.contains(&place.display().to_string()), "where tablespaces were: {said}");
        let restored = PostgresServer::adopt(VERSION, &target).unwrap();
        assert_eq!(digest(&restored), wanted, "{name}");
        let at = restored.psql("postgres", "select pg_relation_filepath('bookings')").unwrap();
        assert!(at.starts_with("pg_tblspc/"), "{at}");
        let real = fs::canonicalize(target.join(&at)).unwrap();
        assert!(real.starts_with(fs::canonicalize(&target).unwrap()), "never the source's own files");
        assert_eq!(restored.psql("postgres", "show archive_mode").unwrap(), "off");
        restored.psql("postgres", "insert into bookings values (0, 'new')").unwrap();
    }
    assert!(!room.log().contains("signature="), "a link is not in the log");
}

fn any_range_is_the_same(url: &str, whole: &[u8]) {
    let mut state = 11_u64;
    for _ in 0..25 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let from = usize::try_from(state >> 20).unwrap() % whole.len();
        let to = (from + usize::try_from(state & 0xf_ffff).unwrap()).min(whole.len() - 1);
        let part = fetch(url, "GET", &format!("{from}-{to}"));
        assert_eq!(part.status, 206);
        assert!(part.body == whole[from..=to], "{from}-{to}");
    }
}

/// A download that was cut goes on where it stopped, and costs little memory whatever its size.
#[test]
fn s05_p09_a_download_that_was_cut_goes_on_within_the_memory_of_a_server() {
    let (mut room, source) = (Room::serving(), Source::filled(120));
    source.register(&room);
    back_up(&room, "whole");
    // A new process: what it takes is what downloads take.
    room.stop();
    room.serve();
    let (url, bytes) = link(&room, "whole");
    let rest = url.strip_prefix("http://").unwrap();
    let (authority, path) = rest.split_at(rest.find('/').unwrap());
    let mut stream = TcpStream::connect(authority).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {authority}\r\n\r\n").unwrap();
    let mut begun = vec![0; 3_000_000];
    stream.read_exact(&mut begun).unwrap();
    drop(stream);
    let head = begun.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let mut file = begun.split_off(head);
    // The server is another one when the rest is asked for.
    room.options.extend(["--listen".to_owned(), authority.to_owned()]);
    room.stop();
    room.serve();
    let rest = fetch(&url, "GET", &format!("{}-", file.len()));
    assert_eq!(rest.status, 206, "{}", rest.head);
    file.extend_from_slice(&rest.body);
    assert_eq!(file.len() as u64, bytes);
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let url = url.clone();
            std::thread::spawn(move || fetch(&url, "GET", "").body)
        })
        .collect();
    for thread in threads {
        assert!(thread.join().unwrap() == file, "every download is the same");
    }
    let peak = room.peak_memory_kib();
    assert!(peak < MEMORY_KIB_MAX, "{peak} KiB for {bytes} bytes, three at once");
    let archive = room.scratch.path().join("whole.tar.zst");
    fs::write(&archive, &file).unwrap();
    let restored =
        PostgresServer::adopt(VERSION, &unpack(&archive, &room.scratch.path().join("whole"))).unwrap();
    assert_eq!(digest(&restored), digest(&source.server));
}

/// What a group could read at the source it can read in the copy; root gives files to the server's account.
#[test]
fn modes_and_owners_are_those_that_a_server_wants() {
    let options = Options { initdb: vec!["--allow-group-access".to_owned()], ..Options::default() };
    let (room, source) = (Room::serving(), Source::with_options(VERSION, 1, &options));
    source.register(&room);
    back_up(&room, "grouped");
    let (url, _) = link(&room, "grouped");
    let archive = room.scratch.path().join("a.tar.zst");
    fs::write(&archive, fetch(&url, "GET", "").body).unwrap();
    let listed = Command::new("tar").args(["--zstd", "-tvf"]).arg(&archive).output().unwrap();
    let listed = Done::of(&listed).expect(0).stdout;
    for (mode, name) in
        [("drwxr-x---", " ./"), ("drwxr-x---", " pg_replslot/"), ("-rw-r-----", " postgresql.auto.conf")]
    {
        let line =
            listed.lines().find(|line| line.ends_with(name)).unwrap_or_else(|| panic!("{name}: {listed}"));
        assert!(line.starts_with(mode) && line.contains(" postgres/postgres "), "{line}");
    }
}
