//! The backup policy of an instance (contract section 3.14): how long automated backups are kept, in
//! which hour they begin, and on which days of the week.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::Request;
use serde_json::{Map, Value};
use strongroom_core::backup::InstanceRef;
use strongroom_core::id::InstanceId;
use strongroom_core::policy::{Keep, PolicyChange, StartWindow, Weekdays};
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
    Path((_, instance)): Path<(String, String)>,
) -> Answer<PolicyShown> {
    let detail = app.service.policy_show(&scope, &instance_of(instance)?).await?;
    Ok(Json((&detail.policy).into()))
}

pub(crate) async fn set(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Path((_, instance)): Path<(String, String)>,
    request: Request<Body>,
) -> Answer<Nothing> {
    let change = policy_change(&body::object(&app, &scope, Action::Operate, request).await?)?;
    app.service.policy_set(&scope, &instance_of(instance)?, &change).await?;
    Ok(Json(Nothing {}))
}

fn instance_of(instance: String) -> Result<InstanceRef> {
    InstanceId::parse(&instance)
        .map_err(|error| Error::parameter(Field::InstanceRef, format!("instance_id: {error}")))?;
    Ok(InstanceRef::Instance(instance))
}

/// Start and days are mandatory unless automated backups are switched off; what a look at a policy
/// that is off answers, two empty texts, is taken back as nothing said.
pub(super) fn policy_change(document: &Map<String, Value>) -> Result<PolicyChange> {
    let policy = body::member(document, "backup_policy", "backup_policy")?;
    let days = body::integer(policy, "keep_days", "backup_policy.keep_days")?
        .ok_or_else(|| Error::parameter(Field::Body, "backup_policy.keep_days: is missing"))?;
    let start = body::text(policy, "start_time", "backup_policy.start_time")?;
    let period = body::text(policy, "period", "backup_policy.period")?;
    let keep = Keep::parse(days, reserves(document)?)?;
    if let Keep::Off { .. } = keep {
        let said = |text: &&str| !text.is_empty();
        return Ok(PolicyChange {
            keep,
            window: start.filter(said).map(StartWindow::parse).transpose()?,
            weekdays: period.filter(said).map(Weekdays::parse).transpose()?,
        });
    }
    let missing =
        |field, name: &str| Error::parameter(field, format!("{name}: is missing; it goes with keep_days"));
    Ok(PolicyChange {
        keep,
        window: Some(StartWindow::parse(start.ok_or_else(|| missing(Field::StartTime, "start_time"))?)?),
        weekdays: Some(Weekdays::parse(period.ok_or_else(|| missing(Field::Period, "period"))?)?),
    })
}

/// Whether the automated backups that exist stay when they are switched off; they do unless somebody
/// says otherwise.
fn reserves(document: &Map<String, Value>) -> Result<bool> {
    match document.get("reserve_backups") {
        None | Some(Value::Null) => Ok(true),
        Some(Value::Bool(reserves)) => Ok(*reserves),
        Some(_) => Err(Error::parameter(Field::Body, "reserve_backups: must be true or false")),
    }
}
