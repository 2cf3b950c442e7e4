//! One installation: a catalog file, objects, a clock and a database. Processes come and go.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use secrecy::SecretString;
use strongroom_catalog::{AuditRecord, Catalog};
use strongroom_core::backup::{Backup, BackupState, InstanceRef, NewBackup};
use strongroom_core::engine::{EngineKind, TlsMode};
use strongroom_core::id::{AttemptId, BackupId, JobId, RequestId};
use strongroom_core::instance::Instance;
use strongroom_core::job::Job;
use strongroom_core::text::{BackupName, InstanceName};
use strongroom_core::time::{Clock, Randomness, from_micros};
use strongroom_core::{Result, limits};
use strongroom_repository::{
    FrameBody, Lineage, MemoryStore, RecoveryKey, Repository, SealedSummary, Store, WriterOptions,
};
use strongroom_service::work::Worker;
use strongroom_service::{
    BackupFilter, BackupRef, Engines, FirstStart, NewInstance, Parts, Scope, Service, Settings,
};
use strongroom_testkit::store::FaultyStore;
use tempfile::TempDir;
use tokio::runtime::Handle;

use crate::engine::{Database, Node, ScriptedEngine};
use crate::steps::Steps;

const CATALOG_KEY: [u8; 32] = [7; 32];

/// The test's own time.
#[derive(Debug)]
pub(crate) struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        from_micros(self.0.load(Ordering::SeqCst))
    }
}

/// Deterministic, never repeating bytes, for all processes of a room.
#[derive(Debug, Default)]
pub(crate) struct CountedRandomness(AtomicU64);

impl CountedRandomness {
    /// Other bytes than those of other beginnings.
    pub(crate) fn beginning_at(count: u64) -> Self {
        Self(AtomicU64::new(count))
    }
}

impl Randomness for CountedRandomness {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            let digest = blake3::hash(&self.0.fetch_add(1, Ordering::Relaxed).to_le_bytes());
            chunk.copy_from_slice(&digest.as_bytes()[..chunk.len()]);
        }
    }
}

pub(crate) struct Room {
    pub(crate) folder: TempDir,
    pub(crate) objects: MemoryStore,
    pub(crate) clock: Arc<TestClock>,
    random: Arc<CountedRandomness>,
    key: RecoveryKey,
    pub(crate) engine: Arc<ScriptedEngine>,
    token: String,
    pub(crate) instance: Instance,
    /// A process that nothing ever happens to: it asks and judges.
    pub(crate) judge: Process,
    /// What each backup must restore to.
    expected: Mutex<HashMap<BackupId, Database>>,
}

/// One process: its own connections, its own view of the store, one worker.
pub(crate) struct Process {
    pub(crate) service: Service,
    pub(crate) catalog: Catalog,
    pub(crate) store: FaultyStore,
    pub(crate) worker: Worker,
    /// What its worker does at which step.
    pub(crate) steps: Arc<Steps>,
}

/// What a process is begun with.
pub(crate) struct Ground {
    pub(crate) url: String,
    pub(crate) data_dir: std::path::PathBuf,
    pub(crate) objects: MemoryStore,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<CountedRandomness>,
    pub(crate) key: RecoveryKey,
    pub(crate) engine: Arc<ScriptedEngine>,
}

impl Ground {
    async fn catalog(&self) -> Catalog {
        Catalog::open(&self.url, CATALOG_KEY, self.random.clone(), self.clock.now()).await.unwrap()
    }

