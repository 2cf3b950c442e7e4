//! One connection to a PostgreSQL server: simple queries and the replication protocol's copy
//! streams, over blocking sockets.
//!
//! Must never know what a backup is; it moves messages.

mod asides;
mod binding;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod inbox;
mod login;

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustls::ClientConnection;
use strongroom_core::engine::{Source, TlsMode};
use strongroom_core::limits;
use strongroom_core::network::SourceNetworks;
pub(crate) use strongroom_wire::{TICK, Watch};
use strongroom_wire::{Transport, broken, is_tick};

pub(crate) use self::asides::Asides;
pub(crate) use self::inbox::Message;
use self::inbox::{Envelope, Inbox};
pub(crate) use self::login::Purpose;
use crate::fault::{Fault, Result, ServerError};

/// The most rows, and bytes of rows, of one result that is held in memory.
const ROWS_MAX: usize = 100_000;
const ROWS_SIZE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Time for the answer to a command that asks for a setting or the like.
const COMMAND_TIMEOUT: Duration = Duration::from_millis(limits::SOURCE_IDLE_TIMEOUT_MS);
/// What helps when nobody answers.
const REMEDY: &str = "Check host, port, firewall, and listen_addresses in postgresql.conf.";
/// Time for the farewell on a connection that is dropped.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(100);

/// A logged-in session.
pub(crate) struct Connection {
    transport: Transport,
    inbox: Inbox,
    /// Time spent waiting since the server last said anything that matters; our own slowness
    /// does not count, and the server's chatter does not help it.
    silence: Duration,
    /// The login proved that the TLS channel ends at the server that knows the password.
    is_channel_bound: bool,
}

/// One row of a simple query: text, or NULL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row(Vec<Option<Vec<u8>>>);

impl Connection {
    /// Connects and logs in, within [`limits::SOURCE_CONNECT_TIMEOUT_MS`] altogether.
    pub(crate) fn open(source: &Source, purpose: Purpose<'_>, watch: &Watch<'_>) -> Result<Self> {
        let watch = watch.with_deadline(Duration::from_millis(limits::SOURCE_CONNECT_TIMEOUT_MS));
        let mut transport = Transport::open(source, REMEDY, &watch)?;
        if source.tls != TlsMode::Disable {
            login::ask_for_tls(&mut transport, &watch)?;
            transport.encrypt(source, &watch)?;
        }
        Self::begin(transport, source, purpose, &watch)
    }

    /// Connects to a socket file of a server that takes this user without a password. What
    /// `settings` says stands above what the database or the role have stored for their sessions.
    pub(crate) fn open_local(
        socket: &Path,
        user: &str,
        database: &str,
        settings: &[(&str, &str)],
        watch: &Watch<'_>,
    ) -> Result<Self> {
        let watch = watch.with_deadline(Duration::from_millis(limits::SOURCE_CONNECT_TIMEOUT_MS));
        let source = Source {
            host: String::new(),
            port: 0,
            user: user.to_owned(),
            password: String::new().into(),
            tls: TlsMode::Disable,
            ca_pem: None,
            allow_md5: false,
            networks: SourceNetworks::default(),
        };
        let purpose = Purpose::Session { database, settings };
        Self::begin(Transport::open_local(socket)?, &source, purpose, &watch)
    }

    fn begin(transport: Transport, source: &Source, purpose: Purpose<'_>, watch: &Watch<'_>) -> Result<Self> {
        let (inbox, silence) = (Inbox::new(), Duration::ZERO);
        let mut connection = Self { transport, inbox, silence, is_channel_bound: false };
        login::log_in(&mut connection, source, purpose, watch)?;
        Ok(connection)
    }

    /// The TLS session, when the connection is encrypted.
    pub(crate) fn session(&self) -> Option<&ClientConnection> {
        self.transport.session()
    }

    /// How the connection is protected, in words.
    pub(crate) fn protection(&self, mode: TlsMode) -> String {
        self.transport.protection(mode) + if self.is_channel_bound { ", login bound to it" } else { "" }
    }

    /// Our own end of the connection.
    pub(crate) fn local_address(&self) -> Option<std::net::IpAddr> {
        self.transport.local_address()
    }

    /// How long one wait for bytes lasts at most, for callers who look at other things in between.
    pub(crate) fn set_tick(&self, tick: Duration) {
        self.transport.set_read_timeout(tick);
    }

