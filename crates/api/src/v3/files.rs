//! Download links (contract section 3.13).

use axum::extract::State;
use axum::{Extension, Json};
use http::{HeaderMap, Uri};
use strongroom_core::id::BackupId;
use strongroom_core::{Error, Field};
use strongroom_service::{Action, BackupRef, Scope};

use super::Answer;
use super::wire::{BackupFile, BackupFiles};
use crate::app::App;
use crate::downloads;
use crate::query::Params;
use crate::rds::moment_with_zone;

/// Named in answers: what a client takes for the place of the files.
const BUCKET: &str = "strongroom";

/// The whole backup is one file.
pub(crate) async fn list(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    headers: HeaderMap,
    uri: Uri,
) -> Answer<BackupFiles> {
    scope.require(Action::Restore)?;
    let wrong = |what: &str| Error::parameter(Field::BackupId, format!("backup_id: {what}"));
    let params = Params::of(&uri);
    let backup = params.text("backup_id")?.ok_or_else(|| wrong("is missing"))?;
    let backup = BackupId::parse(backup).map_err(|error| wrong(error.public()))?;
    let (link, url) = downloads::link(&app, &scope, &BackupRef::Id(backup), &headers).await?;
    let file = BackupFile {
        name: link.file_name,
        size: link.bytes.div_ceil(1024),
        download_link: url,
        link_expired_time: moment_with_zone(link.expires),
        database_name: None,
    };
    Ok(Json(BackupFiles { files: vec![file], bucket: BUCKET.to_owned() }))
}
