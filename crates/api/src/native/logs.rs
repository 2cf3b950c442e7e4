//! The capture of an instance's log: look at it, switch it.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::Request;
use strongroom_core::id::RequestId;
use strongroom_core::logs::{HeldLog, LogPosition};
use strongroom_service::{Action, LogDetail, Scope};

use super::views::moment;
use super::wire::{LogPlaceView, LogRangeView, LogRequest, LogView, SCHEMA};
use super::{Answer, Refusal, reference};
use crate::app::App;
use crate::body;

pub(crate) async fn show(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
    Path(instance): Path<String>,
) -> Answer<Json<LogView>> {
    let shown = async { app.service.log_detail(&scope, &reference::instance(instance)?).await };
    Ok(Json(view(&shown.await.map_err(Refusal::of(&id))?)))
}

pub(crate) async fn set(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
    Path(instance): Path<String>,
    request: Request<Body>,
) -> Answer<Json<LogView>> {
    let set = async {
        let request: LogRequest = body::document(&app, &scope, Action::Operate, request).await?;
        app.service.log_switch(&scope, &reference::instance(instance)?, request.capture).await
    };
    Ok(Json(view(&set.await.map_err(Refusal::of(&id))?)))
}

fn view(detail: &LogDetail) -> LogView {
    let standing = detail.standing.as_ref();
    let state = match standing {
        None => "off",
        Some(standing) if standing.is_ending => "ending",
        Some(standing) if standing.failure.is_some() => "failing",
        Some(standing) if standing.is_held => "capturing",
        Some(_) => "waiting",
    };
    let failure = standing.and_then(|standing| standing.failure.as_ref());
    LogView {
        schema: SCHEMA,
        state: state.to_owned(),
        lag_s: detail.lag.map(|lag| lag.as_secs().max(0)),
        confirmed: standing.and_then(|standing| standing.confirmed).map(moment),
        retained_bytes: standing.and_then(|standing| standing.retained_bytes),
        has_backup: standing.is_some_and(|standing| standing.is_based),
        failure: failure.map(|failure| failure.message.clone()),
        hint: failure.and_then(|failure| failure.hint.clone()),
        ranges: detail.held.iter().map(range_view).collect(),
    }
}

fn range_view(held: &HeldLog) -> LogRangeView {
    let place = |at: LogPosition| LogPlaceView { file: at.file, offset: at.offset };
    LogRangeView {
        stream: held.stream.to_string(),
        from: place(held.range.from),
        until: place(held.range.until),
        until_time: held.until.map(moment),
    }
}
