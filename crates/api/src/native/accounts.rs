//! Projects, users, their roles, access keys.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{Request, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use strongroom_core::id::RequestId;
use strongroom_core::{Error, Field, Result};
use strongroom_service::{AccessKey, Action, Assignment, NewUser, Project, Role, Scope, User};

use super::views::moment;
use super::wire::{
    AccessKeyList, AccessKeyRequest, AccessKeyView, PasswordRequest, ProjectList, ProjectRequest,
    ProjectView, RoleRequest, RoleView, SCHEMA, UserList, UserRequest, UserView,
};
use super::{Answer, Refusal, reference};
use crate::app::App;
use crate::body;

type Who = (Extension<Scope>, Extension<RequestId>);

/// The four words, or which field has another one.
pub(super) fn role(word: &str) -> Result<Role> {
    let unknown = || Error::parameter(Field::Other, "role: must be viewer, operator, restorer or admin");
    Role::from_word(word).ok_or_else(unknown)
}

fn nothing() -> Json<Value> {
    Json(json!({}))
}

pub(crate) async fn projects(
    State(app): State<App>,
    (Extension(scope), Extension(id)): Who,
) -> Answer<Json<ProjectList>> {
    let projects = app.service.project_list(&scope).await.map_err(Refusal::of(&id))?;
    Ok(Json(ProjectList { schema: SCHEMA, projects: projects.iter().map(project_view).collect() }))
}

pub(crate) async fn project_create(
    State(app): State<App>,
    (Extension(scope), Extension(id)): Who,
    request: Request<Body>,
) -> Answer<Response> {
    let made = async {
        let request: ProjectRequest = body::document(&app, &scope, Action::Govern, request).await?;
        app.service.project_create(&scope, request.name, request.backup_quota).await
    };
    let made = made.await.map_err(Refusal::of(&id))?;
    Ok((StatusCode::CREATED, Json(project_view(&made))).into_response())
}

pub(crate) async fn project_remove(
    State(app): State<App>,
    (Extension(scope), Extension(id)): Who,
    Path(project): Path<String>,
) -> Answer<Json<Value>> {
    let removed = async {
        reference::checked(Field::Other, "project", &project)?;
        app.service.project_remove(&scope, &project).await
    };
    removed.await.map_err(Refusal::of(&id))?;
    Ok(nothing())
}

pub(crate) async fn users(
    State(app): State<App>,
    (Extension(scope), Extension(id)): Who,
) -> Answer<Json<UserList>> {
    let users = app.service.user_list(&scope).await.map_err(Refusal::of(&id))?;
    let users = users.iter().map(|(user, assigned)| user_view(user, assigned)).collect();
    Ok(Json(UserList { schema: SCHEMA, users }))
}

pub(crate) async fn user_create(
    State(app): State<App>,
    (Extension(scope), Extension(id)): Who,
    request: Request<Body>,
) -> Answer<Response> {
    let made = async {
        let request: UserRequest = body::document(&app, &scope, Action::Govern, request).await?;
        let password = request.password.map(SecretString::from);
        let new = NewUser { name: request.name, password, domain_admin: request.domain_admin };
        app.service.user_create(&scope, new).await
    };
    let made = made.await.map_err(Refusal::of(&id))?;
    Ok((StatusCode::CREATED, Json(user_view(&made, &[]))).into_response())
}

pub(crate) async fn user_remove(
    State(app): State<App>,
    (Extension(scope), Extension(id)): Who,
    Path(user): Path<String>,
) -> Answer<Json<Value>> {
    let removed = async {
        reference::checked(Field::User, "user", &user)?;
        app.service.user_remove(&scope, &user).await
    };
    removed.await.map_err(Refusal::of(&id))?;
    Ok(nothing())
}

