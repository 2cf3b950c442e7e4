//! From headers to a caller: a token or a signature, then the project of the path.

use std::net::IpAddr;

use axum::body::Body;
use http::header::{AUTHORIZATION, HeaderName};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use strongroom_core::id::RequestId;
use strongroom_core::{Error, ErrorKind, Result};
use strongroom_service::{Caller, Refusal, Scope};

use crate::app::App;
use crate::body;
use crate::dialect::Dialect;
use crate::signature::{ALGORITHM, Signed};

const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
const PROJECT: HeaderName = HeaderName::from_static("x-project-id");

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source(pub(crate) IpAddr);

/// What is known of whoever sent a request, for the audit chain.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) caller: Option<Caller>,
    pub(crate) is_signed: bool,
}

/// Credential first, then the project of the path: a caller learns nothing else before both are
/// right. Adds what the handlers need: the [`Caller`], and the [`Scope`] where a dialect has projects.
pub(crate) async fn authorise(
    app: &App,
    dialect: Dialect,
    path: &str,
    request: Request<Body>,
    request_id: &RequestId,
    known: &mut Known,
) -> Result<Request<Body>> {
    let hinted: Vec<String> = request
        .headers()
        .get_all(&PROJECT)
        .iter()
        .map(|value| value.to_str().unwrap_or_default().to_owned())
        .collect();
    known.is_signed = !request.headers().contains_key(&TOKEN) && is_signed(request.headers());
    let (mut request, caller) = if known.is_signed {
        verify(app, request).await?
    } else {
        let token = if is_signed(request.headers()) { None } else { single(request.headers(), &TOKEN) };
        let caller = app.service.authenticate(token).await?;
        (request, caller)
    };
    known.caller = Some(caller.clone());
    if dialect != Dialect::Identity {
        let scope: Scope = app.service.own_scope(&caller, request_id)?;
        for project in dialect.project(path).into_iter().chain(hinted.iter().map(String::as_str)) {
            app.service.scope(&caller, project, request_id)?;
        }
        request.extensions_mut().insert(scope);
    }
    request.extensions_mut().insert(caller);
    Ok(request)
}

fn is_signed(headers: &HeaderMap) -> bool {
    headers.get_all(AUTHORIZATION).iter().any(|value| value.as_bytes().starts_with(ALGORITHM.as_bytes()))
}

/// The signature covers the body, so all of it is read first; a body has a limit.
async fn verify(app: &App, request: Request<Body>) -> Result<(Request<Body>, Caller)> {
    let refused = || Error::new(ErrorKind::NotAuthenticated, "The signature is wrong or too old.");
    let mut values = request.headers().get_all(AUTHORIZATION).iter();
    let signed = match (values.next(), values.next()) {
        (Some(value), None) => Signed::parse(value).ok_or_else(refused)?,
        _ => return Err(refused()),
    };
    let (parts, unread) = request.into_parts();
    let bytes = body::read(app, unread).await?;
    let claim = signed.claim(&parts.method, &parts.uri, &parts.headers, &bytes).ok_or_else(refused)?;
    let caller = app.service.authenticate_signature(&claim).await?;
    Ok((Request::from_parts(parts, Body::from(bytes)), caller))
}

/// A header that stands there exactly once, as text.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => HeaderValue::to_str(value).ok(),
        _ => None,
    }
}

/// Why a caller was turned away, if one was.
pub(crate) fn refusal(known: &Known, outcome: &Result<Response<Body>>) -> Option<Refusal> {
    match outcome {
        Err(error) => match error.kind() {
            ErrorKind::NotAuthenticated if known.is_signed => Some(Refusal::Signature),
            ErrorKind::NotAuthenticated => Some(Refusal::Credential),
            ErrorKind::WrongProject => Some(Refusal::Project),
            _ => None,
        },
        Ok(response) => {
            let is_of_role = response.status() == StatusCode::FORBIDDEN && known.caller.is_some();
            is_of_role.then_some(Refusal::Role)
        }
    }
}

/// Counts a caller that was turned away, and tells the audit chain.
pub(crate) async fn note(app: &App, refusal: Refusal, source: Source, known: &Known, request_id: &RequestId) {
    app.metrics.count_auth_failure(refusal.word());
    app.service.refusal_note(refusal, source.0, known.caller.as_ref(), Some(request_id)).await;
}
