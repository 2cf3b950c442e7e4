//! Metrics, by the names that dashboards hold on to. Ids only, no names, no tenants' texts.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use strongroom_core::backup::BackupState;
use strongroom_core::{Error, Result};
use strongroom_service::{Measurement, MetricsReading, Refusal, Service};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: String,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InstanceLabels {
    instance_id: String,
    engine: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InstanceIdLabels {
    instance_id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JobLabels {
    state: String,
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

/// Why a verification failed: stored bytes, or what a restored server found.
const VERIFY_FAILURES: [&str; 2] = ["damage", "drill"];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    engine: &'static str,
    phase: String,
}

/// Bytes that a restore would write, and bytes that the backup added to the repository.
const SOURCE: &str = "source";
const STORED: &str = "stored";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PunctualityLabels {
    punctuality: &'static str,
}

/// Whether an automated backup began in its window, or after it.
const IN_WINDOW: &str = "in_window";
const LATE: &str = "late";

/// Walking a large repository takes its time: its size is measured at most so often.
const REPOSITORY_MEASURED_EVERY: Duration = Duration::from_mins(1);

type Durations = Family<PhaseLabels, Histogram, fn() -> Histogram>;
type Requests = Family<RouteLabels, Histogram, fn() -> Histogram>;

/// The registry is a value: tests may have several.
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    requests: Requests,
    auth_failures: Family<ReasonLabels, Counter>,
    backups: Family<StatusLabels, Gauge>,
    jobs: Family<JobLabels, Gauge>,
    last_success: Family<InstanceLabels, Gauge>,
    last_verified: Family<InstanceLabels, Gauge>,
    restore_measured: Family<InstanceIdLabels, Gauge<f64, AtomicU64>>,
    log_lag: Family<InstanceIdLabels, Gauge<f64, AtomicU64>>,
    rpo: Family<InstanceIdLabels, Gauge<f64, AtomicU64>>,
    oldest_pending: Gauge,
    leases_lost: Gauge,
    durations: Durations,
    backup_bytes: Family<KindLabels, Counter>,
    verify_failures: Family<ReasonLabels, Counter>,
    corrupt_objects: Counter,
    policies: Gauge,
    oldest_due: Gauge,
    policy_begun: Family<PunctualityLabels, Counter>,
    policy_expired: Counter,
    repository_bytes: Gauge,
    swept_bytes: Counter,
    last_sweep: Gauge,
    dead_bytes: Gauge,
    /// When the repository was last measured.
    measured: tokio::sync::Mutex<Option<Instant>>,
}

fn request_histogram() -> Histogram {
    Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0])
}

