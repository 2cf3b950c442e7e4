//! Reading a backup: its plan, its members, its content. Streams are bounded: the reader waits for
//! the connection, and ends when the connection does.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Poll, ready};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request};
use strongroom_core::id::RequestId;
use strongroom_core::member::MemberKind;
use strongroom_core::{Error, ErrorKind, Field, Result};
use strongroom_service::{Action, BackupReader, Scope, Service};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::error::error_body;
use super::views::moment;
use super::wire::{ContentRequest, DownloadLinkView, MemberLine, MembersFailure, RestorePlanView, SCHEMA};
use super::{Answer, Refusal, reference};
use crate::app::App;
use crate::{body, downloads};

/// Loads between the reading thread and the connection.
const LOADS_AHEAD: usize = 8;
/// Pieces, about 128 KiB each, go over in loads of about this size: waking the connection for each
/// of them costs more than sending it.
const LOAD_BYTES: usize = 512 << 10;
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

/// The sending end of a body, in the reading thread.
pub(crate) struct Pieces {
    loads: mpsc::Sender<Result<Vec<Bytes>>>,
    load: Vec<Bytes>,
    bytes: usize,
}

impl Pieces {
    /// Waits for the connection when it is slow; fails when it is gone.
    pub(crate) fn send(&mut self, piece: Vec<u8>) -> Result<()> {
        self.bytes += piece.len();
        self.load.push(piece.into());
        if self.bytes < LOAD_BYTES {
            return Ok(());
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        self.bytes = 0;
        self.loads.blocking_send(Ok(std::mem::take(&mut self.load))).map_err(|_| gone())
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Cancelled, "The caller went away.")
}

/// Answers with what `work` sends, from a thread of its own. The place among the streams is free
/// again when the connection lets go of the body; the thread ends with its next piece.
pub(crate) fn stream(
    kind: &'static str,
    place: OwnedSemaphorePermit,
    work: impl FnOnce(&mut Pieces) -> Result<()> + Send + 'static,
) -> Response {
    let (loads, mut queue) = mpsc::channel(LOADS_AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut pieces = Pieces { loads, load: Vec::new(), bytes: 0 };
        let ended = catch_unwind(AssertUnwindSafe(|| {
            work(&mut pieces)?;
            pieces.flush()
        }));
        if let Err(error) = ended.unwrap_or_else(|_| Err(Error::internal("a reading thread panicked"))) {
            tracing::warn!("A stream ended early: {}", error.chain());
            // The connection breaks here; a reader that got no end knows that it has not all.
            let _ = pieces.loads.blocking_send(Err(error));
        }
    });
    let mut load = VecDeque::new();
    let body = Body::from_stream(futures_util::stream::poll_fn(move |context| {
        let _held = &place;
        loop {
            if let Some(piece) = load.pop_front() {
                return Poll::Ready(Some(Ok(piece)));
            }
            match ready!(queue.poll_recv(context)) {
                Some(Ok(next)) => load = VecDeque::from(next),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }));
    ([(CONTENT_TYPE, kind)], body).into_response()
}

/// Opens a backup as soon as there is a place among the streams.
async fn open(app: &App, scope: &Scope, backup: String) -> Result<(OwnedSemaphorePermit, Arc<BackupReader>)> {
    scope.require(Action::Restore)?;
    let backup = reference::backup(backup)?;
    let place = Arc::clone(&app.streams).acquire_owned().await.map_err(Error::internal)?;
    let (_, reader) = app.service.content_open(scope, &backup).await?;
    Ok((place, reader))
}

/// A link to the backup as one file, at the address that the caller used.
pub(crate) async fn link(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
    Path(backup): Path<String>,
    headers: HeaderMap,
) -> Answer<Json<DownloadLinkView>> {
    let link = async {
        scope.require(Action::Restore)?;
        let backup = reference::backup(backup)?;
        downloads::link(&app, &scope, &backup, &headers).await
    };
    let (link, url) = link.await.map_err(Refusal::of(&id))?;
    Ok(Json(DownloadLinkView {
        schema: SCHEMA,
        backup_id: link.backup.as_str().to_owned(),
        file_name: link.file_name,
        bytes: link.bytes,
        url,
        expires: moment(link.expires),
    }))
}

pub(crate) async fn members(
    State(app): State<App>,
    Extension(scope): Extension<Scope>,
    Extension(id): Extension<RequestId>,
    Path(backup): Path<String>,
) -> Answer<Response> {
    let (place, reader) = open(&app, &scope, backup).await.map_err(Refusal::of(&id))?;
    Ok(stream("application/x-ndjson", place, move |pieces| {
        let mut lines = Vec::with_capacity(LINES_BYTES + 4096);
        let listed = Service::content_members(&reader, &mut |entry| {
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
                pieces.send(std::mem::take(&mut lines))?;
            }
            Ok(())
        });
        if let Err(error) = listed {
            if error.kind() == ErrorKind::Cancelled {
                return Err(error);
            }
            tracing::warn!(request.id = %id, "Listing a backup failed: {}", error.chain());
            // Said in the stream: a broken connection could not tell damage from a bad network.
            let failure = MembersFailure { error: error_body(&error, &id) };
            serde_json::to_writer(&mut lines, &failure).map_err(Error::internal)?;
            lines.push(b'\n');
        }
        pieces.send(lines)
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
        let (place, reader) = open(&app, &scope, backup).await?;
        Ok((request, place, reader))
    };
    let (request, place, reader) = opened.await.map_err(Refusal::of(&id))?;
    Ok(stream("application/octet-stream", place, move |pieces| {
        Service::content_stream(&reader, &request.segments, id.as_str(), &mut |piece| pieces.send(piece))
    }))
}
