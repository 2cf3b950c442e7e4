//! Manual backups: create, list, delete (contract sections 3.1–3.3).

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use http::Request;
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value};
use strongroom_core::backup::{Backup, BackupType, InstanceRef, NewBackup};
use strongroom_core::id::{BackupId, NodeId};
use strongroom_core::text::{BackupName, Description};
use strongroom_core::{Error, Field, Result};
use strongroom_service::{Action, BackupFilter, BackupRef, Cursor, Scope};

use super::wire::{BackupCreated, BackupView, LIST_BEGIN, LIST_END};
use super::{Answer, Refusal};
use crate::app::App;
use crate::body;
use crate::rds::Nothing;

/// Rows read from the catalog at a time; the list is streamed, its memory bounded.
const PAGE_ROWS: u32 = 200;

pub(crate) async fn create(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    request: Request<Body>,
) -> Answer<BackupCreated> {
    let new = new_backup(&body::object(&app, &scope, Action::Operate, request).await?)?;
    let backup = app.service.backup_create(&scope, new).await?;
    Ok(Json(BackupCreated::from(&backup)))
}

/// Parse, don't validate: what comes out of here cannot be wrong any more.
fn new_backup(document: &Map<String, Value>) -> Result<NewBackup> {
    let backup = body::member(document, "backup", "backup")?;
    let required = |key: &str, named: &str| -> Result<&str> {
        body::text(backup, key, named)?
            .ok_or_else(|| Error::parameter(Field::Body, format!("{named}: is missing")))
    };
    let (name, instance) = (required("name", "backup.name")?, required("instance", "backup.instance")?);
    let description = body::text(backup, "description", "backup.description")?;
    let name = BackupName::parse(name)?;
    NodeId::parse(instance)
        .map_err(|error| Error::parameter(Field::InstanceRef, format!("backup.instance: {error}")))?;
    Ok(NewBackup {
        name,
        instance: InstanceRef::PrimaryNode(instance.to_owned()),
        description: description.map(Description::parse).transpose()?,
        databases: Vec::new(),
    })
}

pub(crate) async fn list(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
) -> Result<Response, Refusal> {
    // The first page decides about success; later ones can only break the connection.
    let first = page(&app, &scope, None).await?;
    let rows = futures_util::stream::try_unfold((Some(first), true), move |(rows, is_first)| {
        let (app, scope) = (app.clone(), scope.clone());
        async move {
            let Some(rows) = rows else { return Ok(None) };
            let piece = render(&rows, is_first)?;
            let next = match rows.last() {
                Some(last) if rows.len() as u32 == PAGE_ROWS => {
                    Some(page(&app, &scope, Some(&Cursor::after(last))).await?)
                }
                _ => None,
            };
            let piece = if next.is_none() { piece + LIST_END } else { piece };
            Ok::<_, Error>(Some((Bytes::from(piece), (next, false))))
        }
    });
    Ok(([(CONTENT_TYPE, "application/json")], Body::from_stream(rows)).into_response())
}

async fn page(app: &App, scope: &Scope, after: Option<&Cursor>) -> Result<Vec<Backup>> {
    let filter = BackupFilter { kind: Some(BackupType::Manual), ..BackupFilter::default() };
    app.service.backup_page(scope, &filter, after, PAGE_ROWS).await
}

fn render(rows: &[Backup], is_first: bool) -> Result<String> {
    let mut out = if is_first { LIST_BEGIN.to_owned() } else { String::new() };
    for (at, backup) in rows.iter().enumerate() {
        if at > 0 || !is_first {
            out.push(',');
        }
        out.push_str(&serde_json::to_string(&BackupView::from(backup)).map_err(Error::internal)?);
    }
    Ok(out)
}

pub(crate) async fn remove(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Path((_, backup)): Path<(String, String)>,
) -> Answer<Nothing> {
    let id = BackupId::parse(&backup)
        .map_err(|error| Error::parameter(Field::BackupId, format!("backup_id: {error}")))?;
    app.service.backup_delete(&scope, &BackupRef::Id(id)).await?;
    Ok(Json(Nothing {}))
}
