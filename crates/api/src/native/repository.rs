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
use strongroom_service::{Action, RepositoryStat, Scope, SweepStanding, SweepWish};

use super::backups::accepted;
use super::wire::{
    CheckRequest, DoctorView, ForgetRequest, NextSweepView, RecoveryKitView, RepositoryView, SCHEMA,
    SweepRequest,
};
use super::{Answer, Refusal, reference};
use crate::app::App;
use crate::body;

pub(crate) async fn show(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
) -> Answer<Json<RepositoryView>> {
    let (stat, location, sweeps) = app.service.repository_stat(&scope).await.map_err(Refusal::of(&id))?;
    Ok(Json(RepositoryView {
        schema: SCHEMA,
        location,
        format: u32::from(stat.format),
        packs: stat.packs,
        bytes: stat.bytes,
        backups: stat.backups,
        forgotten_backups: stat.forgotten_backups,
        pending_backups: stat.pending_backups,
        live_bytes: stat.live_bytes,
        dead_packs: stat.dead_packs.packs,
        dead_pack_bytes: stat.dead_packs.bytes,
        partly_dead_packs: stat.partly_dead_packs.packs,
        dead_record_bytes: stat.partly_dead_packs.bytes,
        unfinished_bytes: stat.unfinished_packs.bytes,
        reclaimable_bytes: stat.reclaimable_bytes,
        log_objects: stat.log_objects,
        log_bytes: stat.log_bytes,
        free_bytes: stat.free_bytes,
        notes: space_notes(&stat, &sweeps),
        last_sweep: sweeps.last.map(|at| at.to_string()),
        next_sweep: sweeps.live.map(|(job, state, at)| NextSweepView {
            job_id: job.as_str().to_owned(),
            state: state.word().to_owned(),
            at: at.to_string(),
        }),
        repository_id: stat.repository_id,
    }))
}

/// What a person does not see in the numbers.
fn space_notes(stat: &RepositoryStat, sweeps: &SweepStanding) -> Vec<String> {
    let mut notes = Vec::new();
    if stat.dead_packs.packs > 0 && sweeps.live.is_none() {
        notes.push(
            "No sweep is on its way, and there is something to take away: `strongroom repository sweep`."
                .to_owned(),
        );
    }
    notes
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

pub(crate) async fn sweep(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
    request: Request<Body>,
) -> Answer<Response> {
    let job = async {
        let request: SweepRequest = body::document(&app, &scope, Action::Govern, request).await?;
        let wish = SweepWish {
            is_dry_run: request.dry_run,
            threshold_percent: request.threshold_percent,
            rebase: request.rebase,
        };
        app.service.repository_sweep(&scope, wish).await
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
