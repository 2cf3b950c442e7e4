//! Restored directories made startable, and what is refused.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use strongroom_core::engine::{BackupFacts, Engine, RestoreOrder, RestoredTree};
use strongroom_core::{ErrorKind, Result};
use strongroom_testkit::account::Account;
use strongroom_testkit::mysql::{MySqlServer, Options, mysqld, require};
use strongroom_testkit::port::Port;

use crate::desk::{Taken, create_account, engine, source};
use crate::world::{self, add_other_engines, check_tables, checksums, outside_folder};

/// Where the engine looks for servers that lie in no usual place.
const BINDIR: &str = "STRONGROOM_MYSQL_BINDIR";

fn finish(data_dir: &Path, facts: &BackupFacts) -> Result<Vec<String>> {
    let tablespaces = BTreeMap::new();
    engine().finish_restore(&RestoreOrder { target: data_dir, facts, tablespaces: &tablespaces, port: None })
}

fn small_server() -> MySqlServer {
    let server = MySqlServer::start(&Options::default()).unwrap();
    create_account(&server);
    server
        .sql(
            "create database shop; create table shop.t (id int primary key, body varchar(200));
             set session cte_max_recursion_depth = 100000;
             insert into shop.t with recursive n(i) as (select 1 union all select i + 1 from n where i < 2000)
                 select i, sha2(i, 256) from n;
             create table shop.ticks (at datetime(6)); set global event_scheduler = on;
             create event shop.tick on schedule every 1 second do insert into shop.ticks values (now(6))",
        )
        .unwrap();
    server
}

/// What compressed pages leave free behind their content, in blocks of 512 bytes; a hole begins where a
/// block of the file system does.
fn blocks_in_holes(bytes: &[u8]) -> u64 {
    let pages = bytes.chunks(16_384).filter(|page| page[24..26] == [0, 14]);
    pages
        .map(|page| 38 + usize::from(page[32]) * 256 + usize::from(page[33]))
        .map(|needed| (16_384 - needed.next_multiple_of(4096).min(16_384)) as u64 / 512)
        .sum()
}

#[test]
fn a_restored_mysql_directory_starts_with_everything_in_it() {
    if !require() {
        return;
    }
    let outside = outside_folder();
    let server = world::start(Some(outside.path()));
    add_other_engines(&server);
    let wanted = checksums(&server);
    let uuid = server.sql("select @@server_uuid").unwrap();
    let taken = Taken::new();
    let facts = taken.take(&source(&server)).unwrap();
    drop((server, outside));
    let data_dir = taken.sink.data_dir();
    fs::write(data_dir.join("auto.cnf"), format!("[auto]\nserver-uuid={uuid}\n")).unwrap();
    let squeezed = ["shop/squeezed.ibd", "shop/squeezed_lz4.ibd"].map(|name| data_dir.join(name));
    let look =
        || squeezed.each_ref().map(|path| (fs::read(path).unwrap(), fs::metadata(path).unwrap().blocks()));
    let before = look();
    let notes = finish(&data_dir, &facts).unwrap();
    assert_eq!(finish(&data_dir, &facts).unwrap(), notes, "it may run again");
    for ((bytes, blocks), (same, fewer)) in before.iter().zip(&look()) {
        assert!(bytes == same, "no byte is another one");
        let freed = blocks_in_holes(bytes);
        assert!(
            freed > 2_000 && blocks - fewer >= freed * 9 / 10,
            "{blocks} blocks, {fewer} left, {freed} in holes"
        );
    }
    let said = notes.join("\n");
    for wanted in [
        "strongroom.cnf",
        "gtid_executed",
        "shop/elsewhere.ibd (was /",
        "max_connections",
        "shop.visits (MyISAM, 1234 rows; the account may not read it)",
    ] {
        assert!(said.contains(wanted), "{wanted} in {said}");
    }
    let options = fs::read_to_string(data_dir.join("strongroom.cnf")).unwrap();
    for line in
        ["innodb_page_size=16384", "lower_case_table_names=0", "event_scheduler=OFF", "skip_replica_start=ON"]
    {
        assert!(options.lines().any(|found| found == line), "{line} in {options}");
    }
    let restored = MySqlServer::adopt(&data_dir, &[]).unwrap();
    assert_eq!(checksums(&restored), wanted);
    let not_ok = check_tables(&restored);
    let named: Vec<&str> = not_ok.lines().filter(|line| line.starts_with("shop.")).collect();
    assert_eq!(
        named,
        ["shop.old", "shop.volatile_one"],
        "ARCHIVE has lost its file, MEMORY is not checked: {not_ok}"
    );
    assert_ne!(restored.sql("select @@server_uuid").unwrap(), uuid);
    assert_eq!(restored.sql("select count(*) from shop.visits").unwrap(), "0");
    assert_eq!(restored.sql("select count(*) from shop.far").unwrap(), "3000");
}

