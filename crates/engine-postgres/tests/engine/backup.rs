//! Backups of real servers, judged by servers started from them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use strongroom_core::ErrorKind;
use strongroom_core::engine::{Engine, SourceIdentity};
use strongroom_core::member::MemberKind;
use strongroom_testkit::postgres::{Options, PostgresServer, require};
use strongroom_testkit::postgres_ledger::LedgerWriters;

use crate::cluster;
use crate::desk::{Taken, create_role, engine, fact, path_text, position, slots_are_gone, source};

fn filled(version: u32) -> PostgresServer {
    let options = Options {
        conf: vec!["max_prepared_transactions = 5".to_owned(), "max_connections = 77".to_owned()],
        ..Options::default()
    };
    let server = PostgresServer::start(version, &options).unwrap();
    create_role(&server);
    cluster::fill(&server);
    server
}

/// b16 b17 b20: everything comes back as it was, and what was committed during the backup.
fn everything_comes_back(version: u32) {
    if !require(version) {
        return;
    }
    let server = filled(version);
    let before = cluster::digest(&server);
    let writers = LedgerWriters::start(&server, "postgres", 3).unwrap();
    server.psql("postgres", "select pg_sleep(0.3)").unwrap();
    let taken = Taken::new();
    let facts = taken.take(&source(&server)).unwrap();
    let ledger = writers.stop().unwrap();
    slots_are_gone(&server);
    assert_eq!(taken.sink.unfinished(), 0);
    assert_eq!(facts.damage, []);
    assert_eq!(facts.warnings, [""; 0]);
    assert!(fact(&facts, "pages")["checked"].as_u64().unwrap() > 3000);

    taken.finish_restore(&facts).unwrap();
    let mut restored = taken.boot(version, &facts);
    assert_eq!(cluster::digest(&restored), before);
    assert!(ledger.committed_before(position(&facts, "stop_lsn")) > 0);
    ledger.judge(&restored, position(&facts, "stop_lsn")).unwrap();
    assert_eq!(restored.psql("postgres", "select count(*) from volatile_rows").unwrap(), "0");
    assert_eq!(restored.psql("postgres", "select gid from pg_prepared_xacts").unwrap(), "pending");
    assert_eq!(restored.psql("postgres", "show max_connections").unwrap(), "77");
    let odd = restored.data_dir().join(OsStr::from_bytes(b"notes \xff\xfe\n.txt"));
    assert_eq!(std::fs::read(odd).unwrap(), b"kept");
    let places = restored
        .psql("postgres", "select pg_tablespace_location(oid) from pg_tablespace where oid > 10000")
        .unwrap();
    assert_eq!(places.lines().count(), 2);
    assert!(places.lines().all(|place| place.starts_with(path_text(taken.folder.path()))), "{places}");

    restored.run_tool("pg_amcheck", &["--install-missing", "--heapallindexed", "-a"]).unwrap();
    assert!(
        restored.run_tool("pg_dumpall", &[]).unwrap().contains("PostgreSQL database cluster dump complete")
    );
    restored.stop().unwrap();
    restored.run_tool("pg_checksums", &["--check", "-D", path_text(restored.data_dir())]).unwrap();
}

#[test]
fn b16_b17_b20_postgresql_15_comes_back() {
    everything_comes_back(15);
}

#[test]
fn b16_b17_b20_postgresql_17_comes_back() {
    everything_comes_back(17);
}

#[test]
fn b16_b17_b20_postgresql_18_comes_back() {
    everything_comes_back(18);
}

