//! The repository as a whole, the recovery kit, and the server's look at itself.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::{Extension, Json};
use http::Request;
use strongroom_core::Field;
use strongroom_core::engine::CheckState;
use strongroom_core::id::RequestId;
use strongroom_core::verification::Level;
use strongroom_service::{Action, Scope};

use super::backups::accepted;
use super::wire::{CheckRequest, DoctorView, ForgetRequest, RecoveryKitView, RepositoryView, SCHEMA};
use super::{Answer, Refusal, reference};
use crate::app::App;
use crate::body;

pub(crate) async fn show(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
) -> Answer<Json<RepositoryView>> {
    let (stat, location) = app.service.repository_stat(&scope).await.map_err(Refusal::of(&id))?;
    let mut notes = Vec::new();
    if stat.reclaimable_bytes > 0 {
        notes.push("Forgotten backups still take their bytes: they come back with the sweep, which this release does not have yet.".to_owned());
    }
    Ok(Json(RepositoryView {
        schema: SCHEMA,
        repository_id: stat.repository_id,
        location,
        format: u32::from(stat.format),
        packs: stat.packs,
        bytes: stat.bytes,
        backups: stat.backups,
        forgotten_backups: stat.forgotten_backups,
        reclaimable_bytes: stat.reclaimable_bytes,
        free_bytes: stat.free_bytes,
        notes,
    }))
}

pub(crate) async fn check(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
    request: Request<Body>,
) -> Answer<Response> {
    let job = async {
        let request: CheckRequest = body::document(&app, &scope, Action::Administer, request).await?;
        app.service.repository_check(&scope, Level::parse(&request.level)?).await
    };
    job.await.map(|job| accepted(&job)).map_err(Refusal::of(&id))
}

pub(crate) async fn forget(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
    request: Request<Body>,
) -> Answer<Json<serde_json::Value>> {
    let forgotten = async {
        let request: ForgetRequest = body::document(&app, &scope, Action::Administer, request).await?;
        reference::checked(Field::BackupId, "backup", &request.backup)?;
        app.service.repository_forget(&scope, &request.backup).await
    };
    forgotten.await.map_err(Refusal::of(&id))?;
    Ok(Json(serde_json::json!({})))
}

pub(crate) async fn recovery_kit(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
) -> Answer<Json<RecoveryKitView>> {
    let kit = app.service.recovery_kit(&scope).await.map_err(Refusal::of(&id))?;
    Ok(Json(RecoveryKitView {
        schema: SCHEMA,
        repository_id: kit.repository_id,
        location: kit.location,
        recovery_key: kit.recovery_key,
        text: kit.text,
    }))
}

pub(crate) async fn doctor(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
) -> Answer<Json<DoctorView>> {
    let lines = app.service.doctor(&scope).await.map_err(Refusal::of(&id))?;
    let passed = lines.iter().all(|line| line.state != CheckState::Missing);
    Ok(Json(DoctorView { schema: SCHEMA, passed, lines: lines.iter().map(Into::into).collect() }))
}
