//! The test servers themselves: if these fail, no other result means anything.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

use strongroom_testkit::postgres::{Options, PostgresServer, require};
use strongroom_testkit::postgres_ledger::LedgerWriters;

fn starts_writes_and_stops(version: u32) {
    if !require(version) {
        return;
    }
    let mut server = PostgresServer::start(version, &Options { tls: true, ..Options::default() }).unwrap();
    assert_eq!(server.psql("postgres", "show data_checksums").unwrap(), "on");
    assert_eq!(server.psql("postgres", "show ssl").unwrap(), "on");
    assert!(server.psql("postgres", "select 1/0").is_err());

    let writers = LedgerWriters::start(&server, "postgres", 2).unwrap();
    server.psql("postgres", "select pg_sleep(0.5)").unwrap();
    let ledger = writers.stop().unwrap();
    assert!(!ledger.is_empty());
    ledger.judge(&server, u64::MAX).unwrap();
    server.psql("postgres", "delete from ledger_in where entry = 0").unwrap();
    assert!(ledger.judge(&server, u64::MAX).is_err());
    server.psql("postgres", "delete from ledger_out").unwrap();
    server.psql("postgres", "delete from ledger_in").unwrap();
    assert!(ledger.judge(&server, u64::MAX).is_err());

    server.restart().unwrap();
    server.run_tool("pgbench", &["-i", "-q", "postgres"]).unwrap();
    server.kill9().unwrap();
    server.launch().unwrap();
    server.stop().unwrap();
    let data_dir = server.data_dir().to_str().unwrap().to_owned();
    if server.has_tool("pg_checksums") {
        server.run_tool("pg_checksums", &["--check", "-D", &data_dir]).unwrap();
    }
    let mut again = PostgresServer::adopt(version, server.data_dir()).unwrap();
    assert_eq!(again.psql("postgres", "select count(*) from ledger_out").unwrap(), "0");
    again.stop().unwrap();
}

#[test]
fn postgresql_13_14_and_16_start_write_and_stop() {
    for version in [13, 14, 16] {
        starts_writes_and_stops(version);
    }
}

#[test]
fn postgresql_15_starts_writes_and_stops() {
    starts_writes_and_stops(15);
}

#[test]
fn postgresql_17_starts_writes_and_stops() {
    starts_writes_and_stops(17);
}

#[test]
fn postgresql_18_starts_writes_and_stops() {
    starts_writes_and_stops(18);
}
