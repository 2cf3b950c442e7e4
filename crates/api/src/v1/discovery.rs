//! Version discovery (contract section 3.22); needs no token.

use axum::Json;
use axum::extract::Path;
use strongroom_core::{Error, ErrorKind};

use super::Answer;
use super::wire::{Version, VersionRow, Versions};

fn v1() -> VersionRow {
    VersionRow {
        id: "v1".to_owned(),
        links: Vec::new(),
        status: "CURRENT".to_owned(),
        updated: "2017-02-07T17:34:02Z".to_owned(),
    }
}

/// Only what is served is named: v3 joins with its folder.
pub(crate) async fn list() -> Json<Versions> {
    Json(Versions { versions: vec![v1()] })
}

pub(crate) async fn show(Path(version): Path<String>) -> Answer<Version> {
    match version.as_str() {
        "v1" => Ok(Json(Version { version: v1(), versions: v1() })),
        _ => Err(Error::new(ErrorKind::RouteUnknown, "There is no such version.").into()),
    }
}
