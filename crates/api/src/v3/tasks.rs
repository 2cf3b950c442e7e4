//! Lists of jobs (contract section 3.19).

use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::Uri;
use jiff::Timestamp;
use strongroom_core::engine::EngineKind;
use strongroom_core::id::InstanceId;
use strongroom_core::job::{JobKind, JobState};
use strongroom_core::limits::{INSTANCE_TASKS_MAX, TASK_ROWS_MAX};
use strongroom_core::{Error, Field, Result};
use strongroom_service::{Action, JobRows, JobsWanted, Scope};

use super::Answer;
use super::backups::OFFSET_MAX;
use super::wire::{ExplainedJob, InstanceJobs, ListedJob, ListedJobs, ScheduledJobs};
use crate::app::App;
use crate::query::Params;
use crate::rds::jobs::name;

/// Rows of a page that does not say how many.
pub(super) const ROWS: u64 = 10;
/// Later moments are no moments.
pub(super) const MILLIS_MAX: u64 = 253_402_207_200_000;

pub(crate) async fn list(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    uri: Uri,
) -> Answer<ListedJobs> {
    let found = match wanted(&Params::of(&uri))? {
        Some(wanted) => app.service.job_slice(&scope, &wanted).await?,
        None => JobRows::default(),
    };
    let tasks: Vec<ListedJob> = found.rows.iter().map(Into::into).collect();
    let mut actions: Vec<String> = tasks.iter().map(|task| task.name.clone()).collect();
    actions.sort();
    actions.dedup();
    Ok(Json(ListedJobs { total_count: found.total, actions, tasks }))
}

/// Nothing where no task can ever be what is asked for.
pub(super) fn wanted(params: &Params) -> Result<Option<JobsWanted>> {
    let text = |name| Ok::<_, Error>(params.text(name)?.map(str::to_owned));
    let (created_from, created_until) = times(params)?;
    let mut wanted = JobsWanted {
        id: text("id")?,
        instance: text("instance_id")?,
        states: params.text("status")?.map(states).transpose()?,
        created_from,
        created_until,
        offset: params.number("offset", 0..=OFFSET_MAX)?.unwrap_or(0),
        limit: u32::try_from(params.number("limit", 1..=TASK_ROWS_MAX)?.unwrap_or(ROWS)).unwrap_or(1),
        ..JobsWanted::default()
    };
    // Nothing here is ordered and paid for.
    let is_ordered = params.text("order_id")?.is_some_and(|order| !order.is_empty());
    if let Some(name) = params.text("name")? {
        let Some((kind, engine)) = named(name) else { return Ok(None) };
        (wanted.kind, wanted.engine) = (Some(kind), Some(engine));
    }
    Ok(if is_ordered { None } else { Some(wanted) })
}

fn named(text: &str) -> Option<(JobKind, EngineKind)> {
    let all = JobKind::ALL.into_iter().flat_map(|kind| EngineKind::ALL.map(|engine| (kind, engine)));
    all.into_iter().find(|(kind, engine)| name(*kind, *engine) == text)
}

/// Words of a filter.
pub(super) const STATUSES: &[&str] = &["Running", "Completed", "Failed"];

fn states(word: &str) -> Result<[JobState; 2]> {
    match word {
        "Running" => Ok([JobState::Ready, JobState::Leased]),
        "Completed" => Ok([JobState::Succeeded, JobState::Succeeded]),
        "Failed" => Ok([JobState::Failed, JobState::Cancelled]),
        _ => Err(Error::parameter(Field::Other, "status: must be Running, Completed or Failed")),
    }
}

fn times(params: &Params) -> Result<(Option<Timestamp>, Option<Timestamp>)> {
    let read = |name: &str| {
        let millis = params.number(name, 0..=MILLIS_MAX)?;
        let moment = millis.map(|millis| Timestamp::from_millisecond(millis.cast_signed()));
        moment.transpose().map_err(|_| Error::parameter(Field::Other, format!("{name}: is no moment")))
    };
    Ok((read("start_time")?, read("end_time")?))
}

/// Nothing is planned for instances from outside; policies are told by themselves.
pub(crate) async fn scheduled(Extension(scope): Extension<Scope>, uri: Uri) -> Answer<ScheduledJobs> {
    wanted(&Params::of(&uri))?;
    scope.require(Action::Read)?;
    Ok(Json(ScheduledJobs { schedule_tasks: Vec::new(), total_count: 0 }))
}

/// The newest jobs of an instance, with what was asked of each.
pub(crate) async fn of_instance(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Path((_, instance)): Path<(String, String)>,
    uri: Uri,
) -> Answer<InstanceJobs> {
    let params = Params::of(&uri);
    let (created_from, created_until) = times(&params)?;
    if created_from.is_none() {
        return Err(Error::parameter(Field::Other, "start_time: is missing").into());
    }
    InstanceId::parse(&instance)
        .map_err(|error| Error::parameter(Field::InstanceRef, format!("instance_id: {error}")))?;
    let known = app.service.instance_known(&scope, &instance).await?;
    let wanted = JobsWanted {
        instance: Some(known.id.as_str().to_owned()),
        created_from,
        created_until,
        limit: INSTANCE_TASKS_MAX,
        ..JobsWanted::default()
    };
    let found = app.service.job_slice(&scope, &wanted).await?;
    let jobs = found.rows.iter().map(ExplainedJob::new).collect::<Result<_>>()?;
    Ok(Json(InstanceJobs { jobs, count: found.total }))
}
