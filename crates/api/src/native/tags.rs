//! Tags of instances.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::Request;
use strongroom_core::Result;
use strongroom_core::id::RequestId;
use strongroom_core::instance::Instance;
use strongroom_core::tag::{TagChange, TagKey, TagValue, Tags};
use strongroom_service::{Action, Scope};

use super::wire::{SCHEMA, TagEntry, TagsRequest, TagsView};
use super::{Answer, Refusal, reference};
use crate::app::App;
use crate::body;

pub(crate) async fn show(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
    Path(instance): Path<String>,
) -> Answer<Json<TagsView>> {
    let found = async { app.service.tags_of_instance(&scope, &reference::instance(instance)?).await };
    Ok(Json(view(&found.await.map_err(Refusal::of(&id))?)))
}

pub(crate) async fn set(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
    Path(instance): Path<String>,
    request: Request<Body>,
) -> Answer<Json<TagsView>> {
    let set = async {
        let request: TagsRequest = body::document(&app, &scope, Action::Operate, request).await?;
        let change = replacement(&request)?;
        app.service.tags_change(&scope, &reference::instance(instance)?, &change).await
    };
    Ok(Json(view(&set.await.map_err(Refusal::of(&id))?)))
}

fn replacement(request: &TagsRequest) -> Result<TagChange> {
    let pair = |tag: &TagEntry| Ok((TagKey::parse(&tag.key)?, TagValue::parse(&tag.value)?));
    TagChange::replace(request.tags.iter().map(pair).collect::<Result<_>>()?)
}

fn view((instance, tags): &(Instance, Tags)) -> TagsView {
    let entry = |(key, value): (&TagKey, &TagValue)| TagEntry {
        key: key.as_str().to_owned(),
        value: value.as_str().to_owned(),
    };
    TagsView {
        schema: SCHEMA,
        instance_id: instance.id.as_str().to_owned(),
        instance_name: instance.name.as_str().to_owned(),
        tags: tags.iter().map(entry).collect(),
    }
}
