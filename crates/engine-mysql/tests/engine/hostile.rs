//! Donors that send what no MySQL sends: the backup fails, in words, in time, and without a file
//! outside its place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use strongroom_core::engine::{BackupFacts, Source, TlsMode};
use strongroom_core::{Error, ErrorKind};
use strongroom_testkit::depth;

use crate::desk::{Taken, source_at};
use crate::fake_donor::{
    Answer, DONE, FILE, FakeDonor, File, GOOD, INIT, PAGE, REDO, announced, bytes, file, good_clone, packets,
    state, task,
};

fn backup_of(
    script: impl Fn(&mut Answer<'_>) + Send + Sync + 'static,
) -> (Result<BackupFacts, Error>, Taken) {
    let donor = FakeDonor::start(Arc::new(script));
    let taken = Taken::new();
    let begun = Instant::now();
    let source = Source { tls: TlsMode::Disable, ..source_at(donor.port()) };
    let result = taken.take(&source);
    assert!(begun.elapsed() < Duration::from_secs(100), "{:?}", begun.elapsed());
    stays_inside(&taken);
    (result, taken)
}

/// Everything that was written lies below `data`; no link, no device, nothing that a server would read
/// as its configuration.
fn stays_inside(taken: &Taken) {
    let mut folders = vec![taken.folder.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            assert!(kind.is_dir() || kind.is_file(), "{}", entry.path().display());
            let name = entry.file_name().into_string().unwrap();
            assert!(folder != taken.folder.path() || name == "data", "{name}");
            let end = name.rsplit('.').next().unwrap_or_default();
            assert!(!["cnf", "my", "so"].contains(&end), "{name}");
            if kind.is_dir() {
                folders.push(entry.path());
            }
        }
    }
}

fn said(clone: Vec<Vec<u8>>) -> (Result<BackupFacts, Error>, Taken) {
    backup_of(move |answer| answer.all(&clone))
}

#[track_caller]
fn refused(clone: Vec<Vec<u8>>) -> Error {
    let (result, taken) = said(clone);
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceHostile, "{error:?}");
    assert!(!taken.sink.is_settled());
    error
}

/// The clone with one answer put in the place of another.
fn with(at: usize, answer: Vec<u8>) -> Vec<Vec<u8>> {
    let mut clone = good_clone();
    clone[at] = answer;
    clone
}

#[test]
fn a_donor_that_does_not_lie_is_believed() {
    let (facts, taken) = said(good_clone());
    let facts = facts.unwrap();
    assert_eq!(taken.sink.paths(), ["data/#innodb_redo/#ib_redo0", "data/shop/orders.ibd"]);
    assert_eq!(facts.engine["transfer"]["file_bytes"].as_u64(), Some(32_768));
    assert!(taken.sink.is_settled());
}

#[test]
fn h01_a_donor_with_hostile_names_is_refused() {
    for name in [
        "../x.ibd",
        "./../../x.ibd",
        "/tmp/../x.ibd",
        "shop/../../x.ibd",
        "auto.cnf",
        "mysqld.my",
        "/etc/cron.d/x",
        "a/b/c.ibd",
        "shop/x.cnf",
        "#innodb_redo/#ib_redo0",
        "#clone/x.ibd",
        "",
    ] {
        let error = refused(with(3, file(File { name, ..GOOD })));
        assert!(error.public().contains("nothing was written outside"), "{name}: {}", error.public());
        let renamed = File { state: PAGE, flags: 8, name, ..GOOD };
        let mut clone = good_clone();
        clone.insert(9, file(renamed));
        refused(clone);
        let born = File { state: PAGE, index: 5, name, ..GOOD };
        let mut clone = good_clone();
        clone.insert(9, file(born));
        refused(clone);
    }
}

#[test]
fn h03_a_donor_that_lies_about_sizes_pieces_and_states_is_refused() {
    let data = |chunk, index, length, offset, size| announced(FILE, chunk, index, length, offset, size);
    for clone in [
        with(3, file(File { size: u64::MAX, ..GOOD })),
        with(4, data((1, 1), 0, 16_384, u64::MAX, 0)),
        with(4, data((1, 1), 0, 16_384, 32_768, 0)),
        with(4, data((1, 1), 0, 16_384, 0, u64::MAX)),
        with(4, data((1, 1), 0, u32::MAX, 0, 0)),
        with(4, data((1, 1), 0, 16_385, 0, 0)),
        with(4, data((1, 1), 9, 16_384, 0, 0)),
        with(4, data((0, 1), 0, 16_384, 0, 0)),
        with(4, data((u32::MAX, 1), 0, 16_384, 0, 0)),
        with(4, data((2, 1), 0, 16_384, 0, 0)),
        with(6, data((1, 1), 0, 16_384, 0, 0)),
        with(5, bytes(0)),
        with(5, bytes(100_000)),
        with(5, state(FILE, 0)),
        with(2, state(PAGE, 1)),
        with(2, state(DONE, 1)),
        with(2, state(77, 1)),
        with(1, state(INIT, 1)),
        with(8, state(REDO, 0)),
        with(9, state(REDO, 1)),
        with(18, state(REDO, 1)),
        with(8, vec![99]),
        with(0, vec![]),
        with(0, vec![42]),
        with(3, file(File { state: DONE, ..GOOD })),
    ] {
        refused(clone);
    }
    let mut twice = good_clone();
    twice.insert(4, file(File { index: 1, ..GOOD }));
    refused(twice);
}

