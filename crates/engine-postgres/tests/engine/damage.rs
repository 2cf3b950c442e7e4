//! Damage that is in the source before a backup.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use strongroom_testkit::postgres::{Options, PostgresServer};

use crate::desk::{Taken, create_role, fact, source};

/// Spoils one byte of one block of a table and answers with the table's file.
fn spoil(server: &mut PostgresServer, table: &str, block: u64, at: u64) -> String {
    let relation = server.psql("postgres", &format!("select pg_relation_filepath('{table}')")).unwrap();
    server.stop().unwrap();
    let file = OpenOptions::new().read(true).write(true).open(server.data_dir().join(&relation)).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, block * 8192 + at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], block * 8192 + at).unwrap();
    server.launch().unwrap();
    relation
}

#[test]
fn b13_a_damaged_page_is_named_and_the_backup_goes_on() {
    let mut server = PostgresServer::start(15, &Options::default()).unwrap();
    create_role(&server);
    server
        .psql("postgres", "create table t as select i, repeat('x', 500) b from generate_series(1, 1000) i")
        .unwrap();
    let relation = spoil(&mut server, "t", 7, 5000);
    let taken = Taken::new();
    let facts = taken.take(&source(&server)).unwrap();
    assert_eq!(facts.damage.len(), 1);
    assert_eq!((facts.damage[0].relation.as_str(), facts.damage[0].block), (relation.as_str(), 7));
    assert_ne!(facts.damage[0].expected, facts.damage[0].found);
    assert_eq!(fact(&facts, "pages")["damaged"], 1);
    assert_eq!(facts.warnings.len(), 1);
    assert!(facts.warnings[0].contains(&format!("block 7 of {relation}")), "{}", facts.warnings[0]);
    let notes = taken.finish_restore(&facts).unwrap();
    assert!(notes.iter().any(|note| note.contains("damaged before the backup")), "{notes:?}");
    // The damage is what the source's own server says it is.
    let restored = taken.boot(15, &facts);
    let error = restored.psql("postgres", "select count(*) from t").unwrap_err().to_string();
    assert!(error.contains("invalid page in block 7"), "{error}");
}

#[test]
fn b13_a_page_from_the_future_is_damage_too() {
    let mut server = PostgresServer::start(15, &Options::default()).unwrap();
    create_role(&server);
    server.psql("postgres", "create table t as select i from generate_series(1, 1000) i").unwrap();
    // The log position in the header: byte 3 is the high end of its high half.
    spoil(&mut server, "t", 2, 3);
    let facts = Taken::new().take(&source(&server)).unwrap();
    assert_eq!((facts.damage.len(), facts.damage[0].block), (1, 2));
}

#[test]
fn without_checksums_nothing_is_claimed() {
    let mut server = PostgresServer::start(15, &Options { checksums: false, ..Options::default() }).unwrap();
    create_role(&server);
    server.psql("postgres", "create table t as select i from generate_series(1, 1000) i").unwrap();
    spoil(&mut server, "t", 2, 5000);
    let facts = Taken::new().take(&source(&server)).unwrap();
    assert_eq!(facts.damage, []);
    assert_eq!(fact(&facts, "pages")["checked"], 0);
}