    /// Sends a command; the answer is read with [`Self::receive`].
    pub(crate) fn start_command(&mut self, command: &str, watch: &Watch<'_>) -> Result<()> {
        let mut message = BytesMut::new();
        frontend::query(command, &mut message).map_err(|_| Fault::hostile("a name that holds a NUL byte"))?;
        self.send(&message, watch)
    }

    /// Runs a command to its end and answers with the rows of all its results.
    pub(crate) fn query(&mut self, command: &str, watch: &Watch<'_>) -> Result<Vec<Row>> {
        self.query_patiently(command, &watch.with_deadline(COMMAND_TIMEOUT))
    }

    /// As [`Self::query`], for commands that work for as long as the watch allows.
    pub(crate) fn query_patiently(&mut self, command: &str, watch: &Watch<'_>) -> Result<Vec<Row>> {
        self.start_command(command, watch)?;
        let answer = self.read_rows(watch);
        if let Err(Fault::Server(error)) = &answer
            && !error.is_fatal()
        {
            self.skip_to_ready(watch)?;
        }
        answer
    }

    /// The single value that a command like `SHOW` answers with.
    pub(crate) fn query_value(&mut self, command: &str, watch: &Watch<'_>) -> Result<String> {
        let rows = self.query(command, watch)?;
        match rows.as_slice() {
            [row] => Ok(row.text(0)?.to_owned()),
            _ => Err(Fault::hostile(format!("{} rows in answer to {command}", rows.len()))),
        }
    }

    fn read_rows(&mut self, watch: &Watch<'_>) -> Result<Vec<Row>> {
        let (mut rows, mut asides) = (Vec::new(), Asides::default());
        let mut size = 0;
        loop {
            let message = self.receive(watch)?;
            match message.tag {
                b'D' => {
                    size += message.body.len();
                    if rows.len() >= ROWS_MAX || size > ROWS_SIZE_BYTES_MAX {
                        return Err(Fault::hostile("a result without an end"));
                    }
                    rows.push(Row::decode(message.body)?);
                }
                b'Z' => return Ok(rows),
                // Row description, end of one result, empty query.
                b'T' | b'C' | b'I' => asides.count()?,
                tag => return Err(login::unexpected(tag, "in answer to a query")),
            }
        }
    }

    /// Behind an error report of a command.
    fn skip_to_ready(&mut self, watch: &Watch<'_>) -> Result<()> {
        let mut asides = Asides::default();
        while self.receive(watch)?.tag != b'Z' {
            asides.count()?;
        }
        Ok(())
    }

