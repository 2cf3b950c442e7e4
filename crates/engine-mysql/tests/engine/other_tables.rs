//! Rows of tables that no clone carries: read beside the backup, loaded by the server's own client, equal
//! to what was at the source; and what is not read is told.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use strongroom_core::engine::{BackupFacts, Engine, RestoreOrder};
use strongroom_core::limits;
use strongroom_testkit::mysql::{MySqlServer, Options, require};

use crate::desk::{Taken, create_account, engine, fact, source};
use crate::locks::lock;
use crate::proxy::{Cut, Proxy};
use crate::world::{self, add_other_engines};

pub(crate) const FILE: &str = "strongroom-other-tables.sql";

/// Every type.
const COLUMNS: [(&str, &str); 30] = [
    ("i1", "tinyint"),
    ("i2", "smallint unsigned"),
    ("i3", "mediumint"),
    ("i4", "int(7) zerofill"),
    ("i8", "bigint"),
    ("u8", "bigint unsigned"),
    ("exact", "decimal(65,30)"),
    ("single", "float"),
    ("single_fixed", "float(7,4)"),
    ("wide", "double"),
    ("wide_fixed", "double(10,2)"),
    ("bits", "bit(1)"),
    ("more_bits", "bit(64)"),
    ("y", "year"),
    ("d", "date"),
    ("t", "time(6)"),
    ("dt", "datetime(6)"),
    ("ts", "timestamp(6)"),
    ("c", "char(20) character set latin1"),
    ("v", "varchar(60) character set utf8mb4"),
    ("u", "varchar(60) character set ucs2"),
    ("sj", "varchar(60) character set sjis"),
    ("b", "binary(5)"),
    ("vb", "varbinary(300)"),
    ("tx", "text character set utf16le"),
    ("mt", "mediumtext character set gb18030"),
    ("lb", "longblob"),
    ("e", "enum('a','ü','''') character set latin1"),
    ("s", "set('x','y','zü') character set utf8mb4"),
    ("j", "json"),
];
/// Of these, in this order, what types hold at their ends.
const ROWS: [&str; 4] = [
    "127, 65535, -8388608, 42, -9223372036854775808, 18446744073709551615,
     -12345678901234567890123456789012345.123456789012345678901234567891, 16777217.1, 123.4567, 1.7976931348623157e308, -12345678.91,
     1, 0xfedcba9876543210, 2155, '9999-12-31', '-838:59:59.000000', '9999-12-31 23:59:59.999999', '2037-01-01 01:02:03.000001',
     'Müller''s \\\\ \\\"x\\\"', '😀 a\\nb\\0c`;', 'Ω ü', '表ソ', 0x0001ff2700, 0x00010203040a0d1a22275c60ff, 'utf16 ü😀', '汉字\\\\', 0x00ff0a, 'ü',
     'x,zü', '{\\\"a\\\": [1, \\\"ü😀\\\", null, 1.5]}'",
    "null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null,
     null, null, null, null, null, null, null, null, null",
    "0, 0, 0, 0, 0, 0, 0, 0.1, -0.1, -0e0, -0.01, 0, 0, 0, '0000-00-00', '00:00:00', '0000-00-00 00:00:00', '0000-00-00 00:00:00',
     '', '', '', '', '', '', '', '', '', 'no such', '', '{}'",
    "-128, 1, 8388607, 9999999, 9223372036854775807, 9, 0.000000000000000000000000000001, 1.17549e-38, 0.0001, 4.9e-324, 99999999.99,
     0, 1, 1901, '2024-02-31', '12:00:00.5', '2024-00-00 00:00:00', '1970-01-01 00:00:01', 'x', repeat('ü', 60), 'x', 'x', 'ab  ', ' ',
     'x', 'x', repeat(0x00275c, 100000), '', 'x,y,zü', '[1e100, -0.0, true]'",
];
/// A client of UTF-8 that takes values as they are given.
const AS_GIVEN: &str = "set names utf8mb4; set sql_mode = 'ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO'; set time_zone = '+03:30';";

fn columns(end: &str) -> String {
    COLUMNS.map(|(name, data_type)| format!("{name} {data_type}{end}")).join(", ")
}

