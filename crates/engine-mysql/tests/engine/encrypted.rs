//! Encrypted tablespaces: backed up without a key in the clear, and opened again by a server that has
//! never seen the source's keyring.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use strongroom_core::engine::{BackupFacts, Engine, RestoreOrder, Source, TlsMode};
use strongroom_core::{ErrorKind, Retry};
use strongroom_testkit::depth;
use strongroom_testkit::mysql::{MySqlServer, Options, mysqld, require_keyring, tool};
use strongroom_testkit::mysql_ledger::{MySqlWriters, judge};
use strongroom_testkit::port::Port;

use crate::backup::take_among_changes;
use crate::desk::{Taken, create_account, donor_is_free, engine, fact, source};
use crate::drill::{Bench, passed};
use crate::log_desk::Desk;
use crate::world::{check_tables, checksums};

/// Where the engine looks for servers that lie in no usual place.
const BINDIR: &str = "STRONGROOM_MYSQL_BINDIR";

const TABLES: [&str; 6] = ["plain", "secret", "zipped", "squeezed", "parts", "general"];

fn server_with(arguments: &[&str]) -> MySqlServer {
    let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
    let server = MySqlServer::start(&Options { keyring: true, arguments, ..Options::default() }).unwrap();
    create_account(&server);
    server
}

fn fill(server: &MySqlServer) {
    let numbers = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 3000)
                   select i, sha2(i, 256) from n";
    let columns = "(id int primary key, body varchar(200))";
    server
        .sql(&format!(
            "create database shop; set session cte_max_recursion_depth = 100000;
             create table shop.plain {columns}; create table shop.secret {columns} encryption = 'Y';
             create table shop.zipped {columns} row_format = compressed key_block_size = 4 encryption = 'Y';
             create table shop.squeezed {columns} compression = 'zlib' encryption = 'Y';
             create table shop.parts {columns} encryption = 'Y' partition by hash (id) partitions 3;
             create tablespace closed add datafile 'closed.ibd' encryption = 'Y';
             create table shop.general {columns} tablespace closed encryption = 'Y';"
        ))
        .unwrap();
    for table in TABLES {
        server
            .sql(&format!("set session cte_max_recursion_depth = 100000; insert into shop.{table} {numbers}"))
            .unwrap();
    }
}

fn finish(data_dir: &Path, facts: &BackupFacts) -> Vec<String> {
    let tablespaces = BTreeMap::new();
    let order = RestoreOrder { target: data_dir, facts, tablespaces: &tablespaces, port: None };
    engine().finish_restore(&order).unwrap()
}

/// No file of the backup holds a key that is open: the mark of its record is followed by 0 then.
fn no_key_is_open(data_dir: &Path) -> usize {
    let mut closed = 0;
    let mut folders = vec![data_dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "ibd") {
                let bytes = fs::read(&path).unwrap();
                let page = &bytes[..16_384.min(bytes.len())];
                for record in page.windows(7).filter(|window| window.starts_with(b"lCC")) {
                    assert_eq!(record, b"lCC\0\0\0\x01", "{}", path.display());
                    closed += 1;
                }
            }
        }
    }
    closed
}

/// The server's own place of the record: a file that is made while a clone runs gets it there from us.
#[test]
fn b14_encrypted_tables_of_every_size_of_page_come_back() {
    if !require_keyring() {
        return;
    }
    for (page_bytes, place, zipped) in
        [(4096, 1558, None), (16_384, 10_390, Some(2710)), (65_536, 41_110, None)]
    {
        let server = server_with(&[&format!("--innodb-page-size={page_bytes}")]);
        server
            .sql(
                "create database shop; create table shop.secret (id int primary key, body text) encryption = 'Y';
                 insert into shop.secret values (1, repeat('of nobody', 100))",
            )
            .unwrap();
        if zipped.is_some() {
            server
                .sql("create table shop.zipped (id int) row_format = compressed key_block_size = 4 encryption = 'Y'")
                .unwrap();
        }
        let taken = Taken::new();
        let facts = taken.take(&source(&server)).unwrap();
        let record_at = |table: &str, place: usize| {
            let file = fs::read(taken.sink.data_dir().join(format!("shop/{table}.ibd"))).unwrap();
            assert!(file[place..].starts_with(b"lCC\0\0\0\x01"), "{table} {page_bytes}");
        };
        record_at("secret", place);
        if let Some(place) = zipped {
            record_at("zipped", place);
        }
        let wanted = server.sql("checksum table shop.secret").unwrap();
        finish(&taken.sink.data_dir(), &facts);
        let copy = MySqlServer::adopt(&taken.sink.data_dir(), &[&format!("--innodb-page-size={page_bytes}")])
            .unwrap();
        assert_eq!(copy.sql("checksum table shop.secret").unwrap(), wanted);
    }
}