pub(crate) async fn password_put(
    State(app): State<App>,
    (Extension(scope), Extension(id)): Who,
    Path(user): Path<String>,
    request: Request<Body>,
) -> Answer<Json<Value>> {
    let put = async {
        reference::checked(Field::User, "user", &user)?;
        let request: PasswordRequest = body::document(&app, &scope, Action::Govern, request).await?;
        app.service.user_password_put(&scope, &user, SecretString::from(request.password)).await
    };
    put.await.map_err(Refusal::of(&id))?;
    Ok(nothing())
}

pub(crate) async fn role_assign(
    State(app): State<App>,
    (Extension(scope), Extension(id)): Who,
    Path(user): Path<String>,
    request: Request<Body>,
) -> Answer<Json<Value>> {
    let assigned = async {
        reference::checked(Field::User, "user", &user)?;
        let request: RoleRequest = body::document(&app, &scope, Action::Govern, request).await?;
        let role = role(&request.role)?;
        app.service.role_assign(&scope, &user, request.project.as_deref(), role).await
    };
    assigned.await.map_err(Refusal::of(&id))?;
    Ok(nothing())
}

pub(crate) async fn role_unassign(
    State(app): State<App>,
    (Extension(scope), Extension(id)): Who,
    Path((user, project)): Path<(String, String)>,
) -> Answer<Json<Value>> {
    let unassigned = async {
        reference::checked(Field::User, "user", &user)?;
        reference::checked(Field::Other, "project", &project)?;
        app.service.role_unassign(&scope, &user, &project).await
    };
    unassigned.await.map_err(Refusal::of(&id))?;
    Ok(nothing())
}

pub(crate) async fn access_keys(
    State(app): State<App>,
    (Extension(scope), Extension(id)): Who,
) -> Answer<Json<AccessKeyList>> {
    let keys = app.service.access_key_list(&scope).await.map_err(Refusal::of(&id))?;
    Ok(Json(AccessKeyList {
        schema: SCHEMA,
        access_keys: keys.iter().map(|key| key_view(key, None)).collect(),
    }))
}

pub(crate) async fn access_key_create(
    State(app): State<App>,
    (Extension(scope), Extension(id)): Who,
    request: Request<Body>,
) -> Answer<Response> {
    let issued = async {
        let request: AccessKeyRequest = body::document(&app, &scope, Action::Administer, request).await?;
        app.service.access_key_create(&scope, role(request.role.as_deref().unwrap_or("admin"))?).await
    };
    let issued = issued.await.map_err(Refusal::of(&id))?;
    let secret = issued.secret.expose_secret().to_owned();
    Ok((StatusCode::CREATED, Json(key_view(&issued.key, Some(secret)))).into_response())
}

pub(crate) async fn access_key_revoke(
    State(app): State<App>,
    (Extension(scope), Extension(id)): Who,
    Path(key): Path<String>,
) -> Answer<Json<Value>> {
    let revoked = async {
        reference::checked(Field::Other, "access key", &key)?;
        app.service.access_key_revoke(&scope, &key).await
    };
    revoked.await.map_err(Refusal::of(&id))?;
    Ok(nothing())
}

fn project_view(project: &Project) -> ProjectView {
    ProjectView {
        schema: SCHEMA,
        id: project.id.to_string(),
        name: project.name.clone(),
        backup_quota: project.backup_quota,
    }
}

fn user_view(user: &User, assigned: &[Assignment]) -> UserView {
    let role = |one: &Assignment| RoleView {
        project_id: one.project.id.to_string(),
        project_name: one.project.name.clone(),
        role: one.role.word().to_owned(),
    };
    UserView {
        schema: SCHEMA,
        id: user.id.to_string(),
        name: user.name.clone(),
        domain_admin: user.domain_admin,
        can_log_in: user.password_hash.is_some(),
        roles: assigned.iter().map(role).collect(),
    }
}

/// The secret only where the key was just made.
fn key_view(key: &AccessKey, secret: Option<String>) -> AccessKeyView {
    AccessKeyView {
        schema: SCHEMA,
        access_key: key.id.clone(),
        user_id: key.user_id.to_string(),
        role: key.role.word().to_owned(),
        created: moment(key.created),
        secret_key: secret,
    }
}