    pub(crate) async fn process(&self, settings: Settings) -> Process {
        let catalog = self.catalog().await;
        let store = FaultyStore::new(Arc::new(self.objects.clone()));
        let (handle, dying) = (Handle::current(), catalog.clone());
        store.at_death(move || handle.block_on(dying.close()));
        let view: Arc<dyn Store> = Arc::new(store.clone());
        let repository = Repository::open(view, &self.key, self.clock.clone(), self.random.clone()).unwrap();
        let service = Service::new(Parts {
            catalog: catalog.clone(),
            repository,
            engines: Engines::new().with(self.engine.clone()),
            clock: self.clock.clone(),
            random: self.random.clone(),
            recovery_key: self.key.clone(),
            location: "memory:".to_owned(),
            data_dir: self.data_dir.clone(),
            settings: Settings {
                sandbox_dir: Some(settings.sandbox_dir.unwrap_or_else(|| self.data_dir.join("sandbox"))),
                ..settings
            },
        });
        let steps = Steps::new(store.clone());
        let worker = Worker::gated(service.clone(), steps.clone());
        Process { service, catalog, store, worker, steps }
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        writer: WriterOptions { verify_every: 1, threads: 2, ..WriterOptions::default() },
        drain_timeout: Duration::from_secs(20),
        // Jobs that nobody asked for would be work that no test expects.
        sweep_delay: None,
        ..Settings::default()
    }
}

