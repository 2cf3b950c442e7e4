//! What can go wrong while speaking with a server, and what of it a person is told.
//!
//! Inside this crate a failure keeps the server's own words and code, because the probe and the
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
    /// The other connection of the same backup failed; its fault is the one to tell.
    Abandoned,
    Domain(Error),
}

pub(crate) type Result<T, E = Fault> = std::result::Result<T, E>;

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Domain(error)
    }
}

impl From<Trouble> for Fault {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Abandoned => Self::Abandoned,
            Trouble::Lost(error) | Trouble::Domain(error) => Self::Domain(error),
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Server(server) => server.into_error(),
            Fault::Abandoned => Trouble::Abandoned.into(),
            Fault::Domain(error) => error,
        }
    }
}

impl Fault {
    pub(crate) fn hostile(what: impl fmt::Display) -> Self {
        Self::Domain(hostile(what))
    }

    pub(crate) fn unreachable(what: impl fmt::Display) -> Self {
        Self::Domain(Error::new(
            ErrorKind::SourceUnreachable,
            format!("{what} Nothing was stored as complete."),
        ))
    }

    /// The server's words, when it was the server that ended the conversation.
    pub(crate) fn server(&self) -> Option<&ServerError> {
        match self {
            Self::Server(error) => Some(error),
            Self::Abandoned | Self::Domain(_) => None,
        }
    }
}

/// The source sent something that must not be believed.
pub(crate) fn hostile(what: impl fmt::Display) -> Error {
    Error::new(
        ErrorKind::SourceHostile,
        format!("The source sent something that no PostgreSQL sends: {what}."),
    )
}

/// An error report of the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ServerError {
    pub(crate) severity: String,
    /// SQLSTATE.
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) detail: String,
    pub(crate) hint: String,
    /// The function that reported it; unlike the message it is never translated.
    pub(crate) routine: String,
}

impl ServerError {
    /// Decodes the body of an ErrorResponse or NoticeResponse: pairs of a letter and a C string.
    pub(crate) fn decode(body: &[u8]) -> Self {
        let mut error = Self::default();
        let mut unlocalised_severity = None;
        for field in body.split(|b| *b == 0) {
            let Some((letter, text)) = field.split_first() else { break };
            let text = for_people(text);
            match letter {
                b'S' => error.severity = text,
                b'V' => unlocalised_severity = Some(text),
                b'C' => error.code = text,
                b'M' => error.message = text,
                b'D' => error.detail = text,
                b'H' => error.hint = text,
                b'R' => error.routine = text,
                _ => {}
            }
        }
        if let Some(severity) = unlocalised_severity {
            error.severity = severity;
        }
        error
    }

    /// Whether the server closes the connection after this.
    pub(crate) fn is_fatal(&self) -> bool {
        self.severity == "FATAL" || self.severity == "PANIC"
    }

    /// No line of `pg_hba.conf` lets this client in.
    pub(crate) fn is_missing_hba_entry(&self) -> bool {
        self.code == "28000" && self.routine == "ClientAuthentication"
    }

    pub(crate) fn is_wrong_password(&self) -> bool {
        self.code == "28P01"
    }

    /// The role does not exist or may not log in (the server says so only when no password was
    /// asked for first).
    pub(crate) fn is_unknown_role(&self) -> bool {
        self.code == "28000" && !self.is_missing_hba_entry()
    }

    pub(crate) fn is_missing_right(&self) -> bool {
        self.code == "42501"
    }

    /// All connections, or all WAL senders, are taken.
    pub(crate) fn is_out_of_connections(&self) -> bool {
        self.code == "53300"
    }

    /// The server's words as a clause, with its code.
    pub(crate) fn quoted(&self) -> String {
        let detail = if self.detail.is_empty() { String::new() } else { format!("; {}", self.detail) };
        format!("\"{}{detail}\" ({})", self.message, self.code)
    }

    /// The first word of the message that is an address: ours, as the server saw it.
    pub(crate) fn client_address(&self) -> Option<std::net::IpAddr> {
        let outside = |c: char| !(c.is_ascii_hexdigit() || c == '.' || c == ':');
        self.message
            .split(|c: char| c.is_whitespace() || c == ',')
            .find_map(|word| word.trim_matches(outside).parse().ok())
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
            None if self.hint.is_empty() => error,
            None => error.with_hint(format!("The server's own hint: {}", self.hint)),
        }
    }

    fn classify(&self) -> (ErrorKind, Retry) {
        match self.code.as_str() {
            // Password, role, pg_hba and rights stay wrong until somebody mends them.
            "28P01" | "28000" | "42501" => (ErrorKind::SourceRefused, Retry::Never),
            // Shutting down, crashed, starting up, connection trouble.
            code if code.starts_with("57P") || code.starts_with("08") => {
                (ErrorKind::SourceUnreachable, Retry::Later)
            }
            _ => (ErrorKind::SourceRefused, Retry::Later),
        }
    }

    fn remedy(&self) -> Option<&'static str> {
        match self.code.as_str() {
            "28P01" => Some("Correct the password of the instance, then check it again."),
            "28000" | "42501" => {
                Some("Check the instance again; the check names the statement that mends it.")
            }
            "53300" => Some("Raise max_wal_senders on the source; a backup needs two free WAL senders."),
            "58P01" => Some(
                "The source removed log that the backup needed. Raise max_slot_wal_keep_size (or set it to -1) on the source.",
            ),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h14_terminal_escapes_do_not_pass() {
        let error =
            ServerError::decode(b"SFATAL\0VFATAL\0C28P01\0Mno \x1b[31mred\x07\r\nsecond line \xff\0\0");
        assert_eq!(error.message, "no \u{FFFD}[31mred\u{FFFD}  second line \u{FFFD}");
        assert!(error.is_fatal() && error.is_wrong_password());
    }

    #[test]
    fn our_address_is_found_in_any_language() {
        for message in [
            "no pg_hba.conf entry for replication connection from host \"10.1.2.3\", user \"x\", no encryption",
            "kein pg_hba.conf-Eintrag für Replikationsverbindung von Host »10.1.2.3«, Benutzer »x«",
        ] {
            let error = ServerError { message: message.to_owned(), ..ServerError::default() };
            assert_eq!(error.client_address(), Some("10.1.2.3".parse().unwrap()));
        }
        let six = ServerError { message: "from host \"fe80::1\", user".to_owned(), ..ServerError::default() };
        assert_eq!(six.client_address(), Some("fe80::1".parse().unwrap()));
        let none = ServerError { message: "role \"be\" does not exist".to_owned(), ..ServerError::default() };
        assert_eq!(none.client_address(), None);
    }

    #[test]
    fn b11_what_stays_wrong_is_not_tried_again() {
        let error = |code: &str| {
            let server = ServerError { code: code.to_owned(), ..ServerError::default() };
            Error::from(Fault::Server(Box::new(server)))
        };
        assert_eq!(error("28P01").retry(), Retry::Never);
        assert_eq!(error("42501").retry(), Retry::Never);
        assert_eq!(error("57P01").kind(), ErrorKind::SourceUnreachable);
        assert_eq!(error("53300").retry(), Retry::Later);
    }
}
