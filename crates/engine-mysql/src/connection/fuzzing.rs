//! What a connection brings, before anybody knows what it means.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use super::inbox::Inbox;
use super::login::Greeting;
use super::result::{self, Beginning};
use super::{Connection, Row, TICK, Transport, command};
use crate::fault::ServerError;

/// Hands each packet of a stream to `take`; answers whether all of the stream was packets.
pub(crate) fn each_packet(bytes: &[u8], mut take: impl FnMut(&[u8]) -> bool) -> bool {
    let (mut inbox, mut stream) = (Inbox::new(), bytes);
    loop {
        match inbox.take() {
            Ok(Some(envelope)) => {
                if !take(inbox.open(envelope)) {
                    return false;
                }
            }
            Ok(None) => match inbox.fill(&mut stream) {
                Ok(0) | Err(_) => return inbox.is_empty(),
                Ok(_) => {}
            },
            Err(_) => return false,
        }
    }
}

/// A body with its header.
pub(crate) fn packet(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(0).to_le_bytes();
    [&[length[0], length[1], length[2], 0], body].concat()
}

/// A field of a row.
pub(crate) fn field(value: Option<&[u8]>) -> Vec<u8> {
    let Some(value) = value else { return vec![0xfb] };
    let length = u32::try_from(value.len()).unwrap_or(0).to_le_bytes();
    [&[0xfd, length[0], length[1], length[2]], value].concat()
}

/// A session with a server that answers each statement with some packets, on a thread of its own as
/// long as the session lives.
pub(crate) fn scripted(answer: impl Fn(&str) -> Vec<Vec<u8>> + Send + 'static) -> Connection {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    ours.set_read_timeout(Some(TICK)).and_then(|()| ours.set_write_timeout(Some(TICK))).expect("a socket");
    std::thread::spawn(move || converse(theirs, answer));
    Connection::over(Transport::Local(ours))
}

/// `None` when the session is over.
fn converse(mut client: UnixStream, answer: impl Fn(&str) -> Vec<Vec<u8>>) -> Option<()> {
    loop {
        let mut head = [0; 4];
        client.read_exact(&mut head).ok()?;
        let mut body = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
        client.read_exact(&mut body).ok()?;
        let statement = body.strip_prefix(&[command::QUERY])?;
        let packets = answer(std::str::from_utf8(statement).expect("statements are text"));
        client.write_all(&packets.iter().flat_map(|body| packet(body)).collect::<Vec<u8>>()).ok()?;
    }
}

/// A stream of packets; what a packet holds is read as every kind of answer to a statement.
pub(crate) fn packets(bytes: &[u8]) -> bool {
    let mut rows = 0;
    each_packet(bytes, |body| {
        if let Ok(Beginning::Columns(count)) = Beginning::parse(body) {
            assert!((1..=4096).contains(&count));
        }
        let _ = result::end_of_result(body);
        for columns in [1, 2, 40] {
            if let Ok(row) = Row::decode(body, columns) {
                rows += 1;
                let _ = (row.text(0), row.number(1), row.bytes(columns));
            }
        }
        let error = ServerError::decode(body);
        assert!(!error.quoted().contains(['\n', '\u{1b}']), "words of the server go to terminals");
        let _ = error.client_host();
        true
    });
    rows > 0
}

pub(crate) fn some_rows() -> Vec<u8> {
    [
        &[2][..],
        b"\x04name\x017",
        b"\xfb\xfc\x02\x00ab",
        b"\x01x",
        b"\xfe\0\0\x02\0\0\0",
        b"\xff\x28\x04#42000no",
    ]
    .map(packet)
    .concat()
}

pub(crate) fn greeting(bytes: &[u8]) -> bool {
    Greeting::parse(bytes).is_ok_and(|greeting| {
        assert!(greeting.version.is_supported() && !greeting.version_text.contains(['\n', '\u{1b}']));
        true
    })
}

pub(crate) fn good_greeting() -> Vec<u8> {
    let mut body = b"\x0a9.7.4\0\x01\0\0\0saltsalt\0".to_vec();
    body.extend_from_slice(&[0xff, 0xff, 255, 2, 0, 0xff, 0xdf, 21]);
    body.extend_from_slice(&[0; 10]);
    body.extend_from_slice(b"saltsaltsalt\0caching_sha2_password\0");
    body
}
