//! A job by its id (contract section 3.18).

use axum::extract::State;
use axum::{Extension, Json};
use http::Uri;
use strongroom_core::{Error, Field};
use strongroom_service::Scope;

use super::Answer;
use crate::app::App;
use crate::query::Params;
use crate::rds::jobs::{JobShown, find};

pub(crate) async fn show(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    uri: Uri,
) -> Answer<JobShown> {
    let params = Params::of(&uri);
    let id = params.text("id")?.ok_or_else(|| Error::parameter(Field::Other, "id: is missing"))?;
    Ok(Json(find(&app, &scope, "id", id).await?))
}
