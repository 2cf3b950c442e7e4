//! Policies: what holds for an instance, and why each of its backups is still here.

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use http::Request;
use serde::Deserialize;
use strongroom_core::backup::BackupType;
use strongroom_core::id::RequestId;
use strongroom_core::policy::{Keep, PolicyChange, StartWindow, Weekdays};
use strongroom_core::retention::{Fate, Protection, Why};
use strongroom_core::{Error, Field, Result};
use strongroom_service::{Action, PolicyDetail, RetentionHold, RetentionRow, Scope, StartRow};

use super::views::{backup_status, moment};
use super::wire::{BackupFateView, PolicyRequest, PolicyStartView, PolicyView, RetentionHoldView, SCHEMA};
use super::{Answer, Refusal, reference};
use crate::app::App;
use crate::body;

#[derive(Debug, Deserialize)]
pub(crate) struct ShowQuery {
    #[serde(default)]
    explain: bool,
    keep_days: Option<i64>,
    #[serde(default)]
    remove_automated: bool,
}

pub(crate) async fn show(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
    Path(instance): Path<String>,
    query: Result<Query<ShowQuery>, axum::extract::rejection::QueryRejection>,
) -> Answer<Json<PolicyView>> {
    let shown = async {
        let wanted = reference::instance(instance)?;
        let Query(query) = query.map_err(|_| bad_query())?;
        let keep = query.keep_days.map(|days| Keep::parse(days, !query.remove_automated)).transpose()?;
        let detail = app.service.policy_show(&scope, &wanted).await?;
        let mut view = view(&detail);
        if query.explain {
            let rows = app.service.policy_explain(&scope, &detail.instance, keep).await?;
            let keep = keep.unwrap_or(detail.policy.keep());
            view.backups = Some(rows.iter().map(|row| fate_view(row, keep)).collect());
        }
        Ok(Json(view))
    };
    shown.await.map_err(Refusal::of(&id))
}

fn bad_query() -> Error {
    Error::parameter(
        Field::Other,
        "query: explain and remove_automated must be true or false, keep_days a whole number, none twice",
    )
}

pub(crate) async fn set(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
    Path(instance): Path<String>,
    request: Request<Body>,
) -> Answer<Json<PolicyView>> {
    let set = async {
        let request: PolicyRequest = body::document(&app, &scope, Action::Operate, request).await?;
        let change = policy_change(&request)?;
        app.service.policy_set(&scope, &reference::instance(instance)?, &change).await
    };
    Ok(Json(view(&set.await.map_err(Refusal::of(&id))?)))
}

fn policy_change(request: &PolicyRequest) -> Result<PolicyChange> {
    let keep = Keep::parse(request.keep_days, !request.remove_automated)?;
    if request.remove_automated && matches!(keep, Keep::Days(_)) {
        return Err(Error::parameter(Field::KeepDays, "remove_automated: only with keep_days 0"));
    }
    Ok(PolicyChange {
        keep,
        window: request.start_time.as_deref().map(StartWindow::parse).transpose()?,
        weekdays: request.period.as_deref().map(Weekdays::parse).transpose()?,
    })
}

pub(crate) async fn resume(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
) -> Answer<Json<serde_json::Value>> {
    app.service.retention_resume(&scope).await.map_err(Refusal::of(&id))?;
    Ok(Json(serde_json::json!({})))
}

fn view(detail: &PolicyDetail) -> PolicyView {
    let schedule = detail.policy.schedule();
    PolicyView {
        schema: SCHEMA,
        instance_id: detail.instance.id.as_str().to_owned(),
        instance_name: detail.instance.name.as_str().to_owned(),
        automated: detail.policy.active().is_some(),
        keep_days: detail.policy.keep().days(),
        start_time: schedule.map(|schedule| schedule.window.to_string()).unwrap_or_default(),
        period: schedule.map(|schedule| schedule.weekdays.to_string()).unwrap_or_default(),
        next_start: detail.next_start.map(moment),
        last_start: detail.last_start.as_ref().map(start_view),
        retention_held: detail.hold.as_ref().map(hold_view),
        backups: None,
    }
}

fn start_view(start: &StartRow) -> PolicyStartView {
    PolicyStartView {
        due: moment(start.due),
        started: moment(start.started),
        backup_id: start.backup_id.as_str().to_owned(),
    }
}

fn hold_view(hold: &RetentionHold) -> RetentionHoldView {
    RetentionHoldView { at: moment(hold.at), moved_s: hold.moved_ms / 1000 }
}

fn fate_view(row: &RetentionRow, keep: Keep) -> BackupFateView {
    BackupFateView {
        id: row.id.as_str().to_owned(),
        name: row.name.as_str().to_owned(),
        kind: row.judged.kind.word().to_owned(),
        status: backup_status(row.judged.state).to_owned(),
        created: moment(row.created),
        finished: row.judged.finished.map(moment),
        why: why_word(row.fate.why).to_owned(),
        explanation: explanation(&row.fate, row.judged.kind, keep),
        goes: row.fate.goes.map(moment),
    }
}

fn why_word(why: Why) -> &'static str {
    match why {
        Why::Manual => "manual",
        Why::Building => "building",
        Why::Deleting => "deleting",
        Why::AutomationOff => "automation_off",
        Why::WithinKeepDays => "within_keep_days",
        Why::PolicyShortened => "policy_shortened",
        Why::Protected => "protected",
        Why::Due => "due",
    }
}

/// One sentence or two: why it is here, and what would keep it longer.
fn explanation(fate: &Fate, kind: BackupType, keep: Keep) -> String {
    let why = match fate.why {
        Why::Manual => "A manual backup stays until somebody deletes it.".to_owned(),
        Why::Building => "It is being built.".to_owned(),
        Why::Deleting => "It is being deleted.".to_owned(),
        Why::AutomationOff => {
            "Automated backups are off; those that are there stay until somebody deletes them.".to_owned()
        }
        Why::WithinKeepDays => format!("It is kept for {} days after its end.", keep.days()),
        Why::PolicyShortened => {
            "Its days are over since the policy was changed, which can still be undone.".to_owned()
        }
        Why::Protected => "Its days are over, and no rule removes it.".to_owned(),
        Why::Due => "Its days are over: the next look removes it.".to_owned(),
    };
    let is_automated = kind == BackupType::Auto;
    match fate.protection.filter(|_| is_automated && fate.why != Why::Deleting) {
        None => why,
        Some(Protection::Newest) => why + " It is the newest COMPLETED backup of its instance.",
        Some(Protection::Verified(level)) => {
            format!("{why} It is the newest that passed a verification of level {} or deeper.", level.word())
        }
        Some(Protection::Held) => why + " A legal hold stands on it.",
    }
}
