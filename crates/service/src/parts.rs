//! What the service is made of, and the numbers it works by.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;
use strongroom_catalog::{AuditEvent, Catalog, MetricsReading};
use strongroom_core::engine::CancelToken;
use strongroom_core::id::JobId;
use strongroom_core::job::LeaseEpoch;
use strongroom_core::network::SourceNetworks;
use strongroom_core::progress::{Progress, ProgressReading};
use strongroom_core::time::{Clock, Randomness};
use strongroom_core::{Error, Result, limits};
use strongroom_repository::{RecoveryKey, Repository, WriterOptions};
use tokio::sync::Notify;

use crate::downloads::Layouts;
use crate::engines::Engines;
use crate::guesses::Guesses;
use crate::identity::Scope;
use crate::measures::Measures;
use crate::passwords::Passwords;
use crate::refusals::Refusals;
use crate::shared_time::SharedTime;

/// Numbers an operator may set; the defaults suit one machine.
#[derive(Debug, Clone)]
pub struct Settings {
    pub lease_duration_ms: i64,
    /// How often a worker looks for work when nobody wakes it.
    pub poll_interval: Duration,
    pub drain_timeout: Duration,
    /// Backups a worker runs at once.
    pub backups_at_once: usize,
    /// Verifications, checks and sweeps a worker runs at once. For a delete there is room beside them:
    /// it takes a moment, and callers wait for it.
    pub others_at_once: usize,
    /// After a delete and before the sweep that it asks for; `None` leaves sweeps to whoever asks.
    pub sweep_delay: Option<Duration>,
    /// First pause before a failed job is tried again; doubled for each one after.
    pub backoff_base_ms: i64,
    pub writer: WriterOptions,
    /// Networks beyond the public ones that sources may be in.
    pub source_networks: SourceNetworks,
    /// Where drills restore to; `None` is in or beside the data directory.
    pub sandbox_dir: Option<PathBuf>,
    /// Name or `UID:GID` of whom restored servers run as, when the worker is root.
    pub drill_account: Option<String>,
    /// For a whole drill: restore, start and checks.
    pub drill_timeout: Duration,
    /// Log that a source may keep for its capture, before it is let go.
    pub log_retained_bytes_max: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease_duration_ms: limits::LEASE_DURATION_MS,
            poll_interval: Duration::from_secs(1),
            drain_timeout: Duration::from_millis(limits::DRAIN_TIMEOUT_MS),
            backups_at_once: 2,
            others_at_once: 2,
            sweep_delay: Some(Duration::from_secs(limits::SWEEP_DELAY_S)),
            backoff_base_ms: limits::JOB_BACKOFF_BASE_MS,
            writer: WriterOptions::default(),
            source_networks: SourceNetworks::loopback(),
            sandbox_dir: None,
            drill_account: None,
            drill_timeout: Duration::from_millis(limits::DRILL_TIMEOUT_MS),
            log_retained_bytes_max: limits::LOG_RETAINED_BYTES_MAX,
        }
    }
}

/// Everything the service stands on.
pub struct Parts {
    pub catalog: Catalog,
    pub repository: Repository,
    pub engines: Engines,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Randomness>,
    pub recovery_key: RecoveryKey,
    /// Where the repository is, as a URL without credentials.
    pub location: String,
    pub data_dir: PathBuf,
    pub settings: Settings,
}

/// The use cases. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) parts: Parts,
    /// Wakes the worker of this process; polling is the truth.
    pub(crate) wake: Notify,
    live: Mutex<HashMap<JobId, LiveJob>>,
    pub(crate) measures: Measures,
    pub(crate) time: SharedTime,
    pub(crate) passwords: Passwords,
    pub(crate) guesses: Guesses,
    pub(crate) refusals: Refusals,
    pub(crate) layouts: Layouts,
}

/// A job that runs in this process.
#[derive(Clone)]
pub(crate) struct LiveJob {
    /// Which claim it is: a job may be claimed again before its earlier claim has stopped here.
    pub(crate) epoch: LeaseEpoch,
    pub(crate) progress: Arc<Progress>,
    pub(crate) cancel: CancelToken,
    pub(crate) since: Instant,
}

impl LiveJob {
    pub(crate) fn reading(&self) -> ProgressReading {
        let elapsed_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        ProgressReading { elapsed_ms: elapsed_ms.max(1), ..self.progress.read() }
    }
}

impl Service {
    pub fn new(parts: Parts) -> Self {
        let inner = Inner {
            parts,
            wake: Notify::new(),
            live: Mutex::new(HashMap::new()),
            measures: Measures::default(),
            time: SharedTime::default(),
            passwords: Passwords::default(),
            guesses: Guesses::default(),
            refusals: Refusals::default(),
            layouts: Layouts::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.inner.parts
    }

    pub(crate) fn catalog(&self) -> &Catalog {
        &self.inner.parts.catalog
    }

    pub(crate) fn repository(&self) -> &Repository {
        &self.inner.parts.repository
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.inner.time.now(&*self.inner.parts.clock)
    }

    pub(crate) fn uuid(&self) -> uuid::Uuid {
        self.inner.parts.random.uuid(self.now())
    }

    /// The moment as the service sees it; adapters have no clock of their own.
    pub fn clock_reading(&self) -> Timestamp {
        self.now()
    }

    /// A fresh id for a request.
    pub fn issue_request_id(&self) -> strongroom_core::id::RequestId {
        strongroom_core::id::RequestId::issue(self.uuid())
    }

    fn live_jobs(&self) -> MutexGuard<'_, HashMap<JobId, LiveJob>> {
        self.inner.live.lock().expect("no thread panics while it holds the list of running jobs")
    }

    pub(crate) fn live_job(&self, id: &JobId) -> Option<LiveJob> {
        self.live_jobs().get(id).cloned()
    }

    pub(crate) fn live_begin(&self, id: &JobId, job: LiveJob) {
        self.live_jobs().insert(id.clone(), job);
    }

    pub(crate) fn live_end(&self, id: &JobId, epoch: LeaseEpoch) {
        let mut live = self.live_jobs();
        if live.get(id).is_some_and(|job| job.epoch == epoch) {
            live.remove(id);
        }
    }

    pub(crate) fn wake_worker(&self) {
        self.inner.wake.notify_one();
    }

    pub(crate) fn audit(
        &self,
        scope: &Scope,
        action: &'static str,
        object: &str,
        detail: Value,
    ) -> AuditEvent {
        AuditEvent {
            at: self.now(),
            project_id: Some(scope.project().clone()),
            actor: scope.actor().to_owned(),
            action,
            object: object.to_owned(),
            request_id: Some(scope.request_id().as_str().to_owned()),
            detail,
        }
    }

    /// Runs blocking work (engines, repository) off the async threads.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let service = self.clone();
        match tokio::task::spawn_blocking(move || work(&service)).await {
            Ok(result) => result,
            Err(panicked) => Err(Error::internal(panicked)),
        }
    }

    /// Whether requests can be served: the catalog takes writes, the repository is the one that
    /// was opened.
    pub async fn ready(&self) -> Result<()> {
        self.catalog().ping().await?;
        self.blocking(|service| service.repository().check_identity()).await
    }

    /// Bytes of all objects in the repository. Lists it: not for every page.
    pub async fn repository_bytes(&self) -> Result<u64> {
        self.blocking(|service| service.repository().bytes()).await
    }

    /// Numbers for the metrics page.
    pub async fn metrics_reading(&self) -> Result<MetricsReading> {
        self.catalog().metrics_reading(self.now()).await
    }
}