#[test]
fn b14_encrypted_tables_come_back_under_another_key() {
    if !require_keyring() {
        return;
    }
    let server = server_with(&[]);
    fill(&server);
    let wanted = checksums(&server);
    let taken = Taken::new();
    let facts = taken.take(&source(&server)).unwrap();
    assert!(facts.damage.is_empty(), "{:?}", facts.damage);
    let readable = Source { tls: TlsMode::Disable, ..source(&server) };
    let refused = Taken::new().take(&readable).unwrap_err();
    assert_eq!((refused.kind(), refused.retry()), (ErrorKind::SourceRefused, Retry::Never), "{refused:?}");
    assert!(refused.hint().unwrap().contains("over TLS only"), "{refused:?}");
    donor_is_free(&server);
    drop(server);
    let data_dir = taken.sink.data_dir();
    assert_eq!(no_key_is_open(&data_dir), 7);
    assert_eq!(fact(&facts, "/keyring/files"), 7);
    let notes = finish(&data_dir, &facts);
    assert!(notes.iter().any(|note| note.contains("7 files are encrypted")), "{notes:?}");
    // Of a server whose installation lets a data directory name its keyring.
    let mut copy = MySqlServer::adopt(&data_dir, &[]).unwrap();
    assert_eq!(checksums(&copy), wanted);
    assert_eq!(check_tables(&copy), "");
    copy.sql("alter instance rotate innodb master key").unwrap();
    copy.restart().unwrap();
    assert_eq!(checksums(&copy), wanted);
}

/// A server as it comes in a package: nothing in it speaks of keyrings. The program is started as the
/// one that it is called by, as the operating system would.
fn packaged(folder: &Path) -> PathBuf {
    let real = mysqld().unwrap();
    let base = real.parent().and_then(Path::parent).unwrap();
    for part in ["lib/mysql", "sbin"] {
        fs::create_dir_all(folder.join(part)).unwrap();
    }
    symlink(base.join("share"), folder.join("share")).unwrap();
    fs::create_dir(folder.join("lib/mysql/plugin")).unwrap();
    for entry in fs::read_dir(base.join("lib/mysql/plugin")).unwrap() {
        let entry = entry.unwrap();
        if entry.path().extension().is_some_and(|extension| extension == "so") {
            symlink(entry.path(), folder.join("lib/mysql/plugin").join(entry.file_name())).unwrap();
        }
    }
    let program = folder.join("sbin/mysqld");
    let wrapper = fs::read_to_string(&real).unwrap_or_default();
    if wrapper.starts_with("#!") {
        let own_name = format!("--argv0 '{}'", real.display());
        assert!(wrapper.contains(&own_name), "{wrapper}");
        fs::write(&program, wrapper.replace(&own_name, "--argv0 \"$0\"")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    } else {
        symlink(&real, &program).unwrap();
    }
    program
}

#[test]
fn b14_a_packaged_server_is_started_with_the_keys_of_a_copy_and_drills_it() {
    if !require_keyring() {
        return;
    }
    if std::env::var_os(BINDIR).is_none() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let program = packaged(folder.path());
        let this = std::env::current_exe().unwrap();
        let name = "encrypted::b14_a_packaged_server_is_started_with_the_keys_of_a_copy_and_drills_it";
        let mut again = Command::new(this);
        let output = again
            .args(["--exact", name, "--nocapture"])
            .env(BINDIR, program.parent().unwrap())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        return;
    }
    let server = server_with(&[]);
    fill(&server);
    let wanted = checksums(&server);
    let bench = Bench::of(&server);
    drop(server);
    let packaged = PathBuf::from(std::env::var_os(BINDIR).unwrap()).join("mysqld");
    let report = bench.drill_by(&packaged);
    passed(&report);
    let data_dir = bench.data_dir();
    let port = Port::hold().unwrap();
    let started = engine().start_restored(&data_dir, bench.facts(), port.number()).unwrap();
    let query = format!("checksum table {}", TABLES.map(|table| format!("shop.{table}")).join(", "));
    let mut tool = Command::new(tool("mysql").unwrap());
    tool.args(["--no-defaults", "--user=root", "-N", "-B", "-e", &query]);
    tool.arg(format!("--socket={}", data_dir.join("strongroom.sock").display()));
    let output = tool.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let sorted = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(sorted(&said), sorted(&wanted), "{}", String::from_utf8_lossy(&output.stderr));
    let mut stop = started.stop_command.split(' ');
    assert!(Command::new(stop.next().unwrap()).args(stop).status().unwrap().success());
    // Without its files a server does not come to its end.
    for _ in 0..600 {
        if !data_dir.join("strongroom.pid").exists() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
    panic!("the server did not stop");
}

/// A server sends its log decrypted: what is stored is what its own tool gets, and the repository has
/// keys of its own.
#[test]
fn captured_binary_log_of_an_encrypted_one_is_what_the_servers_own_tool_gets() {
    if !require_keyring() {
        return;
    }
    let mut server = server_with(&[]);
    server.sql("grant replication slave, replication client on *.* to 'strong''room'@'%'").unwrap();
    let desk = Desk::new();
    for round in 0..2 {
        server.sql("set global binlog_encryption = on").unwrap();
        let capture = desk.capture(&server);
        if round == 0 {
            fill(&server);
        }
        server.sql("update shop.secret set body = sha2(body, 256); flush binary logs; alter instance rotate binlog master key").unwrap();
        server.sql("update shop.plain set body = sha2(body, 256)").unwrap();
        desk.wait_for(&server);
        capture.stop();
        server.restart().unwrap();
    }
    assert!(desk.judge_by_tool(&server) > 3);
    assert_eq!(desk.told().gaps, []);
}

/// Tells a thread to end, also when its test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn b06_b14_encrypted_tables_come_back_with_writers_definitions_and_rotated_keys() {
    if !require_keyring() {
        return;
    }
    let server = server_with(&[]);
    fill(&server);
    server
        .sql(
            "set persist default_table_encryption = on; set global innodb_redo_log_encrypt = on;
             set global innodb_undo_log_encrypt = on",
        )
        .unwrap();
    let wanted = checksums(&server);
    let writers = MySqlWriters::start(&server, 2, true).unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ends = Ends(&is_over);
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                server.sql("alter instance rotate innodb master key; select sleep(0.3)").unwrap();
            }
        });
        for round in 0..depth::choose(2, 20) {
            while writers.churned() < 3 * (round + 1) {
                server.sql("select sleep(0.05)").unwrap();
            }
            let before = writers.acknowledged();
            let (taken, facts) = take_among_changes(&source(&server));
            assert!(facts.damage.is_empty(), "{:?}", facts.damage);
            no_key_is_open(&taken.sink.data_dir());
            finish(&taken.sink.data_dir(), &facts);
            let restored = MySqlServer::adopt(&taken.sink.data_dir(), &[]).unwrap();
            judge(&restored, &before).unwrap();
            assert_eq!(checksums(&restored), wanted, "round {round}");
            assert_eq!(check_tables(&restored), "", "round {round}");
        }
    });
    writers.stop().unwrap();
}

