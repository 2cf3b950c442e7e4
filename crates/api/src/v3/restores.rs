//! Restores and what can be restored (contract sections 3.15–3.17).

use std::collections::HashSet;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::{Request, Uri};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};
use strongroom_core::backup::InstanceRef;
use strongroom_core::restore::{RestorePoint, RestoreTarget, RestoreWindow, RestoreWish};
use strongroom_core::text::{InstanceName, check_instance_password};
use strongroom_core::{Error, Field, Result};
use strongroom_service::{Action, Scope};

use super::Answer;
use super::wire::{ErrorBody, RestoreTimes};
use crate::app::App;
use crate::body;
use crate::query::Params;
use crate::rds::restore::{backup, either, instance, moment, object};

pub(crate) async fn times(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Path((_, instance)): Path<(String, String)>,
    uri: Uri,
) -> Answer<RestoreTimes> {
    let day = Params::of(&uri).text("date")?.map(day).transpose()?;
    strongroom_core::id::InstanceId::parse(&instance)
        .map_err(|error| Error::parameter(Field::InstanceRef, format!("instance_id: {error}")))?;
    let windows = app.service.restore_windows(&scope, &instance, day).await?;
    Ok(Json(windows.into()))
}

/// A whole day, UTC.
pub(super) fn day(text: &str) -> Result<RestoreWindow> {
    let refused = || Error::parameter(Field::Other, "date: must be yyyy-mm-dd");
    let is_plain = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    let date: Date = text.parse().ok().filter(|_| is_plain).ok_or_else(refused)?;
    let from: Timestamp = date.to_zoned(TimeZone::UTC).map_err(|_| refused())?.timestamp();
    let whole = SignedDuration::from_hours(24) - SignedDuration::from_micros(1);
    Ok(RestoreWindow { from, until: from.checked_add(whole).unwrap_or(Timestamp::MAX) })
}

/// Into an instance that is there: by `/v3` and by `/v3.1`.
pub(crate) async fn recover(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    request: Request<Body>,
) -> Answer<ErrorBody> {
    let wish = recovery(&body::object(&app, &scope, Action::Restore, request).await?)?;
    match app.service.restore_ask(&scope, &wish).await? {}
}

/// Into an instance that is made for it.
pub(crate) async fn create(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    request: Request<Body>,
) -> Answer<ErrorBody> {
    let wish = new_instance(&body::object(&app, &scope, Action::Restore, request).await?)?;
    match app.service.restore_ask(&scope, &wish).await? {}
}

pub(super) fn recovery(document: &Map<String, Value>) -> Result<RestoreWish> {
    let (from, to) = (object(document, "source", "source")?, object(document, "target", "target")?);
    let target = needed(to, "target.instance_id")?;
    if !matches!(from.get("restore_all_database"), None | Some(Value::Null | Value::Bool(_))) {
        return Err(wrong("source.restore_all_database", "must be true or false"));
    }
    Ok(RestoreWish {
        source: Some(InstanceRef::Instance(needed(from, "source.instance_id")?)),
        point: point(from, "source")?,
        target: RestoreTarget::Existing(InstanceRef::Instance(target)),
        databases: databases(from, "source.database_name")?,
    })
}

pub(super) fn new_instance(document: &Map<String, Value>) -> Result<RestoreWish> {
    let name = body::required(document, "name")?;
    let password = body::text(document, "password", "password")?;
    let volume = match document.get("volume") {
        None | Some(Value::Null) => None,
        Some(_) => object(document, "volume", "volume")?.get("size"),
    };
    let volume_gb = match volume {
        None | Some(Value::Null) => None,
        Some(size) => Some(size.as_u64().ok_or_else(|| wrong("volume.size", "must be a whole number"))?),
    };
    port(document)?;
    mode(document)?;
    let from = object(document, "restore_point", "restore_point")
        .map_err(|error| error.with_hint("an instance is made from a backup here, and in no other way"))?;
    let wish = RestoreWish {
        source: Some(InstanceRef::Instance(needed(from, "restore_point.instance_id")?)),
        point: point(from, "restore_point")?,
        target: RestoreTarget::New { name: InstanceName::parse(name)?, volume_gb },
        databases: databases(from, "restore_point.database_name")?,
    };
    password.map(check_instance_password).transpose()?;
    Ok(wish)
}

fn wrong(named: &str, what: &str) -> Error {
    Error::parameter(Field::Body, format!("{named}: {what}"))
}

fn needed(from: &Map<String, Value>, named: &str) -> Result<String> {
    instance(from, "instance_id", named)?.ok_or_else(|| wrong(named, "is missing"))
}

/// A backup unless the type says otherwise; what the type does not name is passed over.
fn point(from: &Map<String, Value>, named: &str) -> Result<RestorePoint> {
    let (backup_named, time_named) = (format!("{named}.backup_id"), format!("{named}.restore_time"));
    let backup = backup(from, "backup_id", &backup_named)?;
    let moment = moment(from, "restore_time", &time_named)?;
    match body::text(from, "type", &format!("{named}.type"))? {
        Some("backup") => either(backup, None).ok_or_else(|| wrong(&backup_named, "is missing")),
        Some("timestamp") => either(None, moment).ok_or_else(|| wrong(&time_named, "is missing")),
        None => either(backup, None).ok_or_else(|| wrong(&backup_named, "is missing; or say type timestamp")),
        Some(_) => Err(wrong(&format!("{named}.type"), "must be backup or timestamp")),
    }
}

fn port(document: &Map<String, Value>) -> Result<()> {
    let port = match document.get("port") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::String(text)) => text.parse().ok(),
        Some(Value::Number(number)) => number.as_u64().and_then(|port| u16::try_from(port).ok()),
        Some(_) => None,
    };
    port.filter(|port| *port > 0).map(|_| ()).ok_or_else(|| wrong("port", "must be 1 to 65535"))
}

fn mode(document: &Map<String, Value>) -> Result<()> {
    if matches!(document.get("ha"), None | Some(Value::Null)) {
        return Ok(());
    }
    match body::text(object(document, "ha", "ha")?, "mode", "ha.mode")? {
        Some(mode) if mode.eq_ignore_ascii_case("ha") => Ok(()),
        Some(_) => Err(wrong("ha.mode", "must be Ha")),
        None => Err(wrong("ha.mode", "is missing")),
    }
}

/// Names that belong to SQL Server itself.
const RESERVED: [&str; 6] = ["rdsadmin", "master", "msdb", "tempdb", "model", "resource"];

/// From each database to the names that it gets, a list with commas; an empty text keeps the name.
fn databases(from: &Map<String, Value>, named: &str) -> Result<Vec<(String, Vec<String>)>> {
    let map = match from.get("database_name") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(map)) => map,
        Some(_) => return Err(wrong(named, "must be an object")),
    };
    let (mut out, mut seen) = (Vec::new(), HashSet::new());
    for (old, names) in map {
        let Value::String(names) = names else {
            return Err(wrong(named, "must hold texts, names with commas between them"));
        };
        let names: Vec<String> = match names.as_str() {
            "" => vec![old.clone()],
            names => names.split(',').map(str::to_owned).collect(),
        };
        for name in &names {
            if !is_database_name(name) || !seen.insert(name.to_ascii_lowercase()) {
                let what =
                    format!("{named}: each new name must be its own, of 1 to 64 letters, digits, _ and -");
                return Err(Error::parameter(Field::NewDatabaseName, what));
            }
        }
        out.push((old.clone(), names));
    }
    Ok(out)
}

fn is_database_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        && !RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name))
}
