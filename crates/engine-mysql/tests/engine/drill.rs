//! Restored directories started behind closed doors: what is whole passes, what is not is told.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use strongroom_core::engine::{
    Account as CoreAccount, BackupFacts, CancelToken, DrillOrder, DrillReport, Engine, RestoreOrder,
    StopReason,
};
use strongroom_core::progress::Progress;
use strongroom_core::verification::Outcome;
use strongroom_core::{ErrorKind, Result};
use strongroom_testkit::account::Account;
use strongroom_testkit::depth;
use strongroom_testkit::mysql::{MySqlServer, Options, mysqld, require};

use crate::desk::{Taken, create_account, engine, source};
use crate::world::{self, add_other_engines};

/// A restored directory that waits for its drill.
pub(crate) struct Bench {
    taken: Taken,
    facts: BackupFacts,
    cancel: CancelToken,
    progress: Progress,
    drills: std::cell::Cell<u32>,
}

impl Bench {
    pub(crate) fn of(server: &MySqlServer) -> Self {
        let taken = Taken::new();
        let facts = taken.take(&source(server)).unwrap();
        let tablespaces = BTreeMap::new();
        let target = &taken.sink.data_dir();
        engine()
            .finish_restore(&RestoreOrder { target, facts: &facts, tablespaces: &tablespaces, port: None })
            .unwrap();
        let (cancel, progress, drills) = (CancelToken::new(), Progress::new(), std::cell::Cell::new(0));
        Self { taken, facts, cancel, progress, drills }
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.taken.sink.data_dir()
    }

    pub(crate) fn facts(&self) -> &BackupFacts {
        &self.facts
    }

    fn drill_within(&self, timeout: Duration) -> Result<DrillReport> {
        self.drill_with(&mysqld().unwrap(), timeout)
    }

    fn drill_with(&self, server: &Path, timeout: Duration) -> Result<DrillReport> {
        self.drills.set(self.drills.get() + 1);
        let run_dir = self.taken.folder.path().join(format!("run{}", self.drills.get()));
        fs::DirBuilder::new().mode(0o700).create(&run_dir).unwrap();
        Account::ordinary().own(&self.data_dir()).unwrap();
        Account::ordinary().own(&run_dir).unwrap();
        let account = Account::ordinary().ids().map(|(uid, gid)| CoreAccount { uid, gid });
        engine().drill(&DrillOrder {
            target: &self.data_dir(),
            run_dir: &run_dir,
            facts: &self.facts,
            server,
            account,
            timeout,
            cancel: &self.cancel,
            progress: &self.progress,
        })
    }

    fn drill(&self) -> DrillReport {
        self.drill_by(&mysqld().unwrap())
    }

    pub(crate) fn drill_by(&self, server: &Path) -> DrillReport {
        let report = self.drill_with(server, Duration::from_mins(10)).unwrap();
        assert_eq!(processes_in(&self.data_dir()), Vec::<String>::new(), "no process is left");
        report
    }
}

/// Processes whose working directory lies in a folder.
fn processes_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let inside = entries.filter(|entry| {
        fs::read_link(entry.path().join("cwd")).is_ok_and(|directory| directory.starts_with(folder))
    });
    inside.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn outcome(report: &DrillReport, what: &str) -> Outcome {
    let found = report.checks.iter().find(|check| check.what == what);
    found.unwrap_or_else(|| panic!("{what} in {report:?}")).outcome
}

#[track_caller]
pub(crate) fn passed(report: &DrillReport) {
    assert_eq!((&report.failures, &report.unjudged), (&Vec::new(), &Vec::new()), "{report:?}");
    for what in ["gtid_position", "check_table", "tables", "page_checksums"] {
        assert_eq!(outcome(report, what), Outcome::Passed, "{report:?}");
    }
    assert!(report.start.unwrap() > Duration::ZERO && report.check > Duration::ZERO);
}

