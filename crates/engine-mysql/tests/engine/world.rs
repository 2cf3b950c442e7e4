//! A server that holds a bit of everything, and a digest of it.

use std::path::Path;

use strongroom_testkit::account::Account;
use strongroom_testkit::mysql::{MySqlServer, Options};
use tempfile::TempDir;

use crate::desk::create_account;

/// A table with many kinds of columns and indexes, and rows that live beside their pages.
const TABLES: &str = "
    create database `Läden \"1\" #x`; create database shop;
    create table shop.wares (id int primary key, name varchar(200), doc json, body longtext, place point not null srid 0,
        key (name), fulltext key (body), spatial key (place));
    set session cte_max_recursion_depth = 100000;
    insert into shop.wares with recursive n(i) as (select 1 union all select i + 1 from n where i < 3000)
        select i, sha2(i, 256), json_object('n', i), repeat(sha2(i, 512), 1 + i % 40), point(i, i % 97) from n;
    create table `Läden \"1\" #x`.`Wäre ``x``/y` like shop.wares;
    insert into `Läden \"1\" #x`.`Wäre ``x``/y` select * from shop.wares where id < 500;
    create table shop.zipped (id int primary key, body text) row_format = compressed key_block_size = 8;
    insert into shop.zipped select id, body from shop.wares;
    create table shop.zipped_small (id int primary key, body text) row_format = compressed key_block_size = 1;
    insert into shop.zipped_small select id, left(body, 200) from shop.wares;
    create table shop.squeezed (id int primary key, body text) compression = 'zlib';
    insert into shop.squeezed select id, repeat(name, 20) from shop.wares;
    create table shop.squeezed_lz4 (id int primary key, body text) compression = 'lz4';
    insert into shop.squeezed_lz4 select id, repeat(name, 20) from shop.wares;
    create table shop.parts (id int, day date, primary key (id, day)) partition by range (year(day))
        (partition p24 values less than (2025), partition `P 25` values less than (2026), partition rest values less than maxvalue);
    insert into shop.parts select id, date '2024-06-01' + interval id day from shop.wares;
    create table shop.redundant (id int primary key, body text) row_format = redundant;
    insert into shop.redundant select id, left(body, 1000) from shop.wares;
    create tablespace general add datafile 'general.ibd';
    create table shop.shared_a (id int primary key, body text) tablespace general;
    create table shop.shared_b (id int primary key, body text) tablespace general;
    insert into shop.shared_a select id, name from shop.wares; insert into shop.shared_b select * from shop.shared_a;
    create undo tablespace more_undo add datafile 'more_undo.ibu';
    create table shop.empty_one (id int primary key);
    create view shop.some_wares as select id, name from shop.wares where id < 100;
    create procedure shop.count_wares() select count(*) from shop.wares;
    set persist max_connections = 77;
";

const OUTSIDE: &str = "
    create table shop.elsewhere (id int primary key, body text) data directory = '{outside}';
    insert into shop.elsewhere select id, body from shop.wares;
    create table shop.parts_elsewhere (id int primary key) partition by hash (id)
        (partition p0 data directory = '{outside}', partition p1 data directory = '{outside}');
    insert into shop.parts_elsewhere select id from shop.wares;
    create tablespace far_one add datafile '{outside}/far.ibd';
    create table shop.far (id int primary key, body text) tablespace far_one;
    insert into shop.far select id, name from shop.wares;
    create tablespace far_two add datafile '{outside}/deeper/far.ibd';
    create table shop.far_two (id int primary key, body text) tablespace far_two;
    insert into shop.far_two select id, body from shop.wares;
";

/// Tables of engines of which a clone has nothing.
const OTHERS: &str = "
    create table shop.visits (id int primary key, body text) engine = myisam;
    insert into shop.visits select id, name from shop.wares where id <= 1234;
    create table shop.lines (id int not null, body varchar(100) not null) engine = csv;
    insert into shop.lines select id, name from shop.wares where id <= 7;
    create table shop.old (id int, body text) engine = archive;
    insert into shop.old select id, name from shop.wares where id <= 99;
    create table shop.volatile_one (id int) engine = memory;
";

/// A folder of the server's account, outside of every data directory.
pub(crate) fn outside_folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("strongroom-outside-").tempdir().unwrap();
    std::fs::create_dir(folder.path().join("deeper")).unwrap();
    Account::ordinary().own(folder.path()).unwrap();
    folder
}

/// A server with everything in it.
pub(crate) fn start(outside: Option<&Path>) -> MySqlServer {
    start_with(outside, &[])
}

pub(crate) fn start_with(outside: Option<&Path>, arguments: &[&str]) -> MySqlServer {
    let mut arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
    if let Some(outside) = outside {
        arguments.push(format!("--innodb-directories={}", outside.display()));
    }
    let server = MySqlServer::start(&Options { arguments, ..Options::default() }).unwrap();
    create_account(&server);
    server.sql(TABLES).unwrap();
    if let Some(outside) = outside {
        server.sql(&OUTSIDE.replace("{outside}", outside.to_str().unwrap())).unwrap();
    }
    server
}

pub(crate) fn add_other_engines(server: &MySqlServer) {
    server.sql(OTHERS).unwrap();
}

const OURS: &str = "table_schema in ('shop', 'Läden \"1\" #x') and table_type = 'BASE TABLE'";

/// The rows of all InnoDB tables that nobody writes to, as the server sums them.
pub(crate) fn checksums(server: &MySqlServer) -> String {
    let list = server
        .sql(&format!(
            "set session group_concat_max_len = 100000; select group_concat('`', table_schema, '`.`', \
             replace(table_name, '`', '``'), '`' order by table_schema, table_name) from information_schema.tables \
             where {OURS} and engine = 'InnoDB'"
        ))
        .unwrap();
    assert!(list.len() > 60, "{list}");
    server.sql(&format!("checksum table {list}")).unwrap()
}

/// Every table is looked through by the server itself; answers what it does not call `OK`.
pub(crate) fn check_tables(server: &MySqlServer) -> String {
    let output = server
        .tool("mysqlcheck")
        .unwrap()
        .args(["--check", "--extended", "--all-databases"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.lines().count() > 30, "{said}");
    said.lines().filter(|line| !line.ends_with("OK")).collect::<Vec<_>>().join("\n")
}
