//! Backups whose way is cut, that are cancelled, or whose server goes.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use strongroom_core::engine::{BackupFacts, Source, StopReason};
use strongroom_core::progress::Progress;
use strongroom_core::{Error, ErrorKind, Retry};
use strongroom_testkit::depth;
use strongroom_testkit::mysql::{MySqlServer, require};

use crate::desk::{Taken, donor_is_free, fact, source};
use crate::proxy::{Cut, Proxy};
use crate::world::{self, check_tables, checksums};

fn number(facts: &BackupFacts, path: &str) -> u64 {
    fact(facts, path).as_u64().unwrap()
}

fn through(proxy: &Proxy, server: &MySqlServer) -> Source {
    Source { port: proxy.port(), ..source(server) }
}

/// A clone that is cut wherever it may be goes on, and not one byte of a file comes twice.
#[test]
fn b04_a_clone_that_is_cut_anywhere_goes_on_where_it_was() {
    if !require() {
        return;
    }
    let server = world::start(None);
    let wanted = checksums(&server);
    let whole = Proxy::start(server.port(), &[]);
    let undisturbed = Taken::new().take(&through(&whole, &server)).unwrap();
    let brought = whole.brought(0);
    let file_bytes = number(&undisturbed, "/transfer/file_bytes");
    assert!(file_bytes > 20 << 20 && brought > file_bytes, "{file_bytes} {brought}");
    assert_eq!(whole.connections(), 5, "the data, and an acknowledgement of each of four ends");
    let steps = 8;
    let mut resumed = 0;
    for step in 1..steps {
        let proxy = Proxy::start(server.port(), &[Cut { connection: 0, after: brought * step / steps }]);
        let taken = Taken::new();
        let facts = taken.take(&through(&proxy, &server)).unwrap();
        resumed += number(&facts, "/transfer/resumed");
        assert_eq!(number(&facts, "/transfer/resumed"), 1, "step {step}");
        assert_eq!(number(&facts, "/transfer/file_bytes"), file_bytes, "step {step}");
        assert!(facts.damage.is_empty(), "{:?}", facts.damage);
        donor_is_free(&server);
        if step % 3 == 0 {
            let restored = taken.boot();
            assert_eq!(checksums(&restored), wanted, "step {step}");
            assert_eq!(check_tables(&restored), "", "step {step}");
        }
    }
    assert_eq!(resumed, steps - 1);
}

/// The connection that acknowledges may break as well: at its login, and behind the acknowledgement.
#[test]
fn b04_an_acknowledgement_that_is_cut_is_given_once_more() {
    if !require() {
        return;
    }
    let server = world::start(None);
    let wanted = checksums(&server);
    let whole = Proxy::start(server.port(), &[]);
    Taken::new().take(&through(&whole, &server)).unwrap();
    for connection in 2..5 {
        for after in [100, whole.brought(connection) - 40] {
            let proxy = Proxy::start(server.port(), &[Cut { connection, after }]);
            let taken = Taken::new();
            let facts = taken.take(&through(&proxy, &server)).unwrap();
            assert!(number(&facts, "/transfer/resumed") > 0, "{connection} {after}");
            donor_is_free(&server);
            // Each end of a stage, and each place of the cut.
            if (connection % 2 == 0) == (after == 100) || depth::is_full() {
                let restored = taken.boot();
                assert_eq!(checksums(&restored), wanted, "{connection} {after}");
            }
        }
    }
}

/// Broken twice, the clone is taken up again from its middle, though its own connection still lives.
#[test]
fn b04_an_acknowledgement_that_breaks_twice_takes_the_clone_up_again() {
    if !require() {
        return;
    }
    let server = world::start(None);
    let wanted = checksums(&server);
    let whole = Proxy::start(server.port(), &[]);
    Taken::new().take(&through(&whole, &server)).unwrap();
    for after in [100, whole.brought(2) - 40] {
        let cuts = [2, 3].map(|connection| Cut { connection, after });
        let proxy = Proxy::start(server.port(), &cuts);
        let taken = Taken::new();
        let facts = taken.take(&through(&proxy, &server)).unwrap();
        assert_eq!(number(&facts, "/transfer/resumed"), 2, "{after}");
        donor_is_free(&server);
        let restored = taken.boot();
        assert_eq!(
            (checksums(&restored), check_tables(&restored)),
            (wanted.clone(), String::new()),
            "{after}"
        );
    }
}

