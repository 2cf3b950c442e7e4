//! Restored clusters started behind closed doors: what is whole passes, what is not is told.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use strongroom_core::engine::{
    Account as CoreAccount, BackupFacts, CancelToken, DrillOrder, DrillReport, Engine, StopReason,
};
use strongroom_core::progress::Progress;
use strongroom_core::verification::Outcome;
use strongroom_core::{ErrorKind, Result};
use strongroom_testkit::account::Account;
use strongroom_testkit::postgres::{Options, PostgresServer, bindir, require};

use crate::cluster;
use crate::damage::spoil;
use crate::desk::{Taken, create_role, engine, source};

/// A restored cluster that waits for its drill.
struct Bench {
    version: u32,
    taken: Taken,
    facts: BackupFacts,
    run_dir: PathBuf,
    cancel: CancelToken,
    progress: Progress,
}

impl Bench {
    fn of(server: &PostgresServer) -> Self {
        let taken = Taken::new();
        let facts = taken.take(&source(server)).unwrap();
        taken.finish_restore(&facts).unwrap();
        let run_dir = taken.folder.path().join("run");
        fs::DirBuilder::new().mode(0o700).create(&run_dir).unwrap();
        for folder in taken.tablespace_dirs(&facts).values() {
            Account::ordinary().own(folder).unwrap();
        }
        Account::ordinary().own(&taken.sink.data_dir()).unwrap();
        Account::ordinary().own(&run_dir).unwrap();
        let (cancel, progress) = (CancelToken::new(), Progress::new());
        Self { version: server.version(), taken, facts, run_dir, cancel, progress }
    }

    fn data_dir(&self) -> PathBuf {
        self.taken.sink.data_dir()
    }

    fn drill_within(&self, timeout: Duration) -> Result<DrillReport> {
        let account = Account::ordinary().ids().map(|(uid, gid)| CoreAccount { uid, gid });
        engine().drill(&DrillOrder {
            target: &self.data_dir(),
            run_dir: &self.run_dir,
            facts: &self.facts,
            server: &bindir(self.version).unwrap().join("postgres"),
            account,
            timeout,
            cancel: &self.cancel,
            progress: &self.progress,
        })
    }

