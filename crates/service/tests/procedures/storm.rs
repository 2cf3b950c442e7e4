//! The storm: eight workers on one catalog, thousands of small jobs, and kills at random. Every job
//! ends once, no claim is held twice, no backup is published twice; on both catalogs.
//!
//! Judged from the catalog's own records (the audit chain) and from a log that it knows
//! nothing of: what the workers said while they worked.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use strongroom_catalog::JobFilter;
use strongroom_core::backup::{Backup, BackupState, InstanceRef, NewBackup};
use strongroom_core::id::JobId;
use strongroom_core::job::{Job, JobKind, JobState};
use strongroom_core::text::BackupName;
use strongroom_core::time::Clock;
use strongroom_core::verification::Level;
use strongroom_repository::{MemoryStore, RecoveryKey, Repository, WriterOptions};
use strongroom_service::{BackupFilter, BackupRef, FirstStart, Scope, Settings};
use strongroom_testkit::depth;
use strongroom_testkit::postgres::{self, Options, PostgresServer};
use tokio::task::JoinSet;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

use crate::engine::{Database, ScriptedEngine, TABLE, file, pages};
use crate::room::{CountedRandomness, Ground, Process, new_instance, read, scope_of};

const WORKERS: usize = 8;
const INSTANCES: usize = 12;
/// One job in so many is a backup, the others verify one.
const BACKUP_EVERY: usize = 10;
const POSTGRES_VERSION: u32 = 15;

/// The machine's own: leases of the storm run out in real time.
struct RealClock;

impl Clock for RealClock {
    #[expect(clippy::disallowed_methods, reason = "this is the Clock port of a test in real time")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// What workers say while they work, as far as the storm is judged by it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Said {
    Claimed { job: String, epoch: String },
    Completed { backup: String },
}

#[derive(Default)]
struct Ear(Mutex<Vec<Said>>);

#[derive(Default)]
struct Fields(HashMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

struct Listening(&'static Ear);

impl Subscriber for Listening {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("strongroom_service")
    }

    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let field = |name: &str| fields.0.get(name).cloned().unwrap_or_default();
        let said = match field("message").as_str() {
            "Job claimed." => Said::Claimed { job: field("job.id"), epoch: field("lease.epoch") },
            "Backup COMPLETED." => Said::Completed { backup: field("backup.id") },
            _ => return,
        };
        self.0.0.lock().unwrap().push(said);
    }

    fn enter(&self, _span: &span::Id) {}

    fn exit(&self, _span: &span::Id) {}
}

/// One for the process: tests of other names may speak into it too.
fn ear() -> &'static Ear {
    static EAR: OnceLock<Ear> = OnceLock::new();
    let ear = EAR.get_or_init(Ear::default);
    let _ = tracing::subscriber::set_global_default(Listening(ear));
    ear
}

/// A small generator, so that a seed is a plan of kills.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn settings() -> Settings {
    Settings {
        // Short, so that many are lost; long enough for a busy disk to renew them.
        lease_duration_ms: 6_000,
        poll_interval: Duration::from_millis(100),
        backups_at_once: 2,
        others_at_once: 4,
        backoff_base_ms: 50,
        sweep_delay: None,
        writer: WriterOptions { verify_every: 1, threads: 1, ..WriterOptions::default() },
        drain_timeout: Duration::from_secs(5),
        ..Settings::default()
    }
}

fn tiny_database() -> Database {
    Database::from([
        (b"data/PG_VERSION".to_vec(), file(b"15\n".to_vec())),
        (TABLE.to_vec(), file(pages(1, 20_000))),
        (b"wal/000000010000000000000001".to_vec(), file(pages(4, 2_000))),
    ])
}

struct Storm {
    ground: Arc<Ground>,
    judge: Process,
    scope: Scope,
    first: Vec<Backup>,
    kills: AtomicUsize,
}

impl Storm {
    async fn begin(url: String, folder: &tempfile::TempDir, seed: u64) -> Self {
        let (random, clock) = (Arc::new(CountedRandomness::beginning_at(seed << 40)), Arc::new(RealClock));
        let (objects, key) = (MemoryStore::new(), RecoveryKey::generate(&*random));
        Repository::create(Arc::new(objects.clone()), &key, clock.clone(), random.clone()).unwrap();
        let engine = ScriptedEngine::new();
        engine.set_database(tiny_database());
        let data_dir = folder.path().to_owned();
        let ground = Arc::new(Ground { url, data_dir, objects, clock, random, key, engine });
        let judge = ground.process(settings()).await;
        let first = FirstStart::plan(&*ground.random, ground.clock.now(), "eu-de").unwrap();
        first.store(&judge.catalog, "repository").await.unwrap();
        let scope = scope_of(&judge.service, &first.bootstrap().token).await;
        for number in 0..INSTANCES {
            judge.service.instance_add(&scope, new_instance(&format!("shop-{number}"))).await.unwrap();
        }
        let mut storm = Self { ground, judge, scope, first: Vec::new(), kills: AtomicUsize::new(0) };
        for number in 0..INSTANCES {
            let backup = storm.backup(number, "first").await.expect("nothing runs yet");
            storm.first.push(backup);
        }
        storm.judge.worker.run_due().await;
        storm
    }

