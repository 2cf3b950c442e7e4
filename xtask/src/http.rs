//! As much HTTP as the chores need: one connection, requests in turn, every byte visible.
//!
//! Kept by hand on purpose: the demonstration shows the wire, and the benchmark must not measure
//! a client library.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, bail};

const TIMEOUT: Duration = Duration::from_mins(1);

/// A connection that is kept open between requests.
pub(crate) struct Client {
    authority: String,
    token: String,
    stream: BufReader<TcpStream>,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Status line and headers as received.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Client {
    /// `endpoint` is `http://HOST:PORT`; the chores only talk to servers of their own on loopback.
    pub(crate) fn connect(endpoint: &str, token: &str) -> anyhow::Result<Self> {
        let authority = endpoint
            .strip_prefix("http://")
            .context("the endpoint is plain http")?
            .trim_end_matches('/')
            .to_owned();
        let stream = TcpStream::connect(&authority).with_context(|| format!("connecting to {authority}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self { authority, token: token.to_owned(), stream: BufReader::new(stream) })
    }

    /// The request as it goes over the wire, token left out.
    pub(crate) fn request_text(&self, method: &str, path: &str, body: &str) -> String {
        self.compose(method, path, body, "…")
    }

    pub(crate) fn send(&mut self, method: &str, path: &str, body: &str) -> anyhow::Result<Answer> {
        let request = self.compose(method, path, body, &self.token);
        self.stream.get_mut().write_all(request.as_bytes()).context("sending a request")?;
        read_answer(&mut self.stream).with_context(|| format!("reading the answer to {method} {path}"))
    }

    /// Sends and insists on a success; answers the parsed body.
    pub(crate) fn json(&mut self, method: &str, path: &str, body: &str) -> anyhow::Result<serde_json::Value> {
        let answer = self.success(method, path, body)?;
        serde_json::from_str(&answer.body)
            .with_context(|| format!("the answer to {method} {path} is no JSON"))
    }

    /// Sends and insists on a success, whatever is answered.
    pub(crate) fn success(&mut self, method: &str, path: &str, body: &str) -> anyhow::Result<Answer> {
        let answer = self.send(method, path, body)?;
        if !(200..300).contains(&answer.status) {
            bail!("{method} {path} was answered {}: {}", answer.status, answer.body);
        }
        Ok(answer)
    }

    fn compose(&self, method: &str, path: &str, body: &str, token: &str) -> String {
        let mut text =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nX-Auth-Token: {token}\r\n", self.authority);
        if !body.is_empty() {
            let _ = write!(text, "Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        }
        text + "\r\n" + body
    }
}

fn read_answer(stream: &mut impl BufRead) -> anyhow::Result<Answer> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head)? == 0 {
            bail!("the connection ended within the headers");
        }
    }
    let status =
        head.split(' ').nth(1).and_then(|word| word.parse().ok()).context("no status in the answer")?;
    let body = match header(&head, "content-length") {
        Some(length) => read_exactly(stream, length.parse()?)?,
        None if header(&head, "transfer-encoding").is_some_and(|coding| coding == "chunked") => {
            read_chunks(stream)?
        }
        None => Vec::new(),
    };
    let body = String::from_utf8(body).context("the body is not UTF-8")?;
    Ok(Answer { status, head: head.trim_end().to_owned(), body })
}

fn header(head: &str, name: &str) -> Option<String> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().to_ascii_lowercase())
}

fn read_exactly(stream: &mut impl BufRead, length: usize) -> anyhow::Result<Vec<u8>> {
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(body)
}

fn read_chunks(stream: &mut impl BufRead) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let size = line.trim().split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).with_context(|| format!("a chunk of size {line:?}"))?;
        body.extend(read_exactly(stream, size)?);
        // The line end after the chunk, or after the last one.
        stream.read_line(&mut line)?;
        if size == 0 {
            return Ok(body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<Answer> {
        read_answer(&mut BufReader::new(text.as_bytes()))
    }

    #[test]
    fn reads_bodies_of_known_length_and_in_chunks() {
        let known = read("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}rest").unwrap();
        assert_eq!((known.status, known.body.as_str()), (200, "{}"));
        let chunks =
            "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{\"\r\n3\r\na\"}\r\n0\r\n\r\n";
        assert_eq!(read(chunks).unwrap().body, "{\"a\"}");
    }

    #[test]
    fn a_cut_answer_is_an_error() {
        assert!(read("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}").is_err());
        assert!(read("HTTP/1.1 200 OK\r\n").is_err());
    }
}
