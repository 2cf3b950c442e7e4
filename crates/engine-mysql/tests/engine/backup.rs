//! Backups of real servers, proved by starting a server on what came.

use std::time::Duration;

use strongroom_core::ErrorKind;
use strongroom_core::engine::{BackupFacts, Source, SourceIdentity};
use strongroom_testkit::depth;
use strongroom_testkit::mysql::require;
use strongroom_testkit::mysql_ledger::{MySqlWriters, judge};

use crate::desk::{Taken, donor_is_free, fact, source};
use crate::world::{self, add_other_engines, check_tables, checksums, outside_folder};

#[test]
fn b16_b17_a_mysql_server_with_everything_in_it_comes_back() {
    if !require() {
        return;
    }
    let outside = outside_folder();
    let server = world::start(Some(outside.path()));
    let wanted = checksums(&server);
    let taken = Taken::new();
    let facts = taken.take(&source(&server)).unwrap();
    donor_is_free(&server);
    assert!(taken.sink.is_settled());
    assert!(facts.warnings.is_empty() && facts.damage.is_empty(), "{:?} {:?}", facts.warnings, facts.damage);

    let uuid = server.sql("select @@server_uuid").unwrap();
    let executed = server.sql("select @@global.gtid_executed").unwrap().replace('\n', "");
    assert_eq!(facts.identity.system_identifier, uuid);
    assert!(server.sql("select version()").unwrap().starts_with(&facts.identity.version));
    assert_eq!(fact(&facts, "/server_uuid").as_str(), Some(uuid.as_str()));
    for moment in ["/gtid/before", "/gtid/after"] {
        assert_eq!(fact(&facts, moment).as_str(), Some(executed.as_str()));
    }
    assert_eq!(fact(&facts, "/persisted/max_connections").as_str(), Some("77"));
    assert_eq!(fact(&facts, "/page_size_bytes").as_u64(), Some(16_384));
    assert_eq!(fact(&facts, "/configuration/innodb_page_size").as_str(), Some("16384"));
    assert!(fact(&facts, "/plugins").as_array().unwrap().len() > 10);
    assert!(fact(&facts, "/collations").as_array().unwrap().len() > 100);
    assert_eq!(fact(&facts, "/transfer/resumed").as_u64(), Some(0));
    let outside_files = fact(&facts, "/outside_files").as_array().unwrap();
    let names: Vec<&str> = outside_files.iter().map(|file| file["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 5, "{names:?}");
    assert!(names.contains(&"shop/elsewhere.ibd") && names.contains(&"far.ibd"), "{names:?}");
    let squeezed = fact(&facts, "/page_compressed_files").as_array().unwrap();
    assert_eq!(squeezed.len(), 2, "{squeezed:?}");

    // The source is gone with all that stood outside of its data directory.
    drop(server);
    drop(outside);
    let restored = taken.boot();
    assert_eq!(checksums(&restored), wanted);
    assert_eq!(check_tables(&restored), "");
    assert_eq!(restored.sql("select @@global.gtid_executed").unwrap().replace('\n', ""), executed);
    assert_ne!(restored.sql("select @@server_uuid").unwrap(), uuid);
    assert_eq!(
        restored.sql("call shop.count_wares(); select count(*) from shop.some_wares").unwrap(),
        "3000\n99"
    );
}

/// A server gives a clone up that meets a change of a definition in an unlucky moment, and asks for
/// another try: a job makes three.
pub(crate) fn take_among_changes(source: &Source) -> (Taken, BackupFacts) {
    for _ in 0..3 {
        let mut taken = Taken::new();
        // So slow that many definitions change meanwhile.
        taken.sink.slow_down(Duration::from_millis(20));
        match taken.take(source) {
            Ok(facts) => return (taken, facts),
            Err(error) => assert!(error.public().contains("(3633)"), "{error:?}"),
        }
    }
    panic!("three tries, and each was given up");
}

#[test]
fn b06_b20_mysql_comes_back_with_writers_and_changing_definitions_running() {
    if !require() {
        return;
    }
    let server = world::start(None);
    let wanted = checksums(&server);
    let mut writers = MySqlWriters::start(&server, 3, true).unwrap();
    for round in 0..depth::choose(2, 20) {
        if round % 4 == 3 {
            // What writers add makes the next copy longer, and that one what they add.
            writers.stop().unwrap();
            server.sql("drop database ledger").unwrap();
            writers = MySqlWriters::start(&server, 3, true).unwrap();
        }
        let begun = writers.churned();
        while writers.churned() < begun + 3 {
            server.sql("select sleep(0.05)").unwrap();
        }
        let before = writers.acknowledged();
        let churned = writers.churned();
        let (taken, facts) = take_among_changes(&source(&server));
        assert!(facts.damage.is_empty(), "{:?}", facts.damage);
        assert!(writers.churned() > churned, "definitions do not wait for a backup");
        let restored = taken.boot();
        judge(&restored, &before).unwrap();
        assert_eq!(checksums(&restored), wanted, "round {round}");
        assert_eq!(check_tables(&restored), "", "round {round}");
    }
    writers.stop().unwrap();
}

#[test]
fn tables_of_other_engines_are_told_with_their_rows_and_come_back_empty() {
    if !require() {
        return;
    }
    let server = world::start(None);
    add_other_engines(&server);
    let taken = Taken::new();
    let facts = taken.take(&source(&server)).unwrap();
    let [warning] = facts.warnings.as_slice() else { panic!("{:?}", facts.warnings) };
    assert!(
        warning.contains(
            "shop.lines (CSV, rows not counted; the account may not read it), shop.old (ARCHIVE, 99 rows; the account may \
             not read it), shop.visits (MyISAM, 1234 rows; the account may not read it)"
        ),
        "{warning}"
    );
    // With the right to read them all are counted, and read.
    server.sql("grant select on shop.* to 'strong''room'@'%'").unwrap();
    let again = Taken::new().take(&source(&server)).unwrap();
    assert!(again.warnings[0].contains("shop.lines (CSV, 7 rows; read at "), "{:?}", again.warnings);
    // Without the right to see them nothing is claimed.
    server.sql("revoke select on shop.* from 'strong''room'@'%'; revoke references on *.* from 'strong''room'@'%'").unwrap();
    let blind = Taken::new().take(&source(&server)).unwrap();
    assert!(blind.warnings[0].contains("is not known"), "{:?}", blind.warnings);

    assert!(
        !taken.sink.paths().iter().any(|path| path.ends_with("/strongroom-other-tables.sql")),
        "{:?}",
        taken.sink.paths()
    );
    let restored = taken.boot();
    assert_eq!(restored.sql("select count(*) from shop.visits").unwrap(), "0");
    assert_eq!(restored.sql("select count(*) from shop.wares").unwrap(), "3000");
}

#[test]
fn b03_another_server_at_the_same_address_is_refused_before_anything_is_stored() {
    if !require() {
        return;
    }
    let server = world::start(None);
    let mut taken = Taken::new();
    taken.identity = Some(SourceIdentity {
        engine: strongroom_core::engine::EngineKind::MySql,
        version: "9.7.4".to_owned(),
        system_identifier: "00000000-0000-0000-0000-000000000001".to_owned(),
    });
    let error = taken.take(&source(&server)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceRefused, "{error:?}");
    assert!(taken.sink.paths().is_empty());
}

#[test]
fn b13_a_damaged_page_of_a_mysql_source_is_named_and_the_backup_goes_on() {
    if !require() {
        return;
    }
    let mut server = world::start(None);
    server.stop().unwrap();
    let path = server.data_dir().join("shop/redundant.ibd");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[16_384 * 5 + 700] ^= 4;
    std::fs::write(&path, bytes).unwrap();
    server.launch().unwrap();
    let taken = Taken::new();
    let facts = taken.take(&source(&server)).unwrap();
    let [damage] = facts.damage.as_slice() else { panic!("{:?}", facts.damage) };
    assert_eq!((damage.relation.as_str(), damage.block), ("shop/redundant.ibd", 5));
    assert_ne!(damage.expected, damage.found);
    assert!(
        facts.warnings[0].starts_with("1 page of the source had a wrong checksum"),
        "{:?}",
        facts.warnings
    );
}

#[test]
fn other_page_sizes_come_back() {
    if !require() {
        return;
    }
    for size in ["4k", "64k"] {
        let size = format!("--innodb-page-size={size}");
        let server = strongroom_testkit::mysql::MySqlServer::start(&strongroom_testkit::mysql::Options {
            arguments: vec![size.clone()],
            ..Default::default()
        })
        .unwrap();
        crate::desk::create_account(&server);
        server
            .sql(
                "create database shop; create table shop.wares (id int primary key, body text);
                 insert into shop.wares with recursive n(i) as (select 1 union all select i + 1 from n where i < 900)
                 select i, repeat(sha2(i, 256), 30) from n",
            )
            .unwrap();
        let wanted = server.sql("checksum table shop.wares").unwrap();
        let taken = Taken::new();
        let facts = taken.take(&source(&server)).unwrap();
        assert!(facts.damage.is_empty(), "{:?}", facts.damage);
        let restored = taken.boot_with(&[&size]);
        assert_eq!(restored.sql("checksum table shop.wares").unwrap(), wanted);
    }
}
