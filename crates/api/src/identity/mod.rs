//! The Keystone subset that clients log in with: `/v3`, `/v3/auth/…`, `/v3/projects`.
//!
//! Its own documents and its own form of errors; what a caller may do is decided in the service.

mod error;
mod lists;
mod operations;
pub(crate) mod tokens;
mod views;
mod wire;

use axum::extract::State;
use axum::{Extension, Json};
use http::HeaderMap;
use strongroom_core::{Error, Field, Result};
use strongroom_service::Caller;

pub(crate) use error::{Refusal, refuse};
pub(crate) use lists::{catalog, domains, projects};
pub(crate) use operations::{OPERATIONS, SCHEMAS};
pub(crate) use tokens::{check, create, revoke};

use crate::app::App;

/// What handlers of this dialect answer.
pub(crate) type Answer<T> = Result<T, Refusal>;

/// Where the caller found us, as they wrote it: the catalog leads back the same way.
pub(crate) fn address(app: &App, headers: &HeaderMap) -> Result<String> {
    let refused = || Error::parameter(Field::Other, "Host: must name a host");
    let mut hosts = headers.get_all(http::header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(refused()) };
    let host = host.to_str().map_err(|_| refused())?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if host.is_empty() || host.len() > 255 || !host.bytes().all(is_plain) {
        return Err(refused());
    }
    Ok(format!("{}://{host}", app.scheme))
}

/// `GET /v3`: which version this is, and where.
pub(crate) async fn version(State(app): State<App>, headers: HeaderMap) -> Answer<Json<wire::VersionAnswer>> {
    let address = address(&app, &headers)?;
    Ok(Json(wire::VersionAnswer {
        version: wire::Version {
            id: "v3.14",
            status: "stable",
            updated: "2020-04-07T00:00:00Z",
            links: vec![wire::Link { rel: "self", href: format!("{address}/v3/") }],
            media_types: Vec::new(),
        },
    }))
}

/// The caller, as the handlers of this dialect get them.
type Who = Extension<Caller>;
