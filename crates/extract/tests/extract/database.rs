//! From a real server to a real server, with nothing in between but the repository and the kit.

use std::fs;
use std::sync::Arc;

use strongroom_core::engine::{BackupOrder, CancelToken, Engine, Source, TlsMode};
use strongroom_core::id::AttemptId;
use strongroom_core::parent::ParentOffer;
use strongroom_core::progress::Progress;
use strongroom_engine_postgres::PostgresEngine;
use strongroom_repository::SealOutcome;
use strongroom_testkit::account::Account;
use strongroom_testkit::postgres::{self, Options, PostgresServer, SUPERUSER, SUPERUSER_PASSWORD};

use crate::program::Desk;
use crate::room::{CountedRandomness, record};

fn back_up(desk: &Desk, server: &PostgresServer, parent: Option<AttemptId>) -> AttemptId {
    let source = Source {
        host: "127.0.0.1".to_owned(),
        port: server.port(),
        user: SUPERUSER.to_owned(),
        password: SUPERUSER_PASSWORD.to_owned().into(),
        tls: TlsMode::Disable,
        ca_pem: None,
        allow_md5: false,
        networks: strongroom_core::network::SourceNetworks::loopback(),
    };
    let id = desk.room.next_attempt();
    let attempt = desk.room.started(id, parent).unwrap();
    let (cancel, progress) = (CancelToken::new(), Progress::new());
    let order = BackupOrder {
        source: &source,
        attempt: id,
        label: "extract",
        identity: None,
        parent: ParentOffer::Withheld("this is about what was stored"),
        cancel: &cancel,
        progress: &progress,
    };
    let engine = PostgresEngine::new(Arc::new(CountedRandomness::starting_at(1 << 50)));
    let facts = engine.backup(&order, &attempt).unwrap();
    let sealed = attempt.prove().unwrap().seal(&facts, &record(id)).unwrap();
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
