//! A log archive in a folder, a capture that fills it, and what judges them: the server's own files.

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
use strongroom_engine_mysql::MySqlEngine;
use strongroom_repository::{Lineage, LocalStore, LogWriter, RecoveryKey, Repository};
use strongroom_testkit::mysql::{MySqlServer, Options};
use tempfile::TempDir;

use crate::desk::{create_account, source};

pub(crate) const OWNER: &str = "0190aaaabbbbccccddddeeeeffff0000in01";
/// Of the flags of a file's first event.
const IN_USE_AT: usize = 4 + 17;
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
    pub(crate) caught_up: Option<jiff::Timestamp>,
    pub(crate) written_bytes: u64,
}

/// What happens to a capture besides log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mishap {
    None,
    /// Its process ends after so many bytes, with what it had not made durable.
    DiesAfter(u64),
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

    pub(crate) fn capture(&self, server: &MySqlServer) -> Capture {
        self.capture_with(server, Mishap::None)
    }

    pub(crate) fn capture_with(&self, server: &MySqlServer, mishap: Mishap) -> Capture {
        self.begin(source(server), identity(server), mishap)
    }

    /// From one server, where another one is registered.
    pub(crate) fn capture_as(&self, server: &MySqlServer, registered: &MySqlServer) -> Capture {
        self.begin(source(server), identity(registered), Mishap::None)
    }

    fn begin(&self, source: Source, identity: SourceIdentity, mishap: Mishap) -> Capture {
        let cancel = CancelToken::new();
        let mut sink = ArchiveSink {
            lineage: self.lineage.clone(),
            writer: None,
            told: self.told.clone(),
            mishap,
            since: Instant::now(),
        };
        let stop = cancel.clone();
        let thread = std::thread::spawn(move || run(&source, &identity, &mut sink, &cancel));
        Capture { thread, stop }
    }

    /// Of each stream, oldest first, what is held.
    pub(crate) fn ranges(&self) -> Vec<(LogStream, Vec<LogRange>)> {
        let mut streams = self.lineage.log_streams().unwrap();
        // A stream is marked before it is told what it is: in between it holds nothing.
        streams.retain(|held| held.about.is_some() || !held.ranges.is_empty());
        streams.into_iter().map(|held| (held.about.unwrap(), held.ranges)).collect()
    }

    /// All that is held, by the number of the file.
    pub(crate) fn files(&self, stream: &LogStream, range: LogRange) -> BTreeMap<u64, Vec<u8>> {
        let mut files: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let take = &mut |at: LogPosition, bytes: &[u8]| {
            let file = files.entry(at.file).or_default();
            assert_eq!(file.len() as u64, at.offset);
            file.extend_from_slice(bytes);
            Ok(())
        };
        self.lineage.read_log(&stream.id, range, take).unwrap();
        files
    }

    /// Waits until all the server has written is durable here.
    pub(crate) fn wait_for(&self, server: &MySqlServer) {
        let (begun, wanted) = (Instant::now(), end(server));
        loop {
            let held = self.ranges();
            if held.iter().any(|(_, ranges)| ranges.last().is_some_and(|held| held.until >= wanted)) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{wanted} of {held:?}");
            server.sql("select sleep(0.2)").unwrap();
        }
    }

    /// Every held byte is the server's own, which the server must still have.
    pub(crate) fn judge(&self, server: &MySqlServer) -> usize {
        let mut compared = 0;
        for (about, ranges) in self.ranges() {
            let base = about.facts["base"].as_str().unwrap();
            for range in ranges {
                for (number, held) in self.files(&about, range) {
                    let name = format!("{base}.{number:06}");
                    let mut own = fs::read(server.data_dir().join(&name)).unwrap();
                    // A mark that the server may have it open; it is not sent.
                    own[IN_USE_AT] &= !1;
                    assert!(held.len() == own.len() || number == range.until.file, "{name}");
                    assert!(held == own[..held.len()], "{name} differs from the server's own");
                    compared += 1;
                }
            }
        }
        compared
    }

    /// Writes the files from a place on where a tool finds them; answers with their paths.
    pub(crate) fn write_out(&self, stream: &LogStream, range: LogRange) -> Vec<PathBuf> {
        let folder = self.folder.path().join("written");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        let paths = self.files(stream, range).into_iter().map(|(number, bytes)| {
            let path = folder.join(format!("held.{number:06}"));
            fs::write(&path, bytes).unwrap();
            path
        });
        let paths = paths.collect();
        strongroom_testkit::account::Account::ordinary().own(&folder).unwrap();
        paths
    }
}

/// Where the log of a server ends now.
pub(crate) fn end(server: &MySqlServer) -> LogPosition {
    let status =
        ["show binary log status", "show master status"].iter().find_map(|text| server.sql(text).ok());
    let status = status.unwrap();
    let mut fields = status.split('\t');
    let (name, offset) = (fields.next().unwrap(), fields.next().unwrap());
    LogPosition { file: name.rsplit_once('.').unwrap().1.parse().unwrap(), offset: offset.parse().unwrap() }
}

fn identity(server: &MySqlServer) -> SourceIdentity {
    let system_identifier = server.sql("select @@server_uuid").unwrap();
    SourceIdentity { engine: EngineKind::MySql, version: "9.7.4".to_owned(), system_identifier }
}

fn run(source: &Source, identity: &SourceIdentity, sink: &mut ArchiveSink, cancel: &CancelToken) -> Error {
    let progress = Progress::new();
    let order =
        LogOrder { source, identity, owner: OWNER, retained_bytes_max: 1 << 30, cancel, progress: &progress };
    match MySqlEngine.capture_logs(&order, sink) {
        Ok(never) => match never {},
        Err(error) => error,
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
        self.meet_mishap()?;
        self.writer().write(bytes)
    }

    fn finish_file(&mut self) -> Result<()> {
        self.writer().finish_file().map(|_| ())
    }

    fn flush(&mut self) -> Result<()> {
        self.meet_mishap()?;
        self.writer().flush()
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
        panic!("nothing is kept for a capture, not {bytes} bytes")
    }
}

/// Small files, so that there are many, and all of them kept to be compared with.
pub(crate) fn log_server(arguments: &[&str]) -> MySqlServer {
    let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
    let server = MySqlServer::start(&Options { arguments, ..Options::default() }).unwrap();
    create_account(&server);
    server.sql("grant replication slave, replication client on *.* to 'strong''room'@'%'").unwrap();
    server
}
