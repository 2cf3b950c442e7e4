//! The database away, busy or broken: an answer that says so, and no harm.

use std::sync::Arc;

use sqlx::{AnyPool, Connection};
use strongroom_catalog::Catalog;
use strongroom_core::{ErrorKind, Retry};
use strongroom_testkit::postgres::{self, Options, PostgresServer};

use crate::room::{self, KEY, SystemRandomness};

#[tokio::test]
async fn m06_a_lock_held_by_another_process_is_unavailable_and_passes() {
    let room = room::sqlite_file().await.unwrap();
    let pool: AnyPool = room.raw_pool().await;
    let mut other = pool.acquire().await.unwrap();
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let busy = room.catalog.ping().await.unwrap_err();
    assert_eq!((busy.kind(), busy.retry()), (ErrorKind::Unavailable, Retry::Later), "{busy:?}");
    assert_eq!(room.catalog.project_list().await.unwrap().len(), 1, "reading goes on");
    lock.rollback().await.unwrap();
    room.catalog.ping().await.unwrap();
}

#[tokio::test]
async fn m03_a_file_that_is_no_database_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.db");
    let rubbish = vec![b'x'; 8192];
    std::fs::write(&path, &rubbish).unwrap();
    let url = format!("sqlite://{}", path.display());
    let opened = Catalog::open(&url, KEY, Arc::new(SystemRandomness), jiff::Timestamp::UNIX_EPOCH).await;
    assert_eq!(opened.unwrap_err().kind(), ErrorKind::Damage);
    assert_eq!(std::fs::read(&path).unwrap(), rubbish, "nothing was changed");
}

#[tokio::test]
async fn m06_a_server_that_goes_and_comes_back() {
    if !postgres::require(15) {
        return;
    }
    let mut server = PostgresServer::start(15, &Options::default()).unwrap();
    server.psql("postgres", "CREATE ROLE keeper LOGIN PASSWORD 'keeper'").unwrap();
    server.psql("postgres", "CREATE DATABASE catalog OWNER keeper").unwrap();
    let url = format!("postgres://keeper:keeper@127.0.0.1:{}/catalog?sslmode=disable", server.port());
    let random = Arc::new(SystemRandomness);
    let catalog = Catalog::open(&url, KEY, random, jiff::Timestamp::UNIX_EPOCH).await.unwrap();
    catalog.setting_put("kept", "yes", jiff::Timestamp::UNIX_EPOCH).await.unwrap();

    server.stop().unwrap();
    let away = catalog.ping().await.unwrap_err();
    assert_eq!((away.kind(), away.retry()), (ErrorKind::Unavailable, Retry::Later), "{away:?}");
    assert!(!away.public().contains("keeper"), "{}", away.public());

    server.launch().unwrap();
    catalog.ping().await.unwrap();
    assert_eq!(catalog.setting("kept").await.unwrap().as_deref(), Some("yes"));
}
