//! The check of a source: each lack with the statement that mends it, and the statement does.

use strongroom_core::engine::{CheckLine, CheckState, Probe};
use strongroom_testkit::postgres::{Options, PostgresServer, require};

use crate::desk::{PASSWORD, ROLE, create_role, probe, source};

fn start(conf: &[&str]) -> PostgresServer {
    let conf = conf.iter().map(|line| (*line).to_owned()).collect();
    PostgresServer::start(15, &Options { conf, ..Options::default() }).unwrap()
}

fn line<'p>(probe: &'p Probe, what: &str) -> &'p CheckLine {
    probe
        .lines
        .iter()
        .find(|line| line.what == what)
        .unwrap_or_else(|| panic!("{what} in {:#?}", probe.lines))
}

fn missing(probe: &Probe) -> Vec<&str> {
    let is_missing = |line: &&CheckLine| line.state == CheckState::Missing;
    probe.lines.iter().filter(is_missing).map(|line| line.what.as_str()).collect()
}

#[test]
fn a_good_source_passes_in_every_version() {
    for version in [15, 17, 18] {
        if !require(version) {
            continue;
        }
        let conf = if version >= 17 { vec!["summarize_wal = on".to_owned()] } else { Vec::new() };
        let server = PostgresServer::start(version, &Options { conf, ..Options::default() }).unwrap();
        create_role(&server);
        let probe = probe(&source(&server)).unwrap();
        assert!(probe.passed(), "{probe:#?}");
        assert_eq!(probe.lines.iter().any(|line| line.what == "changed blocks"), version >= 17);
        assert!(probe.lines.iter().all(|line| line.state == CheckState::Ok), "{:#?}", probe.lines);
        assert!(line(&probe, "version").found.starts_with(&format!("PostgreSQL {version}.")));
        assert_eq!(line(&probe, "WAL senders").found, "2 free of 10");
        let slots = server.psql("postgres", "select count(*) from pg_replication_slots").unwrap();
        assert_eq!(slots, "0");
    }
}

#[test]
fn lists_of_changed_blocks_are_advised_and_the_statement_given_brings_them() {
    if !require(18) {
        return;
    }
    let server = PostgresServer::start(18, &Options::default()).unwrap();
    create_role(&server);
    let before = probe(&source(&server)).unwrap();
    assert!(before.passed(), "it is advice, and no lack: {before:#?}");
    let advice = line(&before, "changed blocks");
    assert_eq!((advice.state, advice.found.as_str()), (CheckState::Warning, "summarize_wal is off"));
    for statement in advice.remedy.clone().unwrap().split("; ") {
        server.psql("postgres", statement).unwrap();
    }
    for _ in 0..100 {
        if line(&probe(&source(&server)).unwrap(), "changed blocks").state == CheckState::Ok {
            return;
        }
    }
    panic!("the statement brought nothing");
}

#[test]
fn b11_a_missing_right_is_mended_by_the_statement_given() {
    let server = start(&[]);
    server
        .psql("postgres", &format!("create role \"strongroom \"\"test\"\"\" login password '{PASSWORD}'"))
        .unwrap();
    let before = probe(&source(&server)).unwrap();
    assert_eq!(missing(&before), ["replication right"]);
    assert!(before.identity.is_some() && !before.passed());
    assert!(line(&before, "version").found.starts_with("PostgreSQL 15."));
    let remedy = line(&before, "replication right").remedy.clone().unwrap();
    assert_eq!(remedy, "ALTER ROLE \"strongroom \"\"test\"\"\" REPLICATION;");
    server.psql("postgres", &remedy).unwrap();
    let after = probe(&source(&server)).unwrap();
    assert!(after.passed(), "{after:#?}");
    assert_eq!(after.identity, before.identity);
}

#[test]
fn b11_a_missing_hba_line_is_mended_by_the_line_given() {
    let server = start(&[]);
    create_role(&server);
    let mut hba =
        vec!["local all all trust".to_owned(), "host all all 127.0.0.1/32 scram-sha-256".to_owned()];
    server.write_hba(&hba).unwrap();
    server.psql("postgres", "select pg_reload_conf(), pg_sleep(0.3)").unwrap();
    let before = probe(&source(&server)).unwrap();
    assert_eq!(missing(&before), ["replication access"]);
    let remedy = line(&before, "replication access").remedy.clone().unwrap();
    let (_, given) = remedy.split_once("   ").unwrap();
    assert_eq!(given, "host replication \"strongroom \"\"test\"\"\" 127.0.0.1/32 scram-sha-256");
    hba.push(given.to_owned());
    server.write_hba(&hba).unwrap();
    server.psql("postgres", "select pg_reload_conf(), pg_sleep(0.3)").unwrap();
    let after = probe(&source(&server)).unwrap();
    assert!(after.passed(), "{after:#?}");
}

#[test]
fn b11_each_refused_login_is_told_apart() {
    let server = start(&[]);
    create_role(&server);
    let wrong = strongroom_core::engine::Source { password: "guess".to_owned().into(), ..source(&server) };
    let probe_of_wrong = probe(&wrong).unwrap();
    assert_eq!(missing(&probe_of_wrong), ["login"]);
    assert!(line(&probe_of_wrong, "login").found.contains(ROLE));
    // Where no password is asked for, the server says that there is no such role.
    server
        .write_hba(&["local all all trust".to_owned(), "host replication all 127.0.0.1/32 trust".to_owned()])
        .unwrap();
    server.psql("postgres", "select pg_reload_conf(), pg_sleep(0.3)").unwrap();
    let nobody = strongroom_core::engine::Source { user: "nobody \"here\"".to_owned(), ..source(&server) };
    let probe_of_nobody = probe(&nobody).unwrap();
    assert_eq!(missing(&probe_of_nobody), ["login"]);
    let remedy = line(&probe_of_nobody, "login").remedy.clone().unwrap();
    assert_eq!(remedy, "CREATE ROLE \"nobody \"\"here\"\"\" LOGIN REPLICATION PASSWORD '...';");
    assert!(probe_of_nobody.identity.is_none());
}

#[test]
fn settings_that_forbid_a_backup() {
    let minimal = start(&["wal_level = minimal", "max_wal_senders = 0"]);
    create_role(&minimal);
    let found = probe(&source(&minimal)).unwrap();
    assert_eq!(missing(&found), ["WAL senders", "wal_level"]);
    assert_eq!(
        line(&found, "wal_level").remedy.as_deref(),
        Some("ALTER SYSTEM SET wal_level = 'replica'; and restart the server")
    );

    let one = start(&["max_wal_senders = 1"]);
    create_role(&one);
    let found = probe(&source(&one)).unwrap();
    assert_eq!(missing(&found), ["WAL senders"]);
    assert!(line(&found, "WAL senders").remedy.as_deref().unwrap().contains("max_wal_senders = '3'"));

    let no_slots = start(&["max_replication_slots = 0"]);
    create_role(&no_slots);
    assert_eq!(missing(&probe(&source(&no_slots)).unwrap()), ["replication slots"]);
}

#[test]
fn what_a_person_should_know_does_not_stop_them() {
    let server = PostgresServer::start(15, &Options { checksums: false, ..Options::default() }).unwrap();
    create_role(&server);
    let found = probe(&source(&server)).unwrap();
    assert!(found.passed());
    assert_eq!(line(&found, "page checksums").state, CheckState::Warning);
    assert!(line(&found, "page checksums").remedy.as_deref().unwrap().contains("pg_checksums --enable"));
}
