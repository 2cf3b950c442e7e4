//! Alive, ready and metrics are three pages; none needs a token, none names a tenant.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::json;
use strongroom_core::{Error, ErrorKind};
use utoipa::ToSchema;

use crate::app::App;
use crate::metrics::as_plain_text;

/// Answer of the two pages that load balancers and supervisors ask for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `alive`, `ready` or `not ready`
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

fn healthy(status: &'static str) -> Response {
    axum::Json(Health { status, reason: None, hint: None }).into_response()
}

pub(crate) async fn alive() -> Response {
    healthy("alive")
}

pub(crate) async fn ready(State(app): State<App>) -> Response {
    match app.service.ready().await {
        Ok(()) => healthy("ready"),
        Err(error) => {
            tracing::warn!("Not ready: {}", error.chain());
            let (reason, hint) = (Some(error.public().to_owned()), error.hint().map(str::to_owned));
            let body = Health { status: "not ready", reason, hint };
            (StatusCode::SERVICE_UNAVAILABLE, axum::Json(body)).into_response()
        }
    }
}

/// Prometheus text for everybody, OpenMetrics for those who say that they read it.
pub(crate) async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match app.metrics.render(&app.service).await {
        Ok(page) if accepted.contains("application/openmetrics-text") => {
            ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], page)
                .into_response()
        }
        Ok(page) => ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], as_plain_text(&page))
            .into_response(),
        Err(error) => {
            tracing::warn!("The metrics cannot be read: {}", error.chain());
            refuse(&error)
        }
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