#[test]
fn h03_a_donor_without_an_end_is_given_up() {
    for (at, again) in [
        (4, vec![file(GOOD)]),
        (4, vec![announced(FILE, (1, 1), 0, 0, 0, 32_768)]),
        (4, vec![state(FILE, 2)]),
        (10, vec![announced(PAGE, (1, 1), 0, 0, 0, 32_768)]),
    ] {
        let (result, _) = backup_of(move |answer| {
            answer.all(&good_clone()[..at]);
            let many: Vec<u8> = packets(&again).repeat(1_000);
            while answer.raw(&many) {}
        });
        assert_eq!(result.unwrap_err().kind(), ErrorKind::SourceHostile, "{at}");
    }
    // Files, each with a name of its own.
    let (result, _) = backup_of(|answer| {
        answer.all(&good_clone()[..3]);
        for thousand in 0..3_000_u32 {
            let named = |number| format!("./s/t{}.ibd", thousand * 1_000 + number);
            let told = |number| file(File { index: thousand * 1_000 + number, name: &named(number), ..GOOD });
            let many: Vec<Vec<u8>> = (0..1_000).map(told).collect();
            if !answer.raw(&packets(&many)) {
                return;
            }
        }
    });
    assert_eq!(result.unwrap_err().kind(), ErrorKind::SourceHostile);
    // Pages, over and over again.
    let (result, _) = backup_of(|answer| {
        answer.all(&good_clone()[..10]);
        for block in 1..1_000_000 {
            let told = answer.packet(0, &announced(PAGE, (1, block), 0, 1 << 20, 0, 1 << 20));
            if !told || !answer.packet(0, &bytes(1 << 20)) {
                return;
            }
        }
    });
    assert_eq!(result.unwrap_err().kind(), ErrorKind::SourceHostile);
}

/// A message with each of its first bytes changed, cut short, or replaced by something else.
fn spoilt(whole: &[u8]) -> Vec<Vec<u8>> {
    let mut spoilt: Vec<Vec<u8>> = vec![vec![], vec![0xff; 40], b"\xff\x15\x04#28000no".to_vec()];
    spoilt.extend((0..whole.len().min(90)).step_by(9).map(|length| whole[..length].to_vec()));
    for position in (0..whole.len().min(80)).step_by(2) {
        let mut changed = whole.to_vec();
        changed[position] ^= 1 << (position % 8);
        spoilt.push(changed);
    }
    depth::thin(spoilt, 12)
}

/// Whether the backup was believed; one that was not has failed in words.
fn is_believed(at: usize, message: Vec<u8>) -> bool {
    let (result, taken) = said(with(at, message));
    let Err(error) = result else {
        assert!(taken.sink.is_settled());
        return true;
    };
    let kinds = [ErrorKind::SourceHostile, ErrorKind::SourceRefused, ErrorKind::SourceUnreachable];
    assert!(kinds.contains(&error.kind()), "{at}: {error:?}");
    false
}

#[test]
fn h06_each_message_of_a_clone_spoilt_in_each_way() {
    let clone = good_clone();
    let cases: Vec<(usize, Vec<u8>)> = clone
        .iter()
        .enumerate()
        .flat_map(|(at, whole)| spoilt(whole).into_iter().map(move |one| (at, one)))
        .collect();
    // Each of them waits more than it works.
    let lanes = 6;
    let count = |first: usize| {
        let lane = cases.iter().skip(first).step_by(lanes);
        lane.filter(|(at, message)| is_believed(*at, message.clone())).count()
    };
    let believed: usize = std::thread::scope(|scope| {
        let running: Vec<_> = (0..lanes).map(|first| scope.spawn(move || count(first))).collect();
        running.into_iter().map(|lane| lane.join().unwrap()).sum()
    });
    let tried = cases.len();
    assert!(tried > depth::choose(150, 300) && believed < tried / 2, "{believed} of {tried}");
}

#[test]
fn h06_a_donor_that_hangs_up_is_given_up() {
    for length in [0, 1, 4, 6, 9, 13, 18] {
        let clone = good_clone();
        let (result, _) = backup_of(move |answer| {
            answer.all(&clone[..length]);
            answer.hang_up();
        });
        let error = result.unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::SourceUnreachable | ErrorKind::SourceHostile),
            "{length}: {error:?}"
        );
    }
    assert_eq!(task().len(), 27);
}
