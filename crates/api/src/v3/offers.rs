//! What could be chosen for an instance (contract section 3.21). This is somebody's own machine: its
//! only flavor and its only kind of storage are whatever is there.

use std::collections::BTreeSet;

use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::Uri;
use strongroom_core::engine::EngineKind;
use strongroom_core::{Error, Field, Result};
use strongroom_service::Scope;

use super::Answer;
use super::wire::{
    DataStoreVersion, DataStoreVersions, Flavor, FlavorList, QuotaRow, QuotaRows, Quotas, VolumeType,
    VolumeTypes, zones,
};
use crate::app::App;
use crate::query::Params;
use crate::rds::{series, version_id};

/// The only kind of storage, by the name that clients know.
pub(super) const STORAGE: &str = "CLOUDSSD";
const GROUP: &str = "normal";
/// Nobody counts instances.
const UNLIMITED: i64 = -1;

/// The only flavor, in the form that clients know.
pub(super) fn flavor(engine: EngineKind) -> String {
    format!("rds.{}.own", engine.word())
}

/// The series of an engine that registered instances run.
async fn series_of(app: &App, scope: &Scope, engine: &str) -> Result<(EngineKind, BTreeSet<String>)> {
    let engine = EngineKind::parse(engine)?;
    let instances = app.service.instance_list(scope).await?;
    let of_engine = instances.iter().filter(|row| row.engine == engine);
    Ok((engine, of_engine.map(|row| series(engine, &row.version).to_owned()).collect()))
}

pub(crate) async fn datastores(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Path((_, engine)): Path<(String, String)>,
) -> Answer<DataStoreVersions> {
    let (engine, found) = series_of(&app, &scope, &engine).await?;
    let row = |name: String| DataStoreVersion { id: version_id(engine, &name), name };
    Ok(Json(DataStoreVersions { data_stores: found.into_iter().map(row).collect() }))
}

pub(crate) async fn flavors(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Path((_, engine)): Path<(String, String)>,
    uri: Uri,
) -> Answer<FlavorList> {
    let params = Params::of(&uri);
    let (version, code) = (params.text("version_name")?, params.text("spec_code")?);
    let (engine, found) = series_of(&app, &scope, &engine).await?;
    let own = flavor(engine);
    let fits = version.is_none_or(|version| found.contains(version)) && code.is_none_or(|code| code == own);
    let row = || Flavor {
        vcpus: String::new(),
        ram: 0,
        id: version_id(engine, &own),
        spec_code: own.clone(),
        version_name: found.iter().cloned().collect(),
        instance_mode: "single".to_owned(),
        az_status: zones(&app.settings.region),
        az_desc: serde_json::json!({}),
        group_type: GROUP.to_owned(),
    };
    Ok(Json(FlavorList { flavors: if fits && !found.is_empty() { vec![row()] } else { Vec::new() } }))
}

pub(crate) async fn storage_types(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Path((_, engine)): Path<(String, String)>,
    uri: Uri,
) -> Answer<VolumeTypes> {
    let params = Params::of(&uri);
    let missing = || Error::parameter(Field::Other, "version_name: is missing");
    let version = params.text("version_name")?.ok_or_else(missing)?;
    let (_, found) = series_of(&app, &scope, &engine).await?;
    let row = || VolumeType {
        name: STORAGE.to_owned(),
        az_status: zones(&app.settings.region),
        support_compute_group_type: vec![GROUP.to_owned()],
    };
    Ok(Json(VolumeTypes { storage_type: if found.contains(version) { vec![row()] } else { Vec::new() } }))
}

pub(crate) async fn quotas(State(app): State<App>, Extension(scope): Extension<Scope>) -> Answer<Quotas> {
    let used = app.service.instance_list(&scope).await?.len() as u64;
    let row = QuotaRow { kind: "instance".to_owned(), quota: UNLIMITED, used };
    Ok(Json(Quotas { quotas: QuotaRows { resources: vec![row] } }))
}
