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

/// Makes, changes and drops tables as fast as it can, until it is dropped.
struct SchemaChanges(std::process::Child);

impl SchemaChanges {
    fn start(server: &PostgresServer) -> Self {
        let script = server.data_dir().with_file_name("schema.sql");
        let changes = "\\set n random(1, 20)
            create table if not exists churn_:n (id int primary key, body text);
            insert into churn_:n select i, repeat('x', 500) from generate_series(1, 50) i on conflict do nothing;
            alter table churn_:n add column if not exists more int default 7;
            create index if not exists churn_index_:n on churn_:n (body);
            truncate churn_:n;
            drop table if exists churn_:n;
            create temp table if not exists t as select 1; drop table t;\n";
        std::fs::write(&script, changes).unwrap();
        let mut pgbench = server.tool("pgbench");
        pgbench.args(["-n", "-c", "2", "-T", "120", "--max-tries=1000", "-f"]).arg(&script);
        pgbench.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        Self(pgbench.spawn().unwrap())
    }
}

impl Drop for SchemaChanges {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The first version whose rows and indexes `pg_amcheck` can check.
const AMCHECK_MAJOR: u32 = 14;

/// b16 b17 b20: everything comes back as it was, and what was committed during the backup.
fn everything_comes_back(version: u32) {
    if !require(version) {
        return;
    }
    let server = filled(version);
    let (before, asked) = (cluster::digest(&server), cluster::through_indexes(&server));
    let writers = LedgerWriters::start(&server, "postgres", 3).unwrap();
    let changes = SchemaChanges::start(&server);
    server.psql("postgres", "select pg_sleep(0.5)").unwrap();
    let made = "select coalesce(sum(xact_commit), 0) from pg_stat_database";
    assert!(server.psql("postgres", made).unwrap().parse::<u64>().unwrap() > 50, "the schema changes");
    let taken = Taken::new();
    let facts = taken.take(&source(&server)).unwrap();
    drop(changes);
    let ledger = writers.stop().unwrap();
    slots_are_gone(&server);
    assert_eq!(taken.sink.unfinished(), 0);
    assert_eq!(facts.damage, []);
    assert_eq!(facts.warnings, [""; 0]);
    assert!(fact(&facts, "pages")["checked"].as_u64().unwrap() > 3000);

    taken.finish_restore(&facts).unwrap();
    let mut restored = taken.boot(version, &facts);
    assert_eq!(cluster::digest(&restored), before);
    assert_eq!(cluster::through_indexes(&restored), asked);
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

    // A server from elsewhere may come without the extensions of its distribution.
    let amcheck = "select count(*) from pg_available_extensions where name = 'amcheck'";
    if restored.psql("postgres", amcheck).unwrap() == "1" && version >= AMCHECK_MAJOR {
        restored.run_tool("pg_amcheck", &["--install-missing", "--heapallindexed", "-a"]).unwrap();
    }
    assert!(
        restored.run_tool("pg_dumpall", &[]).unwrap().contains("PostgreSQL database cluster dump complete")
    );
    // The comparison is one that tells a difference.
    restored.psql("postgres", "update large_values set body = body || '.' where id = 20").unwrap();
    restored.psql(cluster::ODD_DATABASE, "select lo_put(4711, 70000, 'x')").unwrap();
    let after = cluster::digest(&restored);
    assert!(after[0] != before[0] && after[1] != before[1]);
    restored.stop().unwrap();
    if restored.has_tool("pg_checksums") {
        restored.run_tool("pg_checksums", &["--check", "-D", path_text(restored.data_dir())]).unwrap();
    }
}

#[test]
fn b16_b17_b20_postgresql_13_comes_back() {
    everything_comes_back(13);
}

#[test]
fn b16_b17_b20_postgresql_14_comes_back() {
    everything_comes_back(14);
}

#[test]
fn b16_b17_b20_postgresql_15_comes_back() {
    everything_comes_back(15);
}

#[test]
fn b16_b17_b20_postgresql_16_comes_back() {
    everything_comes_back(16);
}

/// PostgreSQL 13 looks for a tablespace with a line end in its path where it is not, leaves it out
/// of the copy and of the manifest, and says nothing.
#[test]
fn b17_a_tablespace_that_the_source_leaves_out_is_missed() {
    if !require(13) {
        return;
    }
    let server = PostgresServer::start(13, &Options::default()).unwrap();
    create_role(&server);
    let place = server.make_folder("two\nlines").unwrap();
    server.psql("postgres", &format!("create tablespace lost location '{}'", path_text(&place))).unwrap();
    server.psql("postgres", "create table t tablespace lost as select 1").unwrap();
    let error = Taken::new().take(&source(&server)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceRefused);
    assert!(error.public().contains("nothing of tablespace"), "{}", error.public());
    slots_are_gone(&server);
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

/// The stored log is the server's own, byte for byte, also where the server left a segment early.
#[test]
fn b07_the_stored_log_is_the_servers_own() {
    let options = Options {
        initdb: vec!["--wal-segsize=1".to_owned()],
        conf: vec!["wal_keep_size = 400MB".to_owned(), "wal_recycle = off".to_owned()],
        ..Options::default()
    };
    let server = PostgresServer::start(15, &options).unwrap();
    create_role(&server);
    server.run_tool("pgbench", &["-i", "-q", "-s", "5", "postgres"]).unwrap();
    let mut taken = Taken::new();
    taken.sink.slow_down();
    let source = source(&server);
    let facts = std::thread::scope(|scope| {
        let worker = scope.spawn(|| taken.take(&source));
        while taken.progress.read().done_bytes < 1 << 20 {
            assert!(!worker.is_finished());
            std::thread::yield_now();
        }
        for round in 0..4 {
            server
                .psql("postgres", &format!("create table switched_{round} as select {round} as i"))
                .unwrap();
            server.psql("postgres", "select pg_switch_wal()").unwrap();
        }
        worker.join().unwrap().unwrap()
    });
    let log = fact(&facts, "log");
    assert!(log["count"].as_u64().unwrap() >= 5, "{log}");
    let stop = usize::try_from(position(&facts, "stop_lsn") % (1 << 20)).unwrap();
    for member in taken.sink.members().iter().filter(|member| member.path.root() == b"wal") {
        let name = std::str::from_utf8(member.path.below_root()).unwrap().to_owned();
        let stored = std::fs::read(taken.sink.data_dir().join("pg_wal").join(&name)).unwrap();
        let own = std::fs::read(server.data_dir().join("pg_wal").join(&name)).unwrap();
        let compared = if log["last"] == name.as_str() { stop } else { 1 << 20 };
        assert!(stored[..compared] == own[..compared], "{name}");
        assert_eq!(stored.len(), 1 << 20);
    }
    taken.finish_restore(&facts).unwrap();
    let restored = taken.boot(15, &facts);
    assert_eq!(restored.psql("postgres", "select i from switched_3").unwrap(), "3");
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
