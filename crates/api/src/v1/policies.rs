//! The backup policy of an instance (contract section 3.4): how long automated backups are kept, and
//! when they begin.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::Request;
use serde_json::{Map, Value};
use strongroom_core::backup::InstanceRef;
use strongroom_core::id::NodeId;
use strongroom_core::policy::{Keep, PolicyChange, StartWindow};
use strongroom_core::{Error, Field, Result};
use strongroom_service::{Action, Scope};

use super::Answer;
use super::wire::PolicyShown;
use crate::app::App;
use crate::body;
use crate::rds::Nothing;

pub(crate) async fn show(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Path((_, node)): Path<(String, String)>,
) -> Answer<PolicyShown> {
    let detail = app.service.policy_show(&scope, &node_of(node)?).await?;
    Ok(Json((&detail.policy).into()))
}

pub(crate) async fn set(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Path((_, node)): Path<(String, String)>,
    request: Request<Body>,
) -> Answer<Nothing> {
    let change = policy_change(&body::object(&app, &scope, Action::Operate, request).await?)?;
    app.service.policy_set(&scope, &node_of(node)?, &change).await?;
    Ok(Json(Nothing {}))
}

fn node_of(node: String) -> Result<InstanceRef> {
    NodeId::parse(&node)
        .map_err(|error| Error::parameter(Field::InstanceRef, format!("node_id: {error}")))?;
    Ok(InstanceRef::PrimaryNode(node))
}

/// Both fields are mandatory, the start also where automated backups are switched off. Days of the
/// week are unknown to this dialect, and stay as they are.
fn policy_change(document: &Map<String, Value>) -> Result<PolicyChange> {
    let policy = body::member(document, "policy", "policy")?;
    let missing = |named: &str| Error::parameter(Field::Body, format!("{named}: is missing"));
    let days =
        body::integer(policy, "keepday", "policy.keepday")?.ok_or_else(|| missing("policy.keepday"))?;
    let start = body::text(policy, "starttime", "policy.starttime")?;
    let start = start.ok_or_else(|| missing("policy.starttime"))?;
    Ok(PolicyChange {
        keep: Keep::parse(days, true)?,
        window: Some(StartWindow::parse_start(start)?),
        weekdays: None,
    })
}