fn fill(server: &MySqlServer) {
    let (free, strict, names) =
        (columns(" null"), columns(" not null"), COLUMNS.map(|(name, _)| name).join(", "));
    let mut sql = format!(
        "{AS_GIVEN} create database shop; create database `Läden \"1\"`;
         create table shop.all_types (id bigint unsigned not null auto_increment primary key, {free}, p point, g geometry,
             hidden int invisible default 7, sum_now int as (i1 + 1) virtual, sum_kept int as (i2 * 2) stored, key (v(9)))
             engine = myisam;
         create table `Läden \"1\"`.`Wäre ``x``/'y\\` (id int not null auto_increment, `Spalte ``\"';--x` int default 5,
             {free}, p point, g geometry, key (id)) engine = archive comment = 'it''s; \\\\ -- here';
         create table shop.lines_only (id int not null, {strict}) engine = csv;"
    );
    let places = [
        "point(1, -2), st_geomfromtext('polygon((0 0,1 0,1 1,0 0))', 4326)",
        "null, null",
        "point(0, 0), st_geomfromtext('geometrycollection(point(1 1),linestring(0 0,5 5))')",
        "point(1e300, -0.0), st_geomfromtext('multipoint(0 0,1 1)', 3857)",
    ];
    for (at, row) in ROWS.iter().enumerate() {
        let places = places[at];
        let hidden = if at == 2 { "null" } else { "default" };
        let id = [0, 5, 300, 301][at];
        let _ = write!(
            sql,
            "insert into shop.all_types ({names}, p, g, hidden, id) values ({row}, {places}, {hidden}, {id});
             insert into `Läden \"1\"`.`Wäre ``x``/'y\\` ({names}, p, g) values ({row}, {places});"
        );
        if places != "null, null" {
            let _ = write!(sql, "insert into shop.lines_only (id, {names}) values ({at}, {row});");
        }
    }
    sql += "insert into shop.all_types (id, v) values (400, 'gone'); delete from shop.all_types where id = 400;
        insert into shop.all_types (id, v) values (299, 'behind'); alter table shop.all_types auto_increment = 5000;";
    server.sql(&sql).unwrap();
}

const TABLES: [&str; 3] = ["shop.all_types", "`Läden \"1\"`.`Wäre ``x``/'y\\`", "shop.lines_only"];

/// Sums of whole tables, and every value in digits or hex.
fn content(server: &MySqlServer) -> String {
    let mut sql = format!(
        "set names utf8mb4; set time_zone = '+00:00', sql_mode = 'ALLOW_INVALID_DATES'; checksum table {};",
        TABLES.join(", ")
    );
    for (at, table) in TABLES.iter().enumerate() {
        let mut shown: Vec<String> = COLUMNS
            .iter()
            .map(|(name, _)| match *name {
                "single" | "single_fixed" => format!("cast({name} as double)"),
                "wide" | "wide_fixed" | "exact" | "e" => format!("{name}, {name} + 0"),
                _ => format!("hex({name})"),
            })
            .collect();
        if at < 2 {
            shown.extend(["hex(p)", "hex(g)", "st_srid(g)"].map(str::to_owned));
        }
        if at == 0 {
            shown.extend(["hidden", "sum_now", "sum_kept"].map(str::to_owned));
        }
        let _ = write!(sql, "select id, {} from {table} order by id;", shown.join(", "));
    }
    server.sql(&sql).unwrap()
}

pub(crate) fn finish(taken: &Taken, facts: &BackupFacts) -> Vec<String> {
    let (target, tablespaces) = (&taken.sink.data_dir(), BTreeMap::new());
    engine().finish_restore(&RestoreOrder { target, facts, tablespaces: &tablespaces, port: None }).unwrap()
}

/// As the file and every sentence about it say; what the client complains of, when it does.
pub(crate) fn load(server: &MySqlServer, file: &Path) -> Result<(), String> {
    let output = server
        .tool("mysql")
        .unwrap()
        .args(["--binary-mode", "--default-character-set=utf8mb4"])
        .stdin(File::open(file).unwrap())
        .output()
        .unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn table<'f>(facts: &'f BackupFacts, name: &str) -> &'f serde_json::Value {
    let tables = fact(facts, "/tables_left_empty").as_array().unwrap();
    tables.iter().find(|table| table["table"] == name).unwrap_or_else(|| panic!("{name} in {tables:?}"))
}

fn rows(facts: &BackupFacts, name: &str) -> Option<u64> {
    table(facts, name)["dump"]["rows"].as_u64()
}

