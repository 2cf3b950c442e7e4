//! Backups that do not come to their end.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use strongroom_core::engine::StopReason;
use strongroom_core::progress::Progress;
use strongroom_core::{Error, ErrorKind, Retry};
use strongroom_testkit::postgres::{Options, PostgresServer};

use crate::desk::{Taken, create_role, slots_are_gone, source};

/// Enough that a backup takes a while when it is slowed down.
fn large_server() -> PostgresServer {
    let server = PostgresServer::start(15, &Options::default()).unwrap();
    create_role(&server);
    server.run_tool("pgbench", &["-i", "-q", "-s", "20", "postgres"]).unwrap();
    server
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
    server: &mut PostgresServer,
    disturb: impl FnOnce(&mut PostgresServer, &Taken),
) -> (Error, Duration, Taken) {
    let mut taken = Taken::new();
    taken.sink.slow_down();
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
fn b01_a_server_that_is_killed_ends_the_backup() {
    let mut server = large_server();
    let (error, took, _) = disturbed(&mut server, |server, _| server.kill9().unwrap());
    assert_eq!((error.kind(), error.retry()), (ErrorKind::SourceUnreachable, Retry::Later), "{error}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    server.launch().unwrap();
    slots_are_gone(&server);
    Taken::new().take(&source(&server)).unwrap();
}

#[test]
fn b01_a_server_that_restarts_ends_the_backup() {
    let mut server = large_server();
    let (error, _, _) = disturbed(&mut server, |server, _| server.restart().unwrap());
    assert_eq!((error.kind(), error.retry()), (ErrorKind::SourceUnreachable, Retry::Later), "{error}");
    slots_are_gone(&server);
}

#[test]
fn b04_either_connection_may_be_cut() {
    for victim in ["backup", "streaming"] {
        let mut server = large_server();
        let cut = format!(
            "select count(pg_terminate_backend(pid)) from pg_stat_replication where state = '{victim}'"
        );
        let (error, took, _) = disturbed(&mut server, |server, _| {
            assert_eq!(server.psql("postgres", &cut).unwrap(), "1");
        });
        assert_eq!(
            (error.kind(), error.retry()),
            (ErrorKind::SourceUnreachable, Retry::Later),
            "{victim}: {error}"
        );
        assert!(took < Duration::from_secs(20), "{victim}: {took:?}");
        slots_are_gone(&server);
    }
}

#[test]
fn a_cancelled_backup_ends_soon_and_leaves_nothing_at_the_source() {
    let mut server = large_server();
    let (error, took, taken) = disturbed(&mut server, |_, taken| taken.cancel.stop(StopReason::Cancelled));
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(taken.sink.unfinished() > 0);
    slots_are_gone(&server);
}

#[test]
fn a_sink_that_fails_ends_the_backup_with_its_own_words() {
    let server = large_server();
    let mut taken = Taken::new();
    taken.sink.fail_after(3 << 20);
    let error = taken.take(&source(&server)).unwrap_err();
    assert_eq!((error.kind(), error.public()), (ErrorKind::DiskFull, "The sink is full."));
    slots_are_gone(&server);
}
