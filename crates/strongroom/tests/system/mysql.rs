//! MySQL through the executable: asked for by the calls of RDS, proved by drills and by servers that
//! start on what comes back.

use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use strongroom_testkit::depth;
use strongroom_testkit::mysql::{MySqlServer, Options, mysqld, require};
use strongroom_testkit::mysql_ledger::{MySqlWriters, judge};

use crate::downloads::{fetch, link, unpack};
use crate::drills::{Drills, verification};
use crate::logs::{logs, windows};
use crate::room::{Room, pause, until};
use crate::source::{restore, slow_line};

const PASSWORD: &str = "s3cret of MySQL that must not be seen";
/// What a worker may take (faults.md P09).
const MEMORY_KIB_MAX: u64 = 128 << 10;

/// Tables that nobody writes to while a backup runs, and those whose rows no clone has.
const TABLES: &str = "
    create database shop;
    set session cte_max_recursion_depth = 1000000;
    create table shop.wares (id int primary key, amount int not null, name varchar(200), key (name));
    insert into shop.wares with recursive n(i) as (select 1 union all select i + 1 from n where i < 60000)
        select i, 0, sha2(i, 256) from n;
    create table shop.parts (id int, day date, primary key (id, day)) partition by hash (id) partitions 3;
    insert into shop.parts select id, date '2024-06-01' + interval id % 900 day from shop.wares where id <= 5000;
    create table shop.visits (id int primary key, body text) engine = myisam;
    insert into shop.visits select id, name from shop.wares where id <= 50;
";

pub(crate) struct Shop {
    pub(crate) server: MySqlServer,
}

impl Shop {
    pub(crate) fn open() -> Self {
        Self::of(MySqlServer::start(&Options::default()).unwrap())
    }

    /// On a server that is running already.
    pub(crate) fn of(server: MySqlServer) -> Self {
        // As docs/engines/mysql.md asks for it.
        server
            .sql(&format!(
                "create user 'keeper'@'%' identified by '{PASSWORD}';
                 grant backup_admin on *.* to 'keeper'@'%'; grant references on *.* to 'keeper'@'%'"
            ))
            .unwrap();
        server.sql(TABLES).unwrap();
        Self { server }
    }

    pub(crate) fn register(&self, room: &Room) -> Value {
        register_at(room, self.server.port())
    }

    /// Some rows in a hundred, all over the table.
    fn change(&self, percent: u32, round: u32) {
        self.server
            .sql(&format!(
                "update shop.wares set amount = amount + 1, name = sha2(concat(id, '/{round}'), 256) \
                 where crc32(concat(id, '/', {round})) % 100 < {percent}"
            ))
            .unwrap();
    }
}

fn register_at(room: &Room, port: u16) -> Value {
    room.json(&add(room, port).iter().map(String::as_str).collect::<Vec<_>>())
}