/// Small tables only, of every shape of page that this size of page allows.
fn server_of_pages(page_size: u32, checksum: &str) -> MySqlServer {
    let arguments =
        vec![format!("--innodb-page-size={page_size}"), format!("--innodb-checksum-algorithm={checksum}")];
    let server = MySqlServer::start(&Options { arguments, ..Options::default() }).unwrap();
    create_account(&server);
    server
        .sql(
            "create database shop; set session cte_max_recursion_depth = 100000;
             create table shop.plain (id int primary key, body varchar(200), key (body(50)));
             insert into shop.plain with recursive n(i) as (select 1 union all select i + 1 from n where i < 4000)
                 select i, sha2(i, 256) from n",
        )
        .unwrap();
    // A page of one block has no room for a hole.
    if page_size > 4096 {
        server
            .sql(
                "create table shop.squeezed (id int primary key, body text) compression = 'zlib';
                 insert into shop.squeezed select id, repeat(body, 9) from shop.plain",
            )
            .unwrap();
    }
    for kilobytes in
        [1, 2, 4, 8, 16].into_iter().filter(|size| size * 1024 <= page_size && page_size <= 16_384)
    {
        server
            .sql(&format!(
                "create table shop.zipped{kilobytes} (id int primary key, body varchar(200)) row_format = compressed \
                 key_block_size = {kilobytes}; insert into shop.zipped{kilobytes} select id, body from shop.plain"
            ))
            .unwrap();
    }
    server
}

#[test]
fn v05_a_mysql_backup_with_everything_in_it_is_proved() {
    if !require() {
        return;
    }
    let server = world::start(None);
    add_other_engines(&server);
    let executed = server.sql("select @@global.gtid_executed").unwrap().replace('\n', "");
    let bench = Bench::of(&server);
    drop(server);
    let report = bench.drill();
    passed(&report);
    assert!(report.server_version.starts_with(&bench.facts.identity.version), "{report:?}");
    assert!(report.tables > 10 && report.rows > 25_000, "{report:?}");
    assert_eq!(report.databases, 2, "{report:?}");
    let wares =
        report.largest.iter().find(|table| table.database == "shop" && table.table == "`wares`").unwrap();
    assert_eq!(wares.rows, 3000);
    let position = report.checks.iter().find(|check| check.what == "gtid_position").unwrap();
    assert!(position.detail.contains(&executed), "{} in {}", executed, position.detail);
    let notes = report.notes.join("\n");
    assert!(
        notes.contains("Warning") && notes.contains("shop.visits (MyISAM, 1234 rows; the account"),
        "{notes}"
    );
}

/// What a drill says of the rows beside the copy.
fn other_tables(report: &DrillReport) -> &strongroom_core::verification::DrillCheck {
    report.checks.iter().find(|check| check.what == "other_tables").unwrap()
}

fn bench_with_other_tables() -> Bench {
    let server = MySqlServer::start(&Options::default()).unwrap();
    create_account(&server);
    server
        .sql(
            "create database shop; create table shop.trail (id int primary key);
             set session cte_max_recursion_depth = 100000;
             create table shop.visits (id int primary key, body varchar(100)) engine = myisam;
             insert into shop.visits with recursive n(i) as (select 1 union all select i + 1 from n where i < 30000)
                 select i, sha2(i, 256) from n;
             create table shop.lines (id int not null) engine = csv; insert into shop.lines values (1), (2);
             create table shop.old (id int, at datetime default now()) engine = archive; insert into shop.old (id) values (1), (2), (3);
             create trigger shop.noted before insert on shop.visits for each row insert into shop.trail values (new.id);
             grant select on shop.* to 'strong''room'@'%'",
        )
        .unwrap();
    Bench::of(&server)
}

