//! A real server around a real catalog and a real repository, in a scratch folder. Only the source
//! database is played: nothing here connects to one.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::json;
use strongroom_api::{ApiSettings, Listen, TlsFiles, serve};
use strongroom_catalog::{AuditEvent, BackupFilter, Catalog, Project, Role, TokenRow, User};
use strongroom_core::Result;
use strongroom_core::engine::{EngineKind, TlsMode};
use strongroom_core::id::{InstanceId, LineageId, NodeId, ProjectId, UserId};
use strongroom_core::instance::{Instance, InstanceState};
use strongroom_core::text::InstanceName;
use strongroom_core::time::{Clock, Randomness, from_micros, to_micros};
use strongroom_repository::{LocalStore, RecoveryKey, Repository, Store};
use strongroom_service::{Engines, Parts, Service, Settings};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::client::{Ask, Reply, send};
use crate::engine::PlayedEngine;

/// 2026-03-04T05:06:07Z
const BEGIN_S: i64 = 1_772_600_767;

/// The clock of a room stands until the test moves it.
pub(crate) struct RoomClock(AtomicI64);

impl Clock for RoomClock {
    fn now(&self) -> Timestamp {
        from_micros(self.0.load(Ordering::Relaxed))
    }
}

/// Never the same number twice, the same numbers in every run; panics when a test arms it.
pub(crate) struct RoomRandomness {
    drawn: AtomicU64,
    panics_at: AtomicU64,
}

impl Randomness for RoomRandomness {
    fn fill(&self, bytes: &mut [u8]) {
        let draw = self.drawn.fetch_add(1, Ordering::Relaxed) + 1;
        assert_ne!(draw, self.panics_at.load(Ordering::Relaxed), "the canary of a panic");
        let mut reader = blake3::Hasher::new().update(&draw.to_le_bytes()).finalize_xof();
        reader.fill(bytes);
    }
}

impl RoomRandomness {
    /// Panics at the draw after so many more.
    pub(crate) fn arm(&self, draws: u64) {
        self.panics_at.store(self.drawn.load(Ordering::Relaxed) + draws, Ordering::Relaxed);
    }
}

/// Of the password `correct horse battery`, cheap to check: what a hash costs is not tested here.
const PASSWORD_HASH: &str =
    "$argon2id$v=19$m=64,t=1,p=1$bzO7x2i2j/fW/IjBtBuG8g$6XNVHnadSn4mJ8Qc3FbYB7hNn/GBK8h5vyGs7ewiBtE";

/// A tenant with a token of each role.
pub(crate) struct Tenant {
    pub(crate) project: ProjectId,
    pub(crate) user: UserId,
    name: &'static str,
}

impl Tenant {
    pub(crate) fn token(&self, role: Role) -> String {
        format!("{}-{}", self.name, role.word())
    }

    pub(crate) fn admin(&self) -> String {
        self.token(Role::Admin)
    }

    pub(crate) fn v1(&self, rest: &str) -> String {
        format!("/rds/v1/{}{rest}", self.project)
    }

    pub(crate) fn v3(&self, rest: &str) -> String {
        format!("/v3/{}{rest}", self.project)
    }
}