fn wait_for_copying(progress: &Progress) {
    let begun = Instant::now();
    while progress.read().done_bytes < 1 << 20 {
        assert!(begun.elapsed() < Duration::from_mins(1), "{:?}", progress.read());
        thread::yield_now();
    }
}

/// Takes a slow backup and disturbs it in its middle; answers with how it failed and how soon.
fn disturbed(
    server: &mut MySqlServer,
    disturb: impl FnOnce(&mut MySqlServer, &Taken),
) -> (Error, Duration, Taken) {
    let mut taken = Taken::new();
    taken.sink.slow_down(Duration::from_millis(30));
    let taken = Arc::new(taken);
    let source = source(server);
    let worker = thread::spawn({
        let taken = Arc::clone(&taken);
        move || taken.take(&source)
    });
    wait_for_copying(&taken.progress);
    disturb(server, &taken);
    let begun = Instant::now();
    let error = worker.join().unwrap().unwrap_err();
    (error, begun.elapsed(), Arc::into_inner(taken).unwrap())
}

#[test]
fn a_cancelled_clone_ends_soon_and_leaves_the_donor_free() {
    if !require() {
        return;
    }
    let mut server = world::start(None);
    let (error, took, taken) = disturbed(&mut server, |_, taken| taken.cancel.stop(StopReason::Cancelled));
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(!taken.sink.is_settled());
    donor_is_free(&server);
    server.sql("create table shop.after_it (id int primary key)").unwrap();
    Taken::new().take(&source(&server)).unwrap();
}

/// A client that is gone without a word: nobody has to wait until the donor gives it up.
#[test]
fn the_next_clone_does_not_wait_for_one_whose_client_is_gone() {
    if !require() {
        return;
    }
    let server = world::start(None);
    // Every further connection is cut at once: the clone cannot be taken up, nor called off.
    let cuts: Vec<Cut> = (2..200).map(|connection| Cut { connection, after: 0 }).collect();
    let proxy = Proxy::start(server.port(), &[&[Cut { connection: 0, after: 5 << 20 }], &cuts[..]].concat());
    let lost = Arc::new(Taken::new());
    let worker = thread::spawn({
        let (lost, source) = (Arc::clone(&lost), through(&proxy, &server));
        move || lost.take(&source)
    });
    while proxy.connections() < 4 {
        thread::yield_now();
    }
    let begun = Instant::now();
    server
        .sql("create table shop.meanwhile (id int primary key); insert into shop.meanwhile values (1)")
        .unwrap();
    Taken::new().take(&source(&server)).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    lost.cancel.stop(StopReason::Cancelled);
    assert_eq!(worker.join().unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
}

#[test]
fn b01_a_mysql_server_that_is_killed_ends_the_backup() {
    if !require() {
        return;
    }
    let mut server = world::start(None);
    let (error, took, _) = disturbed(&mut server, |server, _| {
        server.kill9().unwrap();
        server.launch().unwrap();
    });
    assert_eq!(error.retry(), Retry::Later, "{error:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    Taken::new().take(&source(&server)).unwrap();
}

#[test]
fn a_sink_that_fails_ends_the_clone_with_its_own_words() {
    if !require() {
        return;
    }
    let server = world::start(None);
    let mut taken = Taken::new();
    taken.sink.fail_after(3 << 20);
    let error = taken.take(&source(&server)).unwrap_err();
    assert_eq!((error.kind(), error.public()), (ErrorKind::DiskFull, "The sink is full."));
    donor_is_free(&server);
    Taken::new().take(&source(&server)).unwrap();
}
