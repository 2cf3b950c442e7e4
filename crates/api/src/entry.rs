//! The way of every request, outside in: id → one log event and metrics → panics → deadline →
//! token or signature → project → route. Written once, here.

use std::net::{IpAddr, Ipv4Addr};
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::MatchedPath;
use axum::response::Response;
use futures_util::FutureExt;
use http::header::{ALLOW, HeaderName};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use strongroom_core::id::RequestId;
use strongroom_core::limits::HEADERS_SIZE_BYTES_MAX;
use strongroom_core::{Error, ErrorKind, Field, Result};
use tower::ServiceExt;

use crate::app::App;
use crate::caller::{Known, Source};
use crate::dialect::Dialect;
use crate::{caller, path, router};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The name the OpenStack tools print.
const OPENSTACK_REQUEST_ID: HeaderName = HeaderName::from_static("x-openstack-request-id");

/// A request that did not come over a connection of ours: there is none.
const UNKNOWN_SOURCE: Source = Source(IpAddr::V4(Ipv4Addr::UNSPECIFIED));

/// Answers one request, whatever happens.
pub(crate) async fn answer(app: App, router: Router, request: Request<Body>) -> Response {
    let started = Instant::now();
    let request_id = app.service.issue_request_id();
    let path = path::trimmed(request.uri().path()).to_owned();
    let (dialect, method) = (Dialect::of(&path), request.method().clone());
    let mut response = if head_size(&request) > HEADERS_SIZE_BYTES_MAX {
        refuse_head(dialect, &request_id)
    } else {
        let source = request.extensions().get().copied().unwrap_or(UNKNOWN_SOURCE);
        let mut known = Known::default();
        let admitted = admit(&app, router, &path, request, &request_id, &mut known);
        let handled = AssertUnwindSafe(admitted).catch_unwind().await;
        let handled = handled.unwrap_or_else(|_| Err(Error::internal("a handler panicked")));
        if let Some(refusal) = caller::refusal(&known, &handled) {
            caller::note(&app, refusal, source, &known, &request_id).await;
        }
        match handled {
            Ok(response) => translate(dialect, response, &request_id),
            Err(error) => refuse(dialect, &error, &request_id),
        }
    };
    set_headers(response.headers_mut(), &request_id);
    let route = response.extensions().get::<MatchedPath>().map_or("(none)", MatchedPath::as_str).to_owned();
    let (status, elapsed) = (response.status(), started.elapsed());
    app.metrics.observe_request(&route, status.as_u16(), elapsed);
    tracing::info!(
        request.id = %request_id, http.method = %printable(method.as_str()), http.path = %printable(&path),
        http.status = status.as_u16(), duration_ms = elapsed.as_millis() as u64, "Request answered."
    );
    response
}

/// Bytes of the target and the headers. The connection has the same limit for its buffer, but what
/// comes in one piece may pass it.
fn head_size(request: &Request<Body>) -> usize {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    // A colon, a space and an end of line stand around each value.
    let line = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    target + request.headers().iter().map(line).sum::<usize>()
}

fn refuse_head(dialect: Dialect, request_id: &RequestId) -> Response {
    let sentence = format!("headers: must have at most {HEADERS_SIZE_BYTES_MAX} bytes");
    let mut refused = dialect.refuse(&Error::parameter(Field::Other, sentence), request_id);
    *refused.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    refused
}

/// What a person may see of a request line: one line, no control characters, bounded.
fn printable(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_default).collect()
}

async fn admit(
    app: &App,
    router: Router,
    path: &str,
    mut request: Request<Body>,
    request_id: &RequestId,
    known: &mut Known,
) -> Result<Response> {
    let dialect = Dialect::of(path);
    request.extensions_mut().insert(request_id.clone());
    if dialect.needs_token(path, request.method()) {
        request = caller::authorise(app, dialect, path, request, request_id, known).await?;
    }
    path::check(path)?;
    if path.len() < request.uri().path().len() {
        let query = request.uri().query().map_or(String::new(), |query| format!("?{query}"));
        *request.uri_mut() = format!("{path}{query}").parse::<Uri>().map_err(Error::internal)?;
    }
    let handled = async {
        // First among one's own, so that who waits for them takes no room from others.
        let project = known.caller.as_ref().and_then(|caller| caller.bearer().project.as_ref());
        let _share = match project {
            Some(project) => Some(app.shares.take(&project.id).await?),
            None => None,
        };
        let _room = app.requests.acquire().await.map_err(Error::internal)?;
        match router.oneshot(request).await {
            Ok(response) => Ok(response),
            Err(never) => match never {},
        }
    };
    tokio::time::timeout(app.settings.request_timeout, handled).await.unwrap_or_else(|_elapsed| {
        Err(Error::new(
            ErrorKind::Unavailable,
            "The request took too long and was given up; look at the list before you repeat it.",
        ))
    })
}

/// The router's own refusals, in the dialect of the path.
fn translate(dialect: Dialect, response: Response, request_id: &RequestId) -> Response {
    let (kind, sentence) = match response.status() {
        StatusCode::NOT_FOUND if bare(&response) => (ErrorKind::RouteUnknown, "There is no such path."),
        StatusCode::METHOD_NOT_ALLOWED if bare(&response) => {
            (ErrorKind::MethodNotAllowed, "The path does not take this method.")
        }
        _ => return response,
    };
    let matched = response.extensions().get::<MatchedPath>().cloned();
    let mut refused = dialect.refuse(&Error::new(kind, sentence), request_id);
    if let Some(matched) = matched {
        if let Ok(methods) = HeaderValue::from_str(&router::methods(matched.as_str()).join(", ")) {
            refused.headers_mut().insert(ALLOW, methods);
        }
        refused.extensions_mut().insert(matched);
    }
    refused
}

/// An answer that no handler made has no content type.
fn bare(response: &Response) -> bool {
    !response.headers().contains_key(http::header::CONTENT_TYPE)
}

fn refuse(dialect: Dialect, error: &Error, request_id: &RequestId) -> Response {
    if matches!(error.kind(), ErrorKind::Internal | ErrorKind::Unavailable) {
        tracing::error!(request.id = %request_id, "A request failed: {}", error.chain());
    }
    dialect.refuse(error, request_id)
}

fn set_headers(headers: &mut HeaderMap, request_id: &RequestId) {
    if let Ok(value) = HeaderValue::from_str(request_id.as_str()) {
        headers.insert(REQUEST_ID, value.clone());
        headers.insert(OPENSTACK_REQUEST_ID, value);
    }
    headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a17_a_path_is_one_line_in_the_log() {
        assert_eq!(printable("/a\u{1b}[31m\nb"), "/a\\u{1b}[31m\\nb");
    }
}
