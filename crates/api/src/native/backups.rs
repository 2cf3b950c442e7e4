//! Backups with all their facts.

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{Request, StatusCode};
use serde::Deserialize;
use strongroom_core::backup::NewBackup;
use strongroom_core::id::RequestId;
use strongroom_core::text::{BackupName, Description};
use strongroom_core::verification::Level;
use strongroom_core::{Error, Field, Result};
use strongroom_service::{Action, BackupFilter, Cursor, Scope};

use super::wire::{Accepted, BackupList, BackupRequest, BackupView, CheckRequest, SCHEMA};
use super::{Answer, Refusal, reference};
use crate::app::App;
use crate::body;

pub(super) const LIMIT_DEFAULT: u32 = 100;
pub(super) const LIMIT_MAX: u32 = 1000;

/// The answer to work that goes on after it.
pub(crate) fn accepted(job_id: &strongroom_core::id::JobId) -> Response {
    let body = Accepted { schema: SCHEMA, job_id: job_id.as_str().to_owned() };
    (StatusCode::ACCEPTED, Json(body)).into_response()
}

pub(crate) async fn create(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
    request: Request<Body>,
) -> Answer<Response> {
    let created = async {
        let request: BackupRequest = body::document(&app, &scope, Action::Operate, request).await?;
        let new = NewBackup {
            name: BackupName::parse(&request.name)?,
            instance: reference::instance(request.instance)?,
            description: request.description.as_deref().map(Description::parse).transpose()?,
            databases: Vec::new(),
        };
        app.service.backup_create(&scope, new).await
    };
    let backup = created.await.map_err(Refusal::of(&id))?;
    Ok((StatusCode::ACCEPTED, Json(BackupView::from(&backup))).into_response())
}

#[derive(Debug, Deserialize)]
pub(crate) struct ListQuery {
    instance: Option<String>,
    after: Option<String>,
    limit: Option<u32>,
}

pub(crate) async fn list(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Answer<Json<BackupList>> {
    list_page(&app, &scope, query.map(|Query(query)| query).map_err(|_| bad_query()))
        .await
        .map(Json)
        .map_err(Refusal::of(&id))
}

pub(crate) fn bad_query() -> Error {
    Error::parameter(Field::Other, "query: limit must be a whole number, and no name may come twice")
}

async fn list_page(app: &App, scope: &Scope, query: Result<ListQuery>) -> Result<BackupList> {
    let query = query?;
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Error::parameter(Field::Other, "limit: must be 1 to 1000"));
    }
    let mut filter = BackupFilter::default();
    if let Some(instance) = &query.instance {
        reference::checked(Field::InstanceRef, "instance", instance)?;
        filter.instance = Some(app.service.instance_for_filter(scope, instance).await?.id);
    }
    let after = query.after.as_deref().map(Cursor::parse).transpose()?;
    let rows = app.service.backup_page(scope, &filter, after.as_ref(), limit).await?;
    let next = rows.last().filter(|_| rows.len() as u32 == limit).map(|last| Cursor::after(last).to_string());
    Ok(BackupList { schema: SCHEMA, backups: rows.iter().map(Into::into).collect(), next })
}

pub(crate) async fn show(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
    Path(backup): Path<String>,
) -> Answer<Json<BackupView>> {
    let found = async { app.service.backup_find(&scope, &reference::backup(backup)?).await };
    Ok(Json((&found.await.map_err(Refusal::of(&id))?).into()))
}

pub(crate) async fn remove(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
    Path(backup): Path<String>,
) -> Answer<Response> {
    let job = async { app.service.backup_delete(&scope, &reference::backup(backup)?).await };
    job.await.map(|job| accepted(&job)).map_err(Refusal::of(&id))
}

pub(crate) async fn verify(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
    Path(backup): Path<String>,
    request: Request<Body>,
) -> Answer<Response> {
    let job = async {
        let request: CheckRequest = body::document(&app, &scope, Action::Operate, request).await?;
        let level = Level::parse(&request.level)?;
        app.service.backup_verify(&scope, &reference::backup(backup)?, level).await
    };
    job.await.map(|job| accepted(&job)).map_err(Refusal::of(&id))
}
