//! What every test needs to ask the engine for something.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use strongroom_core::Result;
use strongroom_core::engine::{
    BackupFacts, BackupOrder, CancelToken, Engine, Probe, Source, SourceIdentity, TlsMode,
};
use strongroom_core::id::AttemptId;
use strongroom_core::parent::ParentOffer;
use strongroom_core::progress::Progress;
use strongroom_core::time::Randomness;
use strongroom_engine_mysql::MySqlEngine;
use strongroom_testkit::mysql::MySqlServer;
use tempfile::TempDir;

use crate::folder_sink::FolderSink;

pub(crate) const ACCOUNT: &str = "strong'room";
pub(crate) const PASSWORD: &str = "correct horse ünd \\ battery";

/// Numbers that differ.
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

pub(crate) fn engine() -> MySqlEngine {
    MySqlEngine::new(Arc::new(Counting))
}

/// An account as the documentation asks for it: the right to take backups, and to see that tables are
/// there.
pub(crate) fn create_account(server: &MySqlServer) {
    server
        .sql(
            "create user 'strong''room'@'%' identified by 'correct horse ünd \\\\ battery';
             grant backup_admin, references on *.* to 'strong''room'@'%'",
        )
        .unwrap();
}

pub(crate) fn source(server: &MySqlServer) -> Source {
    source_at(server.port())
}

pub(crate) fn source_at(port: u16) -> Source {
    Source {
        host: "127.0.0.1".to_owned(),
        port,
        user: ACCOUNT.to_owned(),
        password: PASSWORD.to_owned().into(),
        tls: TlsMode::Require,
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
        let order = BackupOrder {
            source,
            attempt: AttemptId::from_bytes([0x42; 16]),
            label: "first's backup",
            identity: self.identity.as_ref(),
            parent: ParentOffer::Withheld("there is no earlier backup"),
            cancel: &self.cancel,
            progress: &self.progress,
        };
        engine().backup(&order, &self.sink)
    }

    /// Starts a server on the copy.
    pub(crate) fn boot(&self) -> MySqlServer {
        self.boot_with(&[])
    }

    pub(crate) fn boot_with(&self, arguments: &[&str]) -> MySqlServer {
        make_startable(&self.sink.data_dir());
        MySqlServer::adopt(&self.sink.data_dir(), arguments).unwrap()
    }
}

fn make_startable(data_dir: &Path) {
    std::fs::create_dir_all(data_dir.join("mysql")).unwrap();
    std::fs::create_dir_all(data_dir.join("#clone")).unwrap();
    for name in ["#status_fix", "#replace_files"] {
        std::fs::write(data_dir.join("#clone").join(name), "").unwrap();
    }
}

pub(crate) fn probe(source: &Source) -> Result<Probe> {
    engine().probe(source, &CancelToken::new())
}

/// A field of the engine's own facts.
pub(crate) fn fact<'f>(facts: &'f BackupFacts, path: &str) -> &'f serde_json::Value {
    facts.engine.pointer(path).unwrap_or_else(|| panic!("{path} in {}", facts.engine))
}

/// No session of a clone is left, and the next clone begins at once.
pub(crate) fn donor_is_free(server: &MySqlServer) {
    let sessions = "select count(*) from performance_schema.threads where processlist_user = 'strong\\'room'";
    for _ in 0..200 {
        if server.sql(sessions).unwrap() == "0" {
            return;
        }
        server.sql("select sleep(0.1)").unwrap();
    }
    panic!("{}", server.sql("show processlist").unwrap());
}
