//! `GET /downloads/{file}`: a backup as one file, by a signed link that needs no header.

mod range;

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use strongroom_core::id::RequestId;
use strongroom_core::{Error, ErrorKind, Result};
use strongroom_service::{BackupRef, Download, DownloadClaim, DownloadLink, Refusal as TurnedAway, Scope};

use self::range::{Wanted, wanted};
use crate::app::App;
use crate::caller::{self, Known, Source};
use crate::identity;
use crate::native::content::stream;
use crate::native::{Answer, Refusal};

const MEDIA_TYPE: &str = "application/zstd";

/// A link at the address that the caller used to ask for it.
pub(crate) async fn link(
    app: &App,
    scope: &Scope,
    backup: &BackupRef,
    headers: &HeaderMap,
) -> Result<(DownloadLink, String)> {
    let address = identity::address(app, headers)?;
    let link = app.service.download_link(scope, backup).await?;
    let url = format!("{address}/downloads/{}", link.target);
    Ok((link, url))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LinkQuery {
    project: String,
    user: String,
    content: String,
    expires: String,
    signature: String,
}

pub(crate) async fn file(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    Path(file): Path<String>,
    query: Result<Query<LinkQuery>, QueryRejection>,
    source: Option<Extension<Source>>,
    method: Method,
    headers: HeaderMap,
) -> Answer<Response> {
    // A query that cannot be read is a link that is not valid.
    let LinkQuery { project, user, content, expires, signature } =
        query.map(|Query(query)| query).unwrap_or_default();
    let claim = DownloadClaim { file, project, user, content, expires, signature };
    let scope = match app.service.download_scope(&claim, &id).await {
        Ok(scope) => scope,
        Err(error) => {
            if let (ErrorKind::NotAllowed, Some(Extension(source))) = (error.kind(), source) {
                caller::note(&app, TurnedAway::Signature, source, &Known::default(), &id).await;
            }
            return Err(Refusal::of(&id)(error));
        }
    };
    send(&app, &scope, claim, (method, headers)).await.map_err(Refusal::of(&id))
}

async fn send(
    app: &App,
    scope: &Scope,
    claim: DownloadClaim,
    (method, asked): (Method, HeaderMap),
) -> Result<Response> {
    let place = Arc::clone(&app.streams).acquire_owned().await.map_err(Error::internal)?;
    let download = app.service.download_open(scope, &claim).await?;
    let (etag, size) = (format!("\"{}\"", download.digest()), download.bytes());
    let (range, is_part) = match wanted(&asked, &etag, size) {
        Wanted::Nothing => return unsatisfiable(size),
        Wanted::Whole => (0..size, false),
        Wanted::Part(range) => (range, true),
    };
    let length = range.end - range.start;
    let content_range = format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1));
    let mut response = if method == Method::HEAD {
        ([(CONTENT_TYPE, MEDIA_TYPE)], Body::empty()).into_response()
    } else {
        stream(MEDIA_TYPE, place, move |pieces| {
            Download::write(&download, range, &mut |piece| pieces.send(piece))
        })
    };
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: &str| -> Result<()> {
        headers.insert(name, HeaderValue::from_str(value).map_err(Error::internal)?);
        Ok(())
    };
    set(CONTENT_LENGTH, &length.to_string())?;
    set(ACCEPT_RANGES, "bytes")?;
    set(ETAG, &etag)?;
    set(CONTENT_DISPOSITION, &format!("attachment; filename=\"{}\"", claim.file))?;
    if is_part {
        set(CONTENT_RANGE, &content_range)?;
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

fn unsatisfiable(size: u64) -> Result<Response> {
    let whole = HeaderValue::from_str(&format!("bytes */{size}")).map_err(Error::internal)?;
    let headers = [(CONTENT_RANGE, whole), (CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE))];
    Ok((StatusCode::RANGE_NOT_SATISFIABLE, headers).into_response())
}