#[test]
fn small_segments_and_much_log() {
    let options = Options { initdb: vec!["--wal-segsize=1".to_owned()], ..Options::default() };
    let server = PostgresServer::start(15, &options).unwrap();
    create_role(&server);
    server.run_tool("pgbench", &["-i", "-q", "-s", "10", "postgres"]).unwrap();
    let writers = LedgerWriters::start(&server, "postgres", 2).unwrap();
    let mut load = server.tool("pgbench");
    let mut load =
        load.args(["-c", "4", "-T", "60", "postgres"]).stdout(std::process::Stdio::null()).spawn().unwrap();
    let taken = Taken::new();
    let facts = taken.take(&source(&server)).unwrap();
    load.kill().unwrap();
    load.wait().unwrap();
    let ledger = writers.stop().unwrap();

    let log = fact(&facts, "log");
    assert_eq!(log["segment_size_bytes"], 1 << 20);
    let stored: Vec<_> =
        taken.sink.members().into_iter().filter(|member| member.path.root() == b"wal").collect();
    assert_eq!(stored.len() as u64, log["count"].as_u64().unwrap());
    assert!(stored.len() > 1, "the load wrote log");
    taken.finish_restore(&facts).unwrap();
    let restored = taken.boot(15, &facts);
    ledger.judge(&restored, position(&facts, "stop_lsn")).unwrap();
    let accounts =
        "select sum(abalance) = (select sum(bbalance) from pgbench_branches) from pgbench_accounts";
    assert_eq!(restored.psql("postgres", accounts).unwrap(), "t");
    restored.run_tool("pg_amcheck", &["--install-missing", "--heapallindexed", "postgres"]).unwrap();
}

#[test]
fn b15_an_empty_cluster_is_a_backup_too() {
    let server = PostgresServer::start(15, &Options { checksums: false, ..Options::default() }).unwrap();
    create_role(&server);
    let taken = Taken::new();
    let facts = taken.take(&source(&server)).unwrap();
    assert_eq!(fact(&facts, "data_checksums"), false);
    assert_eq!(fact(&facts, "pages")["checked"], 0);
    let reading = taken.progress.read();
    assert_eq!(reading.phase, "log");
    assert!(reading.done_bytes > 10 << 20 && reading.total_bytes > 10 << 20);
    taken.finish_restore(&facts).unwrap();
    assert_eq!(taken.boot(15, &facts).psql("postgres", "select 1").unwrap(), "1");
}

#[test]
fn members_tell_what_they_are() {
    let server = PostgresServer::start(15, &Options::default()).unwrap();
    create_role(&server);
    let taken = Taken::new();
    let facts = taken.take(&source(&server)).unwrap();
    let members = taken.sink.members();
    let member =
        |path: &str| members.iter().find(|member| member.path.as_bytes() == path.as_bytes()).unwrap();
    assert_eq!(member("data/global/1262").page_size, 8192);
    assert_eq!(member("data/global/pg_control").page_size, 0);
    assert_eq!(member("data/pg_xact/0000").page_size, 0);
    assert_eq!(member("data/base").kind, MemberKind::Directory);
    assert_eq!(member("data/base").mode, 0o700);
    assert_eq!(member("data/PG_VERSION").size, Some(3));
    assert!(member("data/PG_VERSION").mtime_s > 1_700_000_000);
    let manifest: serde_json::Value = serde_json::from_slice(&taken.sink.meta("backup_manifest")).unwrap();
    assert!(manifest["Files"].as_array().unwrap().len() > 900);
    let settings: serde_json::Value = serde_json::from_slice(&taken.sink.meta("settings.json")).unwrap();
    assert_eq!(settings["wal_level"], "replica");
    assert_eq!(
        facts.identity.version,
        server.psql("postgres", "select split_part(version(), ' ', 2)").unwrap()
    );
    assert_eq!(
        facts.identity.system_identifier,
        server.psql("postgres", "select system_identifier from pg_control_system()").unwrap()
    );
    assert_eq!(fact(&facts, "source_role"), "primary");
    assert!(fact(&facts, "backup_label").as_str().unwrap().contains("LABEL: first's backup"));
    assert_eq!(engine().tablespaces(&facts).unwrap(), []);
}

#[test]
fn b03_another_database_at_the_same_address_is_refused() {
    let server = PostgresServer::start(15, &Options::default()).unwrap();
    create_role(&server);
    let known = SourceIdentity {
        engine: strongroom_core::engine::EngineKind::PostgreSql,
        version: "15.1".to_owned(),
        system_identifier: "7438910573451234567".to_owned(),
    };
    let taken = Taken { identity: Some(known), ..Taken::new() };
    let error = taken.take(&source(&server)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceRefused);
    assert_eq!(error.retry(), strongroom_core::Retry::Never);
    assert!(error.public().contains("7438910573451234567"), "{error}");
    assert_eq!(taken.sink.members(), []);
}
