//! Tags of instances (contract section 3.21).

use axum::body::Body;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::Request;
use serde_json::{Map, Value};
use strongroom_core::backup::InstanceRef;
use strongroom_core::id::InstanceId;
use strongroom_core::tag::{TagChange, TagKey, TagValue};
use strongroom_core::{Error, Field, Result};
use strongroom_service::{Action, Scope};

use super::Answer;
use super::wire::{InstanceTags, ProjectTags};
use crate::app::App;
use crate::body;
use crate::rds::Nothing;

pub(crate) async fn show(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Path((_, instance)): Path<(String, String)>,
) -> Answer<InstanceTags> {
    let (_, tags) = app.service.tags_of_instance(&scope, &instance_of(instance)?).await?;
    Ok(Json((&tags).into()))
}

pub(crate) async fn of_project(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
) -> Answer<ProjectTags> {
    Ok(Json((&app.service.tags_of_project(&scope).await?).into()))
}

pub(crate) async fn change(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Path((_, instance)): Path<(String, String)>,
    request: Request<Body>,
) -> Answer<Nothing> {
    let change = tag_change(&body::object(&app, &scope, Action::Operate, request).await?)?;
    app.service.tags_change(&scope, &instance_of(instance)?, &change).await?;
    Ok(Json(Nothing {}))
}

fn instance_of(instance: String) -> Result<InstanceRef> {
    InstanceId::parse(&instance)
        .map_err(|error| Error::parameter(Field::InstanceRef, format!("instance_id: {error}")))?;
    Ok(InstanceRef::Instance(instance))
}

/// A tag that is put without a value has an empty one; one that is removed without is removed whatever
/// it is, and clients send an empty text for that too.
pub(super) fn tag_change(document: &Map<String, Value>) -> Result<TagChange> {
    let action = body::required(document, "action")?;
    let rows = pairs(document)?;
    match action {
        "create" => {
            let pair = |(name, value): (&str, Option<&str>)| {
                Ok((TagKey::parse(name)?, TagValue::parse(value.unwrap_or_default())?))
            };
            TagChange::put(rows.into_iter().map(pair).collect::<Result<_>>()?)
        }
        "delete" => {
            let pair = |(name, value): (&str, Option<&str>)| {
                let value = value.filter(|value| !value.is_empty());
                Ok((TagKey::parse(name)?, value.map(TagValue::parse).transpose()?))
            };
            TagChange::remove(rows.into_iter().map(pair).collect::<Result<_>>()?)
        }
        _ => Err(Error::parameter(Field::Body, "action: must be create or delete")),
    }
}

fn wrong(what: &str) -> Error {
    Error::parameter(Field::Body, format!("tags: {what}"))
}

fn pairs(document: &Map<String, Value>) -> Result<Vec<(&str, Option<&str>)>> {
    match document.get("tags") {
        Some(Value::Array(rows)) => rows.iter().map(pair).collect(),
        Some(Value::Null) | None => Err(wrong("is missing")),
        Some(_) => Err(wrong("must be a list of objects")),
    }
}

fn pair(row: &Value) -> Result<(&str, Option<&str>)> {
    let Value::Object(row) = row else { return Err(wrong("must hold objects")) };
    let key = body::text(row, "key", "tags.key")?.ok_or_else(|| wrong("each must have a key"))?;
    Ok((key, body::text(row, "value", "tags.value")?))
}
