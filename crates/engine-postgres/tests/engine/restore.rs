//! From restored files to a running server.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use strongroom_core::ErrorKind;
use strongroom_core::engine::{BackupFacts, Engine, RestoreOrder};
use strongroom_testkit::account::Account;
use strongroom_testkit::port::Port;
use strongroom_testkit::postgres::{Options, PostgresServer};

use crate::desk::{Taken, create_role, engine, source};

fn backup(options: &Options) -> (PostgresServer, Taken, BackupFacts) {
    let server = PostgresServer::start(15, options).unwrap();
    create_role(&server);
    server.psql("postgres", "create table t as select 1 as i").unwrap();
    let taken = Taken::new();
    let facts = taken.take(&source(&server)).unwrap();
    (server, taken, facts)
}

fn finish(
    taken: &Taken,
    facts: &BackupFacts,
    tablespaces: &BTreeMap<String, PathBuf>,
) -> strongroom_core::Result<Vec<String>> {
    engine().finish_restore(&RestoreOrder {
        target: &taken.sink.data_dir(),
        facts,
        tablespaces,
        port: Some(6543),
    })
}

#[test]
fn it_may_run_again() {
    let (_server, taken, facts) = backup(&Options::default());
    let data_dir = taken.sink.data_dir();
    fs::remove_dir(data_dir.join("pg_replslot")).unwrap();
    fs::set_permissions(&data_dir, fs::Permissions::from_mode(0o755)).unwrap();
    let first = finish(&taken, &facts, &BTreeMap::new()).unwrap();
    let conf = fs::read(data_dir.join("postgresql.auto.conf")).unwrap();
    fs::write(data_dir.join("postgresql.auto.conf.strongroom-unfinished"), b"half").unwrap();
    assert_eq!(finish(&taken, &facts, &BTreeMap::new()).unwrap(), first);
    assert_eq!(fs::read(data_dir.join("postgresql.auto.conf")).unwrap(), conf);
    assert!(String::from_utf8(conf).unwrap().contains("port = '6543'"));
    assert_eq!(fs::metadata(&data_dir).unwrap().mode() & 0o7777, 0o700);
    assert!(data_dir.join("pg_replslot").is_dir());
    assert!(!data_dir.join("postgresql.auto.conf.strongroom-unfinished").exists());
    assert_eq!(taken.boot(15, &facts).psql("postgres", "select i from t").unwrap(), "1");
}

#[test]
fn a_copy_does_not_meddle_with_others() {
    let conf = [
        "archive_mode = on",
        "archive_command = 'false'",
        "synchronous_standby_names = 'nobody'",
        "synchronous_commit = local",
        "ssl_ca_file = '/etc/nowhere.pem'",
    ];
    let options = Options { conf: conf.map(str::to_owned).to_vec(), ..Options::default() };
    let (server, taken, facts) = backup(&options);
    server.psql("postgres", "alter system set primary_conninfo = 'host=elsewhere'").unwrap();
    let notes = finish(&taken, &facts, &BTreeMap::new()).unwrap();
    assert!(
        notes.iter().any(|note| note.contains("ssl_ca_file") && note.contains("archive_command")),
        "{notes:?}"
    );
    let restored = taken.boot(15, &facts);
    for (setting, value) in [
        ("archive_mode", "off"),
        ("primary_conninfo", ""),
        ("synchronous_standby_names", ""),
        ("max_logical_replication_workers", "0"),
        ("max_connections", "50"),
    ] {
        assert_eq!(restored.psql("postgres", &format!("show {setting}")).unwrap(), value, "{setting}");
    }
}

#[test]
fn configuration_kept_elsewhere_is_replaced_by_a_minimal_one() {
    let (_server, taken, facts) = backup(&Options::default());
    let data_dir = taken.sink.data_dir();
    for name in ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"] {
        fs::remove_file(data_dir.join(name)).unwrap();
    }
    let notes = finish(&taken, &facts, &BTreeMap::new()).unwrap();
    assert!(notes[0].contains("postgresql.conf, pg_hba.conf, pg_ident.conf"), "{notes:?}");
    assert_eq!(fs::metadata(data_dir.join("pg_hba.conf")).unwrap().mode() & 0o7777, 0o600);
    let restored = taken.boot(15, &facts);
    // The roles come in with their passwords of the source.
    let mut psql = restored.tool("psql");
    psql.env("PGPASSWORD", strongroom_testkit::postgres::SUPERUSER_PASSWORD)
        .args(["-Atc", "select i from t"]);
    let output = psql.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "1", "{output:?}");
}

