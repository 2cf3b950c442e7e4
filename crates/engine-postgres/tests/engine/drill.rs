//! Restored clusters started behind closed doors: what is whole passes, what is not is told.

use std::fs::{self, OpenOptions};
use std::net::TcpListener;
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
    passed(&report);
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
