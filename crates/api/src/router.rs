//! Every path, in one list, grouped by who calls it.

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use http::{Method, StatusCode};

use crate::app::{App, Pages};
use crate::dialect::Dialect;
use crate::{downloads, health, identity, native, v1, v3};

type Route = (&'static str, &'static [&'static str], fn() -> MethodRouter<App>);

const HEALTH: &[Route] = &[
    ("/healthz", &["get"], || get(health::alive)),
    ("/readyz", &["get"], || get(health::ready)),
    ("/metrics", &["get"], || get(health::metrics)),
];

const OPEN: &[Route] = &[
    ("/", &["get"], || get(v1::discovery::list)),
    ("/rds", &["get"], || get(v1::discovery::list)),
    ("/rds/{version}", &["get"], || get(v1::discovery::show)),
    ("/strongroom/v1/openapi.json", &["get"], || get(native::openapi_document)),
    ("/downloads/{file}", &["get"], || get(downloads::file)),
];

const V1: &[Route] = &[
    ("/rds/v1/{project_id}/backups", &["get", "post"], || get(v1::backups::list).post(v1::backups::create)),
    ("/rds/v1/{project_id}/backups/{backup_id}", &["delete"], || delete(v1::backups::remove)),
    ("/rds/v1/{project_id}/instances", &["get", "post"], || {
        get(v1::instances::list).post(v1::restores::create)
    }),
    ("/rds/v1/{project_id}/instances/{node_id}/action", &["post"], || post(v1::restores::act)),
    ("/rds/v1/{project_id}/instances/{node_id}", &["get"], || get(v1::instances::show)),
    ("/rds/v1/{project_id}/instances/{node_id}/backups/policy", &["get", "put"], || {
        get(v1::policies::show).put(v1::policies::set)
    }),
    ("/rds/v1/{project_id}/datastores/{engine}/versions", &["get"], || get(v1::datastores::versions)),
    ("/rds/v1/{project_id}/jobs/{job_id}", &["get"], || get(v1::jobs::show)),
];

const V3: &[Route] = &[
    ("/v3/{project_id}/backups", &["get", "post"], || get(v3::backups::list).post(v3::backups::create)),
    ("/v3/{project_id}/backups/{backup_id}", &["delete"], || delete(v3::backups::remove)),
    ("/v3/{project_id}/instances/{instance_id}/backups/policy", &["get", "put"], || {
        get(v3::policies::show).put(v3::policies::set)
    }),
    ("/v3/{project_id}/backup-files", &["get"], || get(v3::files::list)),
    ("/v3/{project_id}/backups/batch-delete", &["post"], || post(v3::backups::remove_batch)),
    ("/v3/{project_id}/instances", &["get", "post"], || get(v3::instances::list).post(v3::restores::create)),
    ("/v3/{project_id}/instances/recovery", &["post"], || post(v3::restores::recover)),
    ("/v3.1/{project_id}/instances/recovery", &["post"], || post(v3::restores::recover)),
    ("/v3/{project_id}/instances/{instance_id}/restore-time", &["get"], || get(v3::restores::times)),
    ("/v3/{project_id}/instances/{instance_id}/tasklist/detail", &["get"], || get(v3::tasks::of_instance)),
    ("/v3/{project_id}/instances/{instance_id}/tags", &["get"], || get(v3::tags::show)),
    ("/v3/{project_id}/instances/{instance_id}/tags/action", &["post"], || post(v3::tags::change)),
    ("/v3/{project_id}/tags", &["get"], || get(v3::tags::of_project)),
    ("/v3/{project_id}/datastores/{engine}", &["get"], || get(v3::offers::datastores)),
    ("/v3/{project_id}/flavors/{engine}", &["get"], || get(v3::offers::flavors)),
    ("/v3/{project_id}/storage-type/{engine}", &["get"], || get(v3::offers::storage_types)),
    ("/v3/{project_id}/quotas", &["get"], || get(v3::offers::quotas)),
    ("/v3/{project_id}/jobs", &["get"], || get(v3::jobs::show)),
    ("/v3/{project_id}/tasklist", &["get"], || get(v3::tasks::list)),
    ("/v3/{project_id}/schedule-tasks", &["get"], || get(v3::tasks::scheduled)),
];

const IDENTITY: &[Route] = &[
    ("/v3", &["get"], || get(identity::version)),
    ("/v3/auth/tokens", &["get", "post", "delete"], || {
        get(identity::check).post(identity::create).delete(identity::revoke)
    }),
    ("/v3/auth/catalog", &["get"], || get(identity::catalog)),
    ("/v3/auth/projects", &["get"], || get(identity::projects)),
    ("/v3/auth/domains", &["get"], || get(identity::domains)),
    ("/v3/projects", &["get"], || get(identity::projects)),
];

const NATIVE: &[Route] = &[
    ("/strongroom/v1/instances", &["get", "post"], || {
        get(native::instances::list).post(native::instances::add)
    }),
    ("/strongroom/v1/instances/{instance}", &["get", "delete"], || {
        get(native::instances::show).delete(native::instances::remove)
    }),
    ("/strongroom/v1/instances/{instance}/check", &["post"], || post(native::instances::check)),
    ("/strongroom/v1/instances/{instance}/policy", &["get", "put"], || {
        get(native::policies::show).put(native::policies::set)
    }),
    ("/strongroom/v1/instances/{instance}/tags", &["get", "put"], || {
        get(native::tags::show).put(native::tags::set)
    }),
    ("/strongroom/v1/instances/{instance}/logs", &["get", "put"], || {
        get(native::logs::show).put(native::logs::set)
    }),
    ("/strongroom/v1/retention/resume", &["post"], || post(native::policies::resume)),
    ("/strongroom/v1/backups", &["get", "post"], || get(native::backups::list).post(native::backups::create)),
    ("/strongroom/v1/backups/{backup}", &["get", "delete"], || {
        get(native::backups::show).delete(native::backups::remove)
    }),
    ("/strongroom/v1/backups/{backup}/verify", &["post"], || post(native::backups::verify)),
    ("/strongroom/v1/backups/{backup}/plan", &["get"], || get(native::content::plan)),
    ("/strongroom/v1/backups/{backup}/members", &["get"], || get(native::content::members)),
    ("/strongroom/v1/backups/{backup}/content", &["post"], || post(native::content::content)),
    ("/strongroom/v1/backups/{backup}/download-link", &["post"], || post(native::content::link)),
    ("/strongroom/v1/jobs", &["get"], || get(native::jobs::list)),
    ("/strongroom/v1/jobs/{job}", &["get"], || get(native::jobs::show)),
    ("/strongroom/v1/jobs/{job}/cancel", &["post"], || post(native::jobs::cancel)),
    ("/strongroom/v1/jobs/{job}/events", &["get"], || get(native::jobs::events)),
    ("/strongroom/v1/repository", &["get"], || get(native::repository::show)),
    ("/strongroom/v1/repository/check", &["post"], || post(native::repository::check)),
    ("/strongroom/v1/repository/sweep", &["post"], || post(native::repository::sweep)),
    ("/strongroom/v1/repository/forget", &["post"], || post(native::repository::forget)),
    ("/strongroom/v1/tokens", &["get", "post"], || get(native::tokens::list).post(native::tokens::create)),
    ("/strongroom/v1/tokens/{token}", &["delete"], || delete(native::tokens::revoke)),
    ("/strongroom/v1/access-keys", &["get", "post"], || {
        get(native::accounts::access_keys).post(native::accounts::access_key_create)
    }),
    ("/strongroom/v1/access-keys/{access_key}", &["delete"], || delete(native::accounts::access_key_revoke)),
    ("/strongroom/v1/projects", &["get", "post"], || {
        get(native::accounts::projects).post(native::accounts::project_create)
    }),
    ("/strongroom/v1/projects/{project}", &["delete"], || delete(native::accounts::project_remove)),
    ("/strongroom/v1/users", &["get", "post"], || {
        get(native::accounts::users).post(native::accounts::user_create)
    }),
    ("/strongroom/v1/users/{user}", &["delete"], || delete(native::accounts::user_remove)),
    ("/strongroom/v1/users/{user}/password", &["post"], || post(native::accounts::password_put)),
    ("/strongroom/v1/users/{user}/roles", &["post"], || post(native::accounts::role_assign)),
    ("/strongroom/v1/users/{user}/roles/{project}", &["delete"], || delete(native::accounts::role_unassign)),
    ("/strongroom/v1/recovery-kit", &["get"], || get(native::repository::recovery_kit)),
    ("/strongroom/v1/doctor", &["get"], || get(native::repository::doctor)),
];

fn all() -> impl Iterator<Item = &'static Route> {
    HEALTH.iter().chain(OPEN).chain(IDENTITY).chain(V1).chain(V3).chain(NATIVE)
}

/// Path and method of everything that is served; the documents are compared with this.
pub fn routes() -> Vec<(&'static str, &'static str)> {
    all().flat_map(|(path, methods, _)| methods.iter().map(|method| (*path, *method))).collect()
}

pub(crate) fn build(app: App) -> Router {
    let mut router = Router::new();
    let pages: Vec<&Route> = match app.settings.pages {
        Pages::All => all().collect(),
        Pages::Health => HEALTH.iter().collect(),
    };
    for (path, _, methods) in pages {
        router = router.route(path, methods());
    }
    router.layer(from_fn(remember_route)).with_state(app)
}

/// The methods of a route, as the `Allow` header names them.
pub(crate) fn methods(route: &str) -> Vec<String> {
    all()
        .filter(|(path, ..)| *path == route)
        .flat_map(|(_, methods, _)| methods.iter().map(|method| method.to_uppercase()))
        .collect()
}

/// Tells the outer layers which route it was: metrics name patterns, never raw paths.
async fn remember_route(request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>().cloned();
    // The router would take HEAD for GET; the RDS dialects and ours do not have it. Probes of health
    // may use it, Keystone's clients do, and whoever downloads asks for the size first.
    let dialect = Dialect::of(request.uri().path());
    let may_have_head = matches!(dialect, Dialect::Open | Dialect::Identity | Dialect::Downloads);
    let refused = request.method() == Method::HEAD && !may_have_head;
    let mut response = match &matched {
        Some(_) if refused => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        _ => next.run(request).await,
    };
    if let Some(matched) = matched {
        response.extensions_mut().insert(matched);
    }
    response
}
