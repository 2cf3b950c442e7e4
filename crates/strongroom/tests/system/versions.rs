//! The whole way on each version: writers run, a backup is taken, a restored server is judged.

use strongroom_testkit::postgres::{PostgresServer, require};
use strongroom_testkit::postgres_ledger::LedgerWriters;

use crate::room::Room;
use crate::source::{Source, digest, restore};

/// A log position as the server prints it.
fn position(text: &str) -> u64 {
    let (high, low) = text.split_once('/').unwrap();
    u64::from_str_radix(high, 16).unwrap() << 32 | u64::from_str_radix(low, 16).unwrap()
}

/// What was committed before the end of the backup is there, nothing is there in part, the rest of
/// the tables are equal, and every page has its checksum.
fn comes_back_with_writers_running(version: u32) {
    if !require(version) {
        return;
    }
    let (room, source) = (Room::serving(), Source::of_version(version, 20));
    source.server.psql("postgres", "create unlogged table volatile_rows as select 1 as i").unwrap();
    source.server.psql("postgres", "create database \"Läden 🏦\"").unwrap();
    source.server.psql("Läden 🏦", "create table t as select 'drüben' as was").unwrap();
    source.register(&room);
    room.json(&["backup", "create", "shop", "--name", "first", "--wait", "--progress", "none"]);
    let wanted = digest(&source.server);
    let writers = LedgerWriters::start(&source.server, "postgres", 3).unwrap();
    let backup =
        room.json(&["backup", "create", "shop", "--name", "under-load", "--wait", "--progress", "none"]);
    let ledger = writers.stop().unwrap();
    let id = backup["id"].as_str().unwrap();
    let plan = room.http("GET", &format!("/strongroom/v1/backups/{id}/plan"), "").body;
    let end = position(plan["facts"]["engine"]["stop_lsn"].as_str().unwrap());
    assert!(ledger.committed_before(end) > 0, "the writers wrote before the end");

    let target = room.scratch.path().join("restored");
    restore(&room, "under-load", &target).expect(0);
    let mut restored = PostgresServer::adopt(version, &target).unwrap();
    ledger.judge(&restored, end).unwrap();
    assert_eq!(digest(&restored), wanted);
    assert_eq!(restored.psql("Läden 🏦", "select was from t").unwrap(), "drüben");
    assert_eq!(restored.psql("postgres", "select count(*) from volatile_rows").unwrap(), "0");
    restored.stop().unwrap();
    if restored.has_tool("pg_checksums") {
        restored.run_tool("pg_checksums", &["--check", "-D", &target.display().to_string()]).unwrap();
    }
    source.is_released();
}

#[test]
fn b20_postgresql_13_comes_back_with_writers_running() {
    comes_back_with_writers_running(13);
}

#[test]
fn b20_postgresql_14_comes_back_with_writers_running() {
    comes_back_with_writers_running(14);
}

#[test]
fn b20_postgresql_15_comes_back_with_writers_running() {
    comes_back_with_writers_running(15);
}

#[test]
fn b20_postgresql_17_comes_back_with_writers_running() {
    comes_back_with_writers_running(17);
}

#[test]
fn b20_postgresql_18_comes_back_with_writers_running() {
    comes_back_with_writers_running(18);
}
