//! Backups: create, list, delete (contract sections 3.9–3.12).

use axum::body::Body;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::{Request, Uri};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};
use strongroom_core::backup::{BackupState, BackupType, InstanceRef, NewBackup};
use strongroom_core::id::{BackupId, InstanceId};
use strongroom_core::limits::{DELETE_IDS_MAX, LIST_ROWS_MAX};
use strongroom_core::text::{BackupName, Description};
use strongroom_core::{Error, ErrorKind, Field, Result};
use strongroom_service::{Action, BackupRef, BackupsWanted, Scope};

use super::Answer;
use super::error::words;
use super::wire::{BackupCreated, BackupList, DeleteResult, DeleteResults, ErrorBody};
use crate::app::App;
use crate::body;
use crate::query::Params;
use crate::rds::{Nothing, moment};

/// Pages go no deeper: what a database counts rows with.
pub(super) const OFFSET_MAX: u64 = i64::MAX as u64;

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
pub(super) fn new_backup(document: &Map<String, Value>) -> Result<NewBackup> {
    let (name, instance) = (body::required(document, "name")?, body::required(document, "instance_id")?);
    let description = body::text(document, "description", "description")?;
    let databases = databases(document)?;
    let name = BackupName::parse(name)?;
    InstanceId::parse(instance)
        .map_err(|error| Error::parameter(Field::InstanceRef, format!("instance_id: {error}")))?;
    let description = description.map(Description::parse).transpose()?;
    refuse_twice(&databases)?;
    Ok(NewBackup { name, instance: InstanceRef::Instance(instance.to_owned()), description, databases })
}

fn databases(document: &Map<String, Value>) -> Result<Vec<String>> {
    let wrong = |what: &str| Error::parameter(Field::Body, format!("databases: {what}"));
    let rows = match document.get("databases") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(rows)) => rows,
        Some(_) => return Err(wrong("must be a list of objects")),
    };
    let name = |row: &Value| match row.get("name") {
        Some(Value::String(name)) => Ok(name.clone()),
        _ => Err(wrong("each must be an object with the string `name`")),
    };
    rows.iter().map(name).collect()
}

fn refuse_twice(databases: &[String]) -> Result<()> {
    let mut sorted: Vec<&String> = databases.iter().collect();
    sorted.sort();
    if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Error::parameter(Field::Databases, "databases: a name comes twice"));
    }
    if databases.iter().any(String::is_empty) {
        return Err(Error::parameter(Field::Databases, "databases: a name is empty"));
    }
    Ok(())
}

pub(crate) async fn list(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    uri: Uri,
) -> Answer<BackupList> {
    let wanted = wanted(&Params::of(&uri))?;
    Ok(Json((&app.service.backup_slice(&scope, &wanted).await?).into()))
}

/// The filters of the list. Ids are of any shape: nothing has one that cannot be.
pub(super) fn wanted(params: &Params) -> Result<BackupsWanted> {
    let text = |name| Ok::<_, Error>(params.text(name)?.map(str::to_owned));
    let (instance, backup) = (text("instance_id")?, text("backup_id")?);
    if instance.is_none() && backup.is_none() {
        return Err(Error::parameter(Field::Other, "instance_id: is missing"));
    }
    let (kind, is_of_no_kind) = kind(params.text("backup_type")?)?;
    let (created_from, created_until) = times(params)?;
    Ok(BackupsWanted {
        instance,
        backup,
        kind,
        is_of_no_kind,
        state: state(params.text("status")?)?,
        created_from,
        created_until,
        offset: params.number("offset", 0..=OFFSET_MAX)?.unwrap_or(0),
        limit: params.number("limit", 1..=LIST_ROWS_MAX)?.unwrap_or(LIST_ROWS_MAX),
    })
}

/// Words of the filters.
pub(super) const TYPES: &[&str] = &["auto", "manual", "fragment", "incremental"];
pub(super) const STATUSES: &[&str] = &["BUILDING", "COMPLETED", "FAILED", "DELETING"];

