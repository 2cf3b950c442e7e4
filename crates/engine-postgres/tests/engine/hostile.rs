//! Sources that send what no PostgreSQL sends: the backup fails, in words, in time, and without
//! a file outside its place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use strongroom_core::{Error, ErrorKind};

use crate::desk::{Taken, source_at};
use crate::fake_server::{Answer, FakeServer, START, good_files, header, manifest, tar};

fn backup_of(
    script: impl Fn(&mut Answer<'_>) + Send + Sync + 'static,
) -> (strongroom_core::Result<()>, Taken) {
    let server = FakeServer::start(Arc::new(script));
    let taken = Taken::new();
    let begun = Instant::now();
    let result = taken.take(&source_at(server.port())).map(|_| ());
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    stays_inside(&taken);
    (result, taken)
}

/// Everything that was written lies below the roots of a backup; no link, no device.
fn stays_inside(taken: &Taken) {
    let mut folders = vec![taken.folder.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            assert!(kind.is_dir() || kind.is_file(), "{}", entry.path().display());
            let is_root = folder == taken.folder.path();
            let name = entry.file_name();
            assert!(
                !is_root || ["data", "meta", "tablespace"].iter().any(|root| name == *root),
                "{}",
                name.display()
            );
            if kind.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    let beside = taken.folder.path().with_file_name("strongroom-escaped");
    assert!(!std::path::Path::new("/tmp/strongroom-escaped").exists() && !beside.exists());
}

#[track_caller]
fn refused(script: impl Fn(&mut Answer<'_>) + Send + Sync + 'static) -> Error {
    let error = backup_of(script).0.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceHostile, "{error:?}");
    error
}

/// A backup whose base archive begins with these raw bytes.
#[track_caller]
fn refused_archive(prefix: Vec<u8>) -> Error {
    refused(move |answer| {
        answer.announce();
        answer.archive("base.tar");
        answer.data(&prefix);
        answer.data(&tar(&good_files()));
    })
}

#[test]
fn an_honest_fake_is_believed() {
    let (result, taken) = backup_of(|answer| answer.backup(&good_files()));
    result.unwrap();
    assert_eq!(taken.sink.unfinished(), 0);
}

#[test]
fn h01_names_that_leave_the_directory() {
    let names: [&[u8]; 6] = [
        b"../strongroom-escaped",
        b"/tmp/strongroom-escaped",
        b"base/../../strongroom-escaped",
        b"a//b",
        b"..",
        b"./../strongroom-escaped",
    ];
    for name in names {
        let error = refused_archive(header(name, b'0', 0, 0o600));
        assert!(error.public().contains("file name"), "{error}");
    }
    refused_archive(header(b"base\0/x", b'0', 0, 0o600));
    let error = refused_archive(header(b"evil\x1b[2J\n/../x", b'0', 0, 0o600));
    assert!(!error.public().contains(['\x1b', '\n']), "{error:?}");
}

#[test]
fn h02_h03_neither_links_nor_devices_nor_setuid() {
    for kind in b"123467LKgx" {
        refused_archive(header(b"base/x", *kind, 0, 0o600));
    }
    refused_archive(header(b"base/x", b'0', 0, 0o4755));
}

#[test]
fn h03_sizes_that_lie() {
    refused_archive(header(b"base/x", b'0', 1 << 62, 0o600));
    refused_archive(header(b"base/5/1260", b'0', 3 << 30, 0o600));
    // The announced terabyte never comes; the manifest arrives inside the file.
    refused(|answer| {
        answer.announce();
        answer.archive("base.tar");
        answer.data(&header(b"base/x", b'0', 1 << 40, 0o600));
        answer.message(b'd', b"m");
    });
}

#[test]
fn h03_names_that_come_twice_or_where_they_must_not() {
    let file = |name: &[u8]| header(name, b'0', 0, 0o600);
    refused_archive([file(b"base/x"), file(b"base/x")].concat());
    refused_archive([file(b"base/x"), header(b"base/x", b'5', 0, 0o700)].concat());
    refused_archive(file(b"pg_wal/000000010000000000000005"));
    refused_archive(file(b"pg_tblspc/16384/PG_15_202209061/5/1"));
}

#[test]
fn h11_a_manifest_that_tells_another_story() {
    let told = |spoil: fn(&mut Vec<(&'static str, Vec<u8>)>)| {
        refused(move |answer| {
            let mut listed = good_files();
            spoil(&mut listed);
            answer.announce();
            answer.archive("base.tar");
            answer.data(&tar(&good_files()));
            answer.message(b'd', b"m");
            answer.data(&manifest(&listed));
            answer.end();
        })
    };
    assert!(told(|files| files[3].1[9] = 7).public().contains("base/5/1259 has another checksum"));
    assert!(told(|files| files.truncate(4)).public().contains("not in the manifest"));
    assert!(told(|files| files.push(("base/x", Vec::new()))).public().contains("did not come"));
}

#[test]
fn h06_endings_that_are_none() {
    let until_manifest = |answer: &mut Answer<'_>| {
        answer.announce();
        answer.archive("base.tar");
        answer.data(&tar(&good_files()));
    };
    // No manifest.
    refused(move |answer| {
        until_manifest(answer);
        answer.end();
    });
    // Nothing behind the copy: no end position, no backup.
    refused(move |answer| {
        until_manifest(answer);
        answer.message(b'd', b"m");
        answer.data(&manifest(&good_files()));
        answer.message(b'c', b"");
        answer.ready();
    });
    // An end before the start.
    refused(move |answer| {
        until_manifest(answer);
        answer.message(b'd', b"m");
        answer.data(&manifest(&good_files()));
        answer.message(b'c', b"");
        answer.position(START - 1, "1");
        answer.ready();
    });
    // A part of the cluster is missing.
    refused(|answer| {
        let files: Vec<_> = good_files().into_iter().filter(|(name, _)| *name != "backup_label").collect();
        answer.backup(&files);
    });
}

#[test]
fn b02_another_timeline_at_the_end_voids_the_copy() {
    let (result, _) = backup_of(|answer| {
        answer.announce();
        answer.archive("base.tar");
        answer.data(&tar(&good_files()));
        answer.message(b'd', b"m");
        answer.data(&manifest(&good_files()));
        answer.message(b'c', b"");
        answer.position(START + 8, "2");
        answer.ready();
    });
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::SourceUnreachable, strongroom_core::Retry::Later));
}