fn phase_histogram() -> Histogram {
    Histogram::new([0.1, 1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0])
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let metrics = Self {
            registry: Mutex::new(Registry::default()),
            requests: Family::new_with_constructor(request_histogram as fn() -> Histogram),
            auth_failures: Family::default(),
            backups: Family::default(),
            jobs: Family::default(),
            last_success: Family::default(),
            last_verified: Family::default(),
            restore_measured: Family::default(),
            log_lag: Family::default(),
            rpo: Family::default(),
            oldest_pending: Gauge::default(),
            leases_lost: Gauge::default(),
            durations: Family::new_with_constructor(phase_histogram as fn() -> Histogram),
            backup_bytes: Family::default(),
            verify_failures: Family::default(),
            corrupt_objects: Counter::default(),
            policies: Gauge::default(),
            oldest_due: Gauge::default(),
            policy_begun: Family::default(),
            policy_expired: Counter::default(),
            repository_bytes: Gauge::default(),
            swept_bytes: Counter::default(),
            last_sweep: Gauge::default(),
            dead_bytes: Gauge::default(),
            measured: tokio::sync::Mutex::new(None),
        };
        for kind in [SOURCE, STORED] {
            metrics.backup_bytes.get_or_create(&KindLabels { kind }).inc_by(0);
        }
        for punctuality in [IN_WINDOW, LATE] {
            metrics.policy_begun.get_or_create(&PunctualityLabels { punctuality }).inc_by(0);
        }
        for reason in VERIFY_FAILURES {
            metrics.verify_failures.get_or_create(&ReasonLabels { reason }).inc_by(0);
        }
        for reason in Refusal::ALL.map(Refusal::word) {
            metrics.auth_failures.get_or_create(&ReasonLabels { reason }).inc_by(0);
        }
        metrics.register();
        metrics
    }

    fn register(&self) {
        let mut registry = self.registry.lock().expect("no thread panics while it registers");
        let build: Family<BuildLabels, Gauge> = Family::default();
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("strongroom_build_info", "The program", build);
        registry.register(
            "strongroom_api_request_seconds",
            "Requests by route and code",
            self.requests.clone(),
        );
        // The encoder adds `_total` to counters.
        registry.register(
            "strongroom_auth_failures",
            "Refused callers by reason",
            self.auth_failures.clone(),
        );
        registry.register("strongroom_backups", "Backups by status", self.backups.clone());
        registry.register("strongroom_jobs", "Jobs by state and kind", self.jobs.clone());
        registry.register(
            "strongroom_backup_last_success_timestamp_seconds",
            "When the newest COMPLETED backup ended, 0 when there is none",
            self.last_success.clone(),
        );
        registry.register(
            "strongroom_backup_last_verified_timestamp_seconds",
            "When a backup last passed a verification that read every byte, 0 when none did",
            self.last_verified.clone(),
        );
        registry.register(
            "strongroom_restore_measured_seconds",
            "How long the newest drill took to restore and start a backup; absent where there was none",
            self.restore_measured.clone(),
        );
        registry.register(
            "strongroom_job_oldest_pending_seconds",
            "How long the oldest due job has waited",
            self.oldest_pending.clone(),
        );
        registry.register(
            "strongroom_log_lag_seconds",
            "Since when log of the source may not be in the archive; absent where none is captured",
            self.log_lag.clone(),
        );
        registry.register(
            "strongroom_rpo_seconds",
            "How much of the newest work would be lost if the source were gone now",
            self.rpo.clone(),
        );
        self.register_work(&mut registry);
        self.register_policies(&mut registry);
    }

    fn register_work(&self, registry: &mut Registry) {
        registry.register(
            "strongroom_backup_duration_seconds",
            "How long the steps of completed backups took",
            self.durations.clone(),
        );
        registry.register(
            "strongroom_backup_bytes",
            "Bytes of completed backups: of the source, and added to the repository",
            self.backup_bytes.clone(),
        );
        registry.register(
            "strongroom_verify_failures",
            "Verifications that failed: stored bytes are damaged, or a restored server found something",
            self.verify_failures.clone(),
        );
        registry.register(
            "strongroom_scrub_corrupt_objects",
            "Objects that a check of the repository found not as they were written",
            self.corrupt_objects.clone(),
        );
        registry.register(
            "strongroom_repository_bytes",
            "Bytes of all objects, measured once a minute",
            self.repository_bytes.clone(),
        );
        registry.register(
            "strongroom_repository_swept_bytes",
            "Bytes that sweeps of this process gave back",
            self.swept_bytes.clone(),
        );
        registry.register(
            "strongroom_repository_last_sweep_timestamp_seconds",
            "When a sweep last came to its end, 0 when none did",
            self.last_sweep.clone(),
        );
        registry.register(
            "strongroom_repository_dead_bytes",
            "Bytes that the last sweep left, in packs of which too little was dead",
            self.dead_bytes.clone(),
        );
    }

    fn register_policies(&self, registry: &mut Registry) {
        registry.register(
            "strongroom_policy_instances",
            "Instances with automated backups",
            self.policies.clone(),
        );
        registry.register(
            "strongroom_policy_oldest_due_seconds",
            "How long the automated backup that is due for longest has not begun",
            self.oldest_due.clone(),
        );
        registry.register(
            "strongroom_policy_backups_begun",
            "Automated backups that were begun, in their window or late",
            self.policy_begun.clone(),
        );
        registry.register(
            "strongroom_policy_backups_expired",
            "Automated backups whose days were over",
            self.policy_expired.clone(),
        );
    }

    pub(crate) fn observe_request(&self, route: &str, code: u16, elapsed: Duration) {
        let labels = RouteLabels { route: route.to_owned(), code };
        self.requests.get_or_create(&labels).observe(elapsed.as_secs_f64());
    }

    pub(crate) fn count_auth_failure(&self, reason: &'static str) {
        self.auth_failures.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// The page, with the numbers of this moment, as OpenMetrics.
    pub(crate) async fn render(&self, service: &Service) -> Result<String> {
        let reading = service.metrics_reading().await?;
        self.measure_repository(service).await;
        let mut page = String::new();
        // Numbers are emptied and filled again: no other page may be written meanwhile.
        let registry = self.registry.lock().expect("no thread panics while it registers");
        self.fill(&reading);
        service.measurements().into_iter().for_each(|done| self.count(done));
        encode(&mut page, &registry).map_err(Error::internal)?;
        let end = page.rfind("# EOF").unwrap_or(page.len());
        let mut lost = String::new();
        // A number that the catalog counts for us; a counter of the registry could not be set.
        write!(
            lost,
            "# HELP strongroom_job_lease_lost Leases that ran out.\n# TYPE strongroom_job_lease_lost counter\n\
             strongroom_job_lease_lost_total {}\n",
            self.leases_lost.get()
        )
        .map_err(Error::internal)?;
        page.insert_str(end, &lost);
        Ok(page)
    }

    /// A repository that cannot be measured keeps its last number; `/readyz` tells that it is gone.
    async fn measure_repository(&self, service: &Service) {
        // One page measures, others that come meanwhile show the number before.
        let Ok(mut measured) = self.measured.try_lock() else { return };
        if measured.is_some_and(|at| at.elapsed() < REPOSITORY_MEASURED_EVERY) {
            return;
        }
        match service.repository_bytes().await {
            Ok(bytes) => {
                self.repository_bytes.set(gauge(bytes));
            }
            Err(error) => tracing::warn!("The repository cannot be measured: {}", error.chain()),
        }
        *measured = Some(Instant::now());
    }

    fn count(&self, done: Measurement) {
        match done {
            Measurement::Backup { source_bytes, stored_bytes } => {
                self.backup_bytes.get_or_create(&KindLabels { kind: SOURCE }).inc_by(source_bytes);
                self.backup_bytes.get_or_create(&KindLabels { kind: STORED }).inc_by(stored_bytes);
            }
            Measurement::Phase { engine, phase, elapsed } => {
                let labels = PhaseLabels { engine: engine.word(), phase };
                self.durations.get_or_create(&labels).observe(elapsed.as_secs_f64());
            }
            Measurement::VerifyFailed { reason } => {
                self.verify_failures.get_or_create(&ReasonLabels { reason }).inc();
            }
            Measurement::CorruptObjects { count } => {
                self.corrupt_objects.inc_by(count);
            }
            Measurement::PolicyBegun { is_late } => {
                let punctuality = if is_late { LATE } else { IN_WINDOW };
                self.policy_begun.get_or_create(&PunctualityLabels { punctuality }).inc();
            }
            Measurement::PolicyExpired { count } => {
                self.policy_expired.inc_by(count);
            }
            Measurement::Sweep { bytes_freed } => {
                self.swept_bytes.inc_by(bytes_freed);
            }
        }
    }

    fn fill(&self, reading: &MetricsReading) {
        self.backups.clear();
        // A state without a backup is a number too: alerts cannot compare with nothing.
        let none = BackupState::ALL.into_iter().map(|state| (state, 0));
        for (state, count) in none.collect::<Vec<_>>().iter().chain(&reading.backups) {
            let status = crate::native::views::backup_status(*state).to_owned();
            self.backups.get_or_create(&StatusLabels { status }).set(gauge(*count));
        }
        self.jobs.clear();
        for (state, kind, count) in &reading.jobs {
            let labels = JobLabels { state: state.word().to_owned(), kind: kind.word().to_owned() };
            self.jobs.get_or_create(&labels).set(gauge(*count));
        }
        self.last_success.clear();
        self.last_verified.clear();
        self.restore_measured.clear();
        self.log_lag.clear();
        self.rpo.clear();
        for instance in &reading.instances {
            let labels = InstanceLabels {
                instance_id: instance.instance_id.to_string(),
                engine: instance.engine.word().to_owned(),
            };
            // Never is 0: an alert on age must find the instance that never had a backup.
            let second = |at: Option<Timestamp>| at.map_or(0, Timestamp::as_second);
            self.last_success.get_or_create(&labels).set(second(instance.last_success));
            self.last_verified.get_or_create(&labels).set(second(instance.last_verified));
            let labels = InstanceIdLabels { instance_id: labels.instance_id };
            let seconds = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0)).as_secs_f64();
            self.rpo.get_or_create(&labels).set(seconds(instance.rpo_ms));
            if let Some(lag_ms) = instance.log_lag_ms {
                self.log_lag.get_or_create(&labels).set(seconds(lag_ms));
            }
            if let Some(measured_ms) = instance.restore_measured_ms {
                let seconds = Duration::from_millis(measured_ms).as_secs_f64();
                self.restore_measured.get_or_create(&labels).set(seconds);
            }
        }
        self.policies.set(gauge(reading.policies));
        self.oldest_due.set(reading.oldest_due_ms.unwrap_or(0) / 1000);
        self.oldest_pending.set(reading.oldest_pending_ms.unwrap_or(0) / 1000);
        self.leases_lost.set(gauge(reading.leases_lost));
        let (swept, dead) = match &reading.last_sweep {
            Some((at, told)) => (at.as_second(), told["dead_kept"]["bytes"].as_u64().unwrap_or(0)),
            None => (0, 0),
        };
        self.last_sweep.set(swept);
        self.dead_bytes.set(gauge(dead));
    }
}