    /// The next message. Notices and parameter reports are dealt with here; an error report of
    /// the server is an `Err`.
    pub(crate) fn receive(&mut self, watch: &Watch<'_>) -> Result<Message<'_>> {
        loop {
            if let Some(envelope) = self.receive_within(TICK, watch)? {
                return Ok(self.inbox.open(envelope));
            }
        }
    }

    /// The kind of the next message, which stays the next one.
    pub(crate) fn peek(&mut self, watch: &Watch<'_>) -> Result<u8> {
        loop {
            if let Some(envelope) = self.receive_within(TICK, watch)? {
                self.inbox.put_back(&envelope);
                return Ok(envelope.tag);
            }
        }
    }

    /// As [`Self::receive`], for callers with other duties: gives up after `limit`, with `None`.
    pub(crate) fn poll(&mut self, limit: Duration, watch: &Watch<'_>) -> Result<Option<Message<'_>>> {
        let envelope = self.receive_within(limit, watch)?;
        Ok(envelope.map(|envelope| self.inbox.open(envelope)))
    }

    /// Waits until a message is there, without taking it; `false` when `limit` has passed.
    pub(crate) fn has_message_within(&mut self, limit: Duration, watch: &Watch<'_>) -> Result<bool> {
        let envelope = self.receive_within(limit, watch)?;
        if let Some(envelope) = &envelope {
            self.inbox.put_back(envelope);
        }
        Ok(envelope.is_some())
    }

    fn receive_within(&mut self, limit: Duration, watch: &Watch<'_>) -> Result<Option<Envelope>> {
        // Also when more is there already: a stream that never pauses must not go on uncancelled.
        watch.check()?;
        let begun = Instant::now();
        loop {
            while let Some(envelope) = self.inbox.take()? {
                if let Some(envelope) = self.deal_with(envelope)? {
                    self.silence = Duration::ZERO;
                    return Ok(Some(envelope));
                }
                self.check_silence(begun, watch)?;
            }
            if self.read_once()? == 0 {
                self.check_silence(begun, watch)?;
                if begun.elapsed() >= limit {
                    self.silence += begun.elapsed();
                    return Ok(None);
                }
            }
        }
    }

    fn check_silence(&self, begun: Instant, watch: &Watch<'_>) -> Result<()> {
        watch.check()?;
        let silence = self.silence + begun.elapsed();
        if silence <= watch.silence_max {
            return Ok(());
        }
        Err(Fault::unreachable(format!("The source has been silent for {} s.", silence.as_secs())))
    }

    /// Waits at most one tick for bytes; 0 when none came.
    fn read_once(&mut self) -> Result<usize> {
        match self.inbox.fill(&mut self.transport) {
            Ok(0) => Err(Fault::unreachable("The source closed the connection.")),
            Ok(count) => Ok(count),
            Err(error) if is_tick(&error) => Ok(0),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(Fault::unreachable("The source closed the connection."))
            }
            Err(error) => Err(broken(&error).into()),
        }
    }

    /// Swallows what may come at any time; hands everything else back.
    fn deal_with(&mut self, envelope: Envelope) -> Result<Option<Envelope>> {
        let message = self.inbox.open(envelope.clone());
        match message.tag {
            b'E' => Err(Fault::Server(Box::new(ServerError::decode(message.body)))),
            b'N' => {
                let notice = ServerError::decode(message.body);
                tracing::debug!(severity = notice.severity, code = notice.code, "notice: {}", notice.message);
                Ok(None)
            }
            // Reports of parameters: what is needed of them is asked for.
            b'S' => Ok(None),
            _ => Ok(Some(envelope)),
        }
    }

    /// Sends bytes that are whole messages already.
    pub(crate) fn send(&mut self, mut bytes: &[u8], watch: &Watch<'_>) -> Result<()> {
        let begun = Instant::now();
        while !bytes.is_empty() {
            match self.transport.write(bytes) {
                Ok(0) => return Err(Fault::unreachable("The source closed the connection.")),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if is_tick(&error) => {
                    watch.check()?;
                    if begun.elapsed() > watch.silence_max {
                        return Err(Fault::unreachable("The source has stopped reading."));
                    }
                }
                Err(error) => return Err(broken(&error).into()),
            }
        }
        match self.transport.flush() {
            Err(error) if !is_tick(&error) => Err(broken(&error).into()),
            _ => Ok(()),
        }
    }
}

impl Drop for Connection {
    /// Says goodbye, so that the server frees slots and backup mode now and not at a timeout.
    fn drop(&mut self) {
        let mut farewell = BytesMut::new();
        frontend::terminate(&mut farewell);
        self.transport.set_write_timeout(FAREWELL_TIMEOUT);
        let _ = self.transport.write(&farewell);
        let _ = self.transport.flush();
        self.transport.close();
    }
}

impl Row {
    /// Decodes a DataRow: a count, then for each field a length (−1 for NULL) and its text.
    pub(crate) fn decode(body: &[u8]) -> Result<Self> {
        let malformed = || Fault::hostile("a malformed row");
        let (count, mut rest) = body.split_first_chunk().ok_or_else(malformed)?;
        let count = usize::from(u16::from_be_bytes(*count));
        let mut fields = Vec::new();
        for _ in 0..count {
            let (length, after) = rest.split_first_chunk().ok_or_else(malformed)?;
            let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
                fields.push(None);
                rest = after;
                continue;
            };
            let (text, after) = after.split_at_checked(length).ok_or_else(malformed)?;
            fields.push(Some(text.to_vec()));
            rest = after;
        }
        Ok(Self(fields))
    }

    /// A field as raw bytes; `None` for NULL.
    pub(crate) fn bytes(&self, field: usize) -> Result<Option<&[u8]>> {
        match self.0.get(field) {
            Some(value) => Ok(value.as_deref()),
            None => Err(Fault::hostile("a row with too few fields")),
        }
    }

    /// A field that must be there and be text.
    pub(crate) fn text(&self, field: usize) -> Result<&str> {
        self.bytes(field)?
            .and_then(|value| std::str::from_utf8(value).ok())
            .ok_or_else(|| Fault::hostile("a field without text where one is needed"))
    }

    /// A field that must be there and be parsable.
    pub(crate) fn parse<T: std::str::FromStr>(&self, field: usize) -> Result<T> {
        self.text(field)?.trim().parse().map_err(|_| Fault::hostile("a field that is not a number"))
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
