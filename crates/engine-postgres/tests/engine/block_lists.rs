//! Backups that are built on an earlier one: the server sends the blocks that changed, and what is
//! stored is a whole copy all the same.

use std::collections::BTreeMap;
use std::path::Path;

use strongroom_core::engine::BackupFacts;
use strongroom_core::parent::Reading;
use strongroom_testkit::postgres::{Options, PostgresServer, require};

use crate::cluster;
use crate::desk::{Taken, create_role, path_text, slots_are_gone, source};
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
pub(crate) fn is_of_its_own(path: &str) -> bool {
    path == "data/backup_label"
        || path == "meta/backup_manifest"
        || path == "data/global/pg_control"
        // There while another copy's checkpoint writes it.
        || path == "data/pg_logical/replorigin_checkpoint.tmp"
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

/// A backup that is offered a parent it cannot be built on: everything is read, and it says why.
#[track_caller]
fn falls_back(server: &PostgresServer, parent: &Taken, facts: &BackupFacts, why: &str) -> Taken {
    let (taken, facts) = next(server, parent, facts);
    let reason = full_because(&facts);
    assert!(reason.contains(why), "{reason}");
    assert_eq!(taken.sink.patched(), [""; 0]);
    slots_are_gone(server);
    taken
}

fn reload(server: &PostgresServer, setting: &str) {
    server.psql("postgres", &format!("alter system set {setting}")).unwrap();
    server.psql("postgres", "select pg_reload_conf()").unwrap();
    let (name, value) = setting.split_once(" = ").unwrap();
    for _ in 0..100 {
        if server.psql("postgres", &format!("show {name}")).unwrap() == value {
            return;
        }
    }
    panic!("{setting} does not take effect");
}

/// What the server refuses, and what speaks against a parent before it is asked.
#[test]
fn each_refusal_leads_to_a_full_stream() {
    if !require(18) {
        return;
    }
    let mut server = summarizing(18, &[]);
    server.psql("postgres", "create table t as select i from generate_series(1, 5000) i").unwrap();
    let first = Taken::new();
    let facts = first.take(&source(&server)).unwrap();

    // The server has no lists of its own any more.
    reload(&server, "summarize_wal = off");
    falls_back(&server, &first, &facts, "summarize_wal is off");
    server.psql("postgres", "insert into t values (1); select pg_switch_wal(); checkpoint").unwrap();
    server.stop().unwrap();
    for summary in std::fs::read_dir(server.data_dir().join("pg_wal/summaries")).unwrap() {
        std::fs::remove_file(summary.unwrap().path()).unwrap();
    }
    server.launch().unwrap();
    server.psql("postgres", "insert into t values (2); select pg_switch_wal(); checkpoint").unwrap();
    reload(&server, "summarize_wal = on");
    let second = falls_back(&server, &first, &facts, "the source refused: \"WAL summaries are required");
    drop(second);

    // A new chain begins with the full stream.
    let third = Taken::new();
    let third_facts = third.take(&source(&server)).unwrap();
    let (_, fourth) = next(&server, &third, &third_facts);
    used_lists(&fourth);

    // The parent's manifest is not what it was, or says something else.
    let place = third.sink.root().join("meta/backup_manifest");
    let good = std::fs::read(&place).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    std::fs::write(&place, bad).unwrap();
    falls_back(&server, &third, &third_facts, "the earlier backup cannot be read");
    std::fs::copy(first.sink.root().join("meta/backup_manifest"), &place).unwrap();
    falls_back(&server, &third, &third_facts, "not its own");
    std::fs::remove_file(&place).unwrap();
    falls_back(&server, &third, &third_facts, "no manifest");
    std::fs::write(&place, good).unwrap();

    // Facts of somebody else.
    let spoilt = |spoil: fn(&mut BackupFacts)| {
        let mut facts = third_facts.clone();
        spoil(&mut facts);
        facts
    };
    let other = spoilt(|facts| facts.identity.system_identifier = "7".to_owned());
    falls_back(&server, &third, &other, "another database");
    let other = spoilt(|facts| facts.engine["data_checksums"] = false.into());
    falls_back(&server, &third, &other, "checksums were switched");
    let other = spoilt(|facts| facts.engine["server_version_num"] = 170_000.into());
    falls_back(&server, &third, &other, "another major version");
    let other = spoilt(|facts| facts.engine["stop_lsn"] = "FF/0".into());
    falls_back(&server, &third, &other, "before the end of the earlier backup");
    let other = spoilt(|facts| facts.engine = serde_json::Value::Null);
    falls_back(&server, &third, &other, "cannot be read");
}

/// A clone that was promoted is another history: its log says nothing of what the original did.
#[test]
fn another_timeline_is_not_built_upon_and_the_own_one_is() {
    if !require(17) {
        return;
    }
    let server = summarizing(17, &[]);
    server.psql("postgres", "create table t as select i from generate_series(1, 5000) i").unwrap();
    let first = Taken::new();
    let first_facts = first.take(&source(&server)).unwrap();
    // The original goes on; the clone leaves it at the end of the first backup.
    server.psql("postgres", "insert into t select i from generate_series(1, 90000) i").unwrap();
    let (later, later_facts) = next(&server, &first, &first_facts);
    used_lists(&later_facts);

    let clone = Taken::new();
    let clone_facts = clone.take(&source(&server)).unwrap();
    clone.finish_restore(&clone_facts).unwrap();
    std::fs::write(clone.sink.data_dir().join("standby.signal"), "").unwrap();
    server.psql("postgres", "insert into t select i from generate_series(1, 90000) i").unwrap();
    let (ahead, ahead_facts) = next(&server, &later, &later_facts);
    used_lists(&ahead_facts);
    let clone = clone.boot(17, &clone_facts);
    clone.psql("postgres", "select pg_promote()").unwrap();
    clone.psql("postgres", "insert into t select i from generate_series(1, 900000) i").unwrap();
    falls_back(&clone, &ahead, &ahead_facts, "a timeline the source did not go through");

    // A chain of its own goes on there: the history of the timeline is the same.
    let begun = Taken::new();
    let begun_facts = begun.take(&source(&clone)).unwrap();
    assert_eq!(crate::desk::fact(&begun_facts, "timeline"), 2);
    clone.psql("postgres", "delete from t where i % 3 = 0").unwrap();
    let (lists, lists_facts) = next(&clone, &begun, &begun_facts);
    used_lists(&lists_facts);
    let full = Taken::new();
    full.take(&source(&clone)).unwrap();
    same_content(&lists, &full);
}

/// A restored server goes on on the timeline of the backup it came from. Later backups of the
/// original are no parents of its own, although system, timeline and positions fit.
#[test]
fn b03_a_restored_server_is_another_life_on_the_same_timeline() {
    if !require(18) {
        return;
    }
    let server = summarizing(18, &[]);
    server.psql("postgres", "create table t as select i from generate_series(1, 5000) i").unwrap();
    let first = Taken::new();
    let first_facts = first.take(&source(&server)).unwrap();
    server.psql("postgres", "update t set i = -i").unwrap();
    let (second, second_facts) = next(&server, &first, &first_facts);
    used_lists(&second_facts);

    // The first backup is restored and lives on, past the end of the second one.
    let copy = Taken::new();
    copy_tree(first.sink.root(), copy.sink.root());
    copy.finish_restore(&first_facts).unwrap();
    let restored = copy.boot(18, &first_facts);
    restored.psql("postgres", "create table more as select i from generate_series(1, 900000) i").unwrap();
    restored.psql("postgres", "checkpoint").unwrap();
    let mut taken = Taken::new();
    taken.sink.build_on(second.sink.root());
    let parent = FolderParent::new(second.sink.root(), &second_facts);
    let error = taken.take_from(&source(&restored), &parent).unwrap_err();
    assert_eq!(error.retry(), strongroom_core::Retry::Later);
    assert_eq!(parent.distrusted().unwrap(), "the source was restored since the earlier backup");

    // The one it came from is.
    let (third, third_facts) = next(&restored, &first, &first_facts);
    used_lists(&third_facts);
    let full = Taken::new();
    full.take(&source(&restored)).unwrap();
    same_content(&third, &full);
}

fn copy_tree(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp")
        .args(["-a", &format!("{}/.", path_text(from)), path_text(to)])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Small files of relations make every joint come early: a relation of several files, cut and
/// grown over their borders and over those of chunks.
#[test]
fn files_are_cut_and_grown_over_every_border() {
    if !require(18) {
        return;
    }
    let server = summarizing(18, &[]);
    server
        .psql(
            "postgres",
            "create table t (id int, body text) with (fillfactor = 100); alter table t alter body set storage plain;
             create table u as select i, repeat('u', 700) from generate_series(1, 5000) i;
             insert into t select i, repeat('x', 1800) from generate_series(1, 200) i",
        )
        .unwrap();
    let mut parent = Taken::new();
    let mut facts = parent.take(&source(&server)).unwrap();
    let changes = [
        "insert into t select i, repeat('y', 1800) from generate_series(1, 70) i",
        "delete from t where ctid >= '(9,0)'::tid; vacuum (truncate) t",
        "insert into t select i, repeat('z', 1800) from generate_series(1, 900) i",
        "truncate t; insert into t select i, repeat('a', 1800) from generate_series(1, 5) i",
        "vacuum full u",
        "update u set i = i + 1 where i = 77; vacuum (freeze) u; create index on u (i)",
        "truncate t",
    ];
    for change in changes {
        for statement in change.split("; ") {
            server.psql("postgres", statement).unwrap();
        }
        let (taken, next_facts) = next(&server, &parent, &facts);
        used_lists(&next_facts);
        let full = Taken::new();
        full.take(&source(&server)).unwrap();
        same_content(&taken, &full);
        (parent, facts) = (taken, next_facts);
    }
}

/// Damage that an earlier backup found is still there when nobody rewrote the page.
#[test]
fn b13_damage_is_told_again_while_it_lasts() {
    if !require(18) {
        return;
    }
    let mut server = summarizing(18, &[]);
    server.psql("postgres", "create table t as select i from generate_series(1, 5000) i").unwrap();
    server.psql("postgres", "checkpoint").unwrap();
    let path = server.psql("postgres", "select pg_relation_filepath('t')").unwrap();
    server.stop().unwrap();
    let place = server.data_dir().join(&path);
    let mut bytes = std::fs::read(&place).unwrap();
    bytes[3 * 8192 + 5000] ^= 1;
    std::fs::write(&place, bytes).unwrap();
    server.launch().unwrap();
    let first = Taken::new();
    let first_facts = first.take(&source(&server)).unwrap();
    assert_eq!(first_facts.damage.len(), 1);
    let (second, second_facts) = next(&server, &first, &first_facts);
    used_lists(&second_facts);
    assert_eq!(second_facts.damage, first_facts.damage);
    assert_eq!(second_facts.warnings, first_facts.warnings);
    assert_eq!(crate::desk::fact(&second_facts, "pages")["damaged"], 1);
    // Gone with the table.
    server.psql("postgres", "drop table t").unwrap();
    let (_, third_facts) = next(&server, &second, &second_facts);
    used_lists(&third_facts);
    assert_eq!(third_facts.damage, []);
}
