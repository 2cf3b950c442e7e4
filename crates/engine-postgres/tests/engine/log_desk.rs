//! Captures of PostgreSQL's log into an archive, and what judges it: the server's own segments.

use std::fs;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use strongroom_core::Error;
use strongroom_core::engine::{CancelToken, Engine, EngineKind, Source, SourceIdentity};
use strongroom_core::logs::{LogOrder, LogRange, LogStream};
use strongroom_core::progress::Progress;
use strongroom_testkit::log_archive::{ArchiveSink, Capture, LogArchive, Mishap};
use strongroom_testkit::postgres::{Options, PostgresServer, SUPERUSER};

use crate::desk::{engine, source};

pub(crate) const OWNER: &str = "0190aaaabbbbccccddddeeeeffff0000in03";
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) struct Desk(LogArchive);

impl Deref for Desk {
    type Target = LogArchive;

    fn deref(&self) -> &LogArchive {
        &self.0
    }
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self(LogArchive::new())
    }

    pub(crate) fn capture(&self, server: &PostgresServer) -> Capture {
        self.capture_with(server, Mishap::None, 1 << 40)
    }

    pub(crate) fn capture_with(&self, server: &PostgresServer, mishap: Mishap, bound: u64) -> Capture {
        self.begin(source(server), identity(server), mishap, bound)
    }

    /// From one server, where another one is registered.
    pub(crate) fn capture_as(&self, server: &PostgresServer, registered: &PostgresServer) -> Capture {
        self.begin(source(server), identity(registered), Mishap::None, 1 << 40)
    }

    fn begin(&self, source: Source, identity: SourceIdentity, mishap: Mishap, bound: u64) -> Capture {
        self.0.capture(mishap, move |sink, cancel| run(&source, &identity, sink, cancel, bound))
    }

    /// Waits until all the server has flushed is durable here.
    pub(crate) fn wait_for(&self, server: &PostgresServer) {
        let position = server.psql("postgres", "select pg_current_wal_flush_lsn()").unwrap();
        self.wait_until(&position, server);
    }

    pub(crate) fn wait_until(&self, position: &str, server: &PostgresServer) {
        let begun = Instant::now();
        let (high, low) = position.split_once('/').unwrap();
        let wanted = (u64::from_str_radix(high, 16).unwrap() << 32) | u64::from_str_radix(low, 16).unwrap();
        loop {
            let reached = self.ranges().iter().any(|(about, ranges)| {
                let size = about.facts["segment_size_bytes"].as_u64().unwrap();
                ranges.last().is_some_and(|held| held.until.file * size + held.until.offset >= wanted)
            });
            if reached {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{position} of {:?}: {}", self.ranges(), server.log());
            server.psql("postgres", "select pg_sleep(0.2)").unwrap();
        }
    }

    /// Every held byte is the server's own, which the server must still have.
    pub(crate) fn judge(&self, server: &PostgresServer) -> usize {
        let mut compared = 0;
        for (about, ranges) in self.ranges() {
            let size = about.facts["segment_size_bytes"].as_u64().unwrap();
            let timeline = about.facts["timeline"].as_u64().unwrap();
            for range in ranges {
                for (number, held) in self.files(&about, range) {
                    let name = segment_name(timeline, number, size);
                    let folder = server.data_dir().join("pg_wal");
                    let own = fs::read(folder.join(&name))
                        .or_else(|_| fs::read(folder.join(format!("{name}.partial"))))
                        .unwrap_or_else(|error| panic!("{name}: {error}"));
                    assert!(held.len() as u64 == size || number == range.until.file, "{name}");
                    assert!(held == own[..held.len()], "{name} differs from the server's own");
                    compared += 1;
                }
            }
        }
        compared
    }

    /// Writes whole segments where a tool finds them; answers with their names.
    pub(crate) fn write_out(&self, stream: &LogStream, range: LogRange) -> (PathBuf, Vec<String>) {
        let folder = self.written();
        let size = stream.facts["segment_size_bytes"].as_u64().unwrap();
        let timeline = stream.facts["timeline"].as_u64().unwrap();
        let whole = self.files(stream, range).into_iter().filter(|(_, bytes)| bytes.len() as u64 == size);
        let names = whole.map(|(number, bytes)| {
            let name = segment_name(timeline, number, size);
            fs::write(folder.join(&name), bytes).unwrap();
            name
        });
        let names = names.collect();
        strongroom_testkit::account::Account::ordinary().own(&folder).unwrap();
        (folder, names)
    }
}

fn segment_name(timeline: u64, number: u64, size: u64) -> String {
    let in_part = (1 << 32) / size;
    format!("{timeline:08X}{:08X}{:08X}", number / in_part, number % in_part)
}

fn identity(server: &PostgresServer) -> SourceIdentity {
    let system_identifier =
        server.psql("postgres", "select system_identifier from pg_control_system()").unwrap();
    SourceIdentity {
        engine: EngineKind::PostgreSql,
        version: server.version().to_string(),
        system_identifier,
    }
}

fn run(
    source: &Source,
    identity: &SourceIdentity,
    sink: &mut ArchiveSink,
    cancel: &CancelToken,
    retained_bytes_max: u64,
) -> Error {
    let progress = Progress::new();
    let order = LogOrder { source, identity, owner: OWNER, retained_bytes_max, cancel, progress: &progress };
    loop {
        let error = match engine().capture_logs(&order, sink) {
            Ok(never) => match never {},
            Err(error) => error,
        };
        // The server may need a moment to notice that the one before is gone.
        if !error.public().contains("before this one") {
            return error;
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

/// Stops a capture as soon as its slot is there.
pub(crate) fn stop_when_begun(capture: Capture, server: &PostgresServer) {
    let begun = Instant::now();
    let is_streaming = "select count(*) from pg_stat_replication where state = 'streaming'";
    while server.psql("postgres", is_streaming).unwrap() != "1" {
        assert!(begun.elapsed() < PATIENCE);
    }
    capture.stop();
}

/// Small segments, so that there are many, and all of them kept to be compared with.
pub(crate) fn log_server(version: u32, conf: &[&str]) -> PostgresServer {
    let mut lines = vec!["wal_keep_size = 400MB".to_owned(), "max_slot_wal_keep_size = 1GB".to_owned()];
    lines.extend(conf.iter().map(|line| (*line).to_owned()));
    let options = Options { conf: lines, initdb: vec!["--wal-segsize=1".to_owned()], ..Options::default() };
    let server = PostgresServer::start(version, &options).unwrap();
    crate::desk::create_role(&server);
    assert_eq!(SUPERUSER, "postgres");
    server
}

pub(crate) fn slots(server: &PostgresServer) -> String {
    server.psql("postgres", "select slot_name from pg_replication_slots where not temporary").unwrap()
}
