//! Alive, ready and metrics are three pages; none needs a token, none names a tenant.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::json;
use strongroom_core::{Error, ErrorKind};

use crate::app::App;

pub(crate) async fn alive() -> Response {
    (StatusCode::OK, axum::Json(json!({ "status": "alive" }))).into_response()
}

pub(crate) async fn ready(State(app): State<App>) -> Response {
    match app.service.ready().await {
        Ok(()) => (StatusCode::OK, axum::Json(json!({ "status": "ready" }))).into_response(),
        Err(error) => {
            tracing::warn!("Not ready: {}", error.chain());
            let body = json!({ "status": "not ready", "reason": error.public(), "hint": error.hint() });
            (StatusCode::SERVICE_UNAVAILABLE, axum::Json(body)).into_response()
        }
    }
}

pub(crate) async fn metrics(State(app): State<App>) -> Response {
    match app.metrics.render(&app.service).await {
        Ok(text) => ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
            .into_response(),
        Err(error) => refuse(&error),
    }
}

/// Errors of paths that belong to no dialect.
pub(crate) fn refuse(error: &Error) -> Response {
    let status = match error.kind() {
        ErrorKind::RouteUnknown => StatusCode::NOT_FOUND,
        ErrorKind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, axum::Json(json!({ "message": error.public() }))).into_response()
}