pub(crate) struct Room {
    pub(crate) addr: SocketAddr,
    pub(crate) catalog: Catalog,
    pub(crate) repository: Repository,
    pub(crate) service: Service,
    pub(crate) clock: Arc<RoomClock>,
    pub(crate) random: Arc<RoomRandomness>,
    pub(crate) ours: Tenant,
    pub(crate) theirs: Tenant,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<Result<()>>>,
    pub(crate) folder: TempDir,
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

fn tenant(name: &'static str, digit: &str) -> Tenant {
    let project = ProjectId::parse(&digit.repeat(32)).unwrap();
    Tenant { project, user: UserId::from_stored(format!("user-{name}")), name }
}

/// A person's limits are too long for a test; the others stay as they are.
pub(crate) async fn room() -> Room {
    Room::furnish(ApiSettings::default(), None).await
}

impl Room {
    pub(crate) async fn furnish(settings: ApiSettings, tls: Option<TlsFiles>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(RoomClock(AtomicI64::new(BEGIN_S * 1_000_000)));
        let random = Arc::new(RoomRandomness { drawn: AtomicU64::new(0), panics_at: AtomicU64::new(0) });
        let key = RecoveryKey::generate(&*random);
        let url = format!("sqlite://{}", folder.path().join("catalog.db").display());
        let catalog = Catalog::open(&url, key.catalog_key(), random.clone(), clock.now()).await.unwrap();
        let repository = repository(&folder.path().join("repository"), &key, &clock, &random);
        let service = Service::new(Parts {
            catalog: catalog.clone(),
            repository: repository.clone(),
            engines: Engines::new().with(Arc::new(PlayedEngine)),
            clock: clock.clone(),
            random: random.clone(),
            recovery_key: key,
            location: "file:///scratch/repository".to_owned(),
            data_dir: folder.path().to_owned(),
            settings: Settings::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
        };
        let server = tokio::spawn(serve(Listen { listener, tls }, service.clone(), settings, shutdown));
        let room = Self {
            addr,
            catalog,
            repository,
            service,
            clock,
            random,
            ours: tenant("ours", "a"),
            theirs: tenant("theirs", "b"),
            stop: Some(stop),
            server: Some(server),
            folder,
        };
        room.move_in(&room.ours).await;
        room.move_in(&room.theirs).await;
        room
    }

    /// Stops the server and waits for its end.
    pub(crate) async fn stop(&mut self) {
        self.stop.take().expect("it is stopped once").send(()).unwrap();
        self.server.take().expect("it is stopped once").await.unwrap().unwrap();
    }

    /// What the server ended with by itself.
    pub(crate) async fn ended(&mut self) -> Result<()> {
        self.server.take().expect("it ends once").await.unwrap()
    }

    async fn move_in(&self, tenant: &Tenant) {
        let audit = |action| AuditEvent { project_id: None, ..self.audit(tenant, action) };
        let project = Project {
            id: tenant.project.clone(),
            name: format!("project-of-{}", tenant.name),
            domain_id: "domain".to_owned(),
            domain_name: "Domain".to_owned(),
            // Ours has a limit, theirs has none.
            backup_quota: (tenant.name == "ours").then_some(5),
        };
        let user = User {
            id: tenant.user.clone(),
            name: tenant.name.to_owned(),
            domain_id: "domain".to_owned(),
            password_hash: Some(SecretString::from(PASSWORD_HASH)),
            // Ours may do what is not one project's, theirs may not.
            domain_admin: tenant.name == "ours",
        };
        self.catalog.project_create(&project, &audit("project.create")).await.unwrap();
        self.catalog.user_create(&user, &audit("user.create")).await.unwrap();
        self.catalog.role_assign(&user.id, &project.id, Role::Admin, &audit("role.assign")).await.unwrap();
        for role in Role::ALL {
            self.add_token(tenant, role, &tenant.token(role), None).await;
        }
    }

    pub(crate) async fn add_token(
        &self,
        tenant: &Tenant,
        role: Role,
        token: &str,
        expires: Option<Timestamp>,
    ) {
        let row = TokenRow {
            id: format!("id-{token}"),
            digest: blake3::hash(token.as_bytes()).to_hex().to_string(),
            user_id: tenant.user.clone(),
            project_id: tenant.project.clone(),
            role,
            name: token.to_owned(),
            created: self.clock.now(),
            expires,
        };
        self.catalog.token_create(&row, &self.audit(tenant, "token.create")).await.unwrap();
    }

    pub(crate) fn audit(&self, tenant: &Tenant, action: &'static str) -> AuditEvent {
        AuditEvent {
            at: self.clock.now(),
            project_id: Some(tenant.project.clone()),
            actor: "test".to_owned(),
            action,
            object: String::new(),
            request_id: None,
            detail: json!({}),
        }
    }

    pub(crate) fn advance_s(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds * 1_000_000, Ordering::Relaxed);
    }

    pub(crate) fn now_micros(&self) -> i64 {
        to_micros(self.clock.now())
    }