impl Room {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The account of a restored server comes through here.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let random = Arc::new(CountedRandomness::default());
        let clock = Arc::new(TestClock(AtomicI64::new(1_800_000_000_000_000)));
        let objects = MemoryStore::new();
        let key = RecoveryKey::generate(&*random);
        Repository::create(Arc::new(objects.clone()), &key, clock.clone(), random.clone()).unwrap();
        let ground = Ground {
            url: format!("sqlite://{}", folder.path().join("catalog.db").display()),
            data_dir: folder.path().to_owned(),
            objects,
            clock: clock.clone(),
            random,
            key,
            engine: ScriptedEngine::new(),
        };
        let judge = ground.process(settings()).await;
        let first = FirstStart::plan(&*ground.random, ground.clock.now(), "eu-de").unwrap();
        first.store(&judge.catalog, "repository").await.unwrap();
        let made = first.bootstrap();
        let scope = scope_of(&judge.service, &made.token).await;
        let instance = judge.service.instance_add(&scope, new_instance("shop")).await.unwrap();
        let Ground { objects, random, key, engine, .. } = ground;
        Self {
            folder,
            objects,
            clock,
            random,
            key,
            engine,
            token: made.token.clone(),
            instance: instance.instance.unwrap(),
            judge,
            expected: Mutex::default(),
        }
    }

    fn ground(&self) -> Ground {
        Ground {
            url: format!("sqlite://{}", self.folder.path().join("catalog.db").display()),
            data_dir: self.folder.path().to_owned(),
            objects: self.objects.clone(),
            clock: self.clock.clone(),
            random: self.random.clone(),
            key: self.key.clone(),
            engine: self.engine.clone(),
        }
    }

    pub(crate) async fn process(&self) -> Process {
        self.ground().process(settings()).await
    }

    pub(crate) async fn process_with(&self, settings: Settings) -> Process {
        self.ground().process(settings).await
    }

    pub(crate) async fn scope(&self) -> Scope {
        scope_of(&self.judge.service, &self.token).await
    }

    pub(crate) fn advance_ms(&self, ms: i64) {
        self.clock.0.fetch_add(ms * 1000, Ordering::SeqCst);
    }

    /// Past every lease and every pause between tries.
    pub(crate) fn advance_past_leases(&self) {
        self.advance_ms(limits::LEASE_DURATION_MS.max(64 * limits::JOB_BACKOFF_BASE_MS) + 1);
    }

    /// Asks for a backup of what the database holds now.
    pub(crate) async fn ask(&self, name: &str) -> Result<Backup> {
        self.advance_ms(1);
        let new = NewBackup {
            name: BackupName::parse(name)?,
            instance: InstanceRef::Any("shop".to_owned()),
            description: None,
            databases: Vec::new(),
        };
        let backup = self.judge.service.backup_create(&self.scope().await, new).await?;
        self.expected.lock().unwrap().insert(backup.id.clone(), self.engine.database());
        Ok(backup)
    }

    /// A backup that is COMPLETED, made by a process without faults.
    pub(crate) async fn completed(&self, name: &str) -> Backup {
        let backup = self.ask(name).await.unwrap();
        self.process().await.worker.run_due().await;
        let row = self.row(&backup).await.unwrap();
        assert_eq!(row.state, BackupState::Completed, "{:?}", row.failure);
        row
    }

    pub(crate) async fn delete(&self, backup: &Backup) -> JobId {
        let wanted = BackupRef::Id(backup.id.clone());
        self.judge.service.backup_delete(&self.scope().await, &wanted).await.unwrap()
    }

    pub(crate) async fn row(&self, backup: &Backup) -> Option<Backup> {
        self.judge.catalog.backup_by_id(&backup.id).await.unwrap()
    }

    pub(crate) async fn state(&self, backup: &Backup) -> Option<BackupState> {
        self.row(backup).await.map(|row| row.state)
    }

    pub(crate) async fn job(&self, id: &JobId) -> Job {
        self.judge.catalog.job_by_id(id).await.unwrap().unwrap()
    }

    pub(crate) fn lineage(&self) -> Lineage {
        let store = Arc::new(self.objects.clone());
        let repository = Repository::open(store, &self.key, self.clock.clone(), self.random.clone()).unwrap();
        repository.lineage(&self.instance.project_id, &self.instance.lineage_id).unwrap()
    }

    /// Keys of the objects that hold this text.
    pub(crate) fn keys(&self, part: &str) -> Vec<String> {
        let listed = self.objects.list("").unwrap();
        listed.into_iter().map(|object| object.key).filter(|key| key.contains(part)).collect()
    }

    /// Everything a backup holds, read through the service.
    pub(crate) async fn read(&self, backup: &Backup) -> Result<Database> {
        read(&self.judge.service, &self.scope().await, backup).await
    }

    pub(crate) fn expected(&self, backup: &Backup) -> Database {
        self.expected.lock().unwrap()[&backup.id].clone()
    }

    /// A backup that nobody asked for by [`Room::ask`] must restore to this.
    pub(crate) fn expect(&self, backup: &Backup, database: &Database) {
        self.expected.lock().unwrap().entry(backup.id.clone()).or_insert_with(|| database.clone());
    }

    pub(crate) async fn assert_restores(&self, backup: &Backup) {
        let read = self.read(backup).await.unwrap();
        assert!(read == self.expected(backup), "{} restores to something else", backup.name);
    }

    pub(crate) async fn rows(&self) -> Vec<Backup> {
        let project = &self.instance.project_id;
        self.judge.catalog.backup_page(project, &BackupFilter::default(), None, 1000).await.unwrap()
    }

    /// Everything that must hold at any moment: between the rows, and between rows and objects.
    pub(crate) async fn assert_whole(&self) {
        assert_eq!(self.judge.catalog.invariants_check().await.unwrap(), Vec::<String>::new());
        self.judge.catalog.audit_verify().await.unwrap();
        let rows: BTreeMap<BackupId, Backup> =
            self.rows().await.into_iter().map(|row| (row.id.clone(), row)).collect();
        let mut sealed: HashMap<BackupId, Vec<AttemptId>> = HashMap::new();
        for summary in self.sealed() {
            sealed.entry(summary.catalog.backup_id).or_default().push(summary.attempt);
        }
        let is_swept = self.judge.catalog.sweep_standing().await.unwrap().live.is_some();
        for (id, attempts) in &sealed {
            let row = rows.get(id).unwrap_or_else(|| panic!("a sealed backup without a row: {id}"));
            assert_ne!(row.state, BackupState::Failed, "a sealed backup beside a FAILED row");
            // Two while it is stored anew.
            assert!(attempts.len() == 1 || is_swept && attempts.len() == 2, "one backup, one sealed attempt");
        }
        let told = self.judge.catalog.audit_list(&self.instance.project_id, 100_000).await.unwrap();
        for row in rows.values() {
            let is_completed = row.state == BackupState::Completed;
            let count =
                |event: &&AuditRecord| event.action == "backup.complete" && event.object == row.id.as_str();
            let was_completed = is_completed || row.attempt_id.is_some();
            assert_eq!(told.iter().filter(count).count(), usize::from(was_completed), "told once");
            if is_completed {
                assert!(
                    sealed.get(&row.id).unwrap().contains(&row.attempt_id.unwrap()),
                    "the row leads to it"
                );
            }
        }
    }

    /// As [`Room::assert_whole`], and every COMPLETED backup restores byte for byte.
    pub(crate) async fn assert_all_restore(&self) {
        self.assert_whole().await;
        for row in self.rows().await.iter().filter(|row| row.state == BackupState::Completed) {
            self.assert_restores(row).await;
        }
    }

    /// Sealed and not forgotten.
    pub(crate) fn sealed(&self) -> Vec<SealedSummary> {
        self.lineage().backups().unwrap().into_iter().filter(|summary| !summary.forgotten).collect()
    }

    /// Attempts that somebody may still commit.
    pub(crate) fn open_attempts(&self) -> Vec<String> {
        let writers = self.keys("/in/").into_iter().filter(|key| !key.contains("/in/r-"));
        writers.filter(|key| self.objects.head(&key.replace("/in/", "/at/")).unwrap().is_none()).collect()
    }

    /// The one backup after everything: it needs nothing from before to be right.
    pub(crate) async fn assert_next_backup_works(&self, name: &str) {
        self.engine.touch(name.len() as u8);
        self.completed(name).await;
        self.assert_all_restore().await;
    }
}

