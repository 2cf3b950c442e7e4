//! A job by its id. v1 documents no such call; the id that create answers must resolve somewhere.

use axum::extract::{Path, State};
use axum::{Extension, Json};
use strongroom_core::engine::EngineKind;
use strongroom_core::id::JobId;
use strongroom_core::job::{JobKind, JobState};
use strongroom_core::{Error, Field};
use strongroom_service::{JobDetail, Scope};

use super::Answer;
use super::wire::{JobInstance, JobShown, JobView, engine_name, moment_with_zone};
use crate::app::App;

pub(crate) async fn show(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Path((_, job)): Path<(String, String)>,
) -> Answer<JobShown> {
    let id = JobId::parse_lenient(&job)
        .map_err(|error| Error::parameter(Field::JobId, format!("job_id: {error}")))?;
    let detail = app.service.job_find(&scope, &id).await?;
    let id = detail.job.instance_id.as_ref().map_or("", |id| id.as_str()).to_owned();
    let instance = app.service.instance_for_filter(&scope, &id).await.ok();
    let engine = instance.as_ref().map_or(EngineKind::PostgreSql, |instance| instance.engine);
    let name = instance.map_or(String::new(), |instance| instance.name.as_str().to_owned());
    Ok(Json(JobShown { job: view(&detail, engine, JobInstance { id, name }) }))
}

fn view(detail: &JobDetail, engine: EngineKind, instance: JobInstance) -> JobView {
    let job = &detail.job;
    let running = matches!(job.state, JobState::Ready | JobState::Leased);
    JobView {
        id: job.id.as_str().to_owned(),
        name: format!("{}{}InInstance", verb(job.kind), engine_name(engine)),
        status: status(job.state).to_owned(),
        created: moment_with_zone(job.created),
        ended: job.finished.map(moment_with_zone).unwrap_or_default(),
        process: if running { percent(detail) } else { String::new() },
        instance,
        entities: serde_json::json!({}),
        fail_reason: job.failure.as_ref().map(|failure| failure.message.clone()),
    }
}

fn verb(kind: JobKind) -> &'static str {
    match kind {
        JobKind::Backup => "Backup",
        JobKind::Delete => "DeleteBackup",
        JobKind::Verify => "VerifyBackup",
        JobKind::CheckRepository => "CheckRepository",
    }
}

fn status(state: JobState) -> &'static str {
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
