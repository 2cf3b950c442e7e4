//! A log archive in a folder, a capture that fills it, and what judges them: the server's own segments.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use strongroom_core::engine::{CancelToken, Engine, EngineKind, Source, SourceIdentity, StopReason};
use strongroom_core::id::{LineageId, ProjectId};
use strongroom_core::logs::{LogOrder, LogPosition, LogRange, LogSink, LogStream, LogStreamId};
use strongroom_core::progress::Progress;
use strongroom_core::time::{Clock, Randomness};
use strongroom_core::{Error, ErrorKind, Result};
use strongroom_repository::{Lineage, LocalStore, LogWriter, RecoveryKey, Repository};
use strongroom_testkit::postgres::{Options, PostgresServer, SUPERUSER};
use tempfile::TempDir;

use crate::desk::{engine, source};

pub(crate) const OWNER: &str = "0190aaaabbbbccccddddeeeeffff0000in03";
const PATIENCE: Duration = Duration::from_secs(90);

struct Standing;

impl Clock for Standing {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::UNIX_EPOCH
    }
}

#[derive(Default)]
struct Drawn(AtomicU64);

impl Randomness for Drawn {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes.iter_mut() {
            *byte = ((self.0.fetch_add(1, Ordering::Relaxed) * 37) >> 3) as u8;
        }
    }
}

/// What a sink was told beside log.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) gaps: Vec<(Option<LogPosition>, LogPosition, String)>,
    pub(crate) given_up: Vec<u64>,
    pub(crate) caught_up: Option<jiff::Timestamp>,
    pub(crate) written_bytes: u64,
}

/// What happens to a capture besides log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mishap {
    None,
    /// Its process ends after so many bytes, with what it had not made durable.
    DiesAfter(u64),
    /// Its repository takes nothing.
    TakesNothing,
}