/// The environment of a process cannot be changed in it: the test runs itself once more in another.
#[test]
fn a_restored_mysql_server_is_started_and_does_not_act_like_the_source() {
    if !require() {
        return;
    }
    if std::env::var_os(BINDIR).is_none() {
        let name = "restore::a_restored_mysql_server_is_started_and_does_not_act_like_the_source";
        let folder = mysqld().unwrap().parent().unwrap().to_owned();
        let mut command = Command::new(std::env::current_exe().unwrap());
        let output = command.args(["--exact", name, "--nocapture"]).env(BINDIR, folder).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        return;
    }
    let server = small_server();
    let taken = Taken::new();
    let facts = taken.take(&source(&server)).unwrap();
    let data_dir = taken.sink.data_dir();
    finish(&data_dir, &facts).unwrap();
    let held = Port::hold().unwrap();
    let port = held.number();
    let is_root = Account::ordinary().ids().is_some();
    if is_root {
        let error = engine().start_restored(&data_dir, &facts, port).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotAllowed);
        assert!(error.hint().unwrap().contains("chown -R mysql:"), "{error:?}");
    }
    Account::ordinary().own(&data_dir).unwrap();
    let started = engine().start_restored(&data_dir, &facts, port).unwrap();
    assert!(started.stop_command.contains(&started.pid.to_string()));
    // The accounts are the source's, and so is the position.
    let probed = crate::desk::probe(&crate::desk::source_at(port)).unwrap();
    assert_eq!(probed.identity.unwrap().version, facts.identity.version);
    let second = finish(&data_dir, &facts).unwrap_err();
    assert_eq!(second.kind(), ErrorKind::TargetNotEmpty, "a running server is left alone");
    let pid = rustix::process::Pid::from_raw(i32::try_from(started.pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    for _ in 0..600 {
        if !data_dir.join("strongroom.pid").exists() {
            break;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(100));
    }
    let restored = MySqlServer::adopt(&data_dir, &["--event-scheduler=OFF"]).unwrap();
    let last = restored.sql("select count(*) from shop.ticks where at > now(6) - interval 1 second").unwrap();
    assert_eq!(last, "0", "no event ran in the copy");
    assert_eq!(restored.sql("select count(*) from shop.t").unwrap(), "2000");
}

#[test]
fn v01_a_mysql_directory_that_is_not_whole_is_refused() {
    if !require() {
        return;
    }
    let server = small_server();
    let taken = Taken::new();
    let facts = taken.take(&source(&server)).unwrap();
    let data_dir = taken.sink.data_dir();
    let refused = |what: &str| {
        let error = finish(&data_dir, &facts).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damage, "{what}: {error:?}");
        assert!(error.public().contains(what), "{what}: {}", error.public());
        assert!(!data_dir.join("strongroom.cnf").exists(), "{what}");
    };
    for name in ["mysql.ibd", "ibdata1"] {
        let (path, aside) = (data_dir.join(name), data_dir.join("aside"));
        fs::rename(&path, &aside).unwrap();
        refused(name);
        fs::copy(&aside, &path).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_len(16_384 + 7).unwrap();
        refused(name);
        fs::rename(&aside, &path).unwrap();
    }
    let redo = data_dir.join("#innodb_redo");
    let moved = data_dir.join("moved");
    fs::rename(&redo, &moved).unwrap();
    refused("#innodb_redo");
    fs::create_dir(&redo).unwrap();
    refused("#innodb_redo");
    fs::remove_dir(&redo).unwrap();
    fs::rename(&moved, &redo).unwrap();
    let mut foreign = facts.clone();
    foreign.engine = serde_json::json!({ "format": 7 });
    assert_eq!(finish(&data_dir, &foreign).unwrap_err().kind(), ErrorKind::Damage);
    // What goes into an option file is nothing but a setting.
    let mut hostile = facts.clone();
    hostile.engine["settings"]["innodb_data_file_path"] = "ibdata1:12M\nplugin-load=evil.so".into();
    assert_eq!(finish(&data_dir, &hostile).unwrap_err().kind(), ErrorKind::Damage);
    let mut hostile = facts.clone();
    hostile.engine["page_compressed_files"] =
        serde_json::json!([{ "name": "../../x.ibd", "block_bytes": 4096 }]);
    assert_eq!(finish(&data_dir, &hostile).unwrap_err().kind(), ErrorKind::SourceHostile);
    finish(&data_dir, &facts).unwrap();
    drop(server);
    let restored = MySqlServer::adopt(&data_dir, &[]).unwrap();
    assert_eq!(restored.sql("select count(*) from shop.t").unwrap(), "2000");
}

/// Names and contents.
#[derive(Default)]
struct Memory(BTreeMap<String, Vec<u8>>);

impl RestoredTree for Memory {
    fn size_of(&mut self, name: &str) -> Result<Option<u64>> {
        Ok(self.0.get(name).map(|content| content.len() as u64))
    }

    fn read(&mut self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.0.get(name).cloned())
    }

    fn replace(&mut self, name: &str, _mode: u32, content: &[u8]) -> Result<()> {
        self.0.insert(name.to_owned(), content.to_vec());
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<()> {
        self.0.remove(name);
        Ok(())
    }

    fn make_directory(&mut self, name: &str, _mode: u32) -> Result<()> {
        self.0.insert(format!("{name}/"), Vec::new());
        Ok(())
    }

    fn set_mode(&mut self, mode: u32) -> Result<()> {
        assert_eq!(mode, 0o750);
        Ok(())
    }
}

#[test]
fn an_archive_gets_what_a_directory_gets() {
    if !require() {
        return;
    }
    let server = small_server();
    let facts = Taken::new().take(&source(&server)).unwrap();
    let mut tree = Memory::default();
    for name in ["ibdata1", "mysql.ibd", "auto.cnf"] {
        tree.0.insert(name.to_owned(), vec![0; 16_384]);
    }
    let notes = engine().finish_archive(&facts, &BTreeMap::new(), &mut tree).unwrap();
    assert!(notes[0].contains("strongroom.cnf"), "{notes:?}");
    let names: Vec<&str> = tree.0.keys().map(String::as_str).collect();
    let wanted = [
        "#clone/",
        "#clone/#replace_files",
        "#clone/#status_fix",
        "ibdata1",
        "mysql.ibd",
        "mysql/",
        "strongroom.cnf",
    ];
    assert_eq!(names, wanted);
    tree.0.remove("ibdata1");
    assert!(engine().finish_archive(&facts, &BTreeMap::new(), &mut tree).is_err());
}