#[test]
fn h06_messages_that_no_server_sends() {
    refused(|answer| {
        answer.announce();
        answer.raw(b"d\xff\xff\xff\xff");
    });
    refused(|answer| {
        answer.announce();
        answer.raw(b"d\0\0\0\0");
    });
    refused(|answer| {
        answer.announce();
        answer.message(b'd', b"?");
    });
    refused(|answer| {
        answer.announce();
        answer.message(b'd', b"");
    });
    refused(|answer| {
        answer.raw(&vec![0xa5; 100_000]);
    });
    refused(|answer| {
        answer.announce();
        answer.archive("../../base.tar");
    });
    refused(|answer| {
        answer.announce();
        answer.data(b"data before any archive");
    });
    refused(|answer| answer.position(START, "not a number"));
    refused(|answer| {
        answer.message(b'D', &[0xff; 64]);
    });
    // Garbage where an archive should be.
    refused_archive(vec![0xa5; 4096]);
}

#[test]
fn h06_results_without_an_end() {
    refused(|answer| {
        answer.position(START, "1");
        answer.message(b'T', &[0, 0]);
        while answer
            .message(b'D', &[0, 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])
        {
        }
    });
}

#[test]
fn b04_a_connection_that_is_cut_in_the_middle() {
    let whole = tar(&good_files());
    for cut in [0, 1, 511, 512, 700, whole.len() - 1] {
        let part = whole[..cut].to_vec();
        let (result, _) = backup_of(move |answer| {
            answer.announce();
            answer.archive("base.tar");
            answer.data(&part);
            answer.hang_up();
        });
        let error = result.unwrap_err();
        assert_eq!(
            (error.kind(), error.retry()),
            (ErrorKind::SourceUnreachable, strongroom_core::Retry::Later)
        );
    }
}

#[test]
fn h14_words_of_the_server_are_made_harmless() {
    let (result, _) = backup_of(|answer| {
        answer.message(b'E', b"SERROR\0VERROR\0CXX000\0Mdone\x1b[2J\r\nsee <script> %s\xff\0\0");
    });
    let error = result.unwrap_err();
    assert!(
        error.public().contains("see <script> %s") && !error.public().contains(['\x1b', '\n', '\r']),
        "{error:?}"
    );
}
