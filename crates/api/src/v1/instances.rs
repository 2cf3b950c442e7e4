//! Instances as v1 lists and shows them (contract section 3.7).

use axum::extract::{Path, State};
use axum::{Extension, Json};
use strongroom_core::backup::InstanceRef;
use strongroom_core::id::NodeId;
use strongroom_core::instance::Instance;
use strongroom_core::policy::BackupPolicy;
use strongroom_core::{Error, Field};
use strongroom_service::Scope;

use super::Answer;
use super::wire::{InstanceList, InstanceRow, InstanceShown};
use crate::app::App;

pub(crate) async fn list(State(app): State<App>, Extension(scope): Extension<Scope>) -> Answer<InstanceList> {
    let instances = app.service.instance_list(&scope).await?;
    let (policies, region) = (app.service.policy_list(&scope).await?, &app.settings.region);
    let row = |instance: &Instance| {
        let policy = policies.get(&instance.id).unwrap_or(&BackupPolicy::UNSET);
        InstanceRow::new(instance, policy, region)
    };
    Ok(Json(InstanceList { instances: instances.iter().map(row).collect() }))
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
