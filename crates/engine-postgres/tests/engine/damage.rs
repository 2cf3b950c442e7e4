//! Damage that is in the source before a backup.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use strongroom_testkit::postgres::{Options, PostgresServer};

use crate::desk::{Taken, create_role, fact, path_text, source, source_at};
use crate::fake_server::{Answer, FakeServer, START, STOP, good_files};

/// Spoils one byte of one block of a table and answers with the table's file.
pub(crate) fn spoil(server: &mut PostgresServer, table: &str, block: u64, at: u64) -> String {
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
    // The damage is what the source's own server and its tool say it is.
    let mut restored = taken.boot(15, &facts);
    let error = restored.psql("postgres", "select count(*) from t").unwrap_err().to_string();
    assert!(error.contains("invalid page in block 7"), "{error}");
    restored.stop().unwrap();
    let check = restored.run_tool("pg_checksums", &["--check", "-D", path_text(restored.data_dir())]);
    assert!(check.unwrap_err().to_string().contains(&relation));
}

/// A page of a relation that does not match, last changed at this position.
fn mismatching_page(position: u64) -> Vec<u8> {
    let mut page = vec![0x5a; 8192];
    page[..4].copy_from_slice(&u32::try_from(position >> 32).unwrap().to_le_bytes());
    page[4..8].copy_from_slice(&u32::try_from(position & 0xffff_ffff).unwrap().to_le_bytes());
    page[8..10].fill(0);
    page
}

#[test]
fn b13_pages_torn_while_they_were_read_are_told_from_damage() {
    let mut files = good_files();
    let relation: Vec<u8> = [
        mismatching_page(START - 1),
        mismatching_page(START),
        mismatching_page(STOP),
        mismatching_page(STOP + 1),
    ]
    .concat();
    files.push(("base/5/16384.1", relation));
    let server = FakeServer::start(Arc::new(move |answer: &mut Answer<'_>| answer.backup(&files)));
    let taken = Taken::new();
    let facts = taken.take(&source_at(server.port())).unwrap();
    let pages = fact(&facts, "pages");
    assert_eq!((&pages["torn"], &pages["damaged"]), (&2.into(), &2.into()), "{pages}");
    // The second file of a relation begins where the first one ends.
    let listed: Vec<_> = facts.damage.iter().map(|page| (page.relation.as_str(), page.block)).collect();
    assert_eq!(listed, [("base/5/16384.1", 131_072), ("base/5/16384.1", 131_075)]);
    assert!(facts.warnings[0].contains("2 pages of the source"), "{:?}", facts.warnings);
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
