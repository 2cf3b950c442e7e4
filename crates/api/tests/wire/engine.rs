//! A PostgreSQL that is only played: what a check finds depends on the user that asks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use strongroom_core::engine::{
    BackupFacts, BackupOrder, BackupSink, CancelToken, CheckLine, CheckState, DrillOrder, DrillReport,
    Engine, EngineKind, Probe, RestoreOrder, RestoredTree, Source, SourceIdentity, StartedServer, Tablespace,
};
use strongroom_core::{Error, ErrorKind, Result};

/// Stands in causes of errors and must never come out.
pub(crate) const CANARY: &str = "canary-cause-for-the-log-only";

pub(crate) struct PlayedEngine;

fn line(what: &str, state: CheckState, remedy: Option<&str>) -> CheckLine {
    CheckLine {
        what: what.to_owned(),
        state,
        found: "as played".to_owned(),
        wanted: "as wanted".to_owned(),
        remedy: remedy.map(str::to_owned),
        why: None,
    }
}

impl Engine for PlayedEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::PostgreSql
    }

    fn probe(&self, source: &Source, _cancel: &CancelToken) -> Result<Probe> {
        let identity = Some(SourceIdentity {
            engine: EngineKind::PostgreSql,
            version: "15.18".to_owned(),
            system_identifier: format!("system of port {}", source.port),
        });
        match source.user.as_str() {
            "away" => Err(Error::new(
                ErrorKind::SourceUnreachable,
                "The source does not answer. Nothing was saved.",
            )
            .with_hint("start it")
            .with_source(CANARY)),
            // Nobody ever sends: this waits its time.
            "slow" => {
                let (_sender, never) = std::sync::mpsc::channel::<()>();
                let _ = never.recv_timeout(Duration::from_secs(1));
                Ok(Probe { identity, lines: Vec::new() })
            }
            "broken" => Err(Error::internal(CANARY)),
            "panics" => panic!("{CANARY}"),
            "weak" => {
                let remedy = Some("ALTER ROLE weak REPLICATION;");
                Ok(Probe { identity, lines: vec![line("replication right", CheckState::Missing, remedy)] })
            }
            _ => Ok(Probe { identity, lines: vec![line("replication right", CheckState::Ok, None)] }),
        }
    }

    fn backup(&self, _order: &BackupOrder<'_>, _sink: &dyn BackupSink) -> Result<BackupFacts> {
        unreachable!("no worker runs in these tests")
    }

    fn tablespaces(&self, _facts: &BackupFacts) -> Result<Vec<Tablespace>> {
        Ok(Vec::new())
    }

    fn finish_restore(&self, _order: &RestoreOrder<'_>) -> Result<Vec<String>> {
        unreachable!("nothing is restored in these tests")
    }

    fn finish_archive(
        &self,
        _facts: &BackupFacts,
        _tablespaces: &BTreeMap<String, PathBuf>,
        tree: &mut dyn RestoredTree,
    ) -> Result<Vec<String>> {
        assert_eq!(tree.read("PG_VERSION")?.as_deref(), Some(&b"15\n"[..]));
        assert_eq!(tree.size_of("base/1/zeroes")?, Some(400_000));
        assert_eq!(tree.size_of("nowhere")?, None);
        tree.make_directory("pg_played", 0o700)?;
        tree.replace("played.conf", 0o640, b"played = on\n")?;
        tree.replace("base/1/16385", 0o600, b"instead")?;
        tree.remove("base/1/empty")?;
        Ok(vec!["This was played.".to_owned()])
    }

    fn usual_account(&self) -> &'static str {
        "player"
    }

    fn start_restored(&self, _target: &Path, _facts: &BackupFacts, _port: u16) -> Result<StartedServer> {
        unreachable!("nothing is started in these tests")
    }

    fn drill_server(&self, _facts: &BackupFacts) -> Result<PathBuf> {
        unreachable!("no worker runs in these tests")
    }

    fn drill(&self, _order: &DrillOrder<'_>) -> Result<DrillReport> {
        unreachable!("no worker runs in these tests")
    }
}
