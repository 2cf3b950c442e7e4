//! Reading a backup: its plan, its members, its content. Streams are bounded: the reader waits for
//! the connection, and ends when the connection does.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use http::Request;
use http::header::CONTENT_TYPE;
use strongroom_core::id::RequestId;
use strongroom_core::member::MemberKind;
use strongroom_core::{Error, ErrorKind, Field, Result};
use strongroom_service::{Action, Scope, Service};
use tokio::sync::mpsc;

use super::wire::{ContentRequest, MemberLine, RestorePlanView};
use super::{Answer, Refusal, reference};
use crate::app::App;
use crate::body;

/// Pieces between the reading thread and the connection (about 128 KiB each).
const PIECES_AHEAD: usize = 32;
/// Member lines are sent in pieces of about this size.
const LINES_BYTES: usize = 64 << 10;
const SEGMENTS_MAX: usize = 4096;

pub(crate) async fn plan(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
    Path(backup): Path<String>,
) -> Answer<Json<RestorePlanView>> {
    let facts = async { app.service.restore_facts(&scope, &reference::backup(backup)?).await };
    Ok(Json((&facts.await.map_err(Refusal::of(&id))?).into()))
}

type Pieces = mpsc::Sender<Result<Bytes>>;

fn gone() -> Error {
    Error::new(ErrorKind::Cancelled, "The caller went away.")
}

fn stream(kind: &'static str, work: impl FnOnce(&Pieces) -> Result<()> + Send + 'static) -> Response {
    let (pieces, mut queue) = mpsc::channel(PIECES_AHEAD);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = work(&pieces)
            && error.kind() != ErrorKind::Cancelled
        {
            // The connection breaks here; a reader that got no end knows that it has not all.
            let _ = pieces.blocking_send(Err(error));
        }
    });
    let body = Body::from_stream(futures_util::stream::poll_fn(move |context| queue.poll_recv(context)));
    ([(CONTENT_TYPE, kind)], body).into_response()
}

pub(crate) async fn members(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
    Path(backup): Path<String>,
) -> Answer<Response> {
    let opened = async { app.service.content_open(&scope, &reference::backup(backup)?).await };
    let (_, reader) = opened.await.map_err(Refusal::of(&id))?;
    Ok(stream("application/x-ndjson", move |pieces| {
        let mut lines = Vec::with_capacity(LINES_BYTES + 4096);
        Service::content_members(&reader, &mut |entry| {
            let path = std::str::from_utf8(entry.path.as_bytes()).ok();
            let line = MemberLine {
                index: entry.index,
                path: path.map(str::to_owned),
                path_hex: path.is_none().then(|| hex(entry.path.as_bytes())),
                kind: if entry.kind == MemberKind::File { "file" } else { "directory" }.to_owned(),
                size: entry.size,
                mode: entry.mode,
                mtime_s: entry.mtime_s,
                segments: entry.segments,
            };
            serde_json::to_writer(&mut lines, &line).map_err(Error::internal)?;
            lines.push(b'\n');
            if lines.len() >= LINES_BYTES {
                pieces.blocking_send(Ok(std::mem::take(&mut lines).into())).map_err(|_| gone())?;
            }
            Ok(())
        })?;
        pieces.blocking_send(Ok(lines.into())).map_err(|_| gone())
    }))
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]))
        .collect()
}

pub(crate) async fn content(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
    Path(backup): Path<String>,
    request: Request<Body>,
) -> Answer<Response> {
    let opened = async {
        let request: ContentRequest = body::document(&app, &scope, Action::Restore, request).await?;
        if request.segments.len() > SEGMENTS_MAX {
            return Err(Error::parameter(Field::Other, "segments: at most 4096 in one request"));
        }
        let (_, reader) = app.service.content_open(&scope, &reference::backup(backup)?).await?;
        Ok((request, Arc::clone(&reader)))
    };
    let (request, reader) = opened.await.map_err(Refusal::of(&id))?;
    Ok(stream("application/octet-stream", move |pieces| {
        Service::content_stream(&reader, &request.segments, id.as_str(), &mut |piece| {
            pieces.blocking_send(Ok(piece.into())).map_err(|_| gone())
        })
    }))
}
