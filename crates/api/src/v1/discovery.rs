//! Version discovery (contract section 3.22); needs no token.

use axum::Json;
use axum::extract::Path;
use serde_json::{Value, json};
use strongroom_core::{Error, ErrorKind};

use super::Refusal;

const V1_UPDATED: &str = "2017-02-07T17:34:02Z";

fn v1() -> Value {
    json!({ "id": "v1", "links": [], "status": "CURRENT", "updated": V1_UPDATED })
}

/// Only what is served is named: v3 joins with its folder.
pub(crate) async fn list() -> Json<Value> {
    Json(json!({ "versions": [v1()] }))
}

pub(crate) async fn show(Path(version): Path<String>) -> Result<Json<Value>, Refusal> {
    match version.as_str() {
        "v1" => Ok(Json(json!({ "version": v1(), "versions": v1() }))),
        _ => Err(Error::new(ErrorKind::RouteUnknown, "There is no such version.").into()),
    }
}
