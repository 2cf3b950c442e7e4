//! What a connection brings, before anybody knows what it means.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use strongroom_wire::Transport;

use super::inbox::Inbox;
use super::{Connection, Row};
use crate::fault::ServerError;

/// A stream of messages; what a message holds is read as a row and as an error of the server.
pub(crate) fn messages(bytes: &[u8]) -> bool {
    let mut rows = 0;
    let (mut inbox, mut stream) = (Inbox::new(), bytes);
    loop {
        match inbox.take() {
            Ok(Some(envelope)) => {
                let message = inbox.open(envelope);
                if let Ok(row) = Row::decode(message.body) {
                    rows += 1;
                    let _ = (row.text(0), row.parse::<u64>(1), row.bytes(2));
                }
                let error = ServerError::decode(message.body);
                assert!(!error.quoted().contains(['\n', '\u{1b}']), "words of the server go to terminals");
            }
            Ok(None) => match inbox.fill(&mut stream) {
                Ok(0) | Err(_) => return rows > 0,
                Ok(_) => {}
            },
            Err(_) => return rows > 0,
        }
    }
}

/// What a socket takes at once, whoever reads it.
const SCRIPT_BYTES_MAX: usize = 64 << 10;

/// A connection to a server that says this and hangs up, and the server's end of it. `None` when it
/// would say more than a socket takes.
pub(crate) fn scripted(bytes: &[u8]) -> Option<(Connection, UnixStream)> {
    if bytes.len() > SCRIPT_BYTES_MAX {
        return None;
    }
    let (ours, mut server) = UnixStream::pair().ok()?;
    server.write_all(bytes).ok()?;
    server.shutdown(Shutdown::Write).ok()?;
    let transport = Transport::Local(ours);
    let connection =
        Connection { transport, inbox: Inbox::new(), silence: Duration::ZERO, is_channel_bound: false };
    Some((connection, server))
}