/// The command that registers a server; TLS is what it is when nobody says anything.
fn add(room: &Room, port: u16) -> Vec<String> {
    let file = room.scratch.path().join("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let mut words: Vec<String> = ["instance", "add", "shop", "--engine", "mysql", "--host", "127.0.0.1"]
        .iter()
        .chain(&["--user", "keeper", "--password-file"])
        .map(|word| (*word).to_owned())
        .collect();
    words.extend([file.display().to_string(), "--port".to_owned(), port.to_string()]);
    words
}

/// Where drills find the server of the tests.
pub(crate) fn servers() -> PathBuf {
    mysqld().unwrap().parent().unwrap().to_owned()
}

/// What the quiet tables hold.
pub(crate) fn checksums(server: &MySqlServer) -> String {
    server.sql("checksum table shop.wares, shop.parts").unwrap()
}

/// Every table is looked through by the server itself; answers what it does not call `OK`.
pub(crate) fn complaints(server: &MySqlServer) -> String {
    let mut tool = server.tool("mysqlcheck").unwrap();
    let output = tool.args(["--check", "--all-databases"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.lines().count() > 30, "{said}");
    said.lines().filter(|line| !line.ends_with("OK")).collect::<Vec<_>>().join("\n")
}

/// One backup. A server gives its clone up that meets a change of a definition in an unlucky moment
/// (error 3633); the job makes three tries of it, and a client may ask again.
fn back_up(room: &Room, name: &str) -> String {
    for again in 0..5 {
        let name = format!("{name}-{again}");
        room.json(&["backup", "create", "shop", "--name", &name]);
        let view = room.ended(&name);
        if view["status"] == "COMPLETED" {
            return name;
        }
        let failure = view["failure"]["message"].as_str().unwrap();
        assert!(failure.contains("(3633)"), "{view}");
    }
    panic!("five backups, and each was given up");
}

#[test]
fn b06_b20_a_request_of_rds_ends_in_a_mysql_server_that_starts() {
    if !require() {
        return;
    }
    let (drills, shop) = (Drills::with_servers("STRONGROOM_MYSQL_BINDIR", &servers()), Shop::open());
    let room = &drills.room;
    let instance = shop.register(room);
    let (id, node) = (instance["id"].as_str().unwrap(), instance["primary_node_id"].as_str().unwrap());
    assert!(id.ends_with("in01") && node.ends_with("no01"), "{instance}");
    let writers = MySqlWriters::start(&shop.server, 2, true).unwrap();
    until("definitions change", Duration::from_mins(1), || (writers.churned() > 2).then_some(()));
    let (before, wanted) = (writers.acknowledged(), checksums(&shop.server));

    let path = format!("/rds/v1/{}/backups", room.credential("project_id"));
    let body = serde_json::json!({"backup": {"name": "first", "instance": node, "description": "by RDS"}});
    let accepted = room.http("POST", &path, &body.to_string());
    assert_eq!(accepted.status, 200, "{}", accepted.body);
    let mut name = "first".to_owned();
    let mut view = room.ended(&name);
    if view["status"] != "COMPLETED" {
        assert!(view["failure"]["message"].as_str().unwrap().contains("(3633)"), "{view}");
        name = back_up(room, "first");
        view = room.ended(&name);
    }
    assert_eq!(view["status"], "COMPLETED", "{view}");
    assert!(view["id"].as_str().unwrap().ends_with("br01") && view["engine"] == "mysql", "{view}");
    is_listed_by_rds(room, id, &name);
    let warning = view["warnings"][0].as_str().unwrap();
    assert!(warning.contains("shop.visits (MyISAM, 50 rows; the account may not read it)"), "{view}");
    let shown = room.run(&["backup", "show", &name]).expect(0).stdout;
    assert!(shown.lines().any(|line| line.starts_with("warning") && line.contains("shop.visits")), "{shown}");

    let drill = room.run(&["backup", "verify", &name, "--level", "engine", "--progress", "none"]).expect(0);
    for word in [
        "check_table",
        "gtid_position",
        "page_checksums",
        "shop.visits (MyISAM, 50 rows; the account may not read it)",
    ] {
        assert!(drill.stdout.contains(word), "{word}: {}", drill.stdout);
    }
    assert!(drill.stdout.contains(&format!("{name} passed (engine)")), "{}", drill.stdout);
    let found = verification(room, &name);
    assert!(found["drill"]["rows"].as_u64().unwrap() > 65_000, "{found}");
    drills.is_clean();

    let target = room.scratch.path().join("restored");
    let restored = restore(room, &name, &target).expect(0);
    assert!(
        restored.stderr.contains("shop.visits (MyISAM, 50 rows; the account may not read it)"),
        "{}",
        restored.stderr
    );
    let copy = MySqlServer::adopt(&target, &[]).unwrap();
    judge(&copy, &before).unwrap();
    assert_eq!(checksums(&copy), wanted);
    assert_eq!(copy.sql("select count(*) from shop.visits").unwrap(), "0");
    writers.stop().unwrap();
    let log = room.log();
    assert!(!log.contains(PASSWORD), "the log has the password");
}

/// Both dialects know the backup by the names of theirs.
fn is_listed_by_rds(room: &Room, instance: &str, name: &str) {
    let project = room.credential("project_id");
    for (path, store) in [
        (format!("/rds/v1/{project}/backups"), "dataStore"),
        (format!("/v3/{project}/backups?instance_id={instance}"), "datastore"),
    ] {
        let listed = room.http("GET", &path, "").body;
        let row = listed["backups"].as_array().and_then(|rows| rows.iter().find(|row| row["name"] == name));
        let row = row.unwrap_or_else(|| panic!("{path}: {listed}"));
        assert_eq!(row["status"], "COMPLETED", "{listed}");
        assert_eq!(row[store]["type"], "MySQL", "{listed}");
        let version = row[store]["version"].as_str().unwrap();
        assert!(version.starts_with("9.") || version.starts_with("8."), "{listed}");
    }
    let versions = room.http("GET", &format!("/v3/{project}/datastores/MySQL"), "").body;
    assert_eq!(versions["dataStores"].as_array().map(Vec::len), Some(1), "{versions}");
}

/// Backups of one server one after the other, while rows and definitions change: each comes back as the
/// server was, the first ones too when many stand on them.
#[test]
fn b20_p09_mysql_backups_stand_on_each_other_and_each_comes_back() {
    if !require() {
        return;
    }
    let (mut room, shop) = (Room::serving(), Shop::open());
    shop.register(&room);
    let writers = MySqlWriters::start(&shop.server, 2, true).unwrap();
    let mut taken = Vec::new();
    for round in 0..depth::choose(3, 24) {
        shop.change(1, round);
        let churned = writers.churned();
        until("definitions change", Duration::from_mins(1), || (writers.churned() > churned).then_some(()));
        let (before, wanted) = (writers.acknowledged(), checksums(&shop.server));
        let name = back_up(&room, &format!("round-{round}"));
        let view = room.json(&["backup", "show", &name]);
        depth::report(format_args!(
            "{name}: {} of {} bytes stored, peak {} KiB",
            view["stored_bytes"],
            view["source_bytes"],
            room.peak_memory_kib()
        ));
        comes_back(&room, &name, &before, &wanted);
        depth::report(format_args!("{name} is restored, peak {} KiB", room.peak_memory_kib()));
        taken.push((name, before, wanted));
    }
    writers.stop().unwrap();
    let peak = room.peak_memory_kib();
    assert!(peak < MEMORY_KIB_MAX, "{peak} KiB");
    room.run(&["repository", "check", "--level", "decode", "--progress", "none"]).expect(0);
    for (name, before, wanted) in depth::thin(taken, 1) {
        comes_back(&room, &name, &before, &wanted);
    }
    assert!(room.stop().success());
}

fn comes_back(room: &Room, name: &str, before: &[u64], wanted: &str) {
    let target = room.scratch.path().join("restored");
    restore(room, name, &target).expect(0);
    let copy = MySqlServer::adopt(&target, &[]).unwrap();
    if !before.is_empty() {
        judge(&copy, before).unwrap();
    }
    assert_eq!(checksums(&copy), wanted, "{name}");
    assert_eq!(complaints(&copy), "", "{name}");
    drop(copy);
    std::fs::remove_dir_all(&target).unwrap();
}

/// The clone of a worker that is gone blocks nobody: the next one takes it over from the server.
#[test]
fn p03_a_worker_killed_in_the_middle_of_a_clone() {
    if !require() {
        return;
    }
    let (mut room, shop) = (Room::serving(), Shop::open());
    register_at(&room, slow_line(shop.server.port(), 40 << 20));
    let wanted = checksums(&shop.server);
    room.json(&["backup", "create", "shop", "--name", "killed"]);
    until("the clone runs", Duration::from_mins(1), || {
        let jobs = room.json(&["job", "list"]);
        (jobs["jobs"][0]["progress"]["done_bytes"].as_u64().unwrap_or(0) > 1 << 20).then_some(())
    });
    room.kill();
    pause(Duration::from_millis(200));
    room.serve();
    let view = room.ended("killed");
    assert_eq!(view["status"], "COMPLETED", "{view}");
    comes_back(&room, "killed", &[], &wanted);
    let sessions = "select count(*) from performance_schema.threads where processlist_user = 'keeper'";
    until("the source is free", Duration::from_mins(1), || {
        (shop.server.sql(sessions).unwrap() == "0").then_some(())
    });
}

#[test]
fn a_download_of_mysql_is_a_data_directory_that_a_server_starts_on() {
    if !require() {
        return;
    }
    let (room, shop) = (Room::serving(), Shop::open());
    shop.register(&room);
    shop.server.sql("grant select on shop.visits to 'keeper'@'%'").unwrap();
    let wanted = checksums(&shop.server);
    let visits = shop.server.sql("checksum table shop.visits").unwrap();
    room.json(&["backup", "create", "shop", "--name", "whole", "--wait", "--progress", "none"]);
    let (url, bytes) = link(&room, "whole");
    let whole = fetch(&url, "GET", "");
    assert_eq!((whole.status, whole.body.len() as u64), (200, bytes));
    let archive = room.scratch.path().join("whole.tar.zst");
    std::fs::write(&archive, &whole.body).unwrap();
    let target = unpack(&archive, &room.scratch.path().join("unpacked"));
    let notes = std::fs::read_to_string(target.join("strongroom-notes.txt")).unwrap();
    let told = "shop.visits (MyISAM, 50 rows; read at ";
    assert_eq!(notes.matches(told).count(), 1, "{notes}");
    let beside = room.scratch.path().join("beside").display().to_string();
    let restored =
        room.run(&["restore", "whole", "--to-dir", &beside, "--progress", "none", "--output", "json"]);
    let restored = restored.expect(0);
    for place in [&restored.stdout, &restored.stderr] {
        assert_eq!(place.matches(told).count(), 1, "{place}");
    }
    let copy = MySqlServer::adopt(&target, &[]).unwrap();
    assert_eq!(checksums(&copy), wanted);
    let rows = std::fs::File::open(target.join("strongroom-other-tables.sql")).unwrap();
    let mut client = copy.tool("mysql").unwrap();
    assert!(client.arg("--binary-mode").stdin(rows).status().unwrap().success());
    assert_eq!(copy.sql("checksum table shop.visits").unwrap(), visits);
}

/// Waits until the newest window holds what the source does now.
fn reaches_now(room: &Room, shop: &Shop) {
    shop.server.sql("update shop.wares set amount = amount + 1 where id < 10").unwrap();
    let now: i64 = shop.server.sql("select unix_timestamp() * 1000").unwrap().parse().unwrap();
    until("the restore times reach what was just written", Duration::from_mins(4), || {
        windows(room).last().filter(|(from, to)| from < to && *to >= now).map(|_| ())
    });
}

#[test]
fn b09_binary_log_that_was_purged_is_a_gap_in_the_restore_times_and_a_new_backup_follows() {
    if !require() {
        return;
    }
    let (mut room, shop) = (Room::serving(), Shop::open());
    shop.register(&room);
    let switch = |room: &Room, to: &str| room.run(&["instance", "logs", "shop", "--capture", to]);
    // Refused with the statement that mends it, for one right and then for the other.
    for _ in 0..2 {
        let refused = switch(&room, "on").expect(4);
        let statement = refused.stderr.split("at the source: ").nth(1).unwrap().lines().next().unwrap();
        shop.server.sql(statement).unwrap();
    }
    switch(&room, "on").expect(0);
    until("a backup leads to the log", Duration::from_mins(4), || {
        (logs(&room)["has_backup"] == true).then_some(())
    });
    reaches_now(&room, &shop);
    for _ in 0..2 {
        room.kill();
        shop.change(2, 7);
        room.serve();
        reaches_now(&room, &shop);
    }
    let [before] = windows(&room)[..] else { panic!("{:?}", windows(&room)) };
    assert_eq!(logs(&room)["ranges"].as_array().unwrap().len(), 1);
    room.kill();
    shop.change(3, 8);
    shop.server.sql("flush binary logs; purge binary logs before now() + interval 1 day").unwrap();
    room.serve();
    let found = until("a second window", Duration::from_mins(4), || {
        Some(windows(&room)).filter(|found| found.len() == 2)
    });
    // Until the last moment that was known to be whole, and not a moment into the gap.
    assert!(
        found[0].0 == before.0 && found[0].1 >= before.1 && found[0].1 < found[1].0,
        "{before:?} {found:?}"
    );
    reaches_now(&room, &shop);
    assert_eq!(logs(&room)["ranges"].as_array().unwrap().len(), 2);
    assert_eq!(room.json(&["backup", "list"])["backups"].as_array().unwrap().len(), 2);
    assert!(
        room.log().contains("Log is missing from the archive: the source no longer has it; missing: "),
        "{}",
        room.log()
    );
    switch(&room, "off").expect(0);
    until("the capture ends", Duration::from_mins(1), || (logs(&room)["state"] == "off").then_some(()));
    assert_eq!(windows(&room).len(), 2);
}

/// A MariaDB says so in its greeting; nothing of ours is said to it.
#[test]
fn mariadb_is_refused_in_a_sentence_and_nothing_is_stored() {
    const GREETING: &[u8] = b"\x0a5.5.5-10.11.14-MariaDB-0+deb12u2\0\x01\0\0\0saltsalt\0\xfe\xf7\x08\x02\0\xff\x81\x15\0\0\0\0\0\0\x1d\0\0\0saltsaltsalt\0mysql_native_password\0";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let length = u32::try_from(GREETING.len()).unwrap().to_le_bytes();
            let _ = client.write_all(&[&[length[0], length[1], length[2], 0], GREETING].concat());
        }
    });
    let room = Room::serving();
    let words = add(&room, port);
    let refused = room.run(&words.iter().map(String::as_str).collect::<Vec<_>>()).expect(4);
    assert!(refused.stderr.contains("MariaDB has no clone protocol"), "{}", refused.stderr);
    assert!(refused.stderr.contains("nothing was saved"), "{}", refused.stderr);
    assert_eq!(room.json(&["instance", "list"])["instances"], serde_json::json!([]));
}