    fn drill(&self) -> DrillReport {
        let report = self.drill_within(Duration::from_mins(5)).unwrap();
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
fn passed(report: &DrillReport) {
    assert_eq!((&report.failures, &report.unjudged), (&Vec::new(), &Vec::new()), "{report:?}");
    for what in ["tables", "pg_amcheck", "pg_checksums"] {
        assert_eq!(outcome(report, what), Outcome::Passed, "{report:?}");
    }
    took_time(report);
}

#[track_caller]
fn took_time(report: &DrillReport) {
    assert!(report.start.unwrap() > Duration::ZERO && report.check > Duration::ZERO);
}

fn a_whole_cluster_passes(version: u32) {
    if !require(version) {
        return;
    }
    let server = PostgresServer::start(
        version,
        &Options { conf: vec!["max_prepared_transactions = 5".to_owned()], ..Options::default() },
    )
    .unwrap();
    create_role(&server);
    cluster::fill(&server);
    let bench = Bench::of(&server);
    let report = bench.drill();
    if server.has_tool("pg_checksums") {
        passed(&report);
    } else {
        // A server without its tools: what can be said is said, and the rest was not looked at.
        assert_eq!(report.failures, [""; 0], "{report:?}");
        assert_eq!(outcome(&report, "tables"), Outcome::Passed, "{report:?}");
        assert_eq!(outcome(&report, "pg_checksums"), Outcome::NotRun, "{report:?}");
        took_time(&report);
    }
    assert!(report.server_version.starts_with(&format!("{version}.")), "{report:?}");
    assert_eq!(report.databases, 3, "postgres, template1 and the one with the odd name");
    // As the source counts, which is alive beside it.
    let count = "select count(*) from only \"Ware \"\"x\"\"\"";
    let wanted: u64 = server.psql("postgres", count).unwrap().parse().unwrap();
    let ware: Vec<_> = report.largest.iter().filter(|table| table.table.contains("Ware")).collect();
    assert_eq!(ware.len(), 2, "{:?}", report.largest);
    assert!(ware.iter().all(|table| table.rows == wanted));
    assert!(report.largest.iter().any(|table| table.database == cluster::ODD_DATABASE));
    let tables = "select count(*) from pg_class where relkind in ('r', 'm')";
    let of_one: u64 = server.psql("postgres", tables).unwrap().parse().unwrap();
    assert!(report.tables > 2 * of_one, "{} tables, {of_one} in one database", report.tables);
    assert!(report.rows > 2 * wanted);
}

#[test]
fn v05_a_whole_cluster_of_13_14_and_16_passes() {
    for version in [13, 14, 16] {
        a_whole_cluster_passes(version);
    }
}

#[test]
fn v05_a_whole_cluster_of_15_passes() {
    a_whole_cluster_passes(15);
}

#[test]
fn v05_a_whole_cluster_of_17_passes() {
    a_whole_cluster_passes(17);
}

#[test]
fn v05_a_whole_cluster_of_18_passes() {
    a_whole_cluster_passes(18);
}

fn start(options: &Options) -> PostgresServer {
    start_version(15, options)
}

fn start_version(version: u32, options: &Options) -> PostgresServer {
    let server = PostgresServer::start(version, options).unwrap();
    create_role(&server);
    let table = "create table t as select i, repeat('x', 500) b from generate_series(1, 1000) i";
    server.psql("postgres", table).unwrap();
    server
}

#[track_caller]
fn told(sentences: &[String], words: &[&str]) {
    let is_told = sentences.iter().any(|sentence| words.iter().all(|word| sentence.contains(word)));
    assert!(is_told, "{words:?} in {sentences:#?}");
}

/// Known before the backup, seen by the reader of the table, and by the checker of pages.
#[test]
fn v05_a_damaged_page_fails_with_its_place() {
    let mut server = start(&Options::default());
    let relation = spoil(&mut server, "t", 7, 5000);
    let report = Bench::of(&server).drill();
    told(&report.failures, &["Block 7", &relation, "before the backup"]);
    told(&report.failures, &["Table public.t of database postgres", "invalid page in block 7"]);
    told(&report.failures, &["pg_checksums", &relation, "block 7"]);
    assert_eq!(outcome(&report, "tables"), Outcome::Failed);
    assert_eq!(outcome(&report, "pg_checksums"), Outcome::Failed);
    assert!(report.tables > 100, "the other tables were counted: {report:?}");
}

/// Without checksums nothing is known beforehand: the header of the page is wrong.
#[test]
fn v05_damage_is_found_without_checksums_too() {
    let mut server = start(&Options { checksums: false, ..Options::default() });
    spoil(&mut server, "t", 3, 17);
    let bench = Bench::of(&server);
    assert!(bench.facts.damage.is_empty());
    let report = bench.drill();
    told(&report.failures, &["Table public.t", "invalid page in block 3"]);
    assert_eq!(outcome(&report, "pg_checksums"), Outcome::NotRun);
    let check = report.checks.iter().find(|check| check.what == "pg_checksums").unwrap();
    assert!(check.detail.contains("keeps no page checksums"), "{check:?}");
}

/// Every page is right, and rows are missing in an index.
#[test]
fn v05_an_index_that_lacks_rows_is_found() {
    let server = start(&Options::default());
    let switch = |is_ready| {
        format!("update pg_index set indisready = {is_ready} where indexrelid = 'lacking'::regclass")
    };
    server.psql("postgres", "create index lacking on t (i)").unwrap();
    server.psql("postgres", &switch(false)).unwrap();
    server.psql("postgres", "insert into t select i, 'y' from generate_series(2001, 2100) i").unwrap();
    server.psql("postgres", &switch(true)).unwrap();
    let report = Bench::of(&server).drill();
    told(&report.failures, &["pg_amcheck", "lacking"]);
    assert_eq!(outcome(&report, "pg_amcheck"), Outcome::Failed);
    assert_eq!(outcome(&report, "tables"), Outcome::Passed);
    assert_eq!(outcome(&report, "pg_checksums"), Outcome::Passed);
}

/// What the source says to itself, in files, databases and roles, is not said here.
fn hostile_settings_come_to_nothing(version: u32) {
    if !require(version) {
        return;
    }
    let marks = tempfile::tempdir().unwrap();
    fs::set_permissions(marks.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let touch = |name: &str| format!("touch {}/{name}", marks.path().display());
    let archiving = ["archive_mode = on".to_owned(), format!("archive_command = '{}'", touch("archived"))];
    let server = start_version(version, &Options { conf: archiving.to_vec(), ..Options::default() });
    for statement in [
        "alter system set shared_preload_libraries = 'no_such_library'".to_owned(),
        "alter system set listen_addresses = '*'".to_owned(),
        format!("alter system set restore_command = '{}'", touch("restored")),
        format!("alter system set recovery_end_command = '{}'", touch("recovered")),
        "alter system set primary_conninfo = 'host=127.0.0.1'".to_owned(),
        "alter database postgres set zero_damaged_pages = on".to_owned(),
        "alter database postgres set statement_timeout = 1".to_owned(),
    ] {
        server.psql("template1", &statement).unwrap();
    }
    let event = if version >= 17 { "login" } else { "ddl_command_start" };
    let trigger = format!(
        "set statement_timeout = 0;
         create function stop() returns event_trigger language plpgsql as $$ begin raise 'it has run'; end $$;
         create event trigger stopper on {event} execute function stop();
         alter event trigger stopper enable always;
         alter database postgres set session_preload_libraries = 'no_such_library';
         alter role all set local_preload_libraries = 'no_such_library'"
    );
    let mut psql = server.tool("psql");
    psql.env("PGOPTIONS", "-c session_preload_libraries= -c local_preload_libraries= -c statement_timeout=0");
    let output = psql.args(["-v", "ON_ERROR_STOP=1", "-c", &trigger]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let bench = Bench::of(&server);
    drop(server);
    for left in fs::read_dir(marks.path()).unwrap().flatten() {
        fs::remove_file(left.path()).unwrap();
    }
    passed(&bench.drill());
    let left: Vec<_> = fs::read_dir(marks.path()).unwrap().flatten().collect();
    assert!(left.is_empty(), "no command has run: {left:?}");
}

#[test]
fn h10_h12_hostile_settings_of_15_come_to_nothing() {
    hostile_settings_come_to_nothing(15);
}

#[test]
fn h10_h12_hostile_settings_of_18_come_to_nothing() {
    hostile_settings_come_to_nothing(18);
}

/// Waits for a phase of a drill that runs beside; `None` when the drill has ended before.
fn phase_reached(bench: &Bench, phase: &str, has_ended: &dyn Fn() -> bool) -> Option<()> {
    let deadline = Instant::now() + Duration::from_mins(2);
    while bench.progress.read().phase != phase {
        assert!(Instant::now() < deadline, "{phase} never came");
        if has_ended() {
            return None;
        }
        std::thread::yield_now();
    }
    Some(())
}

#[test]
fn h12_the_server_is_closed_to_the_network() {
    let server = start(&Options { conf: vec!["listen_addresses = '*'".to_owned()], ..Options::default() });
    let bench = Bench::of(&server);
    drop(server);
    std::thread::scope(|scope| {
        let drill = scope.spawn(|| bench.drill());
        phase_reached(&bench, "checking-indexes", &|| drill.is_finished()).unwrap();
        let pid_file = fs::read_to_string(bench.data_dir().join("postmaster.pid")).unwrap();
        let lines: Vec<&str> = pid_file.lines().collect();
        assert_eq!(lines[5].trim(), "", "no address: {lines:?}");
        let (pid, port): (u32, u16) = (lines[0].parse().unwrap(), lines[3].parse().unwrap());
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
        let ours = fs::read_link("/proc/self/ns/net").unwrap();
        let its = fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        let report = drill.join().unwrap();
        passed(&report);
        let is_noted = report.notes.iter().any(|note| note.contains("unshare"));
        assert_eq!(ours == its, is_noted, "a wall that is missing is told");
    });
}

#[test]
fn v06_a_cancelled_drill_ends_its_server_wherever_it_is() {
    let server = start(&Options::default());
    for phase in ["starting", "counting", "checking-indexes", "checking-pages"] {
        let bench = Bench::of(&server);
        let ended = std::thread::scope(|scope| {
            let drill = scope.spawn(|| bench.drill_within(Duration::from_mins(5)));
            phase_reached(&bench, phase, &|| drill.is_finished()).unwrap();
            bench.cancel.stop(StopReason::Cancelled);
            drill.join().unwrap()
        });
        // The last step may have come to its end in the same moment.
        match ended {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Cancelled, "{phase}"),
            Ok(report) => assert_eq!((phase, report.failures), ("checking-pages", Vec::new())),
        }
        assert_eq!(processes_in(&bench.data_dir()), Vec::<String>::new(), "{phase}");
    }
}

#[test]
fn v04_a_drill_that_takes_too_long_has_found_nothing_out() {
    let server = start(&Options::default());
    let bench = Bench::of(&server);
    let report = bench.drill_within(Duration::from_millis(1)).unwrap();
    assert!(report.failures.is_empty(), "{report:?}");
    told(&report.unjudged, &["time for the drill"]);
    assert_eq!(processes_in(&bench.data_dir()), Vec::<String>::new());
}

#[test]
fn v04_no_server_of_that_version_is_said_before_anything_is_restored() {
    let server = start(&Options::default());
    let mut facts = Taken::new().take(&source(&server)).unwrap();
    assert!(engine().drill_server(&facts).unwrap().ends_with("postgres"));
    facts.engine["server_version_num"] = 990_001.into();
    let error = engine().drill_server(&facts).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSupported);
    assert!(
        error.public().contains("PostgreSQL 99") && error.hint().unwrap().contains("BINDIR"),
        "{error:?}"
    );
}

/// A cluster that does not come up is told with the server's own words.
#[test]
fn v05_a_server_that_does_not_start_fails_and_says_why() {
    let server = start(&Options::default());
    let bench = Bench::of(&server);
    let control = OpenOptions::new().write(true).open(bench.data_dir().join("global/pg_control")).unwrap();
    control.write_all_at(b"rubbish", 40).unwrap();
    let report = bench.drill();
    assert!(report.start.is_none());
    told(&report.failures, &["ended while starting", "checksum"]);
}

/// The superuser may be called anything, and the usual databases may be gone.
#[test]
fn b16_any_name_of_the_superuser_is_found() {
    let hba = ["local all all trust", "host replication all 127.0.0.1/32 scram-sha-256"];
    let server = start(&Options { hba: hba.map(str::to_owned).to_vec(), ..Options::default() });
    for statement in ["create role boss superuser login", "create database \"lädt 🏦\""] {
        server.psql("postgres", statement).unwrap();
    }
    let as_boss = |sql: &str| {
        let mut psql = server.tool("psql");
        let output =
            psql.env("PGUSER", "boss").env("PGDATABASE", "template1").args(["-c", sql]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    as_boss("alter role postgres rename to \"Chef \"\"x\"\" 🏦\"");
    as_boss("drop database postgres");
    as_boss("checkpoint");
    let report = Bench::of(&server).drill();
    passed(&report);
    assert_eq!(report.databases, 2);
}

/// A server in a sandbox must not be reachable by the port of another one.
#[test]
fn v06_two_drills_at_once_do_not_meet() {
    let server = start(&Options::default());
    let benches = [Bench::of(&server), Bench::of(&server)];
    std::thread::scope(|scope| {
        let drills = benches.each_ref().map(|bench| scope.spawn(|| bench.drill()));
        for drill in drills {
            passed(&drill.join().unwrap());
        }
    });
}
