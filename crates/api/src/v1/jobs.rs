//! A job by its id. v1 documents no such call; the id that create answers must resolve somewhere.

use axum::extract::{Path, State};
use axum::{Extension, Json};
use strongroom_service::Scope;

use super::Answer;
use crate::app::App;
use crate::rds::jobs::{JobShown, find};

pub(crate) async fn show(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Path((_, job)): Path<(String, String)>,
) -> Answer<JobShown> {
    Ok(Json(find(&app, &scope, "job_id", &job).await?))
}
