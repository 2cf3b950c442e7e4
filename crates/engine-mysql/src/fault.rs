//! What can go wrong while speaking with a server, and what of it a person is told.
//!
//! Inside this crate a failure keeps the server's own words and number, because the probe and the
//! backup draw different conclusions from them. It becomes a domain error at the edge.

use std::fmt;

use strongroom_core::foreign_text::for_people;
use strongroom_core::{Error, ErrorKind, Retry};
use strongroom_wire::Trouble;

/// Why a conversation with a server ended.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The server refused, in its own words.
    Server(Box<ServerError>),
    /// The connection broke, or nothing came any more: another one may take the conversation up.
    Lost(Error),
    /// What answers is no MySQL, or none that can be cloned from; it says this about itself.
    Foreign(Foreign),
    Domain(Error),
}

pub(crate) type Result<T, E = Fault> = std::result::Result<T, E>;

/// A server that this engine is not for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Foreign {
    MariaDb { version: String },
    TooOld { version: String },
}

impl Foreign {
    /// What was found, in a few words.
    pub(crate) fn found(&self) -> String {
        match self {
            Self::MariaDb { version } => format!("MariaDB ({version})"),
            Self::TooOld { version } => format!("MySQL {version}"),
        }
    }

    /// Why it cannot be backed up.
    pub(crate) const fn obstacle(&self) -> &'static str {
        match self {
            Self::MariaDb { .. } => {
                "MariaDB has no clone protocol (COM_CLONE): it cannot be asked over the network for a physical copy."
            }
            Self::TooOld { .. } => {
                "Before 8.0.27 MySQL has no clone protocol, or one that stops every change of a table's definition while a backup runs."
            }
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Domain(error)
    }
}

impl From<Trouble> for Fault {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Lost(error) => Self::Lost(error),
            Trouble::Domain(_) | Trouble::Abandoned => Self::Domain(trouble.into()),
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Server(server) => server.into_error(),
            Fault::Lost(error) | Fault::Domain(error) => error,
            Fault::Foreign(foreign) => Self::new(
                ErrorKind::SourceRefused,
                format!("The source is {} and cannot be backed up. Nothing was stored.", foreign.found()),
            )
            .with_hint(foreign.obstacle()),
        }
    }
}

impl Fault {
    pub(crate) fn hostile(what: impl fmt::Display) -> Self {
        Self::Domain(hostile(what))
    }

    pub(crate) fn lost(what: impl fmt::Display) -> Self {
        Self::Lost(Error::new(
            ErrorKind::SourceUnreachable,
            format!("{what} Nothing was stored as complete."),
        ))
    }
}

/// The source sent something that must not be believed.
pub(crate) fn hostile(what: impl fmt::Display) -> Error {
    Error::new(ErrorKind::SourceHostile, format!("The source sent something that no MySQL sends: {what}."))
}

/// An error report of the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ServerError {
    pub(crate) code: u32,
    pub(crate) message: String,
}

/// Numbers of the server's errors that something follows from.
pub(crate) mod code {
    pub(crate) const TOO_MANY_CONNECTIONS: u32 = 1040;
    pub(crate) const SCHEMA_ACCESS_DENIED: u32 = 1044;
    pub(crate) const ACCESS_DENIED: u32 = 1045;
    pub(crate) const SHUTDOWN: u32 = 1053;
    pub(crate) const HOST_BLOCKED: u32 = 1129;
    pub(crate) const HOST_NOT_ALLOWED: u32 = 1130;
    pub(crate) const TABLE_ACCESS_DENIED: u32 = 1142;
    pub(crate) const COLUMN_ACCESS_DENIED: u32 = 1143;
    pub(crate) const NO_SUCH_TABLE: u32 = 1146;
    pub(crate) const TOO_MANY_USER_CONNECTIONS: u32 = 1203;
    pub(crate) const LOCK_WAIT_TIMEOUT: u32 = 1205;
    pub(crate) const RIGHT_MISSING: u32 = 1227;
    pub(crate) const LOG_NOT_READABLE: u32 = 1236;
    pub(crate) const INTERRUPTED: u32 = 1317;
    pub(crate) const ACCESS_DENIED_NO_PASSWORD: u32 = 1698;
    pub(crate) const PASSWORD_MUST_CHANGE: u32 = 1820;
    pub(crate) const PASSWORD_EXPIRED: u32 = 1862;
    pub(crate) const INTERNAL: u32 = 1815;
    pub(crate) const STATEMENT_TIMEOUT: u32 = 3024;
    pub(crate) const ACCOUNT_LOCKED: u32 = 3118;
    pub(crate) const KILLED: u32 = 3168;
    pub(crate) const INSECURE_TRANSPORT: u32 = 3159;
    pub(crate) const DEFINITION_CHANGED: u32 = 3633;
    pub(crate) const CLONE_RUNS_ALREADY: u32 = 3634;
    pub(crate) const KEYS_NEED_TLS: u32 = 3872;
}

impl ServerError {
    /// Decodes an ERR packet: 0xff, a number, maybe `#` and a state, the text.
    pub(crate) fn decode(body: &[u8]) -> Self {
        let [_, low, high, text @ ..] = body else { return Self::default() };
        let text = match text {
            [b'#', _, _, _, _, _, rest @ ..] => rest,
            other => other,
        };
        Self { code: u32::from(u16::from_le_bytes([*low, *high])), message: for_people(text) }
    }

