//! Start-up and authentication.
//!
//! Rules that hold whatever the server asks for: a password leaves in plain text only inside
//! TLS, an MD5 answer only when the instance allows it, and a SCRAM exchange that was begun must
//! end with the server's own proof.

use std::io::{Read, Write};

use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::frontend;
use secrecy::ExposeSecret;
use strongroom_core::engine::Source;
use strongroom_core::{Error, ErrorKind, limits};
use strongroom_wire::{Transport, Watch, broken, is_tick};

use super::{Asides, Connection, binding};
use crate::fault::{Fault, Result};

/// What the connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose<'a> {
    /// Replication commands, no database.
    Replication,
    /// Ordinary SQL in one database.
    Sql { database: &'a str },
    /// The same with settings of our own for the session.
    Session { database: &'a str, settings: &'a [(&'a str, &'a str)] },
}

/// Sends SSLRequest and reads the one byte of the answer, not one more: whatever a stranger put
/// behind it in plain text must not be taken for the server's words.
pub(super) fn ask_for_tls(transport: &mut Transport, watch: &Watch<'_>) -> Result<()> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    transport.write_all(&request).map_err(|error| broken(&error))?;
    let mut answer = [0];
    loop {
        match transport.read(&mut answer) {
            Ok(0) => return Err(Fault::unreachable("The source closed the connection when asked for TLS.")),
            Ok(_) => break,
            Err(error) if is_tick(&error) => watch.check()?,
            Err(error) => return Err(broken(&error).into()),
        }
    }
    match answer {
        [b'S'] => Ok(()),
        [b'N'] => Err(Fault::Domain(
            Error::new(
                ErrorKind::SourceRefused,
                "The source does not offer TLS, and the instance asks for it.",
            )
            .with_hint("Set ssl = on on the source, or register the instance with tls disable."),
        )),
        _ => Err(Fault::hostile("an unknown answer to the request for TLS")),
    }
}

/// Sends the start-up message and answers until the server is ready for a command.
pub(super) fn log_in(
    connection: &mut Connection,
    source: &Source,
    purpose: Purpose<'_>,
    watch: &Watch<'_>,
) -> Result<()> {
    let release_timeout = format!("{}ms", limits::SOURCE_SLOT_RELEASE_TIMEOUT_MS);
    let for_replication = [("wal_sender_timeout", release_timeout.as_str())];
    let (target, settings): (_, &[(&str, &str)]) = match purpose {
        Purpose::Replication => (("replication", "true"), &for_replication),
        Purpose::Sql { database } => (("database", database), &[]),
        Purpose::Session { database, settings } => (("database", database), settings),
    };
    let mut parameters = vec![("user", source.user.as_str()), target, ("application_name", "strongroom")];
    parameters.extend(settings);
    let mut message = BytesMut::new();
    frontend::startup_message(parameters, &mut message).map_err(|_| names_with_nul())?;
    connection.send(&message, watch)?;
    authenticate(connection, source, watch)?;
    let mut asides = Asides::default();
    loop {
        let message = connection.receive(watch)?;
        match message.tag {
            b'Z' => return Ok(()),
            // Cancel key and protocol negotiation: neither is used.
            b'K' | b'v' => asides.count()?,
            tag => return Err(unexpected(tag, "after the login")),
        }
    }
}

/// Authentication requests by their number.
mod request {
    pub(super) const OK: u32 = 0;
    pub(super) const CLEARTEXT: u32 = 3;
    pub(super) const MD5: u32 = 5;
    pub(super) const SASL: u32 = 10;
}

fn authenticate(connection: &mut Connection, source: &Source, watch: &Watch<'_>) -> Result<()> {
    let mut has_answered = false;
    loop {
        let (number, content) = authentication_request(connection, watch)?;
        if number == request::OK {
            return Ok(());
        }
        if has_answered {
            return Err(Fault::hostile("a second request for authentication"));
        }
        has_answered = true;
        let password = source.password.expose_secret();
        if password.is_empty() {
            return Err(refused("The source asks for a password, and the instance has none.").into());
        }
        match number {
            request::CLEARTEXT => send_cleartext(connection, password, watch)?,
            request::MD5 => send_md5(connection, source, &content, watch)?,
            request::SASL => prove_by_scram(connection, password, &content, watch)?,
            other => {
                return Err(refused(format!(
                    "The source asks for authentication method {other}, which is not offered here."
                ))
                .with_hint("Let pg_hba.conf ask this role for scram-sha-256.")
                .into());
            }
        }
    }
}

