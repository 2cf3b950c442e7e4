//! A small repository for tests: a clock that stands, counted randomness, a few members.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of the room")]
#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

pub mod log;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use strongroom_core::Result;
use strongroom_core::backup::BackupType;
use strongroom_core::engine::{BackupFacts, BackupSink, CancelToken, EngineKind, SourceIdentity};
use strongroom_core::id::{AttemptId, BackupId, InstanceId, LineageId, NodeId, ProjectId};
use strongroom_core::member::{Dedupe, Member, MemberKind, MemberPath};
use strongroom_core::parent::Reading;
use strongroom_core::progress::Progress;
use strongroom_core::time::{Clock, Randomness};
use strongroom_repository::{
    Attempt, AttemptStart, BackupReader, Begun, CatalogRecord, FrameBody, Lineage, Owner, RebaseOrder,
    RebaseReport, RebaseTry, RecoveryKey, Repository, SealOutcome, SealedSummary, Stands, Store,
    WriterOptions,
};
use uuid::Uuid;

pub struct StandingClock;

impl Clock for StandingClock {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_second(1_790_000_000).expect("a fixed moment")
    }
}

/// So many seconds ahead of the clock of all rooms.
struct AheadClock(i64);

impl Clock for AheadClock {
    fn now(&self) -> jiff::Timestamp {
        StandingClock.now() + jiff::SignedDuration::from_secs(self.0)
    }
}

/// Deterministic, never repeating bytes.
#[derive(Default)]
pub struct CountedRandomness(AtomicU64);

impl CountedRandomness {
    /// Begins later in the sequence.
    pub fn starting_at(number: u64) -> Self {
        Self(AtomicU64::new(number))
    }
}

impl Randomness for CountedRandomness {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            let number = self.0.fetch_add(1, Ordering::Relaxed);
            let digest = blake3::hash(&number.to_le_bytes());
            chunk.copy_from_slice(&digest.as_bytes()[..chunk.len()]);
        }
    }
}

pub type Members = BTreeMap<Vec<u8>, Vec<u8>>;

pub struct Room {
    pub store: Arc<dyn Store>,
    pub repository: Repository,
    pub lineage: Lineage,
    pub key: RecoveryKey,
    next_attempt: AtomicU64,
}

impl Room {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self::with_randomness(store, Arc::new(CountedRandomness::default()))
    }

    pub fn with_randomness(store: Arc<dyn Store>, random: Arc<dyn Randomness>) -> Self {
        let key = RecoveryKey::generate(&*random);
        let repository = Repository::create(store.clone(), &key, Arc::new(StandingClock), random).unwrap();
        let lineage = repository.lineage(&project(), &lineage_id()).unwrap();
        Self { store, repository, lineage, key, next_attempt: AtomicU64::new(1) }
    }

    /// The repository of another room, as a new process opens it over another view of its store.
    pub fn opened(store: Arc<dyn Store>, other: &Self) -> Self {
        Self::opened_at(store, other, 0)
    }

    /// As [`Room::opened`], by a clock that is so many seconds ahead.
    pub fn opened_at(store: Arc<dyn Store>, other: &Self, ahead_s: i64) -> Self {
        static PROCESSES: AtomicU64 = AtomicU64::new(1);
        let process = PROCESSES.fetch_add(1, Ordering::Relaxed);
        let random = Arc::new(CountedRandomness::starting_at((1 << 32) + (process << 16)));
        let repository =
            Repository::open(store.clone(), &other.key, Arc::new(AheadClock(ahead_s)), random).unwrap();
        let lineage = repository.lineage(&project(), &lineage_id()).unwrap();
        let next_attempt = AtomicU64::new(process << 16);
        Self { store, repository, lineage, key: other.key.clone(), next_attempt }
    }

    pub fn next_attempt(&self) -> AttemptId {
        // As in a UUIDv7: what tells the order of time stands in the first half.
        let number = self.next_attempt.fetch_add(1, Ordering::Relaxed);
        AttemptId::new(Uuid::from_u128(u128::from(number) << 64))
    }

    pub fn begin(&self, attempt: AttemptId, parent: Option<AttemptId>) -> Result<Begun> {
        self.lineage.begin(AttemptStart {
            attempt,
            parent,
            lease_epoch: 1,
            worker: "test".to_owned(),
            scratch_dir: std::env::temp_dir(),
            options: WriterOptions { verify_every: 1, threads: 2, ..WriterOptions::default() },
            cancel: CancelToken::new(),
            progress: Arc::new(Progress::new()),
        })
    }

    pub fn started(&self, attempt: AttemptId, parent: Option<AttemptId>) -> Result<Attempt> {
        match self.begin(attempt, parent)? {
            Begun::Started(attempt) => Ok(attempt),
            Begun::ParentGone => panic!("the parent is gone"),
        }
    }

    /// One whole backup.
    pub fn back_up(&self, members: &Members, parent: Option<AttemptId>) -> Result<SealedSummary> {
        let id = self.next_attempt();
        let attempt = self.started(id, parent)?;
        write(&attempt, members)?;
        match attempt.prove()?.seal(&facts(), &record(id))? {
            SealOutcome::Sealed(summary) => {
                self.lineage.clear_intent(id)?;
                Ok(*summary)
            }
            SealOutcome::Abandoned => panic!("nobody abandoned it"),
        }
    }

    /// One attempt, as far as the store lets it come.
    pub fn attempt(&self, id: AttemptId, members: &Members, parent: Option<AttemptId>) -> Result<()> {
        let Begun::Started(attempt) = self.begin(id, parent)? else { return Ok(()) };
        write(&attempt, members)?;
        match attempt.prove()?.seal(&facts(), &record(id))? {
            SealOutcome::Sealed(_) => self.lineage.clear_intent(id),
            SealOutcome::Abandoned => Ok(()),
        }
    }

    /// Everything a backup holds.
    pub fn read(&self, attempt: AttemptId) -> Result<Members> {
        read(&self.lineage, attempt)
    }
}

