//! What every test needs to ask the engine for something.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use strongroom_core::Result;
use strongroom_core::engine::{
    BackupFacts, BackupOrder, CancelToken, Engine, Probe, RestoreOrder, Source, SourceIdentity, TlsMode,
};
use strongroom_core::id::AttemptId;
use strongroom_core::parent::{ParentBackup, ParentOffer};
use strongroom_core::progress::Progress;
use strongroom_core::time::Randomness;
use strongroom_engine_postgres::PostgresEngine;
use strongroom_testkit::postgres::PostgresServer;
use tempfile::TempDir;

use crate::folder_sink::FolderSink;

pub(crate) const ROLE: &str = "strongroom \"test\"";
pub(crate) const PASSWORD: &str = "correct horse ünd battery";

/// Numbers that differ and repeat from run to run. All engines of a test draw from one sequence: many
/// may work on one server, where no two slots have one name.
struct Counting;

impl Randomness for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        static DRAWN: AtomicU64 = AtomicU64::new(7);
        for chunk in bytes.chunks_mut(8) {
            // An odd factor: no number comes twice.
            let number = DRAWN.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            chunk.copy_from_slice(&number.to_be_bytes()[..chunk.len()]);
        }
    }
}

pub(crate) fn engine() -> PostgresEngine {
    PostgresEngine::new(Arc::new(Counting))
}

/// A role as the documentation asks for it: replication and nothing else.
pub(crate) fn create_role(server: &PostgresServer) {
    let sql = format!("create role \"strongroom \"\"test\"\"\" login replication password '{PASSWORD}'");
    server.psql("postgres", &sql).unwrap();
}

pub(crate) fn source(server: &PostgresServer) -> Source {
    source_at(server.port())
}

pub(crate) fn source_at(port: u16) -> Source {
    Source {
        host: "127.0.0.1".to_owned(),
        port,
        user: ROLE.to_owned(),
        password: PASSWORD.to_owned().into(),
        tls: TlsMode::Disable,
        ca_pem: None,
        allow_md5: false,
        networks: strongroom_core::network::SourceNetworks::loopback(),
    }
}

/// One backup in a temporary folder.
pub(crate) struct Taken {
    pub(crate) folder: TempDir,
    pub(crate) sink: FolderSink,
    pub(crate) progress: Arc<Progress>,
    pub(crate) cancel: CancelToken,
    pub(crate) identity: Option<SourceIdentity>,
}

impl Taken {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The server's account must be able to reach what lies inside.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), mode).unwrap();
        let sink = FolderSink::new(folder.path());
        Self { folder, sink, progress: Arc::default(), cancel: CancelToken::new(), identity: None }
    }

    pub(crate) fn take(&self, source: &Source) -> Result<BackupFacts> {
        self.take_on(source, ParentOffer::Withheld("there is no earlier backup"))
    }

    /// A backup that may be built on another one.
    pub(crate) fn take_from(&self, source: &Source, parent: &dyn ParentBackup) -> Result<BackupFacts> {
        self.take_on(source, ParentOffer::Offered(parent))
    }

    fn take_on(&self, source: &Source, parent: ParentOffer<'_>) -> Result<BackupFacts> {
        let order = BackupOrder {
            source,
            attempt: AttemptId::from_bytes([0x42; 16]),
            label: "first's backup",
            identity: self.identity.as_ref(),
            parent,
            cancel: &self.cancel,
            progress: &self.progress,
        };
        engine().backup(&order, &self.sink)
    }

    /// The directories a restore would write tablespaces to.
    pub(crate) fn tablespace_dirs(&self, facts: &BackupFacts) -> BTreeMap<String, PathBuf> {
        let tablespaces = engine().tablespaces(facts).unwrap();
        tablespaces.into_iter().map(|one| (one.id.clone(), self.sink.tablespace_dir(&one.id))).collect()
    }

    pub(crate) fn finish_restore(&self, facts: &BackupFacts) -> Result<Vec<String>> {
        let tablespaces = self.tablespace_dirs(facts);
        engine().finish_restore(&RestoreOrder {
            target: &self.sink.data_dir(),
            facts,
            tablespaces: &tablespaces,
            port: None,
        })
    }

    /// Starts a server on the restored copy, tablespaces included.
    pub(crate) fn boot(&self, version: u32, facts: &BackupFacts) -> PostgresServer {
        for directory in self.tablespace_dirs(facts).values() {
            strongroom_testkit::account::Account::ordinary().own(directory).unwrap();
        }
        PostgresServer::adopt(version, &self.sink.data_dir()).unwrap()
    }
}

pub(crate) fn probe(source: &Source) -> Result<Probe> {
    engine().probe(source, &CancelToken::new())
}

/// A field of the engine's own facts.
pub(crate) fn fact<'f>(facts: &'f BackupFacts, name: &str) -> &'f serde_json::Value {
    facts.engine.get(name).unwrap_or_else(|| panic!("{name} in {}", facts.engine))
}

pub(crate) fn position(facts: &BackupFacts, name: &str) -> u64 {
    let (high, low) = fact(facts, name).as_str().unwrap().split_once('/').unwrap();
    (u64::from_str_radix(high, 16).unwrap() << 32) | u64::from_str_radix(low, 16).unwrap()
}

pub(crate) fn path_text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Everything a backup opens at its source is released; the server may need a moment to notice.
pub(crate) fn slots_are_gone(server: &PostgresServer) {
    let left =
        "select (select count(*) from pg_replication_slots) + (select count(*) from pg_stat_replication)
        + (select count(*) from pg_stat_progress_basebackup)";
    for _ in 0..100 {
        if server.psql("postgres", left).unwrap() == "0" {
            return;
        }
        server.psql("postgres", "select pg_sleep(0.1)").unwrap();
    }
    panic!("{}", server.psql("postgres", "select * from pg_replication_slots").unwrap());
}
