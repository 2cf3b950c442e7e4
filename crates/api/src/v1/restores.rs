//! Restores by v1: to a new instance and in place (contract sections 3.5 and 3.6).

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use http::Request;
use serde_json::{Map, Value};
use strongroom_core::backup::InstanceRef;
use strongroom_core::id::NodeId;
use strongroom_core::limits::{VOLUME_GB_MAX, VOLUME_GB_MIN};
use strongroom_core::restore::{RestorePoint, RestoreTarget, RestoreWish};
use strongroom_core::text::InstanceName;
use strongroom_core::{Error, ErrorKind, Field, Result};
use strongroom_service::{Action, Scope};

use super::Answer;
use super::wire::ErrorBody;
use crate::app::App;
use crate::body;
use crate::rds::restore::{backup, either, instance, moment, object};

pub(crate) async fn create(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    request: Request<Body>,
) -> Answer<ErrorBody> {
    let wish = new_instance(&body::object(&app, &scope, Action::Restore, request).await?)?;
    match app.service.restore_ask(&scope, &wish).await? {}
}

pub(crate) async fn act(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Path((_, node)): Path<(String, String)>,
    request: Request<Body>,
) -> Answer<ErrorBody> {
    let document = body::object(&app, &scope, Action::Restore, request).await?;
    let wish = in_place(&node, &document)?;
    match app.service.restore_ask(&scope, &wish).await? {}
}

fn wrong(named: &str, what: &str) -> Error {
    Error::parameter(Field::Body, format!("{named}: {what}"))
}

/// A backup or a moment; the backup where both are.
fn point(from: &Map<String, Value>, named: &str) -> Result<RestorePoint> {
    let backup = backup(from, "backupRef", &format!("{named}.backupRef"))?;
    let moment = moment(from, "restoreTime", &format!("{named}.restoreTime"))?;
    either(backup, moment).ok_or_else(|| wrong(named, "needs backupRef or restoreTime"))
}

pub(crate) fn new_instance(document: &Map<String, Value>) -> Result<RestoreWish> {
    let wanted = object(document, "instance", "instance")?;
    let text =
        |key: &str, named: &str| body::text(wanted, key, named)?.ok_or_else(|| wrong(named, "is missing"));
    let name = text("name", "instance.name")?;
    text("flavorRef", "instance.flavorRef")?;
    let size = object(wanted, "volume", "instance.volume")?.get("size").and_then(Value::as_u64);
    let is_room = |gb: &u64| (VOLUME_GB_MIN..=VOLUME_GB_MAX).contains(gb) && gb.is_multiple_of(10);
    let volume_gb = size
        .filter(is_room)
        .ok_or_else(|| wrong("instance.volume.size", "must be a whole number from 40 to 4000, by tens"))?;
    let from = object(wanted, "restorePoint", "instance.restorePoint")?;
    let point = point(from, "instance.restorePoint")?;
    let source = instance(from, "sourceInstanceId", "instance.restorePoint.sourceInstanceId")?;
    if source.is_none() && matches!(point, RestorePoint::Moment(_)) {
        return Err(wrong("instance.restorePoint.sourceInstanceId", "is missing; a time needs it"));
    }
    Ok(RestoreWish {
        source: source.map(InstanceRef::PrimaryNode),
        point,
        target: RestoreTarget::New { name: InstanceName::parse(name)?, volume_gb: Some(volume_gb) },
        databases: Vec::new(),
    })
}

pub(crate) fn in_place(node: &str, document: &Map<String, Value>) -> Result<RestoreWish> {
    if document.get("restore").is_none() {
        return Err(match document.keys().next() {
            Some(_) => Error::new(ErrorKind::ActionUnknown, "The only action is restore."),
            None => wrong("restore", "is missing"),
        });
    }
    let point = point(object(document, "restore", "restore")?, "restore")?;
    NodeId::parse(node).map_err(|error| Error::parameter(Field::InstanceRef, format!("node_id: {error}")))?;
    let itself = InstanceRef::PrimaryNode(node.to_owned());
    Ok(RestoreWish {
        source: Some(itself.clone()),
        point,
        target: RestoreTarget::Existing(itself),
        databases: Vec::new(),
    })
}