/// What a backup is, as a catalog knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub attempt: AttemptId,
    pub is_leaving: bool,
}

/// The rows of a catalog, shared by processes: each change of one is a step.
#[derive(Clone, Default)]
pub struct Rows {
    rows: Arc<Mutex<BTreeMap<BackupId, Row>>>,
    /// What was noted before it was begun.
    pub tries: Arc<Mutex<Vec<RebaseTry>>>,
}

impl Rows {
    fn rows(&self) -> MutexGuard<'_, BTreeMap<BackupId, Row>> {
        self.rows.lock().unwrap()
    }

    pub fn publish(&self, attempt: AttemptId) -> BackupId {
        let id = record(attempt).backup_id;
        self.rows().insert(id.clone(), Row { attempt, is_leaving: false });
        id
    }

    pub fn publish_all<'a>(&self, attempts: impl IntoIterator<Item = &'a AttemptId>) {
        for attempt in attempts {
            self.publish(*attempt);
        }
    }

    pub fn get(&self, id: &BackupId) -> Option<Row> {
        self.rows().get(id).copied()
    }

    /// A delete is accepted; answers the attempt that is to be forgotten.
    pub fn leave(&self, id: &BackupId) -> AttemptId {
        let mut rows = self.rows();
        let row = rows.get_mut(id).unwrap();
        row.is_leaving = true;
        row.attempt
    }

    pub fn remove(&self, id: &BackupId) {
        self.rows().remove(id);
    }

    /// As deletes do it: accepted, forgotten, gone.
    pub fn delete(&self, lineage: &Lineage, id: &BackupId) {
        let attempt = self.leave(id);
        lineage.forget(attempt).unwrap();
        self.remove(id);
    }

    /// The attempts that are backups.
    pub fn attempts(&self) -> Vec<AttemptId> {
        self.rows().values().map(|row| row.attempt).collect()
    }
}

impl Owner for Rows {
    fn may_move(&mut self, backup: &SealedSummary) -> Result<bool> {
        let row = self.get(&backup.catalog.backup_id);
        Ok(row == Some(Row { attempt: backup.attempt, is_leaving: false }))
    }

    fn begin(&mut self, attempt: &RebaseTry) -> Result<()> {
        self.tries.lock().unwrap().push(attempt.clone());
        Ok(())
    }

    fn take(&mut self, attempt: &RebaseTry, new: &SealedSummary) -> Result<Stands> {
        assert_eq!((attempt.new, &attempt.backup), (new.attempt, &new.catalog.backup_id));
        let mut rows = self.rows();
        let Some(row) = rows.get_mut(&attempt.backup) else { return Ok(Stands::Gone) };
        if !row.is_leaving && row.attempt == attempt.old {
            row.attempt = attempt.new;
        }
        Ok(Stands::On(row.attempt))
    }
}

/// Stores anew what is to be stored anew.
pub fn rebase(room: &Room, owner: &mut dyn Owner) -> Result<RebaseReport> {
    let mut report = RebaseReport::default();
    room.lineage.rebase(&rebase_order(), owner, &mut report).map(|()| report)
}

pub fn rebase_order() -> RebaseOrder {
    RebaseOrder {
        lease_epoch: 2,
        worker: "test".to_owned(),
        scratch_dir: std::env::temp_dir(),
        options: WriterOptions { threads: 2, ..WriterOptions::default() },
        cancel: CancelToken::new(),
        progress: Arc::new(Progress::new()),
    }
}

/// Everything a backup holds.
pub fn read(lineage: &Lineage, attempt: AttemptId) -> Result<Members> {
    read_by(&lineage.open_backup(attempt)?)
}

/// As [`read`], of a backup that was forgotten.
pub fn read_even_forgotten(lineage: &Lineage, attempt: AttemptId) -> Result<Members> {
    read_by(&lineage.open_backup_even_forgotten(attempt)?)
}

