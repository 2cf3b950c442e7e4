//! A job by its id, as both RDS dialects show it (contract section 3.18). v1 documents no such
//! call; the id that its create answers must resolve somewhere.

use serde::Serialize;
use strongroom_core::engine::EngineKind;
use strongroom_core::id::JobId;
use strongroom_core::job::{JobKind, JobState};
use strongroom_core::{Error, Field, Result};
use strongroom_service::{JobDetail, Scope};
use utoipa::ToSchema;

use super::moment_with_zone;
use crate::app::App;

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobShown {
    pub(crate) job: JobView,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobView {
    pub(crate) id: String,
    pub(crate) name: String,
    /// `Running`, `Completed` or `Failed`
    pub(crate) status: String,
    pub(crate) created: String,
    /// Empty while it runs
    pub(crate) ended: String,
    /// Digits while it runs, empty after
    pub(crate) process: String,
    pub(crate) instance: JobInstance,
    #[schema(value_type = Object)]
    pub(crate) entities: serde_json::Value,
    /// Of a failed one
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fail_reason: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobInstance {
    pub(crate) id: String,
    pub(crate) name: String,
}

/// Looks a job up; `named` is what the dialect calls the id.
pub(crate) async fn find(app: &App, scope: &Scope, named: &str, id: &str) -> Result<JobShown> {
    let id = JobId::parse_lenient(id)
        .map_err(|error| Error::parameter(Field::JobId, format!("{named}: {error}")))?;
    let detail = app.service.job_find(scope, &id).await?;
    let id = detail.job.instance_id.as_ref().map_or("", |id| id.as_str()).to_owned();
    let instance = app.service.instance_known(scope, &id).await.ok();
    let engine = instance.as_ref().map_or(EngineKind::PostgreSql, |instance| instance.engine);
    let name = instance.map_or(String::new(), |instance| instance.name.as_str().to_owned());
    Ok(JobShown { job: view(&detail, engine, JobInstance { id, name }) })
}

pub(crate) fn view(detail: &JobDetail, engine: EngineKind, instance: JobInstance) -> JobView {
    let job = &detail.job;
    let running = matches!(job.state, JobState::Ready | JobState::Leased);
    JobView {
        id: job.id.as_str().to_owned(),
        name: name(job.kind, engine),
        status: status(job.state).to_owned(),
        created: moment_with_zone(job.created),
        ended: job.finished.map(moment_with_zone).unwrap_or_default(),
        process: if running { percent(detail) } else { String::new() },
        instance,
        entities: serde_json::json!({}),
        fail_reason: job.failure.as_ref().map(|failure| failure.message.clone()),
    }
}

/// As the sources spell them, and others by analogy: `BackupMysqlInInstance`.
pub(crate) fn name(kind: JobKind, engine: EngineKind) -> String {
    let verb = match kind {
        JobKind::Backup => "Backup",
        JobKind::Delete => "DeleteBackup",
        JobKind::Verify => "VerifyBackup",
        JobKind::CheckRepository => "CheckRepository",
        JobKind::Sweep => "SweepRepository",
        JobKind::PlanSweep => "PlanSweepOfRepository",
    };
    let engine = match engine {
        EngineKind::MySql => "Mysql",
        EngineKind::PostgreSql => "PostgreSQL",
        EngineKind::SqlServer => "Sqlserver",
    };
    format!("{verb}{engine}InInstance")
}

pub(crate) fn status(state: JobState) -> &'static str {
    match state {
        JobState::Ready | JobState::Leased => "Running",
        JobState::Succeeded => "Completed",
        JobState::Failed | JobState::Cancelled => "Failed",
    }
}

/// Digits only; 0 while the whole is unknown, never 100 before the end.
fn percent(detail: &JobDetail) -> String {
    let progress = &detail.job.progress;
    match progress.total_bytes {
        0 => "0".to_owned(),
        total => (progress.done_bytes.saturating_mul(100) / total).min(99).to_string(),
    }
}