    /// A registered PostgreSQL; no server stands behind it.
    pub(crate) async fn add_instance(&self, tenant: &Tenant, name: &str) -> Instance {
        self.add_instance_as(tenant, name, EngineKind::PostgreSql, InstanceState::Ready).await
    }

    pub(crate) async fn add_instance_as(
        &self,
        tenant: &Tenant,
        name: &str,
        engine: EngineKind,
        state: InstanceState,
    ) -> Instance {
        self.add_instance_at(tenant, name, engine, state, "db.example").await
    }

    pub(crate) async fn add_instance_at(
        &self,
        tenant: &Tenant,
        name: &str,
        engine: EngineKind,
        state: InstanceState,
        host: &str,
    ) -> Instance {
        let now = self.clock.now();
        let (raw, node) = (self.random.uuid(now), self.random.uuid(now));
        let instance = Instance {
            id: InstanceId::issue(raw, engine),
            node_id: NodeId::issue(node, engine),
            project_id: tenant.project.clone(),
            name: InstanceName::parse(name).unwrap(),
            engine,
            version: "15.18".to_owned(),
            system_identifier: raw.simple().to_string(),
            state,
            host: host.to_owned(),
            port: 5432,
            user: "backup".to_owned(),
            tls: TlsMode::Require,
            ca_pem: None,
            allow_md5: false,
            lineage_id: LineageId::issue(raw),
            created: now,
            updated: now,
        };
        let password = SecretString::from("canary-password-of-the-source");
        self.catalog.instance_admit(&instance, &password, &self.audit(tenant, "instance.add")).await.unwrap();
        instance
    }

    pub(crate) async fn send(&self, ask: Ask) -> Reply {
        send(self.addr, &ask).await
    }

    /// As our administrator.
    pub(crate) async fn ask(&self, ask: Ask) -> Reply {
        self.send(ask.token(&self.ours.admin())).await
    }

    /// The v1 create of the contract, as our administrator.
    pub(crate) async fn create_backup(&self, name: &str, instance: &Instance) -> Reply {
        let body = json!({ "backup": { "name": name, "instance": instance.node_id.as_str() } });
        self.ask(Ask::post(&self.ours.v1("/backups"), body.to_string())).await
    }

    pub(crate) fn repository_folder(&self) -> PathBuf {
        self.folder.path().join("repository")
    }

    /// The files of the packs.
    pub(crate) fn packs(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.repository_folder().join("l")];
        let mut packs = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                let is_folder = entry.path().is_dir();
                let is_pack = entry.path().ancestors().any(|part| part.ends_with("pk"));
                if is_folder {
                    folders.push(entry.path());
                } else if is_pack {
                    packs.push(entry.path());
                }
            }
        }
        packs
    }

    /// Everything in the catalog that a request could have changed.
    pub(crate) async fn stored(&self) -> String {
        let reading = self.catalog.metrics_reading(self.clock.now()).await.unwrap();
        let mut rows = format!("{reading:?}");
        for tenant in [&self.ours, &self.theirs] {
            let project = &tenant.project;
            let instances = self.catalog.instance_list(project).await.unwrap();
            let backups =
                self.catalog.backup_page(project, &BackupFilter::default(), None, 1000).await.unwrap();
            let tokens = self.catalog.token_list(project).await.unwrap();
            let audit = self.catalog.audit_list(project, 10_000).await.unwrap();
            let policies = self.catalog.policy_list(project).await.unwrap();
            let tags = self.catalog.tags_of_project(project).await.unwrap();
            write!(rows, "{instances:?}{backups:?}{tokens:?}{policies:?}{tags:?}{audit:?}").unwrap();
        }
        rows
    }
}

fn repository(
    folder: &Path,
    key: &RecoveryKey,
    clock: &Arc<RoomClock>,
    random: &Arc<RoomRandomness>,
) -> Repository {
    std::fs::create_dir(folder).unwrap();
    let store: Arc<dyn Store> = Arc::new(LocalStore::open(folder).unwrap());
    Repository::create(store, key, clock.clone(), random.clone()).unwrap()
}
