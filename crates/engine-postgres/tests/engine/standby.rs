//! Standbys as sources, and clusters that went through several timelines.

use std::fs;

use strongroom_testkit::postgres::{Options, PostgresServer, SUPERUSER_PASSWORD};
use strongroom_testkit::postgres_ledger::LedgerWriters;

use crate::desk::{Taken, create_role, fact, position, probe, source};

/// A standby made from our own backup of the primary, following it.
pub(crate) fn standby_of(primary: &PostgresServer, taken: &Taken) -> PostgresServer {
    let facts = taken.take(&source(primary)).unwrap();
    taken.finish_restore(&facts).unwrap();
    let data_dir = taken.sink.data_dir();
    let auto_conf = data_dir.join("postgresql.auto.conf");
    let conf = fs::read_to_string(&auto_conf).unwrap();
    let (port, password) = (primary.port(), SUPERUSER_PASSWORD);
    let line =
        format!("primary_conninfo = 'host=127.0.0.1 port={port} user=postgres password=''{password}'''\n");
    fs::write(&auto_conf, conf + &line).unwrap();
    fs::write(data_dir.join("standby.signal"), b"").unwrap();
    taken.boot(15, &facts)
}

fn wait_until_caught_up(primary: &PostgresServer, standby: &PostgresServer) {
    let position = primary.psql("postgres", "select pg_current_wal_flush_lsn()").unwrap();
    let reached = format!("select coalesce(pg_last_wal_replay_lsn() >= '{position}', false)");
    for _ in 0..300 {
        if standby.psql("postgres", &reached).unwrap() == "t" {
            return;
        }
        standby.psql("postgres", "select pg_sleep(0.1)").unwrap();
    }
    panic!("{}", standby.log());
}

#[test]
fn b18_a_standby_can_be_the_source() {
    let primary = PostgresServer::start(15, &Options::default()).unwrap();
    create_role(&primary);
    primary.psql("postgres", "create table t as select i from generate_series(1, 50000) i").unwrap();
    let place = Taken::new();
    let standby = standby_of(&primary, &place);
    let found = probe(&source(&standby)).unwrap();
    assert!(found.passed() && found.lines.iter().any(|line| line.found == "standby"), "{found:#?}");

    let writers = LedgerWriters::start(&primary, "postgres", 2).unwrap();
    let taken = Taken::new();
    let facts = taken.take(&source(&standby)).unwrap();
    let ledger = writers.stop().unwrap();
    assert_eq!(fact(&facts, "source_role"), "standby");
    assert!(fact(&facts, "backup_label").as_str().unwrap().contains("BACKUP FROM: standby"));
    taken.finish_restore(&facts).unwrap();
    assert!(!taken.sink.data_dir().join("standby.signal").exists());
    let mut restored = taken.boot(15, &facts);
    assert_eq!(restored.psql("postgres", "select count(*), pg_is_in_recovery() from t").unwrap(), "50000|f");
    ledger.judge(&restored, position(&facts, "stop_lsn")).unwrap();
    restored.run_tool("pg_amcheck", &["--install-missing", "--heapallindexed", "-a"]).unwrap();
    restored.stop().unwrap();
    let data_dir = restored.data_dir().to_str().unwrap().to_owned();
    restored.run_tool("pg_checksums", &["--check", "-D", &data_dir]).unwrap();
}

#[test]
fn b02_a_promoted_server_brings_its_history() {
    let primary = PostgresServer::start(15, &Options::default()).unwrap();
    create_role(&primary);
    let place = Taken::new();
    let promoted = standby_of(&primary, &place);
    wait_until_caught_up(&primary, &promoted);
    promoted.psql("postgres", "select pg_promote()").unwrap();
    promoted.psql("postgres", "create table after_promotion as select 42 as answer; checkpoint").unwrap();

    let taken = Taken::new();
    let facts = taken.take(&source(&promoted)).unwrap();
    assert_eq!(fact(&facts, "timeline"), 2);
    assert_eq!(fact(&facts, "history_files"), &serde_json::json!(["00000002.history"]));
    taken.finish_restore(&facts).unwrap();
    assert!(taken.sink.data_dir().join("pg_wal/00000002.history").exists());
    let restored = taken.boot(15, &facts);
    assert_eq!(restored.psql("postgres", "select answer from after_promotion").unwrap(), "42");
    let timeline = restored.psql("postgres", "select timeline_id from pg_control_checkpoint()").unwrap();
    assert_eq!(timeline, "2");
}

#[test]
fn b02_a_promotion_during_the_backup_voids_it() {
    let primary = PostgresServer::start(15, &Options::default()).unwrap();
    create_role(&primary);
    primary.run_tool("pgbench", &["-i", "-q", "-s", "20", "postgres"]).unwrap();
    let place = Taken::new();
    let standby = standby_of(&primary, &place);
    wait_until_caught_up(&primary, &standby);
    let mut taken = Taken::new();
    taken.sink.slow_down();
    let source = source(&standby);
    let error = std::thread::scope(|scope| {
        let worker = scope.spawn(|| taken.take(&source));
        while taken.progress.read().done_bytes < 1 << 20 {
            assert!(!worker.is_finished());
            std::thread::yield_now();
        }
        standby.psql("postgres", "select pg_promote()").unwrap();
        worker.join().unwrap().unwrap_err()
    });
    assert_eq!(error.retry(), strongroom_core::Retry::Later, "{error:?}");
    assert_ne!(error.kind(), strongroom_core::ErrorKind::SourceHostile, "{error:?}");
}