#[test]
fn v05_rows_beside_a_mysql_copy_are_loaded_and_a_broken_file_fails() {
    type Spoil = fn(&str) -> Option<String>;
    if !require() {
        return;
    }
    let bench = bench_with_other_tables();
    let report = bench.drill();
    passed(&report);
    assert_eq!(other_tables(&report).outcome, Outcome::Passed, "{report:?}");
    let wanted = "3 tables with 30005 rows were loaded from strongroom-other-tables.sql and counted";
    assert_eq!(other_tables(&report).detail, wanted);
    let notes = report.notes.join("\n");
    assert!(
        notes.contains("Warning: The rows of 3 tables of other engines than InnoDB are beside the copy"),
        "{notes}"
    );
    assert!(notes.contains("shop.visits has triggers on INSERT"), "{notes}");

    let spoilers: [(&str, Spoil); 5] = [
        ("is missing in the copy", |_| None),
        ("shop.old has 0 rows", |text| {
            Some(text.replace("INSERT INTO `shop`.`old`", "-- INSERT INTO `shop`.`old`"))
        }),
        ("does not load at line", |text| {
            Some(text.replace("INSERT INTO `shop`.`lines` (`id`)", "INSERT INTO `shop`.`lines` (`di`)"))
        }),
        ("is no statement", |text| Some(text[..text.len() / 2].to_owned())),
        ("shop.lines has 0 rows", |_| Some(String::new())),
    ];
    for (words, spoil) in spoilers {
        let bench = bench_with_other_tables();
        let path = bench.data_dir().join("strongroom-other-tables.sql");
        let text = fs::read_to_string(&path).unwrap();
        match spoil(&text) {
            Some(spoilt) => fs::write(&path, spoilt).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let report = bench.drill();
        assert_eq!(other_tables(&report).outcome, Outcome::Failed, "{words}: {report:?}");
        assert!(report.failures.iter().any(|failure| failure.contains(words)), "{words}: {report:?}");
    }
}

#[test]
fn b13_pages_of_every_size_are_checked_and_a_flip_in_each_is_found() {
    if !require() {
        return;
    }
    for page_size in depth::thin(vec![4096, 8192, 16_384, 32_768, 65_536], 2) {
        let server = server_of_pages(page_size, "crc32");
        let bench = Bench::of(&server);
        drop(server);
        assert_eq!(bench.facts.damage, [], "{page_size}");
        passed(&bench.drill());
        // Each kind of file in turn; the server is not asked about what it never reads.
        let data_dir = bench.data_dir();
        let mut flipped = Vec::new();
        for entry in fs::read_dir(data_dir.join("shop")).unwrap().flatten() {
            let path = entry.path();
            if path.file_name().unwrap().to_string_lossy().starts_with("squeezed") {
                continue;
            }
            let size = fs::metadata(&path).unwrap().len();
            let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
            let mut page = vec![0; 1024];
            // Somewhere in a page that holds something.
            let at = (0..size).step_by(1024).skip(4).find(|at| {
                file.read_exact_at(&mut page, *at).unwrap();
                page.iter().filter(|byte| **byte != 0).count() > 500
            });
            let at = at.unwrap_or_else(|| panic!("{} holds nothing", path.display())) + 600;
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 1], at).unwrap();
            flipped.push(format!("shop/{}", path.file_name().unwrap().to_string_lossy()));
        }
        assert!(!flipped.is_empty());
        let report = bench.drill();
        // The server may have ended at the first of them; the pages are looked at all the same.
        let told = report.failures.join("\n");
        assert_eq!(outcome(&report, "page_checksums"), Outcome::Failed, "{report:?}");
        for name in &flipped {
            assert!(told.contains(name.as_str()), "{name} in {told}");
        }
    }
}

/// Servers that write other checksums, and none: nothing of it is called damage, and what can be judged is.
#[test]
fn b13_pages_of_other_checksums_are_no_damage() {
    if !require() {
        return;
    }
    for checksum in ["innodb", "none"] {
        let server = server_of_pages(16_384, checksum);
        let mut bench = Bench::of(&server);
        drop(server);
        assert_eq!(bench.facts.damage, [], "{checksum}");
        let report = bench.drill();
        assert_eq!((&report.failures, &report.unjudged), (&Vec::new(), &Vec::new()), "{checksum} {report:?}");
        let pages = report.checks.iter().find(|check| check.what == "page_checksums").unwrap();
        assert!(pages.detail.contains("have another kind of checksum"), "{checksum} {}", pages.detail);
        // What was known of the source before is told by every drill.
        bench.facts.damage.push(strongroom_core::engine::PageDamage {
            relation: "shop/plain.ibd".to_owned(),
            block: 7,
            position: "1".to_owned(),
            expected: 1,
            found: 2,
        });
        let report = bench.drill();
        assert!(
            report
                .failures
                .iter()
                .any(|failure| failure.contains("Page 7 of shop/plain.ibd was damaged at the source"))
        );
    }
}

