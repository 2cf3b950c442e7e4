//! Instances as v1 lists and shows them (contract section 3.7).

use axum::extract::{Path, State};
use axum::{Extension, Json};
use strongroom_core::backup::InstanceRef;
use strongroom_core::id::NodeId;
use strongroom_core::{Error, Field};
use strongroom_service::Scope;

use super::Answer;
use super::wire::{InstanceList, InstanceRow, InstanceShown};
use crate::app::App;

pub(crate) async fn list(State(app): State<App>, Extension(scope): Extension<Scope>) -> Answer<InstanceList> {
    let instances = app.service.instance_list(&scope).await?;
    let region = &app.settings.region;
    Ok(Json(InstanceList { instances: instances.iter().map(|row| InstanceRow::new(row, region)).collect() }))
}

pub(crate) async fn show(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Path((_, node)): Path<(String, String)>,
) -> Answer<InstanceShown> {
    NodeId::parse(&node)
        .map_err(|error| Error::parameter(Field::InstanceRef, format!("node_id: {error}")))?;
    let instance = app.service.instance_find(&scope, &InstanceRef::PrimaryNode(node)).await?;
    Ok(Json(InstanceShown { instance: (&instance).into() }))
}
