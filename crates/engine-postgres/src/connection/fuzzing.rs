//! What a connection brings, before anybody knows what it means.

use super::Row;
use super::inbox::Inbox;
use crate::fault::ServerError;

/// A stream of messages; what a message holds is read as a row and as an error of the server.
pub(crate) fn messages(bytes: &[u8]) {
    let (mut inbox, mut stream) = (Inbox::new(), bytes);
    loop {
        match inbox.take() {
            Ok(Some(envelope)) => {
                let message = inbox.open(envelope);
                if let Ok(row) = Row::decode(message.body) {
                    let _ = (row.text(0), row.parse::<u64>(1), row.bytes(2));
                }
                let error = ServerError::decode(message.body);
                assert!(!error.quoted().contains(['\n', '\u{1b}']), "words of the server go to terminals");
            }
            Ok(None) => match inbox.fill(&mut stream) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            },
            Err(_) => return,
        }
    }
}
