//! An HTTP client that sends exactly the bytes it is given: the suite also speaks badly on purpose.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// Longer than any answer takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request, as its bytes will be.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Ask {
    pub(crate) fn new(method: &str, path: &str) -> Self {
        Self { method: method.to_owned(), path: path.to_owned(), headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    pub(crate) fn post(path: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::new("POST", path) }
    }

    pub(crate) fn delete(path: &str) -> Self {
        Self::new("DELETE", path)
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn token(self, token: &str) -> Self {
        self.header("X-Auth-Token", token)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut head =
            format!("{} {} HTTP/1.1\r\nHost: strongroom\r\nConnection: close\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        if !self.body.is_empty() {
            write!(head, "Content-Length: {}\r\n", self.body.len()).unwrap();
        }
        head.push_str("\r\n");
        [head.into_bytes(), self.body.clone()].concat()
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("answers are UTF-8")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    /// The v1 error code, or the empty text.
    pub(crate) fn v1_code(&self) -> String {
        self.json()["errCode"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn v1_message(&self) -> String {
        self.json()["externalMessage"].as_str().unwrap_or_default().to_owned()
    }

    /// The v3 error code, or the empty text.
    pub(crate) fn v3_code(&self) -> String {
        self.json()["error_code"].as_str().unwrap_or_default().to_owned()
    }

    /// The native error code, or the empty text.
    pub(crate) fn native_code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// Sends and waits for the one answer.
pub(crate) async fn send(addr: SocketAddr, ask: &Ask) -> Reply {
    let answer = speak(addr, &ask.bytes()).await;
    parse(&answer).unwrap_or_else(|| panic!("no answer to {} {}: {answer:?}", ask.method, ask.path))
}

/// As [`send`], from a place on loopback of one's own.
pub(crate) async fn send_from(addr: SocketAddr, source: Ipv4Addr, ask: &Ask) -> Reply {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    let answer = talk(socket.connect(addr).await.unwrap(), &ask.bytes()).await;
    parse(&answer).unwrap_or_else(|| panic!("no answer to {} {}: {answer:?}", ask.method, ask.path))
}

/// Sends bytes, reads until the server closes. The server may close before it has read all.
pub(crate) async fn speak(addr: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    talk(TcpStream::connect(addr).await.unwrap(), bytes).await
}

async fn talk(mut stream: TcpStream, bytes: &[u8]) -> Vec<u8> {
    let (mut reading, mut writing) = stream.split();
    let mut answer = Vec::new();
    let write = async {
        let _ = writing.write_all(bytes).await;
        std::future::pending::<()>().await;
    };
    let read = async {
        let mut piece = vec![0; 16 << 10];
        while let Ok(length @ 1..) = reading.read(&mut piece).await {
            answer.extend_from_slice(&piece[..length]);
        }
    };
    tokio::select! {
        () = write => {}
        ended = timeout(PATIENCE, read) => ended.expect("the server closes the connection"),
    }
    answer
}

/// One answer from the beginning of some bytes; nothing when there is no complete head.
pub(crate) fn parse(bytes: &[u8]) -> Option<Reply> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect();
    let mut reply = Reply { status, headers, body: bytes[end + 4..].to_vec() };
    if reply.header("transfer-encoding") == Some("chunked") {
        reply.body = joined_chunks(&reply.body)?;
    }
    Some(reply)
}

/// A chunked body; nothing when it does not come to its end.
fn joined_chunks(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
        rest = &rest[end + 2..];
        if length == 0 {
            return Some(out);
        }
        out.extend_from_slice(rest.get(..length)?);
        rest = rest.get(length + 2..)?;
    }
}