    async fn backup(&self, instance: usize, name: &str) -> Option<Backup> {
        let new = NewBackup {
            name: BackupName::parse(&format!("{name}-{instance}")).unwrap(),
            instance: InstanceRef::Any(format!("shop-{instance}")),
            description: None,
            databases: Vec::new(),
        };
        self.judge.service.backup_create(&self.scope, new).await.ok()
    }

    async fn jobs(&self) -> Vec<Job> {
        let limit = u32::MAX;
        self.judge.catalog.job_list(self.scope.project(), &JobFilter::default(), limit).await.unwrap()
    }

    /// Asks for the jobs, a bounded number of which wait at a time.
    async fn feed(&self, jobs: usize) {
        for number in 0..jobs {
            if number % BACKUP_EVERY == 0 {
                let mut instance = (number / BACKUP_EVERY) % INSTANCES;
                // One backup of an instance at a time: the next one waits for another's end.
                while self.backup(instance, &format!("storm-{number}")).await.is_none() {
                    instance = (instance + 1) % INSTANCES;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                continue;
            }
            let wanted = BackupRef::Id(self.first[number % INSTANCES].id.clone());
            while self.judge.service.backup_verify(&self.scope, &wanted, Level::Presence).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// One place for a worker: whoever works there is killed after a while and replaced.
    async fn place(&self, seed: u64, over: &tokio::sync::watch::Receiver<bool>) {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        while !*over.borrow() {
            let process = self.ground.process(settings()).await;
            let (tell, told) = tokio::sync::oneshot::channel::<()>();
            let mut running = tokio::spawn(process.worker.run(async move {
                let _ = told.await;
            }));
            let life = Duration::from_millis(200 + dice.roll(2_800));
            let mut ending = over.clone();
            tokio::select! {
                () = tokio::time::sleep(life) => {}
                _ = ending.wait_for(|over| *over) => {}
            }
            if *over.borrow() || dice.roll(5) == 0 {
                // In good order.
                let _ = tell.send(());
                (&mut running).await.unwrap();
                process.catalog.close().await;
                continue;
            }
            // At once and in the middle of whatever it does: its tasks end, its connections and its
            // store answer nothing more to the threads that are left of it.
            self.kills.fetch_add(1, Ordering::Relaxed);
            running.abort();
            let store = process.store.clone();
            tokio::task::spawn_blocking(move || store.die()).await.unwrap();
        }
    }

    async fn rage(self: &Arc<Self>, jobs: usize, seed: u64) -> Duration {
        let (tell, over) = tokio::sync::watch::channel(false);
        let begun = Instant::now();
        let all = jobs + INSTANCES;
        let work = async {
            self.feed(jobs).await;
            let deadline = Instant::now() + Duration::from_mins(10);
            loop {
                let ended = self.ended().await;
                if ended == all {
                    break;
                }
                assert!(Instant::now() < deadline, "{ended} of {all} jobs have ended");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            tell.send(true).unwrap();
            begun.elapsed()
        };
        let mut places = JoinSet::new();
        for number in 0..WORKERS as u64 {
            let (storm, over) = (self.clone(), over.clone());
            places.spawn(async move { storm.place(seed * 100 + number, &over).await });
        }
        let took = work.await;
        places.join_all().await;
        took
    }

    async fn ended(&self) -> usize {
        let reading = self.judge.service.metrics_reading().await.unwrap();
        let ended = reading.jobs.iter().filter(|(state, ..)| state.is_terminal());
        usize::try_from(ended.map(|(.., count)| count).sum::<u64>()).unwrap()
    }

    async fn judge(&self, jobs: usize) -> (usize, u64) {
        let rows = self.jobs().await;
        assert_eq!(rows.len(), jobs + INSTANCES, "as many as were asked for");
        let (mut succeeded, mut verified) = (0, 0);
        for job in &rows {
            match job.state {
                JobState::Succeeded => succeeded += 1,
                // Its workers were killed under it as often as it may be tried.
                JobState::Failed => assert_eq!(job.failure.as_ref().unwrap().code, "internal", "{job:?}"),
                state => panic!("{} is {state:?}", job.id),
            }
            verified += usize::from(job.kind == JobKind::Verify && job.state == JobState::Succeeded);
        }
        assert_eq!(self.judge.catalog.invariants_check().await.unwrap(), Vec::<String>::new());
        self.judge.catalog.audit_verify().await.unwrap();

        // Each success wrote its event in its own transaction: one more would be a second end.
        let audit = self.judge.catalog.audit_list(self.scope.project(), u32::MAX).await.unwrap();
        let count = |action: &str| audit.iter().filter(|event| event.action == action).count();
        assert_eq!(count("backup.verified"), verified);
        let completed = self.completed().await;
        assert_eq!(count("backup.complete"), completed.len());
        assert_eq!(count("job.end"), rows.len() - succeeded);
        let told = audit.iter().filter(|event| event.action == "backup.complete");
        let told: HashSet<&String> = told.map(|event| &event.object).collect();
        assert_eq!(told.len(), completed.len(), "each of them once");

        Self::judge_what_was_said(&rows, &completed);
        for backup in completed.iter().rev().take(depth::choose(20, 200)) {
            let held = read(&self.judge.service, &self.scope, backup).await.unwrap();
            assert!(held == self.ground.engine.database(), "{} restores to something else", backup.name);
        }
        let lost = self.judge.service.metrics_reading().await.unwrap().leases_lost;
        (rows.len() - succeeded, lost)
    }

    async fn completed(&self) -> Vec<Backup> {
        let filter = BackupFilter { state: Some(BackupState::Completed), ..BackupFilter::default() };
        let limit = u32::MAX;
        self.judge.catalog.backup_page(self.scope.project(), &filter, None, limit).await.unwrap()
    }

    /// No two workers ever held one epoch of a job, and nobody completed a backup twice.
    fn judge_what_was_said(rows: &[Job], completed: &[Backup]) {
        let epochs: HashMap<&JobId, i64> = rows.iter().map(|job| (&job.id, job.epoch.value())).collect();
        let said = ear().0.lock().unwrap().clone();
        let (mut claims, mut published) = (HashMap::<String, HashSet<i64>>::new(), HashSet::new());
        for what in said {
            match what {
                Said::Claimed { job, epoch } => {
                    let epoch: i64 = epoch.parse().unwrap();
                    let Some(last) = epochs.get(&JobId::from_stored(job.clone())) else { continue };
                    assert!(epoch <= *last, "{job}: nobody could know of claim {epoch}");
                    assert!(
                        claims.entry(job.clone()).or_default().insert(epoch),
                        "{job}: {epoch} held twice"
                    );
                }
                Said::Completed { backup } => {
                    assert!(published.insert(backup.clone()), "{backup} was published twice");
                }
            }
        }
        let claimed: usize = claims.values().map(HashSet::len).sum();
        assert!(claimed >= rows.len() * 9 / 10, "the workers were heard: {claimed}");
        assert!(completed.len() * 9 / 10 <= published.len());
    }
}

async fn storm(name: &str, url: String, folder: &tempfile::TempDir, seed: u64) {
    let jobs = depth::choose(300, 10_000);
    ear();
    let storm = Arc::new(Storm::begin(url, folder, seed).await);
    let took = storm.rage(jobs, seed).await;
    let (failed, lost) = storm.judge(jobs).await;
    let kills = storm.kills.load(Ordering::Relaxed);
    assert!(kills > 0, "nobody was killed");
    depth::report(format_args!(
        "storm on {name}: {jobs} jobs by {WORKERS} workers in {:.1} s ({} jobs/s), {kills} kills, {lost} leases taken \
         over, {failed} jobs FAILED after three tries",
        took.as_secs_f64(),
        jobs as u128 * 1000 / took.as_millis().max(1)
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn p08_p03_a_storm_on_a_catalog_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("catalog.db").display());
    storm("SQLite", url, &folder, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p08_p03_a_storm_on_a_catalog_in_postgres() {
    if !postgres::require(POSTGRES_VERSION) {
        return;
    }
    let options =
        Options { conf: vec!["max_connections = 300".to_owned()], fsync: true, ..Options::default() };
    let server = PostgresServer::start(POSTGRES_VERSION, &options).unwrap();
    server.psql("postgres", "CREATE ROLE keeper LOGIN PASSWORD 'keeper'").unwrap();
    server.psql("postgres", "CREATE DATABASE catalog OWNER keeper").unwrap();
    let url = format!("postgres://keeper:keeper@127.0.0.1:{}/catalog?sslmode=disable", server.port());
    let folder = tempfile::tempdir().unwrap();
    storm("PostgreSQL", url, &folder, 2).await;
}