pub(crate) struct Desk {
    pub(crate) folder: TempDir,
    pub(crate) lineage: Lineage,
    pub(crate) told: Arc<Mutex<Told>>,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(folder.path(), mode).unwrap();
        let store = Arc::new(LocalStore::open(&folder.path().join("repository")).unwrap());
        let random: Arc<dyn Randomness> = Arc::new(Drawn::default());
        let key = RecoveryKey::generate(&*random);
        let repository = Repository::create(store, &key, Arc::new(Standing), random).unwrap();
        let id = uuid::Uuid::from_u128(3);
        let lineage = repository.lineage(&ProjectId::issue(id), &LineageId::issue(id)).unwrap();
        Self { folder, lineage, told: Arc::default() }
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
        let cancel = CancelToken::new();
        let mut sink = ArchiveSink {
            lineage: self.lineage.clone(),
            writer: None,
            told: self.told.clone(),
            mishap,
            since: Instant::now(),
        };
        let stop = cancel.clone();
        let thread = std::thread::spawn(move || run(&source, &identity, &mut sink, &cancel, bound));
        Capture { thread, stop }
    }

    /// Of each stream, oldest first, what is held.
    pub(crate) fn ranges(&self) -> Vec<(LogStream, Vec<LogRange>)> {
        let mut streams = self.lineage.log_streams().unwrap();
        // A stream is marked before it is told what it is: in between it holds nothing.
        streams.retain(|held| held.about.is_some() || !held.ranges.is_empty());
        streams.into_iter().map(|held| (held.about.unwrap(), held.ranges)).collect()
    }

    /// All that is held, by segment.
    pub(crate) fn segments(&self, stream: &LogStream, range: LogRange) -> BTreeMap<u64, Vec<u8>> {
        let mut segments: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let take = &mut |at: LogPosition, bytes: &[u8]| {
            let segment = segments.entry(at.file).or_default();
            assert_eq!(segment.len() as u64, at.offset);
            segment.extend_from_slice(bytes);
            Ok(())
        };
        self.lineage.read_log(&stream.id, range, take).unwrap();
        segments
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
                for (number, held) in self.segments(&about, range) {
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
        let folder = self.folder.path().join("written");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        let size = stream.facts["segment_size_bytes"].as_u64().unwrap();
        let timeline = stream.facts["timeline"].as_u64().unwrap();
        let whole = self.segments(stream, range).into_iter().filter(|(_, bytes)| bytes.len() as u64 == size);
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

/// A capture that runs.
pub(crate) struct Capture {
    thread: JoinHandle<Error>,
    stop: CancelToken,
}

impl Capture {
    pub(crate) fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// How it ends by itself.
    pub(crate) fn end(self) -> Error {
        self.thread.join().unwrap()
    }

    /// Stops it as soon as its slot is there.
    pub(crate) fn stop_when_begun(self, server: &PostgresServer) {
        let begun = Instant::now();
        let is_streaming = "select count(*) from pg_stat_replication where state = 'streaming'";
        while server.psql("postgres", is_streaming).unwrap() != "1" {
            assert!(begun.elapsed() < PATIENCE);
        }
        self.stop();
    }

    pub(crate) fn stop(self) {
        self.stop.stop(StopReason::Draining);
        let error = self.thread.join().unwrap();
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{}", error.chain());
    }
}

/// The archive as the engine sees it.
struct ArchiveSink {
    lineage: Lineage,
    writer: Option<LogWriter>,
    told: Arc<Mutex<Told>>,
    mishap: Mishap,
    since: Instant,
}

impl ArchiveSink {
    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }

    fn writer(&mut self) -> &mut LogWriter {
        self.writer.as_mut().expect("a stream was begun")
    }

    fn meet_mishap(&self) -> Result<()> {
        let is_over = match self.mishap {
            Mishap::None => false,
            Mishap::DiesAfter(bytes) => self.told().written_bytes > bytes,
            Mishap::TakesNothing => true,
        };
        if is_over { Err(Error::new(ErrorKind::Unavailable, "The test wants it so.")) } else { Ok(()) }
    }
}

impl LogSink for ArchiveSink {
    fn held(&mut self) -> Result<Vec<(LogStream, LogRange)>> {
        let streams = self.lineage.log_streams()?.into_iter();
        Ok(streams.filter_map(|held| Some((held.about?, *held.ranges.last()?))).collect())
    }

    fn read(
        &mut self,
        stream: &LogStreamId,
        range: LogRange,
        take: &mut dyn FnMut(LogPosition, &[u8]) -> Result<()>,
    ) -> Result<()> {
        self.lineage.read_log(stream, range, take)
    }

    fn begin(&mut self, stream: &LogStream, from: LogPosition, gap: Option<&str>) -> Result<()> {
        let mut writer = self.lineage.open_log(stream)?;
        if let Some(gap) = gap {
            let until = writer.held().map(|held| held.until);
            self.told().gaps.push((until, from, gap.to_owned()));
        }
        writer.begin(from)?;
        self.writer = Some(writer);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.writer().waiting_bytes() == 0 {
            self.since = Instant::now();
        }
        self.told().written_bytes += bytes.len() as u64;
        if self.mishap == Mishap::TakesNothing {
            return Ok(());
        }
        self.meet_mishap()?;
        self.writer().write(bytes)
    }

    fn finish_file(&mut self) -> Result<()> {
        if self.mishap == Mishap::TakesNothing {
            return Ok(());
        }
        self.writer().finish_file().map(|_| ())
    }

    fn flush(&mut self) -> Result<()> {
        if self.mishap != Mishap::TakesNothing {
            self.meet_mishap()?;
            self.writer().flush()?;
        }
        Ok(())
    }

    fn is_flush_due(&self) -> bool {
        let is_waiting = self.writer.as_ref().is_some_and(|writer| writer.waiting_bytes() > 0);
        is_waiting && self.since.elapsed() > Duration::from_millis(300)
    }

    fn durable(&self) -> LogPosition {
        self.writer.as_ref().map_or(LogPosition::start_of(0), LogWriter::durable)
    }

    fn caught_up(&mut self, at: jiff::Timestamp) -> Result<()> {
        self.told().caught_up = Some(at);
        Ok(())
    }

    fn retained(&mut self, _bytes: u64) {}

    fn given_up(&mut self, bytes: u64) -> Result<()> {
        self.told().given_up.push(bytes);
        Ok(())
    }
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
