//! Backups of real servers, judged by servers started from them.

use strongroom_testkit::postgres::{Options, PostgresServer, require};
use strongroom_testkit::postgres_ledger::LedgerWriters;

use crate::desk::{Taken, create_role, path_text, position, source};

fn round_trip(version: u32) {
    if !require(version) {
        return;
    }
    let server = PostgresServer::start(version, &Options::default()).unwrap();
    create_role(&server);
    server.run_tool("pgbench", &["-i", "-q", "-s", "5", "postgres"]).unwrap();
    let writers = LedgerWriters::start(&server, "postgres", 3).unwrap();
    server.psql("postgres", "select pg_sleep(0.3)").unwrap();
    let taken = Taken::new();
    let facts = taken.take(&source(&server)).unwrap();
    let ledger = writers.stop().unwrap();
    assert_eq!(taken.sink.unfinished(), 0);
    let notes = taken.finish_restore(&facts).unwrap();
    eprintln!("{notes:?} {:#}", facts.engine);
    let mut restored = taken.boot(version, &facts);
    assert!(ledger.committed_before(position(&facts, "stop_lsn")) > 0);
    ledger.judge(&restored, position(&facts, "stop_lsn")).unwrap();
    restored.run_tool("pg_amcheck", &["--install-missing", "--heapallindexed", "-a"]).unwrap();
    restored.stop().unwrap();
    restored.run_tool("pg_checksums", &["--check", "-D", path_text(restored.data_dir())]).unwrap();
}

#[test]
fn postgresql_15_comes_back() {
    round_trip(15);
}

#[test]
fn postgresql_17_comes_back() {
    round_trip(17);
}

#[test]
fn postgresql_18_comes_back() {
    round_trip(18);
}
