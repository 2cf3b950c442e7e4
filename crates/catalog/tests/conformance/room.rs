//! A fresh catalog with a project in it, a clock that the test moves, and rows to put in.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::json;
use sqlx::{AnyPool, query};
use strongroom_catalog::{AuditEvent, Catalog, Claim, Deletable, Project, Published, Role, User};
use strongroom_core::backup::{Backup, BackupState, BackupType, Failure};
use strongroom_core::engine::{EngineKind, TlsMode};
use strongroom_core::id::{
    AttemptId, BackupId, InstanceId, JobId, LineageId, NodeId, ProjectId, UserId, WorkerId,
};
use strongroom_core::instance::{Instance, InstanceState};
use strongroom_core::job::{Fence, Job, JobKind, JobState, LeaseEpoch};
use strongroom_core::progress::ProgressReading;
use strongroom_core::size::ByteSize;
use strongroom_core::text::{BackupName, InstanceName};
use strongroom_core::time::{Randomness, from_micros};
use strongroom_core::verification::{Level, Outcome, Verification};
use strongroom_testkit::postgres::{self, Options, PostgresServer};
use tempfile::TempDir;

pub(crate) const KEY: [u8; 32] = [7; 32];
pub(crate) const PASSWORD: &str = "canary-password-of-the-source";
const POSTGRES_VERSION: u32 = 15;

/// The operating system's randomness, through the product's port.
pub(crate) struct SystemRandomness;

impl Randomness for SystemRandomness {
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system has randomness");
    }
}

pub(crate) struct Room {
    pub(crate) catalog: Catalog,
    pub(crate) url: String,
    pub(crate) project: ProjectId,
    now_s: AtomicI64,
    serial: AtomicU64,
    _home: Home,
}

