//! Lists of changed blocks from a server that lies, refuses or stalls.

use std::sync::Arc;
use std::time::{Duration, Instant};

use strongroom_core::engine::{BackupFacts, StopReason};
use strongroom_core::parent::Reading;
use strongroom_core::{Error, ErrorKind, Result};

use crate::desk::{Taken, source_at};
use crate::fake_server::{Answer, FakeServer, Guise, START, good_files, lsn};
use crate::folder_sink::FolderParent;

type Files = Vec<(&'static str, Vec<u8>)>;

const PAGE: usize = 8192;
const LIST: &str = "base/5/INCREMENTAL.1259";

/// The parent of all backups here: `base/5/1259` has three pages of zeroes.
fn parent() -> (Taken, BackupFacts) {
    let server = FakeServer::start_as(Guise::Eighteen, Arc::new(|answer| answer.backup(&good_files())));
    let taken = Taken::new();
    let facts = taken.take(&source_at(server.port())).unwrap();
    (taken, facts)
}

fn take(
    guise: Guise,
    script: impl Fn(&mut Answer<'_>) + Send + Sync + 'static,
) -> (Taken, Result<BackupFacts>, Option<String>) {
    let (first, facts) = parent();
    let server = FakeServer::start_as(guise, Arc::new(script));
    let mut taken = Taken::new();
    taken.sink.build_on(first.sink.root());
    let parent = FolderParent::new(first.sink.root(), &facts);
    let begun = Instant::now();
    let result = taken.take_from(&source_at(server.port()), &parent);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    (taken, result, parent.distrusted())
}

/// The words of a list, and its blocks filled with a byte each.
fn list(words: &[u32], blocks: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    if !blocks.is_empty() {
        bytes.resize(PAGE, 0);
    }
    for fill in blocks {
        // The header of a page that was never used is zero, and so is the rest.
        bytes.resize(bytes.len() + PAGE, *fill);
    }
    bytes
}

/// An honest backup whose file 1259 comes as this list.
fn with_list(list: Vec<u8>) -> Files {
    let mut files = good_files();
    let label = format!("INCREMENTAL FROM LSN: {}\nINCREMENTAL FROM TLI: 1\n", lsn(START));
    files[0].1.extend_from_slice(label.as_bytes());
    files[3] = (LIST, list);
    files
}

#[track_caller]
fn refused(files: Files) -> Error {
    let (_, result, distrusted) = take(Guise::Eighteen, move |answer| answer.backup(&files));
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceHostile, "{error:?}");
    assert_eq!(distrusted, None);
    error
}

const MAGIC: u32 = 0xd3ae_1f0d;

#[test]
fn an_honest_list_is_believed() {
    let files = with_list(list(&[MAGIC, 2, 2, 1, 4], &[0, 0]));
    let (taken, result, _) = take(Guise::Eighteen, move |answer| answer.backup(&files));
    let facts = result.unwrap();
    assert_eq!(
        facts.reading,
        Reading::BlockLists { since: lsn(START), patched_files: 1, received_blocks: 2 }
    );
    assert_eq!(taken.sink.patched(), ["data/base/5/1259"]);
    let place = taken.sink.data_dir().join("base/5/1259");
    assert_eq!(std::fs::read(place).unwrap(), vec![0; 5 * PAGE]);
    let label = std::fs::read_to_string(taken.sink.data_dir().join("backup_label")).unwrap();
    assert!(label.contains("START WAL LOCATION") && !label.contains("INCREMENTAL"), "{label}");
    assert_eq!(taken.sink.unfinished(), 0);
}

#[test]
fn h06_lists_that_lie_about_themselves() {
    let told = |words: &[u32], blocks: &[u8]| refused(with_list(list(words, blocks))).public().to_owned();
    assert!(told(&[MAGIC ^ 1, 0, 0], &[]).contains("does not begin as one"));
    assert!(told(&[MAGIC, u32::MAX, 0], &[]).contains("more than a file has"));
    assert!(told(&[MAGIC, 1, 3, 0], &[]).contains("instead of"));
    assert!(told(&[MAGIC, 2, 3, 2, 1], &[0, 0]).contains("out of order"));
    assert!(told(&[MAGIC, 2, 3, 1, 131_072], &[0, 0]).contains("out of order"));
    assert!(told(&[MAGIC, 1, 3, 1, 9], &[0]).contains("something between"));
    assert!(told(&[MAGIC], &[]).contains("ends early"));
}

#[test]
fn h03_a_file_comes_whole_or_as_a_list() {
    for position in [0, 5] {
        let mut files = with_list(list(&[MAGIC, 0, 3], &[]));
        files.insert(position, ("base/5/1259", vec![0; PAGE]));
        assert!(refused(files).public().contains("whole and in changed blocks"));
    }
}

#[test]
fn h11_changes_of_another_backup_are_refused() {
    let mut files = with_list(list(&[MAGIC, 0, 3], &[]));
    files[0].1 = b"START WAL LOCATION: x\nINCREMENTAL FROM LSN: 0/1\nINCREMENTAL FROM TLI: 1\n".to_vec();
    assert!(refused(files).public().contains("another backup"));
    // None at all: a whole copy, although changes were asked for.
    assert!(refused(good_files()).public().contains("another backup"));
}

/// Some servers list files of truncated relations so; nothing of it can be used, nobody is to
/// blame, and a full stream helps.
#[test]
fn a_list_beyond_its_file_leads_to_a_full_stream() {
    let files = with_list(list(&[MAGIC, 0, 131_073], &[]));
    let (_, result, distrusted) = take(Guise::Eighteen, move |answer| answer.backup(&files));
    assert_eq!(result.unwrap_err().retry(), strongroom_core::Retry::Later);
    assert!(distrusted.unwrap().contains("longer than files of relations are"));
}

#[test]
fn a_manifest_that_is_not_taken_leads_to_a_full_stream() {
    let (taken, result, _) = take(Guise::EighteenRefusing, |answer| {
        assert!(!answer.is_incremental);
        answer.backup(&good_files());
    });
    let Reading::FullStream { reason: Some(reason) } = result.unwrap().reading else { panic!("lists") };
    assert_eq!(reason, "the source refused: \"no manifests today\" (0A000)");
    assert_eq!(taken.sink.unfinished(), 0);
}

#[test]
fn any_refusal_of_changes_leads_to_a_full_stream() {
    let (_, result, _) = take(Guise::Eighteen, |answer| {
        if answer.is_incremental {
            answer.message(b'E', b"SERROR\0VERROR\0CXX999\0Mwhatever it may be\0\0");
            answer.ready();
        } else {
            answer.backup(&good_files());
        }
    });
    let Reading::FullStream { reason: Some(reason) } = result.unwrap().reading else { panic!("lists") };
    assert!(reason.contains("whatever it may be"), "{reason}");
}

/// A server that goes away is no refusal.
#[test]
fn b04_a_server_that_shuts_down_while_it_is_asked_ends_the_try() {
    let (_, result, _) = take(Guise::Eighteen, |answer| {
        answer.message(b'E', b"SFATAL\0VFATAL\0C57P01\0Mterminating\0\0");
        answer.hang_up();
    });
    assert_eq!(result.unwrap_err().kind(), ErrorKind::SourceUnreachable);
}

/// The wait for lists that do not come ends when it is asked to.
#[test]
fn b21_waiting_for_lists_can_be_cancelled() {
    let (first, facts) = parent();
    let (asked, wait) = std::sync::mpsc::channel();
    let asked = std::sync::Mutex::new(asked);
    let server = FakeServer::start_as(
        Guise::Eighteen,
        Arc::new(move |answer| {
            assert!(answer.is_incremental);
            asked.lock().unwrap().send(()).unwrap();
        }),
    );
    let mut taken = Taken::new();
    taken.sink.build_on(first.sink.root());
    let parent = FolderParent::new(first.sink.root(), &facts);
    let source = source_at(server.port());
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| taken.take_from(&source, &parent));
        wait.recv_timeout(Duration::from_secs(20)).unwrap();
        let begun = Instant::now();
        taken.cancel.stop(StopReason::Cancelled);
        assert_eq!(worker.join().unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    });
}
