//! From a real server to a real server, with nothing in between but the repository and the kit.

use std::fs;
use std::sync::Arc;

use strongroom_core::engine::{BackupOrder, CancelToken, Engine, Source, TlsMode};
use strongroom_core::id::AttemptId;
use strongroom_core::parent::ParentOffer;
use strongroom_core::progress::Progress;
use strongroom_engine_mysql::MySqlEngine;
use strongroom_engine_postgres::PostgresEngine;
use strongroom_repository::SealOutcome;
use strongroom_testkit::account::Account;
use strongroom_testkit::mysql::{self, MySqlServer};
use strongroom_testkit::postgres::{self, Options, PostgresServer, SUPERUSER, SUPERUSER_PASSWORD};

use crate::program::Desk;
use crate::room::{CountedRandomness, record};

fn source(port: u16, user: &str, password: &str, tls: TlsMode) -> Source {
    Source {
        host: "127.0.0.1".to_owned(),
        port,
        user: user.to_owned(),
        password: password.to_owned().into(),
        tls,
        ca_pem: None,
        allow_md5: false,
        networks: strongroom_core::network::SourceNetworks::loopback(),
    }
}

fn mysql_engine() -> MySqlEngine {
    MySqlEngine::new(Arc::new(CountedRandomness::starting_at(1 << 51)))
}

fn back_up(desk: &Desk, server: &PostgresServer, parent: Option<AttemptId>) -> AttemptId {
    let source = source(server.port(), SUPERUSER, SUPERUSER_PASSWORD, TlsMode::Disable);
    let engine = PostgresEngine::new(Arc::new(CountedRandomness::starting_at(1 << 50)));
    back_up_by(&engine, desk, &source, parent)
}

fn back_up_by(engine: &dyn Engine, desk: &Desk, source: &Source, parent: Option<AttemptId>) -> AttemptId {
    let id = desk.room.next_attempt();
    let attempt = desk.room.started(id, parent).unwrap();
    let (cancel, progress) = (CancelToken::new(), Progress::new());
    let order = BackupOrder {
        source,
        attempt: id,
        label: "extract",
        identity: None,
        parent: ParentOffer::Withheld("this is about what was stored"),
        cancel: &cancel,
        progress: &progress,
    };
    let facts = engine.backup(&order, &attempt).unwrap();
    let mut record = record(id);
    record.engine = engine.kind();
    let sealed = attempt.prove().unwrap().seal(&facts, &record).unwrap();
    assert!(matches!(sealed, SealOutcome::Sealed(_)));
    id
}

#[test]
fn m01_a_server_starts_on_what_repository_and_kit_give() {
    let Some(version) = (15..=18).rev().find(|version| postgres::available(*version)) else {
        postgres::require(17);
        return;
    };
    let server = PostgresServer::start(version, &Options::default()).unwrap();
    let place = server.make_folder("a place").unwrap();
    for statement in [
        "create table t as select i, md5(i::text) as m from generate_series(1, 50000) i",
        &format!("create tablespace away location '{}'", place.display()),
        "create table elsewhere tablespace away as select i from generate_series(1, 3000) i",
    ] {
        server.psql("postgres", statement).unwrap();
    }
    let desk = Desk::new();
    let first = back_up(&desk, &server, None);
    server.psql("postgres", "update t set m = 'changed' where i % 500 = 0").unwrap();
    back_up(&desk, &server, Some(first));
    server.psql("postgres", "drop table t").unwrap();

    // The server's account must reach what is extracted.
    let reachable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(desk.folder.path(), reachable).unwrap();
    let (target, away) = (desk.target("restored"), desk.target("away"));
    let id = server.psql("postgres", "select oid from pg_tablespace where spcname = 'away'").unwrap();
    let mapping = format!("{id}={}", away.display());
    let talk = desk
        .answered(&["extract", "@latest", "--target", target.to_str().unwrap(), "--tablespace", &mapping], 0);
    assert!(talk.contains("switched off"), "the engine finished the directory: {talk}");
    Account::ordinary().own(&away).unwrap();
    let restored = PostgresServer::adopt(version, &target).unwrap();
    let question = "select (select count(*) from t where m = 'changed'), (select count(*) from t), (select sum(i) from elsewhere)";
    assert_eq!(restored.psql("postgres", question).unwrap(), "100|50000|4501500");
    assert_eq!(
        restored
            .psql("postgres", "select pg_tablespace_location(oid) from pg_tablespace where spcname = 'away'")
            .unwrap(),
        away.display().to_string()
    );
}

#[test]
fn m01_a_mysql_server_starts_on_what_repository_and_kit_give() {
    if !mysql::require() {
        return;
    }
    let server = MySqlServer::start(&mysql::Options::default()).unwrap();
    server
        .sql(
            "create user 'keeper'@'%' identified by 'of the test'; grant backup_admin, references on *.* to 'keeper'@'%';
             create database shop; create table shop.t (id int primary key, body varchar(200));
             set session cte_max_recursion_depth = 100000;
             insert into shop.t with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)
                 select i, sha2(i, 256) from n",
        )
        .unwrap();
    let desk = Desk::new();
    let source = source(server.port(), "keeper", "of the test", TlsMode::Require);
    let first = back_up_by(&mysql_engine(), &desk, &source, None);
    server.sql("update shop.t set body = 'changed' where id % 500 = 0").unwrap();
    let wanted = server.sql("checksum table shop.t").unwrap();
    back_up_by(&mysql_engine(), &desk, &source, Some(first));
    drop(server);

    let reachable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(desk.folder.path(), reachable).unwrap();
    let target = desk.target("restored");
    let talk = desk.answered(&["extract", "@latest", "--target", target.to_str().unwrap()], 0);
    assert!(talk.contains("strongroom.cnf"), "the engine finished the directory: {talk}");
    let restored = MySqlServer::adopt(&target, &[]).unwrap();
    assert_eq!(restored.sql("checksum table shop.t").unwrap(), wanted);
    assert_eq!(restored.sql("select count(*) from shop.t where body = 'changed'").unwrap(), "40");
}