#[test]
fn b14_an_encrypted_system_tablespace_comes_back() {
    if !require_keyring() {
        return;
    }
    let server = server_with(&[]);
    fill(&server);
    server.sql("alter tablespace mysql encryption = 'Y'").unwrap();
    let wanted = checksums(&server);
    let taken = Taken::new();
    let facts = taken.take(&source(&server)).unwrap();
    finish(&taken.sink.data_dir(), &facts);
    let copy = MySqlServer::adopt(&taken.sink.data_dir(), &[]).unwrap();
    assert_eq!(checksums(&copy), wanted);
}

#[test]
fn b14_encrypted_undo_and_log_come_back() {
    if !require_keyring() {
        return;
    }
    let server = server_with(&[]);
    server.sql("set global innodb_redo_log_encrypt = on; set global innodb_undo_log_encrypt = on").unwrap();
    fill(&server);
    // A transaction that recovery takes back needs the undo.
    let wanted = checksums(&server);
    let mut session = server.tool("mysql").unwrap();
    let mut session = session.arg("-n").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let undone = "begin; update shop.secret set body = 'undone'; select 1;\n";
    session.stdin.as_mut().unwrap().write_all(undone.as_bytes()).unwrap();
    session.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();
    let taken = Taken::new();
    let facts = taken.take(&source(&server)).unwrap();
    session.kill().unwrap();
    session.wait().unwrap();
    assert_eq!(no_key_is_open(&taken.sink.data_dir()), 7);
    finish(&taken.sink.data_dir(), &facts);
    let options = fs::read_to_string(taken.sink.data_dir().join("strongroom.cnf")).unwrap();
    for variable in ["innodb_redo_log_encrypt", "innodb_undo_log_encrypt"] {
        assert!(options.contains(&format!("{variable}=ON")), "{options}");
    }
    let copy = MySqlServer::adopt(
        &taken.sink.data_dir(),
        &["--innodb-redo-log-encrypt=ON", "--innodb-undo-log-encrypt=ON"],
    )
    .unwrap();
    assert_eq!(checksums(&copy), wanted);
    assert_eq!(check_tables(&copy), "");
}
