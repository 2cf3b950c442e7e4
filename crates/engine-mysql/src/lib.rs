//! MySQL, backed up over the clone protocol of its own server.
//!
//! Owns the conversation with the server, the judgement of what it sends, and what makes a
//! restored directory startable. Must never know the repository, the catalog or an instance:
//! bytes go to the sink it is handed.

mod backup;
mod clone;
mod connection;
mod drill;
mod dump;
mod facts;
mod fault;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod keyring;
mod logs;
mod page;
mod probe;
mod remedy;
mod restore;
mod server;

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

use crate::facts::MySqlFacts;

/// The engine for MySQL 8.0.27 to 9.
pub struct MySqlEngine {
    random: Arc<dyn Randomness>,
}

impl MySqlEngine {
    /// `random` makes the master keys of encrypted tablespaces.
    pub fn new(random: Arc<dyn Randomness>) -> Self {
        Self { random }
    }
}

impl Engine for MySqlEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::MySql
    }

    fn probe(&self, source: &Source, cancel: &CancelToken) -> Result<Probe> {
        probe::run(source, cancel)
    }

    fn backup(&self, order: &BackupOrder<'_>, sink: &dyn BackupSink) -> Result<BackupFacts> {
        backup::run(self.random.as_ref(), order, sink)
    }

    fn capture_logs(&self, order: &LogOrder<'_>, sink: &mut dyn LogSink) -> Result<Infallible> {
        logs::capture(order, sink)
    }

    /// The server keeps nothing for a capture.
    fn release_logs(&self, _source: &Source, _owner: &str, _cancel: &CancelToken) -> Result<()> {
        Ok(())
    }

    fn probe_logs(&self, source: &Source, cancel: &CancelToken) -> Result<Vec<CheckLine>> {
        logs::probe(source, cancel)
    }

    /// Files from outside the data directory have a place inside it.
    fn tablespaces(&self, facts: &BackupFacts) -> Result<Vec<Tablespace>> {
        MySqlFacts::of(facts).map(|_| Vec::new())
    }

    fn finish_restore(&self, order: &RestoreOrder<'_>) -> Result<Vec<String>> {
        restore::finish(order)
    }

    fn finish_archive(
        &self,
        facts: &BackupFacts,
        _tablespaces: &BTreeMap<String, PathBuf>,
        tree: &mut dyn RestoredTree,
    ) -> Result<Vec<String>> {
        restore::finish_archive(facts, tree)
    }

    fn usual_account(&self) -> &'static str {
        "mysql"
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