/// What the database lives in; it goes when the room does.
pub(crate) enum Home {
    Folder(#[expect(dead_code, reason = "held for its drop")] TempDir),
    Elsewhere,
    Server(#[expect(dead_code, reason = "held for its drop")] Arc<PostgresServer>),
}

pub(crate) async fn sqlite_file() -> Option<Room> {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("catalog.db").display());
    Some(Room::furnish(url, Home::Folder(folder)).await)
}

pub(crate) async fn sqlite_memory() -> Option<Room> {
    Some(Room::furnish("sqlite::memory:".to_owned(), Home::Elsewhere).await)
}

pub(crate) async fn postgres() -> Option<Room> {
    let (url, server) = postgres_database().await?;
    Some(Room::furnish(url, Home::Server(server)).await)
}

/// One server for all cases that run at the same time, one empty database for each; the last case
/// that leaves stops the server.
pub(crate) async fn postgres_database() -> Option<(String, Arc<PostgresServer>)> {
    static SERVER: Mutex<Weak<PostgresServer>> = Mutex::new(Weak::new());
    static DATABASES: AtomicU64 = AtomicU64::new(0);
    let prepared = tokio::task::spawn_blocking(|| {
        if !postgres::require(POSTGRES_VERSION) {
            return None;
        }
        let mut shared = SERVER.lock().unwrap();
        let server = shared.upgrade().unwrap_or_else(|| Arc::new(start_postgres()));
        *shared = Arc::downgrade(&server);
        let name = format!("catalog_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        server.psql("postgres", &format!("CREATE DATABASE {name} OWNER keeper")).unwrap();
        Some((server, name))
    });
    let (server, name) = prepared.await.unwrap()?;
    Some((format!("postgres://keeper:keeper@127.0.0.1:{}/{name}?sslmode=disable", server.port()), server))
}

fn start_postgres() -> PostgresServer {
    let conf = vec!["max_connections = 400".to_owned()];
    let server = PostgresServer::start(POSTGRES_VERSION, &Options { conf, ..Options::default() }).unwrap();
    server.psql("postgres", "CREATE ROLE keeper LOGIN PASSWORD 'keeper'").unwrap();
    server.psql("postgres", "GRANT SET ON PARAMETER deadlock_timeout TO keeper").unwrap();
    server
}

impl Room {
    /// A room around a database that has its project already and belongs to somebody else.
    pub(crate) async fn reopen(url: String) -> Self {
        Self {
            catalog: open(&url).await,
            url,
            project: ProjectId::parse(&"a".repeat(32)).unwrap(),
            now_s: AtomicI64::new(1_800_000_000),
            serial: AtomicU64::new(1),
            _home: Home::Elsewhere,
        }
    }

    async fn furnish(url: String, home: Home) -> Self {
        let room = Self { _home: home, ..Self::reopen(url).await };
        let project = room.project.clone();
        room.add_project(&project, None).await;
        room
    }

    pub(crate) fn now(&self) -> Timestamp {
        from_micros(self.now_s.load(Ordering::Relaxed) * 1_000_000)
    }

    pub(crate) fn advance_s(&self, seconds: i64) -> Timestamp {
        self.now_s.fetch_add(seconds, Ordering::Relaxed);
        self.now()
    }

    pub(crate) fn in_s(&self, seconds: i64) -> Timestamp {
        from_micros((self.now_s.load(Ordering::Relaxed) + seconds) * 1_000_000)
    }

    fn raw(&self) -> uuid::Uuid {
        uuid::Uuid::from_u128(u128::from(self.serial.fetch_add(1, Ordering::Relaxed)))
    }

    /// Direct access to the database, to look at rows or to damage them.
    pub(crate) async fn raw_pool(&self) -> AnyPool {
        sqlx::any::install_default_drivers();
        AnyPool::connect(&self.url).await.unwrap()
    }

    pub(crate) async fn add_project(&self, id: &ProjectId, quota: Option<i64>) {
        let project = Project {
            id: id.clone(),
            name: format!("project-{id}"),
            domain_id: "domain".to_owned(),
            domain_name: "Domain".to_owned(),
            backup_quota: quota,
        };
        self.catalog.project_create(&project, &self.audit_of_none("project.create")).await.unwrap();
    }

    pub(crate) async fn add_user(&self, name: &str) -> User {
        let user = User {
            id: UserId::issue(self.raw()),
            name: name.to_owned(),
            domain_id: "domain".to_owned(),
            password_hash: Some(SecretString::from("$argon2id$canary")),
            domain_admin: false,
        };
        self.catalog.user_create(&user, &self.audit_of_none("user.create")).await.unwrap();
        user
    }

    /// An event of no project: a case counts those of its project.
    pub(crate) fn audit_of_none(&self, action: &'static str) -> AuditEvent {
        AuditEvent { project_id: None, ..self.audit(action) }
    }

    pub(crate) async fn assign(&self, user: &User, project: &ProjectId, role: Role) {
        self.catalog.role_assign(&user.id, project, role, &self.audit_of_none("role.assign")).await.unwrap();
    }

    pub(crate) fn audit(&self, action: &'static str) -> AuditEvent {
        AuditEvent {
            at: self.now(),
            project_id: Some(self.project.clone()),
            actor: "tester".to_owned(),
            action,
            object: "object".to_owned(),
            request_id: Some("1".repeat(32)),
            detail: json!({ "reason": "a test" }),
        }
    }

    pub(crate) fn new_instance(&self, name: &str) -> Instance {
        let raw = self.raw();
        Instance {
            id: InstanceId::issue(raw, EngineKind::PostgreSql),
            node_id: NodeId::issue(raw, EngineKind::PostgreSql),
            project_id: self.project.clone(),
            name: InstanceName::from_stored(name),
            engine: EngineKind::PostgreSql,
            version: "15.18".to_owned(),
            system_identifier: "7300000000000000001".to_owned(),
            state: InstanceState::Ready,
            host: "db.example".to_owned(),
            port: 5432,
            user: "backup".to_owned(),
            tls: TlsMode::VerifyFull,
            ca_pem: Some("-----BEGIN CERTIFICATE-----".to_owned()),
            allow_md5: false,
            lineage_id: LineageId::issue(raw),
            created: self.now(),
            updated: self.now(),
        }
    }

    pub(crate) async fn add_instance(&self, name: &str) -> Instance {
        let instance = self.new_instance(name);
        self.admit_instance(&instance).await.unwrap();
        instance
    }

    pub(crate) async fn admit_instance(&self, instance: &Instance) -> strongroom_core::Result<()> {
        let password = SecretString::from(PASSWORD);
        self.catalog.instance_admit(instance, &password, &self.audit("instance.add")).await
    }

    pub(crate) fn new_backup(&self, instance: &Instance, name: &str) -> (Backup, Job) {
        let raw = self.raw();
        let id = BackupId::issue(raw, instance.engine);
        let mut job = self.new_job(JobKind::Backup);
        job.project_id = Some(instance.project_id.clone());
        job.backup_id = Some(id.clone());
        job.instance_id = Some(instance.id.clone());
        let backup = Backup {
            id,
            project_id: instance.project_id.clone(),
            instance_id: instance.id.clone(),
            node_id: instance.node_id.clone(),
            name: BackupName::from_stored(name),
            description: None,
            kind: BackupType::Manual,
            state: BackupState::Building,
            engine: instance.engine,
            engine_version: instance.version.clone(),
            lineage_id: instance.lineage_id.clone(),
            job_id: job.id.clone(),
            created: self.now(),
            finished: None,
            attempt_id: None,
            manifest_digest: None,
            source_bytes: None,
            stored_bytes: None,
            warnings: Vec::new(),
            failure: None,
            verification: None,
        };
        (backup, job)
    }

    pub(crate) fn new_job(&self, kind: JobKind) -> Job {
        Job {
            id: JobId::issue(self.raw()),
            project_id: Some(self.project.clone()),
            kind,
            state: JobState::Ready,
            backup_id: None,
            instance_id: None,
            input: json!({ "level": "decode" }),
            result: None,
            epoch: LeaseEpoch::from_stored(0),
            worker_id: None,
            lease_until: None,
            attempts: 0,
            run_at: self.now(),
            created: self.now(),
            started: None,
            finished: None,
            progress: ProgressReading::default(),
            cancel_asked: false,
            failure: None,
        }
    }

    pub(crate) fn new_job_on(&self, kind: JobKind, backup: &Backup) -> Job {
        Job {
            project_id: Some(backup.project_id.clone()),
            backup_id: Some(backup.id.clone()),
            instance_id: Some(backup.instance_id.clone()),
            ..self.new_job(kind)
        }
    }

    pub(crate) async fn admit(&self, backup: &Backup, job: &Job) -> strongroom_core::Result<()> {
        self.catalog.backup_admit(backup, job, &self.audit("backup.create")).await
    }

    /// A backup that is BUILDING, its job ready.
    pub(crate) async fn add_backup(&self, instance: &Instance, name: &str) -> Backup {
        let (backup, job) = self.new_backup(instance, name);
        self.admit(&backup, &job).await.unwrap();
        backup
    }

    /// A backup that is COMPLETED.
    pub(crate) async fn add_completed(&self, instance: &Instance, name: &str) -> Backup {
        let backup = self.add_backup(instance, name).await;
        let claim = self.claim_of(&backup.job_id).await;
        self.publish(&claim.fence, &backup).await.unwrap();
        self.backup(&backup).await
    }

    /// An automated backup that is COMPLETED.
    pub(crate) async fn add_automated(&self, instance: &Instance, name: &str) -> Backup {
        let (backup, job) = self.new_backup(instance, name);
        let backup = Backup { kind: BackupType::Auto, ..backup };
        self.admit(&backup, &job).await.unwrap();
        let claim = self.claim_of(&job.id).await;
        self.publish(&claim.fence, &backup).await.unwrap();
        self.backup(&backup).await
    }

    /// Records what a verification found.
    pub(crate) async fn verify(&self, backup: &Backup, level: Level, outcome: Outcome) {
        let job = self.new_job_on(JobKind::Verify, backup);
        self.catalog.job_admit(&job, &self.audit("backup.verify")).await.unwrap();
        let claim = self.claim_of(&job.id).await;
        let found = Verification { level, outcome, at: self.now(), findings: vec![], drill: None };
        let (result, now, audit) = (json!({}), self.now(), self.audit("backup.verified"));
        let recorded =
            self.catalog.verification_record(&claim.fence, &backup.id, &found, &result, now, &audit);
        recorded.await.unwrap();
    }

    pub(crate) fn published(&self) -> Published {
        Published {
            log: None,
            attempt: AttemptId::new(self.raw()),
            manifest_digest: "d".repeat(64),
            source_bytes: ByteSize::new(1 << 40),
            stored_bytes: ByteSize::new(12_345),
            warnings: vec!["A thing to know.".to_owned()],
            finished: self.now(),
        }
    }

    pub(crate) async fn publish(&self, fence: &Fence, backup: &Backup) -> strongroom_core::Result<()> {
        let published = self.published();
        self.catalog.backup_publish(fence, &backup.id, &published, &self.audit("backup.complete")).await
    }

    pub(crate) async fn ask_delete(&self, backup: &Backup) -> strongroom_core::Result<JobId> {
        let job = self.new_job_on(JobKind::Delete, backup);
        let audit = self.audit("backup.delete");
        let admitted = self
            .catalog
            .backup_delete_admit(&backup.project_id, &backup.id, Deletable::Manual, &job, &audit)
            .await?;
        Ok(admitted.job_id)
    }

    /// Places a legal hold; nothing of the product does so yet.
    pub(crate) async fn hold(&self, backup: &Backup) {
        let insert = "INSERT INTO holds (id, backup_id, reason, created) VALUES ($1, $2, 'a judge', $3)";
        let (id, now) = (self.raw().simple().to_string(), self.now().as_microsecond());
        let placed = query(insert).bind(id).bind(backup.id.as_str()).bind(now);
        placed.execute(&self.raw_pool().await).await.unwrap();
    }

    pub(crate) async fn release(&self, backup: &Backup) {
        let lift = query("DELETE FROM holds WHERE backup_id = $1").bind(backup.id.as_str());
        lift.execute(&self.raw_pool().await).await.unwrap();
    }

    pub(crate) fn worker(&self) -> WorkerId {
        WorkerId::issue(self.raw())
    }

    /// Claims the oldest due job for half a minute.
    pub(crate) async fn claim(&self) -> Option<Claim> {
        self.catalog.job_claim(&self.worker(), &JobKind::ALL, self.now(), self.in_s(30)).await.unwrap()
    }

    /// Claims the oldest due job, which must be this one.
    pub(crate) async fn claim_of(&self, id: &JobId) -> Claim {
        let claim = self.claim().await.expect("a job is due");
        assert_eq!(claim.job.id, *id);
        claim
    }

    pub(crate) async fn backup(&self, backup: &Backup) -> Backup {
        self.catalog.backup_by_id(&backup.id).await.unwrap().expect("the backup exists")
    }

    pub(crate) async fn job(&self, id: &JobId) -> Job {
        self.catalog.job_by_id(id).await.unwrap().expect("the job exists")
    }

    /// The rules between rows hold and the audit chain is unbroken.
    pub(crate) async fn assert_whole(&self) {
        assert_eq!(self.catalog.invariants_check().await.unwrap(), Vec::<String>::new());
        self.catalog.audit_verify().await.unwrap();
    }
}

pub(crate) async fn open(url: &str) -> Catalog {
    Catalog::open(url, KEY, Arc::new(SystemRandomness), from_micros(1_800_000_000_000_000)).await.unwrap()
}

pub(crate) fn failure(code: &str) -> Failure {
    Failure { code: code.to_owned(), message: "It did not work; data is safe.".to_owned(), hint: None }
}
