//! Backups that are built on an earlier one: the server sends the blocks that changed, and what is
//! stored is a whole copy all the same.

use std::collections::BTreeMap;
use std::path::Path;

use strongroom_core::engine::BackupFacts;
use strongroom_core::parent::Reading;
use strongroom_testkit::postgres::{Options, PostgresServer, require};

use crate::cluster;
use crate::desk::{Taken, create_role, path_text, source};
use crate::folder_sink::FolderParent;

/// A server that notes which blocks its log changes.
fn summarizing(version: u32, conf: &[&str]) -> PostgresServer {
    let mut lines = vec!["summarize_wal = on".to_owned(), "autovacuum = off".to_owned()];
    lines.extend(conf.iter().map(|line| (*line).to_owned()));
    let server = PostgresServer::start(version, &Options { conf: lines, ..Options::default() }).unwrap();
    create_role(&server);
    server
}

/// A backup built on `parent`.
fn next(server: &PostgresServer, parent: &Taken, facts: &BackupFacts) -> (Taken, BackupFacts) {
    let mut taken = Taken::new();
    taken.sink.build_on(parent.sink.root());
    let parent = FolderParent::new(parent.sink.root(), facts);
    let facts = taken.take_from(&source(server), &parent).unwrap();
    assert_eq!(taken.sink.unfinished(), 0);
    assert_eq!(parent.distrusted(), None);
    (taken, facts)
}

#[track_caller]
fn used_lists(facts: &BackupFacts) -> u64 {
    match &facts.reading {
        Reading::BlockLists { received_blocks, .. } => *received_blocks,
        Reading::FullStream { reason } => panic!("everything was read: {reason:?}"),
    }
}

#[track_caller]
fn full_because(facts: &BackupFacts) -> String {
    match &facts.reading {
        Reading::FullStream { reason: Some(reason) } => reason.clone(),
        other => panic!("{other:?}"),
    }
}

/// Every file below a folder with its content.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// What two backups of a server at rest need not have in common: the label and the manifest name
/// the backup itself, the log is of its own time, and the control file holds the checkpoint that
/// each backup begins with.
fn is_of_its_own(path: &str) -> bool {
    path == "data/backup_label"
        || path == "meta/backup_manifest"
        || path == "data/global/pg_control"
        || path.starts_with("data/pg_wal/")
}

/// The two copies are the same, file by file and byte by byte.
#[track_caller]
fn same_content(lists: &Taken, full: &Taken) {
    let (mut one, mut other) = (files(lists.sink.root()), files(full.sink.root()));
    one.retain(|path, _| !is_of_its_own(path));
    other.retain(|path, _| !is_of_its_own(path));
    assert!(one.len() > 900, "{}", one.len());
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for (path, content) in &one {
        let wanted = &other[path];
        assert_eq!(content.len(), wanted.len(), "{path}");
        let differs = content.iter().zip(wanted).position(|(a, b)| a != b);
        assert_eq!(differs, None, "{path} differs, block {:?}", differs.map(|at| at / 8192));
    }
}

const PREPARE: &str = "
    create table grown (id int, body text); alter table grown alter body set storage external;
    insert into grown select i, repeat(md5(i::text), 60) from generate_series(1, 3000) i;
    create table updated (id int primary key, body text);
    insert into updated select i, md5(i::text) from generate_series(1, 50000) i;
    create table cut as select i, repeat('x', 500) from generate_series(1, 20000) i;
    create table emptied as select i from generate_series(1, 20000) i;
    create table dropped as select i from generate_series(1, 20000) i;
    create table kept as select i, repeat('y', 300) from generate_series(1, 20000) i;
    create table vacuumed as select i, repeat('z', 300) body from generate_series(1, 20000) i;
    create unlogged table fleeting as select i from generate_series(1, 5000) i;";

const CHANGE: &str = "
    insert into grown select i, repeat(md5(i::text), 60) from generate_series(3001, 9000) i;
    update updated set body = 'changed' where id % 997 = 0;
    delete from cut where i > 5000;
    truncate emptied; insert into emptied values (1);
    drop table dropped;
    create table made as select i, md5(i::text) from generate_series(1, 30000) i;
    create index on made (md5);
    delete from vacuumed where i % 2 = 0;
    insert into fleeting values (7);";

fn a_full_stream_finds_the_same(version: u32) {
    if !require(version) {
        return;
    }
    let server = summarizing(version, &["max_prepared_transactions = 5"]);
    cluster::fill(&server);
    server.psql("postgres", PREPARE).unwrap();
    server.psql("postgres", "vacuum").unwrap();
    let first = Taken::new();
    let first_facts = first.take(&source(&server)).unwrap();
    assert_eq!(full_because(&first_facts), "there is no earlier backup");

    server.psql("postgres", CHANGE).unwrap();
    server.psql("postgres", "vacuum cut").unwrap();
    server.psql("postgres", "vacuum (analyze) vacuumed").unwrap();
    server.psql(cluster::ODD_DATABASE, "update elsewhere set i = i + 1 where i % 7 = 0").unwrap();
    let (second, second_facts) = next(&server, &first, &first_facts);
    let blocks = used_lists(&second_facts);
    assert!(blocks > 100, "{blocks}");
    assert!(second.sink.patched().len() > 500, "{}", second.sink.patched().len());
    let full = Taken::new();
    full.take(&source(&server)).unwrap();
    same_content(&second, &full);

    // Nothing but what the backups themselves write.
    let (third, third_facts) = next(&server, &second, &second_facts);
    assert!(used_lists(&third_facts) < 20, "{:?}", third_facts.reading);
    same_content(&third, &full);

    server.psql("postgres", "update updated set body = body || '!' where id % 101 = 0").unwrap();
    let (wanted, asked) = (cluster::digest(&server), cluster::through_indexes(&server));
    let (fourth, facts) = next(&server, &third, &third_facts);
    used_lists(&facts);
    assert!(!crate::desk::fact(&facts, "backup_label").as_str().unwrap().contains("INCREMENTAL"));
    fourth.finish_restore(&facts).unwrap();
    let mut restored = fourth.boot(version, &facts);
    assert_eq!(cluster::digest(&restored), wanted);
    assert_eq!(cluster::through_indexes(&restored), asked);
    restored.run_tool("pg_amcheck", &["--install-missing", "--heapallindexed", "-a"]).unwrap();
    restored.stop().unwrap();
    restored.run_tool("pg_checksums", &["--check", "-D", path_text(restored.data_dir())]).unwrap();
}

#[test]
fn postgresql_17_in_block_lists_is_what_a_full_stream_finds() {
    a_full_stream_finds_the_same(17);
}

#[test]
fn postgresql_18_in_block_lists_is_what_a_full_stream_finds() {
    a_full_stream_finds_the_same(18);
}
