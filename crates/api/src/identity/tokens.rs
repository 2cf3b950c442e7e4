//! Logging in, looking at a token, ending it.

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;
use strongroom_core::id::RequestId;
use strongroom_core::{Error, ErrorKind, Field, Result};
use strongroom_service::{DomainRef, LogIn, ProjectRef, Proof, Refusal as Reason, ScopeWish, UserRef};

use super::wire::{
    Auth, AuthRequest, IdentityWish, NameOrId, ProjectWish, ScopeObject, TokenAnswer, UserWish,
};
use super::{Answer, Refusal, Who, address, views};
use crate::app::App;
use crate::body;
use crate::caller::Source;

const SUBJECT: HeaderName = HeaderName::from_static("x-subject-token");

/// `POST /v3/auth/tokens`
pub(crate) async fn create(
    State(app): State<App>,
    Extension(source): Extension<Source>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    request: Request<Body>,
) -> Answer<Response> {
    let address = address(&app, &headers)?;
    let request: AuthRequest = body::shaped(body::anybodys_object(&app, request).await?)?;
    let (token, caller) = app.service.log_in(wish(request.auth)?, source.0, &id).await.map_err(|turned| {
        match turned.error.kind() {
            ErrorKind::NotAuthenticated => app.metrics.count_auth_failure(Reason::Password.word()),
            ErrorKind::TooManyRequests => app.metrics.count_auth_failure(Reason::Wait.word()),
            _ => {}
        }
        Refusal::later(turned.error, turned.retry_after_s)
    })?;
    let token = HeaderValue::from_str(&token).map_err(Error::internal)?;
    let body = TokenAnswer { token: views::token(caller.bearer(), &address, &app.settings.region) };
    Ok((StatusCode::CREATED, [(SUBJECT, token)], Json(body)).into_response())
}

/// `GET /v3/auth/tokens`: the caller's own tokens; others' are as absent as none.
pub(crate) async fn check(
    State(app): State<App>,
    Extension(caller): Who,
    headers: HeaderMap,
) -> Answer<Response> {
    let address = address(&app, &headers)?;
    let subject = subject(&headers)?;
    let shown = app.service.session_shown(&caller, subject.to_str().unwrap_or_default()).await?;
    let body = TokenAnswer { token: views::token(shown.bearer(), &address, &app.settings.region) };
    Ok(([(SUBJECT, subject)], Json(body)).into_response())
}

/// `DELETE /v3/auth/tokens`
pub(crate) async fn revoke(
    State(app): State<App>,
    Extension(caller): Who,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
) -> Answer<StatusCode> {
    let subject = subject(&headers)?;
    app.service.session_end(&caller, subject.to_str().unwrap_or_default(), &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn subject(headers: &HeaderMap) -> Result<HeaderValue> {
    let subject = headers.get(&SUBJECT).cloned();
    subject.ok_or_else(|| Error::parameter(Field::Token, "X-Subject-Token: is missing"))
}

fn wish(auth: Auth) -> Result<LogIn> {
    let wish = match auth.scope {
        None | Some(Value::Null) => ScopeWish::Unsaid,
        Some(Value::String(word)) if word == "unscoped" => ScopeWish::Unscoped,
        Some(scope @ Value::Object(_)) => {
            scope_wish(ScopeObject::deserialize(scope).map_err(|_| bad_scope())?)?
        }
        Some(_) => return Err(bad_scope()),
    };
    Ok(LogIn { proof: proof(auth.identity)?, wish })
}

fn bad_scope() -> Error {
    Error::parameter(Field::Other, "auth.scope: must be \"unscoped\" or an object with project or domain")
}

fn scope_wish(scope: ScopeObject) -> Result<ScopeWish> {
    match (scope.project, scope.domain, scope.unscoped) {
        (Some(project), None, None) => project_wish(project).map(ScopeWish::Project),
        (None, Some(domain), None) => domain_wish(domain).map(ScopeWish::Domain).ok_or_else(bad_scope),
        (None, None, Some(_)) => Ok(ScopeWish::Unscoped),
        _ => Err(bad_scope()),
    }
}

fn project_wish(project: ProjectWish) -> Result<ProjectRef> {
    match (project.id, project.name) {
        (Some(id), _) => Ok(ProjectRef::Id(id)),
        (None, Some(name)) => Ok(ProjectRef::Name { name, domain: project.domain.and_then(domain_wish) }),
        (None, None) => Err(bad_scope()),
    }
}

fn domain_wish(domain: NameOrId) -> Option<DomainRef> {
    domain.id.map(DomainRef::Id).or(domain.name.map(DomainRef::Name))
}

/// One method, and what it needs. Those that we do not offer are as wrong as a wrong password.
fn proof(identity: IdentityWish) -> Result<Proof> {
    let missing = |what: &str| Error::parameter(Field::Other, format!("auth.identity.{what}: is missing"));
    match identity.methods.as_slice() {
        [method] if method == "password" => {
            let UserWish { id, name, domain, password } =
                identity.password.ok_or_else(|| missing("password"))?.user;
            let user = match (id, name) {
                (Some(id), _) => UserRef::Id(id),
                (None, Some(name)) => UserRef::Name { name, domain: domain.and_then(domain_wish) },
                (None, None) => return Err(missing("password.user.name")),
            };
            Ok(Proof::Password { user, password: SecretString::from(password) })
        }
        [method] if method == "token" => {
            let token = identity.token.ok_or_else(|| missing("token"))?.id;
            Ok(Proof::Token(SecretString::from(token)))
        }
        [] => Err(missing("methods")),
        _ => Err(Error::new(ErrorKind::NotAuthenticated, "The username or password is wrong.")),
    }
}
