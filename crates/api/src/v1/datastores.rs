//! Versions of an engine (contract section 3.8): those that registered instances run.

use std::collections::BTreeSet;

use axum::extract::{Path, State};
use axum::{Extension, Json};
use strongroom_core::engine::EngineKind;
use strongroom_service::Scope;

use super::Answer;
use super::wire::{DataStoreVersion, DataStoreVersions};
use crate::app::App;
use crate::rds::{engine_id, version_id};

pub(crate) async fn versions(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Path((_, engine)): Path<(String, String)>,
) -> Answer<DataStoreVersions> {
    let engine = EngineKind::parse(&engine)?;
    let instances = app.service.instance_list(&scope).await?;
    let versions: BTreeSet<&str> =
        instances.iter().filter(|row| row.engine == engine).map(|row| row.version.as_str()).collect();
    let data_stores = versions.into_iter().map(|version| row(engine, version)).collect();
    Ok(Json(DataStoreVersions { data_stores }))
}

fn row(engine: EngineKind, version: &str) -> DataStoreVersion {
    DataStoreVersion {
        id: version_id(engine, version),
        name: version.to_owned(),
        datastore: engine_id(engine),
        image: String::new(),
        packages: String::new(),
        active: 1,
    }
}