/// Everything that a reader gives.
pub fn read_by(reader: &BackupReader) -> Result<Members> {
    let (mut paths, mut wanted) = (Vec::new(), Vec::new());
    let mut out = Members::new();
    reader.members(&mut |entry| {
        assert_eq!(entry.index, paths.len() as u64);
        wanted.extend((0..entry.segments).map(|segment| (entry.index, segment)));
        out.insert(entry.path.as_bytes().to_vec(), vec![0; entry.size as usize]);
        paths.push(entry.path.as_bytes().to_vec());
        Ok(())
    })?;
    reader.read_segments(&wanted, &mut |frame| {
        let content = out.get_mut(&paths[frame.member as usize]).expect("it was listed");
        let start = frame.offset as usize;
        match frame.body {
            FrameBody::Data(data) => content[start..start + data.len()].copy_from_slice(&data),
            FrameBody::Fill { byte, length } => content[start..start + length as usize].fill(byte),
        }
        Ok(())
    })?;
    Ok(out)
}

/// An object as `docs/formats/repository.md` describes it, made without the crate.
pub fn framed(kind: u16, key: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = b"STRGROOM\x01\x00".to_vec();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&u16::try_from(key.len()).unwrap().to_le_bytes());
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(payload);
    let digest = *blake3::hash(&out).as_bytes();
    out.extend_from_slice(&digest);
    out
}

pub fn write(sink: &dyn BackupSink, members: &Members) -> Result<()> {
    for (path, content) in members {
        let mut writer = sink.open(member(path, content.len() as u64))?;
        for piece in content.chunks(30_000) {
            writer.write(piece)?;
        }
        writer.finish()?;
    }
    Ok(())
}

pub fn member(path: &[u8], size: u64) -> Member {
    Member {
        path: MemberPath::parse(path).unwrap(),
        kind: MemberKind::File,
        size: Some(size),
        mode: 0o600,
        mtime_s: 1_700_000_000,
        page_size: 0,
        dedupe: Dedupe::Parent,
    }
}

pub fn project() -> ProjectId {
    ProjectId::issue(Uuid::from_u128(11))
}

pub fn lineage_id() -> LineageId {
    LineageId::issue(Uuid::from_u128(22))
}

pub fn other_lineage_id() -> LineageId {
    LineageId::issue(Uuid::from_u128(23))
}

pub fn facts() -> BackupFacts {
    BackupFacts {
        identity: SourceIdentity {
            engine: EngineKind::PostgreSql,
            version: "15.18".to_owned(),
            system_identifier: "7".to_owned(),
        },
        engine: serde_json::json!({ "start_lsn": "0/1" }),
        warnings: Vec::new(),
        damage: Vec::new(),
        reading: Reading::default(),
        log: None,
    }
}

pub fn record(attempt: AttemptId) -> CatalogRecord {
    CatalogRecord {
        backup_id: BackupId::from_stored(format!("backup-{attempt}")),
        backup_name: format!("name-{attempt}"),
        description: None,
        backup_type: BackupType::Manual,
        created_us: 0,
        project_id: project(),
        project_name: "demo".to_owned(),
        instance_id: InstanceId::from_stored("i"),
        node_id: NodeId::from_stored("n"),
        instance_name: "shop".to_owned(),
        engine: EngineKind::PostgreSql,
        host: "127.0.0.1".to_owned(),
        port: 5432,
        user: "backup".to_owned(),
    }
}

/// Bytes that look like a table: compressible, and different for each seed.
pub fn pages(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..length)
        .map(|at| {
            if at % 4 == 0 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 40) as u8
            } else {
                (at / 512) as u8
            }
        })
        .collect()
}

/// A database in very small, for tests that take many backups of it.
pub fn small_database() -> Members {
    Members::from([
        (b"data/PG_VERSION".to_vec(), b"15\n".to_vec()),
        (b"data/base/1/16384".to_vec(), pages(1, 300_000)),
    ])
}

/// A database in small: a table of several chunks, small files, an empty file, zeroes.
pub fn database() -> Members {
    Members::from([
        (b"data/PG_VERSION".to_vec(), b"15\n".to_vec()),
        (b"data/base/1/16384".to_vec(), pages(1, 700_000)),
        (b"data/base/1/16385".to_vec(), vec![0; 400_000]),
        (b"data/base/1/16386".to_vec(), [vec![0; 262_144], pages(2, 131_072), vec![7; 300_000]].concat()),
        (b"data/base/1/empty".to_vec(), Vec::new()),
        (b"data/base/\xff\xfe".to_vec(), pages(3, 1000)),
        (b"wal/000000010000000000000001".to_vec(), pages(4, 200_000)),
    ])
}

/// Changes a few bytes in each chunk of the largest table.
pub fn touch(members: &mut Members, seed: u8) {
    let table = members.get_mut(&b"data/base/1/16384"[..]).expect("the table is there");
    for at in (500..table.len()).step_by(65_536) {
        table[at..at + 20].fill(seed);
    }
}