/// Number and content of the next authentication request.
fn authentication_request(connection: &mut Connection, watch: &Watch<'_>) -> Result<(u32, Vec<u8>)> {
    let message = connection.receive(watch)?;
    match (message.tag, message.body) {
        (b'R', [a, b, c, d, content @ ..]) => Ok((u32::from_be_bytes([*a, *b, *c, *d]), content.to_vec())),
        (tag, _) => Err(unexpected(tag, "during the login")),
    }
}

fn send_cleartext(connection: &mut Connection, password: &str, watch: &Watch<'_>) -> Result<()> {
    if connection.session().is_none() {
        return Err(refused(
            "The source asks for the password in plain text over a connection without TLS. It was not sent.",
        )
        .with_hint("Let pg_hba.conf ask this role for scram-sha-256, or use TLS.")
        .into());
    }
    send_password(connection, password.as_bytes(), watch)
}

fn send_md5(connection: &mut Connection, source: &Source, salt: &[u8], watch: &Watch<'_>) -> Result<()> {
    if !source.allow_md5 {
        return Err(refused(
            "The source asks for an MD5 answer, which is weak and not allowed for this instance.",
        )
        .with_hint(format!(
            "On the source: SET password_encryption = 'scram-sha-256'; ALTER ROLE {} PASSWORD '...'; \
                 or allow MD5 for this instance.",
            crate::remedy::quote_identifier(&source.user)
        ))
        .into());
    }
    let salt: [u8; 4] = salt.try_into().map_err(|_| Fault::hostile("an MD5 salt of a wrong length"))?;
    let answer = md5_hash(source.user.as_bytes(), source.password.expose_secret().as_bytes(), salt);
    send_password(connection, answer.as_bytes(), watch)
}

fn send_password(connection: &mut Connection, password: &[u8], watch: &Watch<'_>) -> Result<()> {
    let mut message = BytesMut::new();
    frontend::password_message(password, &mut message).map_err(|_| names_with_nul())?;
    connection.send(&message, watch)
}

/// SCRAM-SHA-256, bound to the TLS channel when the server offers that.
fn prove_by_scram(
    connection: &mut Connection,
    password: &str,
    offered: &[u8],
    watch: &Watch<'_>,
) -> Result<()> {
    const CONTINUE: u32 = 11;
    const FINAL: u32 = 12;
    let offers = |name: &str| offered.split(|b| *b == 0).any(|mechanism| mechanism == name.as_bytes());
    let end_point = connection.session().and_then(binding::server_end_point);
    let (mechanism, binding) = match end_point {
        Some(end_point) if offers(SCRAM_SHA_256_PLUS) => {
            (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(end_point))
        }
        // Says "I would have bound": a server that did offer it then knows of a man in the middle.
        Some(_) => (SCRAM_SHA_256, ChannelBinding::unrequested()),
        None => (SCRAM_SHA_256, ChannelBinding::unsupported()),
    };
    if !offers(mechanism) {
        return Err(refused("The source offers no SCRAM-SHA-256 authentication.").into());
    }
    connection.is_channel_bound = mechanism == SCRAM_SHA_256_PLUS;
    let mut scram = ScramSha256::new(password.as_bytes(), binding);
    let mut message = BytesMut::new();
    frontend::sasl_initial_response(mechanism, scram.message(), &mut message).map_err(Error::internal)?;
    connection.send(&message, watch)?;

    let challenge = expect_request(connection, CONTINUE, watch)?;
    scram.update(&challenge).map_err(|error| Fault::hostile(format!("a wrong SCRAM challenge ({error})")))?;
    message.clear();
    frontend::sasl_response(scram.message(), &mut message).map_err(Error::internal)?;
    connection.send(&message, watch)?;

    let proof = expect_request(connection, FINAL, watch)?;
    scram.finish(&proof).map_err(|_| {
        Fault::hostile("a SCRAM proof that shows it does not know the password of the role itself")
    })
}

fn expect_request(connection: &mut Connection, wanted: u32, watch: &Watch<'_>) -> Result<Vec<u8>> {
    let (number, content) = authentication_request(connection, watch)?;
    if number == wanted {
        return Ok(content);
    }
    Err(Fault::hostile("an authentication exchange that was broken off"))
}

fn refused(what: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::SourceRefused, what)
}

fn names_with_nul() -> Error {
    refused("The user name, database name or password holds a NUL character, which PostgreSQL cannot take.")
}

pub(super) fn unexpected(tag: u8, when: &str) -> Fault {
    Fault::hostile(format!("a message of type 0x{tag:02x} {when}"))
}
