//! Jobs with phase, progress and history; events for those who watch.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::{Extension, Json};
use futures_util::Stream;
use serde::Deserialize;
use strongroom_core::id::RequestId;
use strongroom_core::job::JobState;
use strongroom_core::{Error, Field, Result};
use strongroom_service::Scope;

use super::backups::{accepted, bad_query};
use super::wire::{JobList, JobView, SCHEMA};
use super::{Answer, Refusal, reference};
use crate::app::App;

pub(super) const LIMIT_DEFAULT: u32 = 50;
pub(super) const LIMIT_MAX: u32 = 500;
/// Words of the filter.
pub(super) const STATES: &[&str] = &[
    JobState::Ready.word(),
    JobState::Leased.word(),
    JobState::Succeeded.word(),
    JobState::Failed.word(),
    JobState::Cancelled.word(),
];
const EVENT_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug, Deserialize)]
pub(crate) struct ListQuery {
    state: Option<String>,
    limit: Option<u32>,
}

pub(crate) async fn list(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Answer<Json<JobList>> {
    let query = query.map(|Query(query)| query).map_err(|_| bad_query());
    rows(&app, &scope, query).await.map(Json).map_err(Refusal::of(&id))
}

async fn rows(app: &App, scope: &Scope, query: Result<ListQuery>) -> Result<JobList> {
    let query = query?;
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Error::parameter(Field::Other, "limit: must be 1 to 500"));
    }
    let unknown =
        || Error::parameter(Field::Other, "state: must be ready, leased, succeeded, failed or cancelled");
    let state = query.state.map(|word| JobState::from_word(&word).ok_or_else(unknown)).transpose()?;
    let jobs = app.service.job_list(scope, state, limit).await?;
    Ok(JobList { schema: SCHEMA, jobs: jobs.iter().map(Into::into).collect() })
}

pub(crate) async fn show(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
    Path(job): Path<String>,
) -> Answer<Json<JobView>> {
    find(&app, &scope, &job).await.map(Json).map_err(Refusal::of(&id))
}

async fn find(app: &App, scope: &Scope, job: &str) -> Result<JobView> {
    let detail = app.service.job_find(scope, &reference::job(job)?).await?;
    Ok(JobView::from(&detail))
}

pub(crate) async fn cancel(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
    Path(job): Path<String>,
) -> Answer<Response> {
    let asked = async {
        let job = reference::job(&job)?;
        app.service.job_cancel(&scope, &job).await.map(|()| job)
    };
    asked.await.map(|job| accepted(&job)).map_err(Refusal::of(&id))
}

/// `progress` twice a second while the job runs, `end` once.
pub(crate) async fn events(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
    Path(job): Path<String>,
) -> Answer<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    find(&app, &scope, &job).await.map_err(Refusal::of(&id))?;
    let events = futures_util::stream::unfold(Some(true), move |state| {
        let (app, scope, job) = (app.clone(), scope.clone(), job.clone());
        async move {
            if !state? {
                tokio::time::sleep(EVENT_INTERVAL).await;
            }
            // A job that can no longer be read ends its events; the watcher asks again.
            let view = find(&app, &scope, &job).await.ok()?;
            let ended = JobState::from_word(&view.state).is_none_or(JobState::is_terminal);
            let event = Event::default().event(if ended { "end" } else { "progress" });
            let event = event.json_data(&view).ok()?;
            Some((Ok(event), if ended { None } else { Some(false) }))
        }
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}