/// The same page in the older text format, where a counter is declared by the name of its samples
/// and the end is not marked.
pub(crate) fn as_plain_text(page: &str) -> String {
    let mut out = String::with_capacity(page.len() + 256);
    let declared = |line: &str| {
        line.strip_prefix("# TYPE ").and_then(|rest| rest.strip_suffix(" counter")).map(str::to_owned)
    };
    let counters: Vec<String> = page.lines().filter_map(declared).collect();
    for line in page.lines().filter(|line| *line != "# EOF") {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(word), Some(name), Some(rest)) if counters.iter().any(|of| of == name) => {
                out.extend(["# ", word, " ", name, "_total ", rest, "\n"]);
            }
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

fn gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use strongroom_core::engine::EngineKind;

    use super::*;

    /// The names of what a worker did; the wire tests run none.
    #[test]
    fn what_was_done_is_counted_under_the_frozen_names() {
        let metrics = Metrics::new();
        let (engine, elapsed) = (EngineKind::PostgreSql, Duration::from_secs(30));
        metrics.count(Measurement::Phase { engine, phase: "stream".to_owned(), elapsed });
        metrics.count(Measurement::Backup { source_bytes: 400, stored_bytes: 60 });
        metrics.count(Measurement::Backup { source_bytes: 400, stored_bytes: 1 });
        metrics.count(Measurement::VerifyFailed { reason: "damage" });
        metrics.count(Measurement::CorruptObjects { count: 3 });
        metrics.count(Measurement::PolicyBegun { is_late: true });
        metrics.count(Measurement::PolicyExpired { count: 2 });
        metrics.count(Measurement::Sweep { bytes_freed: 4096 });
        let mut page = String::new();
        encode(&mut page, &metrics.registry.lock().unwrap()).unwrap();
        let page = as_plain_text(&page);
        for line in [
            "# TYPE strongroom_backup_duration_seconds histogram",
            "strongroom_backup_duration_seconds_bucket{le=\"60.0\",engine=\"postgresql\",phase=\"stream\"} 1",
            "strongroom_backup_duration_seconds_bucket{le=\"10.0\",engine=\"postgresql\",phase=\"stream\"} 0",
            "# TYPE strongroom_backup_bytes_total counter",
            "strongroom_backup_bytes_total{kind=\"source\"} 800",
            "strongroom_backup_bytes_total{kind=\"stored\"} 61",
            "strongroom_verify_failures_total{reason=\"damage\"} 1",
            "strongroom_scrub_corrupt_objects_total 3",
            "strongroom_policy_backups_begun_total{punctuality=\"in_window\"} 0",
            "strongroom_policy_backups_begun_total{punctuality=\"late\"} 1",
            "strongroom_policy_backups_expired_total 2",
            "strongroom_repository_swept_bytes_total 4096",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
    }
}