fn small_bench() -> Bench {
    let server = MySqlServer::start(&Options::default()).unwrap();
    create_account(&server);
    server
        .sql(
            "create database shop; create table shop.t (id int primary key, body varchar(200), key (body));
             set session cte_max_recursion_depth = 100000;
             insert into shop.t with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000)
                 select i, sha2(i, 256) from n;
             create table shop.other like shop.t; insert into shop.other select * from shop.t;
             create table shop.ticks (at datetime(6)); set global event_scheduler = on;
             create event shop.tick on schedule every 1 second do insert into shop.ticks values (now(6))",
        )
        .unwrap();
    Bench::of(&server)
}

fn rows_of(report: &DrillReport, table: &str) -> u64 {
    report.largest.iter().find(|found| found.table == table).unwrap().rows
}

#[test]
fn h12_nothing_of_the_source_comes_to_life_in_a_mysql_drill() {
    if !require() {
        return;
    }
    let bench = small_bench();
    let first = bench.drill();
    passed(&first);
    let second = bench.drill();
    passed(&second);
    assert_eq!(rows_of(&first, "`ticks`"), rows_of(&second, "`ticks`"), "no event ran");
    assert_eq!(rows_of(&second, "`t`"), 5000);
}

#[test]
fn v05_a_broken_mysql_specimen_fails() {
    if !require() {
        return;
    }
    // A table that lost its file: the log still speaks of it.
    let bench = small_bench();
    let kept = bench.taken.folder.path().join("kept");
    fs::rename(bench.data_dir().join("shop/other.ibd"), &kept).unwrap();
    let report = bench.drill();
    assert!(report.failures[0].contains("Could not find any file"), "{report:?}");

    // A transaction that the source never had: somebody wrote to the copy.
    let bench = small_bench();
    let mut server = MySqlServer::adopt(&bench.data_dir(), &["--event-scheduler=OFF"]).unwrap();
    server.sql("create table shop.twin like shop.t").unwrap();
    server.stop().unwrap();
    let report = bench.drill();
    assert_eq!(outcome(&report, "gtid_position"), Outcome::Failed, "{report:?}");
    assert!(report.failures.iter().any(|failure| failure.contains("not between")), "{report:?}");

    // A copy from before the backup began.
    let mut bench = small_bench();
    bench.facts.engine["gtid"]["before"] = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5".into();
    bench.facts.engine["gtid"]["after"] = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5".into();
    assert_eq!(outcome(&bench.drill(), "gtid_position"), Outcome::Failed);

    // Log that was lost: the files are of many moments.
    let bench = small_bench();
    for entry in fs::read_dir(bench.data_dir().join("#innodb_redo")).unwrap().flatten() {
        let size = entry.metadata().unwrap().len();
        fs::write(entry.path(), vec![0; size as usize]).unwrap();
    }
    let report = bench.drill();
    assert!(!report.failures.is_empty() && report.start.is_none(), "{report:?}");
    assert!(report.failures[0].contains("ended while starting"), "{report:?}");
}

#[test]
fn v04_the_time_of_a_mysql_drill_ends_and_a_cancelled_one_leaves_nothing() {
    if !require() {
        return;
    }
    let bench = small_bench();
    let report = bench.drill_within(Duration::from_millis(300)).unwrap();
    assert!(report.unjudged.iter().any(|reason| reason.contains("time for the drill")), "{report:?}");
    assert_eq!(processes_in(&bench.data_dir()), Vec::<String>::new());
    bench.cancel.stop(StopReason::Cancelled);
    let error = bench.drill_within(Duration::from_mins(5)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(processes_in(&bench.data_dir()), Vec::<String>::new());
}