    /// The server's words as a clause, with its number.
    pub(crate) fn quoted(&self) -> String {
        format!("\"{}\" ({})", self.message, self.code)
    }

    /// A right on a table, or on a column of it, is missing.
    pub(crate) fn is_denied(&self) -> bool {
        matches!(
            self.code,
            code::TABLE_ACCESS_DENIED | code::COLUMN_ACCESS_DENIED | code::SCHEMA_ACCESS_DENIED
        )
    }

    /// A donor waits, for a while, until it has noticed that the connection of a clone is gone; then it
    /// says this, and may be asked again.
    pub(crate) fn is_not_idle_yet(&self) -> bool {
        self.code == code::CLONE_RUNS_ALREADY
            || self.code == code::INTERNAL && self.message.contains("wait for idle")
    }

    /// The host part of the account in `Access denied for user 'a'@'b' (using password: YES)`, and the
    /// host of `Host 'b' is not allowed …`: ours, as the server sees it.
    pub(crate) fn client_host(&self) -> Option<&str> {
        // An account may have quotes in its name, which the server does not double.
        let begin = match self.code {
            code::HOST_NOT_ALLOWED | code::HOST_BLOCKED => self.message.split_once('\''),
            _ => self.message.rsplit_once("'@'"),
        };
        let (_, rest) = begin?;
        let (host, _) = rest.split_once('\'')?;
        Some(host).filter(|host| !host.is_empty() && !host.contains(char::is_whitespace))
    }

    fn into_error(self) -> Error {
        let (kind, retry) = self.classify();
        let error = Error::new(
            kind,
            format!("The source refused to go on: {}. Nothing was stored as complete.", self.quoted()),
        )
        .with_retry(retry);
        match self.remedy() {
            Some(remedy) => error.with_hint(remedy),
            None => error,
        }
    }

    fn classify(&self) -> (ErrorKind, Retry) {
        match self.code {
            // Accounts, passwords and rights stay wrong until somebody mends them.
            code::ACCESS_DENIED
            | code::ACCESS_DENIED_NO_PASSWORD
            | code::HOST_BLOCKED
            | code::HOST_NOT_ALLOWED
            | code::TABLE_ACCESS_DENIED
            | code::RIGHT_MISSING
            | code::PASSWORD_MUST_CHANGE
            | code::PASSWORD_EXPIRED
            | code::ACCOUNT_LOCKED
            | code::INSECURE_TRANSPORT
            | code::KEYS_NEED_TLS => (ErrorKind::SourceRefused, Retry::Never),
            // Shutting down, or our session was killed.
            code::SHUTDOWN | code::INTERRUPTED | code::KILLED => (ErrorKind::SourceUnreachable, Retry::Later),
            _ => (ErrorKind::SourceRefused, Retry::Later),
        }
    }

    fn remedy(&self) -> Option<&'static str> {
        match self.code {
            code::ACCESS_DENIED | code::ACCESS_DENIED_NO_PASSWORD => {
                Some("Correct the account or password of the instance, then check it again.")
            }
            code::HOST_NOT_ALLOWED | code::RIGHT_MISSING | code::INSECURE_TRANSPORT => {
                Some("Check the instance again; the check names the statement that mends it.")
            }
            code::TOO_MANY_CONNECTIONS | code::TOO_MANY_USER_CONNECTIONS => {
                Some("Raise max_connections on the source; a backup needs two connections.")
            }
            code::CLONE_RUNS_ALREADY => {
                Some("Another clone is being taken from this server; a server gives one at a time.")
            }
            code::KEYS_NEED_TLS => Some(
                "The source has encrypted tablespaces, whose keys it sends over TLS only: set the instance's TLS mode to require.",
            ),
            code::DEFINITION_CHANGED => Some(
                "A table's definition changed in a moment that the server could not follow; the next try may pass.",
            ),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h14_terminal_escapes_of_a_mysql_server_do_not_pass() {
        let error = ServerError::decode(b"\xff\x15\x04#28000no \x1b[31mred\x07\r\nsecond line \xff");
        assert_eq!(error.message, "no \u{FFFD}[31mred\u{FFFD}  second line \u{FFFD}");
        assert_eq!(error.code, code::ACCESS_DENIED);
        assert_eq!(ServerError::decode(b"\xff"), ServerError::default());
    }

    #[test]
    fn our_host_is_found_in_the_servers_words() {
        let error = |code, message: &str| ServerError { code, message: message.to_owned() };
        let denied = error(1045, "Access denied for user 'a b'@'10.1.2.3' (using password: YES)");
        assert_eq!(denied.client_host(), Some("10.1.2.3"));
        let quoted = error(1045, "Access denied for user 'o'k'@'10.1.2.3' (using password: YES)");
        assert_eq!(quoted.client_host(), Some("10.1.2.3"));
        let host = error(1130, "Host 'db7.example' is not allowed to connect to this MySQL server");
        assert_eq!(host.client_host(), Some("db7.example"));
        assert_eq!(error(1045, "no").client_host(), None);
    }

    #[test]
    fn b11_what_stays_wrong_at_a_mysql_server_is_not_tried_again() {
        let error = |code| Error::from(Fault::Server(Box::new(ServerError { code, message: String::new() })));
        assert_eq!(error(1045).retry(), Retry::Never);
        assert_eq!(error(1227).retry(), Retry::Never);
        assert_eq!(error(1053).kind(), ErrorKind::SourceUnreachable);
        assert_eq!(error(3634).retry(), Retry::Later);
    }
}
