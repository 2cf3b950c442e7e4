//! Metrics, by the names that dashboards hold on to. Ids only, no names, no tenants' texts.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::Duration;

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
use strongroom_service::{MetricsReading, Service};

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

/// Why a caller was refused: no valid token, or a valid one for another project.
const AUTH_FAILURES: [&str; 2] = ["token", "project"];

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
    oldest_pending: Gauge,
    leases_lost: Gauge,
}

fn request_histogram() -> Histogram {
    Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0])
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
            oldest_pending: Gauge::default(),
            leases_lost: Gauge::default(),
        };
        for reason in AUTH_FAILURES {
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
            "strongroom_job_oldest_pending_seconds",
            "How long the oldest due job has waited",
            self.oldest_pending.clone(),
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
        let mut page = String::new();
        // Numbers are emptied and filled again: no other page may be written meanwhile.
        let registry = self.registry.lock().expect("no thread panics while it registers");
        self.fill(&reading);
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
        for instance in &reading.instances {
            let labels = InstanceLabels {
                instance_id: instance.instance_id.to_string(),
                engine: instance.engine.word().to_owned(),
            };
            // Never is 0: an alert on age must find the instance that never had a backup.
            let second = |at: Option<Timestamp>| at.map_or(0, Timestamp::as_second);
            self.last_success.get_or_create(&labels).set(second(instance.last_success));
            self.last_verified.get_or_create(&labels).set(second(instance.last_verified));
        }
        self.oldest_pending.set(reading.oldest_pending_ms.unwrap_or(0) / 1000);
        self.leases_lost.set(gauge(reading.leases_lost));
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
