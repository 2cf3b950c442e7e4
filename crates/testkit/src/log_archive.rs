//! A log archive in a folder, a capture that fills it, and what becomes of captures.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use strongroom_core::engine::{CancelToken, StopReason};
use strongroom_core::id::{LineageId, ProjectId};
use strongroom_core::logs::{LogPosition, LogRange, LogSink, LogStream, LogStreamId};
use strongroom_core::time::{Clock, Randomness};
use strongroom_core::{Error, ErrorKind, Result};
use strongroom_repository::{Lineage, LocalStore, LogWriter, RecoveryKey, Repository};
use tempfile::TempDir;

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
pub struct Told {
    pub gaps: Vec<(Option<LogPosition>, LogPosition, String)>,
    pub given_up: Vec<u64>,
    pub caught_up: Option<jiff::Timestamp>,
    pub written_bytes: u64,
}

/// What happens to a capture besides log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    None,
    /// Its process ends after so many bytes, with what it had not made durable.
    DiesAfter(u64),
    /// Its repository takes nothing.
    TakesNothing,
}

/// The archive of one source.
pub struct LogArchive {
    pub folder: TempDir,
    pub lineage: Lineage,
    pub told: Arc<Mutex<Told>>,
}

impl LogArchive {
    /// An empty one, in a folder that servers of another account may look into.
    #[expect(clippy::new_without_default, reason = "it makes files")]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let store = Arc::new(LocalStore::open(&folder.path().join("repository")).unwrap());
        let random: Arc<dyn Randomness> = Arc::new(Drawn::default());
        let key = RecoveryKey::generate(&*random);
        let repository = Repository::create(store, &key, Arc::new(Standing), random).unwrap();
        let id = uuid::Uuid::from_u128(3);
        let lineage = repository.lineage(&ProjectId::issue(id), &LineageId::issue(id)).unwrap();
        Self { folder, lineage, told: Arc::default() }
    }

    /// Lets `run` capture into the archive, on a thread of its own, until it ends or is stopped.
    pub fn capture(
        &self,
        mishap: Mishap,
        run: impl FnOnce(&mut ArchiveSink, &CancelToken) -> Error + Send + 'static,
    ) -> Capture {
        let cancel = CancelToken::new();
        let mut sink = ArchiveSink {
            lineage: self.lineage.clone(),
            writer: None,
            told: self.told.clone(),
            mishap,
            since: Instant::now(),
        };
        let stop = cancel.clone();
        let thread = std::thread::spawn(move || run(&mut sink, &cancel));
        Capture { thread, stop }
    }

    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }

    /// Of each stream, oldest first, what is held.
    pub fn ranges(&self) -> Vec<(LogStream, Vec<LogRange>)> {
        let mut streams = self.lineage.log_streams().unwrap();
        // A stream is marked before it is told what it is: in between it holds nothing.
        streams.retain(|held| held.about.is_some() || !held.ranges.is_empty());
        streams.into_iter().map(|held| (held.about.unwrap(), held.ranges)).collect()
    }

    /// All that is held of a range, by the number of the file.
    pub fn files(&self, stream: &LogStream, range: LogRange) -> BTreeMap<u64, Vec<u8>> {
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

    /// An empty folder for what a tool of the engine is to find; everything before is gone from it.
    pub fn written(&self) -> PathBuf {
        let folder = self.folder.path().join("written");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        folder
    }
}

/// A capture that runs.
pub struct Capture {
    thread: JoinHandle<Error>,
    stop: CancelToken,
}

impl Capture {
    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// How it ends by itself.
    pub fn end(self) -> Error {
        self.thread.join().unwrap()
    }

    pub fn stop(self) {
        self.stop.stop(StopReason::Draining);
        let error = self.thread.join().unwrap();
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{}", error.chain());
    }
}

/// The archive as the engine sees it.
pub struct ArchiveSink {
    lineage: Lineage,
    writer: Option<LogWriter>,
    told: Arc<Mutex<Told>>,
    mishap: Mishap,
    since: Instant,
}

impl ArchiveSink {
    fn told(&self) -> MutexGuard<'_, Told> {
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