/// A kind, and whether it is one that no backup here ever has.
fn kind(word: Option<&str>) -> Result<(Option<BackupType>, bool)> {
    match word {
        None => Ok((None, false)),
        Some("auto") => Ok((Some(BackupType::Auto), false)),
        Some("manual") => Ok((Some(BackupType::Manual), false)),
        Some("fragment" | "incremental") => Ok((None, true)),
        Some(_) => {
            Err(Error::parameter(Field::Other, "backup_type: must be auto, manual, fragment or incremental"))
        }
    }
}

fn state(word: Option<&str>) -> Result<Option<BackupState>> {
    let Some(word) = word else { return Ok(None) };
    let found = BackupState::ALL.into_iter().find(|state| super::wire::backup_status(*state) == word);
    let refused =
        || Error::parameter(Field::Other, "status: must be BUILDING, COMPLETED, FAILED or DELETING");
    found.map(Some).ok_or_else(refused)
}

/// Both bounds or none, both inclusive. Rows are told in whole seconds, so the end takes its whole
/// second in.
fn times(params: &Params) -> Result<(Option<Timestamp>, Option<Timestamp>)> {
    let wrong = |name: &str, what: &str| Error::parameter(Field::Other, format!("{name}: {what}"));
    let (begin, end) = match (params.text("begin_time")?, params.text("end_time")?) {
        (None, None) => return Ok((None, None)),
        (Some(begin), Some(end)) => (begin, end),
        (Some(_), None) => return Err(wrong("end_time", "is missing; it goes with begin_time")),
        (None, Some(_)) => return Err(wrong("begin_time", "is missing; it goes with end_time")),
    };
    let read =
        |name, text| moment::parse(text).ok_or_else(|| wrong(name, "must be yyyy-mm-ddThh:mm:ss+0000"));
    let (begin, end) = (read("begin_time", begin)?, read("end_time", end)?);
    if end <= begin {
        return Err(wrong("end_time", "must be later than begin_time"));
    }
    let rest_of_second = SignedDuration::from_micros(999_999);
    Ok((Some(begin), Some(end.saturating_add(rest_of_second).unwrap_or(Timestamp::MAX))))
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

/// Each by itself: the answer tells of each what came of it.
pub(crate) async fn remove_batch(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    request: Request<Body>,
) -> Answer<DeleteResults> {
    let ids = ids(&body::object(&app, &scope, Action::Operate, request).await?)?;
    let mut delete_results = Vec::with_capacity(ids.len());
    for id in ids {
        let removed = match BackupId::parse(&id) {
            Ok(id) => app.service.backup_delete(&scope, &BackupRef::Id(id)).await.map(|_| ()),
            Err(error) => Err(error),
        };
        let told = match removed {
            Ok(()) => ErrorBody { error_code: "0".to_owned(), error_msg: "Success".to_owned() },
            // What a hold keeps is in use, in the words of this call (contract section 2).
            Err(error) if error.kind() == ErrorKind::BackupHeld => {
                ErrorBody { error_code: "DBS.200054".to_owned(), ..words(&error) }
            }
            Err(error) => words(&error),
        };
        let ErrorBody { error_code, error_msg } = told;
        delete_results.push(DeleteResult { backup_id: id, error_code, error_msg });
    }
    Ok(Json(DeleteResults { delete_results }))
}

fn ids(document: &Map<String, Value>) -> Result<Vec<String>> {
    let wrong = |what: &str| Error::parameter(Field::Body, format!("backup_ids: {what}"));
    let ids = match document.get("backup_ids") {
        Some(Value::Array(ids)) => ids,
        Some(Value::Null) | None => return Err(wrong("is missing")),
        Some(_) => return Err(wrong("must be a list")),
    };
    if !(1..=DELETE_IDS_MAX).contains(&ids.len()) {
        return Err(wrong("must be 1 to 50"));
    }
    let id = |id: &Value| id.as_str().map(str::to_owned).ok_or_else(|| wrong("must hold strings"));
    ids.iter().map(id).collect()
}
