//! `/v1.0…`: Trove, of which nothing is served. Its clients hear so in their own form.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;
use strongroom_core::{Error, ErrorKind};

pub(crate) fn refuse(error: &Error) -> Response {
    let (status, word) = match error.kind() {
        ErrorKind::RouteUnknown => (StatusCode::NOT_FOUND, "itemNotFound"),
        ErrorKind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "instanceFault"),
        _ => (StatusCode::BAD_REQUEST, "badRequest"),
    };
    let body = json!({ word: { "code": status.as_u16(), "message": error.public() } });
    (status, axum::Json(body)).into_response()
}