fn reason(facts: &BackupFacts, name: &str) -> String {
    table(facts, name)["dump_lacks"].as_str().unwrap_or_default().to_owned()
}

fn may_read(server: &MySqlServer) {
    server.sql("grant select on *.* to 'strong''room'@'%'").unwrap();
}

#[test]
fn b16_values_of_every_type_of_other_engines_come_back_equal() {
    if !require() {
        return;
    }
    let server = MySqlServer::start(&Options::default()).unwrap();
    create_account(&server);
    fill(&server);
    let wanted = content(&server);
    // Whatever holds for all sessions of the source does not hold for ours.
    server
        .sql(
            "set global sql_mode = 'ANSI_QUOTES,PAD_CHAR_TO_FULL_LENGTH,NO_BACKSLASH_ESCAPES'; set global time_zone = '-05:00';
             set global sql_select_limit = 1",
        )
        .unwrap();
    may_read(&server);
    let before = server.sql("select date_format(utc_timestamp(6), '%Y-%m-%dT%H:%i:%s.%fZ')").unwrap();
    let taken = Taken::new();
    let facts = taken.take(&source(&server)).unwrap();
    let after = server.sql("select date_format(utc_timestamp(6), '%Y-%m-%dT%H:%i:%s.%fZ')").unwrap();
    for (name, count) in [("all_types", 5), ("Wäre `x`/'y\\", 4), ("lines_only", 3)] {
        let dump = &table(&facts, name)["dump"];
        assert_eq!(dump["rows"].as_u64(), Some(count), "{name}: {}", table(&facts, name));
        let (began, ended) = (dump["began"].as_str().unwrap(), dump["ended"].as_str().unwrap());
        assert!(*before <= *began && began <= ended && *ended <= *after, "{before} {began} {ended} {after}");
    }
    let [warning] = facts.warnings.as_slice() else { panic!("{:?}", facts.warnings) };
    let moment = table(&facts, "all_types")["dump"]["began"].as_str().unwrap();
    assert!(warning.contains(&format!("shop.all_types (MyISAM, 5 rows; read at {moment})")), "{warning}");
    let notes = finish(&taken, &facts);
    assert!(notes.contains(warning), "{notes:?}");
    drop(server);

    let restored = MySqlServer::adopt(&taken.sink.data_dir(), &["--sql-mode=STRICT_ALL_TABLES"]).unwrap();
    let file = taken.sink.data_dir().join(FILE);
    assert_eq!(restored.sql("select count(*) from shop.all_types").unwrap(), "0");
    assert_eq!(restored.sql("select count(*) from shop.lines_only").unwrap(), "0");
    load(&restored, &file).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(content(&restored), wanted);
    restored.sql("insert into shop.all_types (v) values ('next')").unwrap();
    assert_eq!(restored.sql("select max(id) from shop.all_types").unwrap(), "5000");
    // Twice is an accident.
    let error = load(&restored, &file).unwrap_err();
    assert!(error.contains("was this loaded already"), "{error}");
    assert_eq!(restored.sql("select count(*) from shop.all_types").unwrap(), "6");
}