#[test]
fn a_group_that_could_read_the_source_can_read_the_copy() {
    let options = Options { initdb: vec!["--allow-group-access".to_owned()], ..Options::default() };
    let (_server, taken, facts) = backup(&options);
    finish(&taken, &facts, &BTreeMap::new()).unwrap();
    let data_dir = taken.sink.data_dir();
    assert_eq!(fs::metadata(&data_dir).unwrap().mode() & 0o7777, 0o750);
    assert_eq!(fs::metadata(data_dir.join("postgresql.auto.conf")).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(taken.boot(15, &facts).psql("postgres", "select i from t").unwrap(), "1");
}

#[test]
fn an_incomplete_directory_is_refused() {
    let (_server, taken, facts) = backup(&Options::default());
    let data_dir = taken.sink.data_dir();
    let segment = format!("pg_wal/{}", facts.engine["log"]["last"].as_str().unwrap());
    for name in [segment.as_str(), "backup_label", "PG_VERSION"] {
        let (path, aside) = (data_dir.join(name), data_dir.join("aside"));
        fs::rename(&path, &aside).unwrap();
        assert_eq!(finish(&taken, &facts, &BTreeMap::new()).unwrap_err().kind(), ErrorKind::Damage, "{name}");
        fs::write(&path, b"").unwrap();
        assert_eq!(finish(&taken, &facts, &BTreeMap::new()).unwrap_err().kind(), ErrorKind::Damage, "{name}");
        fs::rename(&aside, &path).unwrap();
    }
    fs::write(data_dir.join("postmaster.pid"), b"1").unwrap();
    assert_eq!(finish(&taken, &facts, &BTreeMap::new()).unwrap_err().kind(), ErrorKind::TargetNotEmpty);
    fs::remove_file(data_dir.join("postmaster.pid")).unwrap();
    finish(&taken, &facts, &BTreeMap::new()).unwrap();
}

#[test]
fn b17_tablespaces_never_go_back_to_the_source() {
    let server = PostgresServer::start(15, &Options::default()).unwrap();
    create_role(&server);
    let place = server.make_folder("space").unwrap();
    server.psql("postgres", &format!("create tablespace s location '{}'", place.display())).unwrap();
    server.psql("postgres", "create table t tablespace s as select 1 as i").unwrap();
    let taken = Taken::new();
    let facts = taken.take(&source(&server)).unwrap();
    let id = engine().tablespaces(&facts).unwrap()[0].id.clone();
    assert_eq!(engine().tablespaces(&facts).unwrap()[0].source_path, place.to_str().unwrap());
    let refused = |directory: Option<PathBuf>| {
        let given = directory.map(|directory| (id.clone(), directory)).into_iter().collect();
        finish(&taken, &facts, &given).unwrap_err().public().to_owned()
    };
    assert!(refused(None).contains("No directory was given"));
    assert!(refused(Some("relative".into())).contains("absolute"));
    assert!(refused(Some("/tmp".into())).contains("does not hold its files"));
    taken.finish_restore(&facts).unwrap();
    let map = fs::read_to_string(taken.sink.data_dir().join("tablespace_map")).unwrap();
    assert_eq!(map, format!("{id} {}\n", taken.sink.tablespace_dir(&id).display()));
    drop(server);
    assert_eq!(taken.boot(15, &facts).psql("postgres", "select i from t").unwrap(), "1");
}

#[test]
fn facts_of_another_shape_are_refused() {
    let (_server, taken, mut facts) = backup(&Options::default());
    facts.engine["format"] = 2.into();
    assert_eq!(finish(&taken, &facts, &BTreeMap::new()).unwrap_err().kind(), ErrorKind::Damage);
    facts.engine = serde_json::json!({});
    assert_eq!(engine().tablespaces(&facts).unwrap_err().kind(), ErrorKind::Damage);
}

/// Asks for TLS, which any PostgreSQL answers with one letter.
fn answers(port: u16) -> bool {
    let Ok(mut socket) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let mut letter = [0];
    socket.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).is_ok()
        && socket.read_exact(&mut letter).is_ok()
        && letter == *b"N"
}

#[test]
fn a_restored_server_starts_and_stops_with_what_it_said() {
    let (_server, taken, facts) = backup(&Options::default());
    finish(&taken, &facts, &BTreeMap::new()).unwrap();
    let data_dir = taken.sink.data_dir();
    let held = Port::hold().unwrap();
    let port = held.number();
    if rustix::process::getuid().is_root() {
        let error = engine().start_restored(&data_dir, &facts, port).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotAllowed);
        assert!(error.hint().unwrap().contains("chown -R postgres:"), "{error:?}");
    }
    Account::ordinary().own(&data_dir).unwrap();
    let started = engine().start_restored(&data_dir, &facts, port).unwrap();
    assert_eq!(started.port, port);
    assert!(answers(port));
    let mut words = started.stop_command.split(' ');
    let status = std::process::Command::new(words.next().unwrap()).args(words).status().unwrap();
    assert!(status.success());
    let begun = Instant::now();
    while data_dir.join("postmaster.pid").exists() {
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::yield_now();
    }
    assert!(!answers(port));
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let (_server, taken, facts) = backup(&Options::default());
    finish(&taken, &facts, &BTreeMap::new()).unwrap();
    let data_dir = taken.sink.data_dir();
    let conf = data_dir.join("postgresql.conf");
    let text = fs::read_to_string(&conf).unwrap() + "\nshared_preload_libraries = 'no_such_library'\n";
    fs::write(&conf, text).unwrap();
    Account::ordinary().own(&data_dir).unwrap();
    let error = engine().start_restored(&data_dir, &facts, 1).unwrap_err();
    assert!(error.public().contains("no_such_library"), "{error}");
}
