//! The list of instances (contract section 3.20): the first call of nearly every command.

use axum::extract::State;
use axum::{Extension, Json};
use http::Uri;
use strongroom_core::engine::EngineKind;
use strongroom_core::limits::LIST_ROWS_MAX;
use strongroom_core::policy::BackupPolicy;
use strongroom_core::tag::TagsWanted;
use strongroom_core::{Error, Field, Result};
use strongroom_service::{InstancesWanted, ListedInstance, NameWanted, Scope};

use super::Answer;
use super::backups::OFFSET_MAX;
use super::wire::{InstanceList, InstanceRow};
use crate::app::App;
use crate::query::Params;

pub(crate) async fn list(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    uri: Uri,
) -> Answer<InstanceList> {
    let wanted = wanted(&Params::of(&uri))?;
    let slice = app.service.instance_slice(&scope, &wanted).await?;
    let (policies, region) = (app.service.policy_list(&scope).await?, &app.settings.region);
    let row = |listed: &ListedInstance| {
        let policy = policies.get(&listed.instance.id).unwrap_or(&BackupPolicy::UNSET);
        InstanceRow::new(listed, policy, slice.stored_bytes, region)
    };
    Ok(Json(InstanceList { instances: slice.rows.iter().map(row).collect(), total_count: slice.total }))
}

/// Words of a filter.
pub(super) const TYPES: &[&str] = &["Single", "Ha", "Replica"];

pub(super) fn wanted(params: &Params) -> Result<InstancesWanted> {
    let engine = params.text("datastore_type")?.map(EngineKind::parse).transpose()?;
    let is_single = match params.text("type")? {
        None | Some("Single") => true,
        Some("Ha" | "Replica") => false,
        Some(_) => return Err(Error::parameter(Field::Other, "type: must be Single, Ha or Replica")),
    };
    // Instances here are in no network of the cloud's.
    let mut is_elsewhere = false;
    for name in ["vpc_id", "subnet_id"] {
        is_elsewhere |= params.text(name)?.is_some_and(|value| !value.is_empty());
    }
    Ok(InstancesWanted {
        id: params.text("id")?.map(str::to_owned),
        name: params.text("name")?.map(name).transpose()?,
        engine,
        tags: params.text("tags")?.map_or(Ok(TagsWanted::default()), TagsWanted::parse)?,
        is_of_no_sort: !is_single || is_elsewhere,
        offset: params.number("offset", 0..=OFFSET_MAX)?.unwrap_or(0),
        limit: params.number("limit", 1..=LIST_ROWS_MAX)?.unwrap_or(LIST_ROWS_MAX),
    })
}

/// A leading asterisk looks for a part of the name.
fn name(text: &str) -> Result<NameWanted> {
    match text.strip_prefix('*') {
        None => Ok(NameWanted::Whole(text.to_owned())),
        Some(rest) if rest.bytes().all(|b| b == b'*') => {
            Err(Error::parameter(Field::Other, "name: must be more than asterisks"))
        }
        Some(part) => Ok(NameWanted::Part(part.to_owned())),
    }
}
