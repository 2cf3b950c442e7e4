//! What every handler is given.

use std::sync::Arc;
use std::time::Duration;

use strongroom_core::limits;
use strongroom_service::Service;
use tokio::sync::Semaphore;

use crate::metrics::Metrics;
use crate::shares::Shares;

/// Which pages a listener has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    All,
    /// Only those that need no token and name no tenant: alive, ready, metrics.
    Health,
}

/// Limits of the listener; the defaults are the product's.
#[derive(Debug, Clone)]
pub struct ApiSettings {
    pub header_read_timeout: Duration,
    pub body_read_timeout: Duration,
    pub request_timeout: Duration,
    pub connections_max: usize,
    /// Requests worked on at once; more wait.
    pub requests_max: usize,
    /// Of these, requests of one project.
    pub requests_of_project_max: usize,
    /// Contents of backups read at once; more wait.
    pub streams_max: usize,
    /// How long a caller may take nothing of its answer.
    pub stalled_reader_timeout: Duration,
    /// What `region` says in answers.
    pub region: String,
    pub pages: Pages,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            header_read_timeout: Duration::from_millis(limits::HEADER_READ_TIMEOUT_MS),
            body_read_timeout: Duration::from_millis(limits::BODY_READ_TIMEOUT_MS),
            request_timeout: Duration::from_millis(limits::REQUEST_TIMEOUT_MS),
            connections_max: limits::CONNECTIONS_MAX,
            requests_max: limits::REQUESTS_MAX,
            requests_of_project_max: limits::REQUESTS_OF_PROJECT_MAX,
            streams_max: limits::STREAMS_MAX,
            stalled_reader_timeout: Duration::from_millis(limits::STALLED_READER_TIMEOUT_MS),
            region: "eu-de".to_owned(),
            pages: Pages::All,
        }
    }
}

/// Shared by all requests. Cheap to clone.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) service: Service,
    pub(crate) settings: Arc<ApiSettings>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) requests: Arc<Semaphore>,
    pub(crate) shares: Shares,
    pub(crate) streams: Arc<Semaphore>,
    /// `http` or `https`, as the listener speaks.
    pub(crate) scheme: &'static str,
}

impl App {
    pub(crate) fn new(service: Service, settings: ApiSettings, scheme: &'static str) -> Self {
        Self {
            service,
            scheme,
            requests: Arc::new(Semaphore::new(settings.requests_max)),
            shares: Shares::new(settings.requests_of_project_max),
            streams: Arc::new(Semaphore::new(settings.streams_max)),
            settings: Arc::new(settings),
            metrics: Arc::new(Metrics::new()),
        }
    }
}
