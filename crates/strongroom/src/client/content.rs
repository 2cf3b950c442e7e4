//! A backup's content over HTTP, for the restore's threads.

use futures_util::StreamExt;
use reqwest::Method;
use strongroom_api::native::wire::{ContentRequest, MemberLine, MembersFailure};
use strongroom_core::member::{MemberKind, MemberPath};
use strongroom_core::{Error, ErrorKind, Result, Retry};
use strongroom_service::content::{ContentEvent, ContentParser};
use strongroom_service::kind_of;
use strongroom_service::restore::{ContentSource, MemberInfo};
use tokio::runtime::Handle;

use super::Client;
use crate::exit::Stop;

/// Members and segments of one backup. Blocks; to be used from threads of their own.
pub(crate) struct HttpContent {
    client: Client,
    backup: String,
    /// How many members the manifest counts: a list that ends early must not pass for the whole.
    member_count: u64,
    runtime: Handle,
}

/// A stop of the client as an error that the restore can judge.
fn error_of(stop: Stop) -> Error {
    let kind = stop.code.as_deref().and_then(kind_of).unwrap_or(ErrorKind::Unavailable);
    Error::new(kind, stop.message).with_hint(stop.hint.unwrap_or_default())
}

fn cut(error: &reqwest::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("The connection to the server broke ({error})."))
        .with_hint("run the same command again; what was restored so far is kept")
        .with_retry(Retry::Later)
}

impl HttpContent {
    pub(crate) fn new(client: Client, backup: String, member_count: u64, runtime: Handle) -> Self {
        Self { client, backup, member_count, runtime }
    }

    /// Hands each piece of an answer's body to `take` as it arrives.
    fn stream(
        &self,
        request: reqwest::RequestBuilder,
        take: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        self.runtime.block_on(async {
            let response = self.client.send(request).await.map_err(error_of)?;
            let mut pieces = response.bytes_stream();
            while let Some(piece) = pieces.next().await {
                take(&piece.map_err(|error| cut(&error))?)?;
            }
            Ok(())
        })
    }
}

fn member(line: &[u8]) -> Result<MemberInfo> {
    let broken = |what: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Unavailable, format!("The server's list of files cannot be used: {what}."))
            .with_hint("use a strongroom command of the same release as the server")
    };
    let line: MemberLine = match serde_json::from_slice(line) {
        Ok(line) => line,
        Err(error) => {
            let failure: MembersFailure = serde_json::from_slice(line).map_err(|_| broken(&error))?;
            return Err(error_of(failure.error.into()));
        }
    };
    let path = match (line.path, line.path_hex) {
        (Some(path), None) => path.into_bytes(),
        (None, Some(digits)) => hex::decode(digits).map_err(|error| broken(&error))?,
        _ => return Err(broken(&"a file without a name")),
    };
    let kind = match line.kind.as_str() {
        "file" => MemberKind::File,
        "directory" => MemberKind::Directory,
        other => return Err(broken(&format_args!("the kind {other} is unknown"))),
    };
    Ok(MemberInfo {
        index: line.index,
        path: MemberPath::parse(&path)?,
        kind,
        size: line.size,
        mode: line.mode,
        mtime_s: line.mtime_s,
        segments: line.segments,
    })
}

impl ContentSource for HttpContent {
    fn members(&self, out: &mut dyn FnMut(MemberInfo) -> Result<()>) -> Result<()> {
        let (mut rest, mut count) = (Vec::new(), 0);
        let request = self.client.request(Method::GET, &["backups", &self.backup, "members"]);
        self.stream(request, &mut |piece| {
            rest.extend_from_slice(piece);
            let mut begin = 0;
            while let Some(end) = rest[begin..].iter().position(|byte| *byte == b'\n') {
                out(member(&rest[begin..begin + end])?)?;
                count += 1;
                begin += end + 1;
            }
            rest.drain(..begin);
            Ok(())
        })?;
        if count == self.member_count && rest.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            format!("The server listed {count} of {} files; the list was cut short.", self.member_count),
        )
        .with_hint("run the same command again"))
    }

    fn content(
        &self,
        segments: &[(u64, u32)],
        out: &mut dyn FnMut(ContentEvent) -> Result<()>,
    ) -> Result<()> {
        let mut parser = ContentParser::new();
        let body = ContentRequest { segments: segments.to_vec() };
        let request = self.client.request(Method::POST, &["backups", &self.backup, "content"]).json(&body);
        self.stream(request, &mut |mut piece| {
            while let Some(event) = parser.next(&mut piece)? {
                out(event)?;
            }
            Ok(())
        })?;
        parser.finish()
    }
}