/// Everything a backup holds, read through the service.
pub(crate) async fn read(service: &Service, scope: &Scope, backup: &Backup) -> Result<Database> {
    let (_, reader) = service.content_open(scope, &BackupRef::Id(backup.id.clone())).await?;
    let (mut paths, mut segments, mut out) = (Vec::new(), Vec::new(), Database::new());
    reader.members(&mut |entry| {
        let path = entry.path.as_bytes().to_vec();
        segments.extend((0..entry.segments).map(|segment| (entry.index, segment)));
        let is_file = entry.kind == strongroom_core::member::MemberKind::File;
        let content = is_file.then(|| vec![0; usize::try_from(entry.size).unwrap()]);
        out.insert(path.clone(), Node { content, mode: entry.mode, mtime_s: entry.mtime_s });
        paths.push(path);
        Ok(())
    })?;
    reader.read_segments(&segments, &mut |frame| {
        let node = out.get_mut(&paths[usize::try_from(frame.member).unwrap()]).unwrap();
        let (content, start) = (node.content.as_mut().unwrap(), usize::try_from(frame.offset).unwrap());
        match frame.body {
            FrameBody::Data(data) => content[start..start + data.len()].copy_from_slice(&data),
            FrameBody::Fill { byte, length } => {
                content[start..start + usize::try_from(length).unwrap()].fill(byte);
            }
        }
        Ok(())
    })?;
    Ok(out)
}

pub(crate) async fn scope_of(service: &Service, token: &str) -> Scope {
    let caller = service.authenticate(Some(token)).await.unwrap();
    service.own_scope(&caller, &RequestId::from_stored("r".repeat(32))).unwrap()
}

pub(crate) fn new_instance(name: &str) -> NewInstance {
    NewInstance {
        name: InstanceName::parse(name).unwrap(),
        engine: EngineKind::PostgreSql,
        host: "127.0.0.1".to_owned(),
        port: 5432,
        user: "backup".to_owned(),
        password: SecretString::from("canary-password"),
        tls: TlsMode::Disable,
        ca_pem: None,
        allow_md5: false,
    }
}

/// Looks until it is so; what never comes fails the test.
pub(crate) async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !is_so().await {
        assert!(Instant::now() < deadline, "it never came: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A worker whose lease is short in real time: for tests that await what its keeper does.
pub(crate) fn brisk() -> Settings {
    Settings { lease_duration_ms: 1500, ..settings() }
}
