//! PostgreSQL, backed up over its replication protocol.
//!
//! Owns the conversation with the server, the judgement of what it sends, and what makes a
//! restored directory startable. Must never know the repository, the catalog or an instance:
//! bytes go to the sink it is handed.

mod backup;
mod connection;
mod drill;
mod facts;
mod fault;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod logs;
mod lsn;
mod page;
mod probe;
mod relation;
mod remedy;
mod restore;
mod server;
mod tar;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom_core::Result;
use strongroom_core::engine::{
    BackupFacts, BackupOrder, BackupSink, CancelToken, CheckLine, DrillOrder, DrillReport, Engine,
    EngineKind, Probe, RestoreOrder, RestoredTree, Source, StartedServer, Tablespace,
};
use strongroom_core::logs::{LogOrder, LogSink};
use strongroom_core::time::Randomness;

use crate::facts::PostgresFacts;

/// The engine for PostgreSQL 13 to 18.
pub struct PostgresEngine {
    random: Arc<dyn Randomness>,
}

impl PostgresEngine {
    /// `random` makes the names of what is created at a source unique.
    pub fn new(random: Arc<dyn Randomness>) -> Self {
        Self { random }
    }
}

impl Engine for PostgresEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::PostgreSql
    }

    fn probe(&self, source: &Source, cancel: &CancelToken) -> Result<Probe> {
        probe::run(self.random.as_ref(), source, cancel)
    }

    fn backup(&self, order: &BackupOrder<'_>, sink: &dyn BackupSink) -> Result<BackupFacts> {
        backup::run(self.random.as_ref(), order, sink)
    }

    fn capture_logs(&self, order: &LogOrder<'_>, sink: &mut dyn LogSink) -> Result<Infallible> {
        logs::capture(order, sink)
    }

    fn release_logs(&self, source: &Source, owner: &str, cancel: &CancelToken) -> Result<()> {
        logs::release(source, owner, cancel)
    }

    fn probe_logs(&self, source: &Source, cancel: &CancelToken) -> Result<Vec<CheckLine>> {
        logs::probe(source, cancel)
    }

    fn tablespaces(&self, facts: &BackupFacts) -> Result<Vec<Tablespace>> {
        Ok(PostgresFacts::of(facts)?.tablespaces())
    }

    fn finish_restore(&self, order: &RestoreOrder<'_>) -> Result<Vec<String>> {
        restore::finish(order)
    }

    fn finish_archive(
        &self,
        facts: &BackupFacts,
        tablespaces: &BTreeMap<String, PathBuf>,
        tree: &mut dyn RestoredTree,
    ) -> Result<Vec<String>> {
        restore::finish_archive(facts, tablespaces, tree)
    }

    fn usual_account(&self) -> &'static str {
        "postgres"
    }

    fn start_restored(&self, target: &Path, facts: &BackupFacts, port: u16) -> Result<StartedServer> {
        restore::start(target, facts, port)
    }

    fn drill_server(&self, facts: &BackupFacts) -> Result<PathBuf> {
        drill::find_server(facts)
    }

    fn drill(&self, order: &DrillOrder<'_>) -> Result<DrillReport> {
        drill::run(order)
    }
}
