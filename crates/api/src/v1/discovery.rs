//! Version discovery (contract section 3.22); needs no token.

use axum::Json;
use axum::extract::Path;
use strongroom_core::{Error, ErrorKind};

use super::Answer;
use super::wire::{Version, VersionRow, Versions};

/// Only what is served is named, with the day of its specification.
const SERVED: [(&str, &str); 2] = [("v1", "2017-02-07T17:34:02Z"), ("v3", "2019-01-15T12:00:00Z")];

fn row((id, updated): (&str, &str)) -> VersionRow {
    VersionRow {
        id: id.to_owned(),
        links: Vec::new(),
        status: "CURRENT".to_owned(),
        updated: updated.to_owned(),
    }
}

pub(crate) async fn list() -> Json<Versions> {
    Json(Versions { versions: SERVED.map(row).into() })
}

pub(crate) async fn show(Path(version): Path<String>) -> Answer<Version> {
    match SERVED.into_iter().find(|(id, _)| *id == version) {
        Some(served) => Ok(Json(Version { version: row(served), versions: row(served) })),
        None => Err(Error::new(ErrorKind::RouteUnknown, "There is no such version.").into()),
    }
}