#[test]
fn what_is_not_read_of_other_engines_is_told_by_name_with_the_reason() {
    if !require() {
        return;
    }
    let server = world::start(None);
    add_other_engines(&server);
    let largest = limits::OTHER_TABLE_ROW_BYTES_MAX;
    server
        .sql(&format!(
            "create table shop.fits (body longblob) engine = myisam; insert into shop.fits values (repeat('x', {}));
             create table shop.too_large (body longblob) engine = myisam; insert into shop.too_large values ('y'), (repeat('x', {}));
             create table shop.`line\nend` (id int) engine = myisam; create table shop.zz_last (id int) engine = myisam;
             insert into shop.zz_last values (1), (2);
             grant select on shop.* to 'strong''room'@'%'; create database closed;
             create table closed.t (id int, secret int) engine = myisam; insert into closed.t values (1, 2);
             create table closed.half (id int, secret int) engine = myisam;
             grant select (id) on closed.half to 'strong''room'@'%'",
            largest - 4,
            largest - 3
        ))
        .unwrap();
    let taken = Taken::new();
    let facts = taken.take(&source(&server)).unwrap();
    for (name, count) in [("visits", 1234), ("lines", 7), ("old", 99), ("fits", 1), ("zz_last", 2)] {
        assert_eq!(rows(&facts, name), Some(count), "{}", table(&facts, name));
    }
    for (name, words) in [
        ("too_large", "it has a row of more than 4 MiB"),
        ("line\nend", "its name holds a line end"),
        ("t", "the account may not read it"),
        ("half", "the account may not read it"),
    ] {
        assert_eq!((rows(&facts, name), reason(&facts, name).as_str()), (None, words));
    }
    let [beside, missing] = facts.warnings.as_slice() else { panic!("{:?}", facts.warnings) };
    assert!(
        beside.starts_with("The rows of 5 tables of other engines than InnoDB are beside the copy"),
        "{beside}"
    );
    assert!(
        missing.starts_with("The rows of 4 tables of other engines than InnoDB are not in this backup"),
        "{missing}"
    );
    assert!(missing.contains("closed.t (MyISAM, 1 row; the account may not read it)"), "{missing}");

    finish(&taken, &facts);
    let checksums = "checksum table shop.visits, shop.lines, shop.old, shop.fits, shop.zz_last";
    let wanted = server.sql(checksums).unwrap();
    drop(server);
    let restored = MySqlServer::adopt(&taken.sink.data_dir(), &[]).unwrap();
    load(&restored, &taken.sink.data_dir().join(FILE)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(restored.sql(checksums).unwrap(), wanted);
    assert_eq!(restored.sql("select count(*) from shop.too_large").unwrap(), "0");
}

/// Takes a backup that waits for the sink, and does something in its middle.
fn taken_while(
    server: &MySqlServer,
    pause: Duration,
    disturb: impl FnOnce(&Taken),
) -> (BackupFacts, Arc<Taken>) {
    let mut taken = Taken::new();
    taken.sink.slow_down(pause);
    let (taken, source) = (Arc::new(taken), source(server));
    let worker = thread::spawn({
        let taken = Arc::clone(&taken);
        move || taken.take(&source)
    });
    disturb(&taken);
    (worker.join().unwrap().unwrap(), taken)
}

#[test]
fn h09_tables_that_go_or_change_while_a_backup_runs_are_not_taken_for_others() {
    if !require() {
        return;
    }
    let server = world::start(None);
    add_other_engines(&server);
    server
        .sql("create table shop.turns (id int, body text) engine = myisam; insert into shop.turns select id, name from shop.wares where id < 50")
        .unwrap();
    may_read(&server);
    let (facts, taken) = taken_while(&server, Duration::from_millis(30), |taken| {
        let begun = Instant::now();
        while taken.progress.read().done_bytes < 1 << 20 {
            assert!(begun.elapsed() < Duration::from_mins(1));
            thread::yield_now();
        }
        server
            .sql(
                "drop table shop.visits; create view shop.visits as select id, name as body from shop.wares;
                 drop table shop.lines; alter table shop.turns engine = innodb",
            )
            .unwrap();
    });
    assert_eq!(reason(&facts, "visits"), "it was not there any more");
    assert_eq!(reason(&facts, "lines"), "it was not there any more");
    assert_eq!(reason(&facts, "turns"), "its engine changed meanwhile");
    assert_eq!(rows(&facts, "old"), Some(99));
    let text = std::fs::read_to_string(taken.sink.data_dir().join(FILE)).unwrap();
    assert!(!text.contains("`visits`") && !text.contains("`turns`") && text.contains("`old`"));
}

/// So much that a session can be caught while it reads.
fn large_table(server: &MySqlServer) {
    server
        .sql(
            "create table shop.wide (id int primary key, body longtext) engine = myisam;
             insert into shop.wide select id, repeat(name, 60) from shop.wares where id <= 2500",
        )
        .unwrap();
    may_read(server);
}

#[test]
fn b04_a_dump_whose_connection_is_killed_or_cut_is_whole_or_told() {
    if !require() {
        return;
    }
    let server = world::start(None);
    add_other_engines(&server);
    large_table(&server);
    let wanted = server.sql("checksum table shop.wide, shop.visits").unwrap();
    let reading = "select ifnull(max(processlist_id), 0) from performance_schema.threads where processlist_user = 'strong\\'room' \
                   and processlist_info like 'SELECT `id`, `body` FROM `shop`.`wide`%'";
    let (facts, taken) = taken_while(&server, Duration::from_millis(60), |_| {
        let begun = Instant::now();
        let session = loop {
            let session = server.sql(reading).unwrap();
            if session != "0" {
                break session;
            }
            assert!(begun.elapsed() < Duration::from_mins(2));
        };
        server.sql(&format!("kill {session}")).unwrap();
    });
    // The server may have had its time to say why.
    let told = reason(&facts, "wide");
    assert!(rows(&facts, "wide") == Some(2500) || told.contains("(1317)"), "{told}");
    assert_eq!(rows(&facts, "visits"), Some(1234));
    let is_read = rows(&facts, "wide").is_some();
    finish(&taken, &facts);
    let restored = MySqlServer::adopt(&taken.sink.data_dir(), &[]).unwrap();
    load(&restored, &taken.sink.data_dir().join(FILE)).unwrap_or_else(|error| panic!("{error}"));
    let found = restored.sql("checksum table shop.wide, shop.visits").unwrap();
    assert_eq!(found.lines().last(), wanted.lines().last());
    assert!(if is_read { found == wanted } else { found.starts_with("shop.wide\t0") }, "{found} {wanted}");
    drop(restored);

    // The line breaks: at the first reading only, and at each.
    let whole = Proxy::start(server.port(), &[]);
    let through = |proxy: &Proxy| {
        let source = strongroom_core::engine::Source { port: proxy.port(), ..source(&server) };
        let taken = Taken::new();
        let facts = taken.take(&source).unwrap();
        (facts, taken)
    };
    through(&whole);
    let (dump, brought) = (5, whole.brought(5));
    assert!(brought > 4 << 20 && whole.connections() == 6, "{brought} {}", whole.connections());
    let cut = |connection| Cut { connection, after: brought / 2 };
    let (facts, _) = through(&Proxy::start(server.port(), &[cut(dump)]));
    assert_eq!((rows(&facts, "wide"), rows(&facts, "visits")), (Some(2500), Some(1234)));
    let (facts, taken) = through(&Proxy::start(server.port(), &[cut(dump), cut(dump + 1)]));
    assert_eq!(rows(&facts, "lines"), Some(7));
    let text = std::fs::read_to_string(taken.sink.data_dir().join(FILE)).unwrap();
    for name in ["visits", "wide", "old", "lines"] {
        assert_eq!(
            rows(&facts, name).is_some(),
            text.contains(&format!("INSERT INTO `shop`.`{name}`")),
            "{name}"
        );
    }
    assert_eq!(reason(&facts, "wide"), "the connection to the source broke again and again");
}

#[test]
fn b05_a_table_that_somebody_holds_is_waited_for_so_long_and_told() {
    if !require() {
        return;
    }
    let server = world::start(None);
    add_other_engines(&server);
    may_read(&server);
    let _held = lock(&server, "shop.visits write");
    let begun = Instant::now();
    let facts = Taken::new().take(&source(&server)).unwrap();
    let limit = Duration::from_millis(limits::OTHER_TABLE_TIMEOUT_MS);
    assert!(begun.elapsed() >= limit && begun.elapsed() < limit * 3, "{:?}", begun.elapsed());
    assert_eq!(
        reason(&facts, "visits"),
        "it could not be read within 30 s, and who writes to it waits meanwhile"
    );
    assert_eq!((rows(&facts, "old"), rows(&facts, "lines")), (Some(99), Some(7)));
}

#[test]
fn a_table_with_triggers_is_loaded_without_them() {
    if !require() {
        return;
    }
    let server = world::start(None);
    add_other_engines(&server);
    server
        .sql(
            "create table shop.trail (id int primary key) engine = innodb;
             create trigger shop.noted after insert on shop.visits for each row insert into shop.trail values (new.id)",
        )
        .unwrap();
    may_read(&server);
    let taken = Taken::new();
    let facts = taken.take(&source(&server)).unwrap();
    finish(&taken, &facts);
    drop(server);
    let (restored, file) =
        (MySqlServer::adopt(&taken.sink.data_dir(), &[]).unwrap(), taken.sink.data_dir().join(FILE));
    let error = load(&restored, &file).unwrap_err();
    assert!(error.contains("drop the INSERT triggers while this is loaded: shop.visits"), "{error}");
    assert_eq!(restored.sql("select count(*) from shop.visits").unwrap(), "0");
}
