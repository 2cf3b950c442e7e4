//! One connection to a MySQL server: statements with their rows, and the packets of a clone, over
//! blocking sockets.
//!
//! Must never know what a backup is; it moves packets.

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod inbox;
mod login;
mod result;
mod rows;
mod stream;

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use rustls::ClientConnection;
use strongroom_core::engine::{Source, TlsMode};
use strongroom_core::limits;
use strongroom_core::network::SourceNetworks;
pub(crate) use strongroom_wire::{TICK, Watch};
use strongroom_wire::{Transport, broken, is_tick};

use self::inbox::{Envelope, Inbox};
pub(crate) use self::login::Greeting;
use self::result::Beginning;
pub(crate) use self::result::Row;
pub(crate) use self::rows::Next;
pub(crate) use self::stream::Incoming;
use crate::fault::{Fault, Result, ServerError};

/// The most rows, and bytes of rows, of one result that is held in memory.
const ROWS_MAX: usize = 100_000;
const ROWS_SIZE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Time for the answer to an ordinary statement.
const STATEMENT_TIMEOUT: Duration = Duration::from_millis(limits::SOURCE_IDLE_TIMEOUT_MS);
/// What helps when nobody answers.
const REMEDY: &str = "Check host, port, firewall, and bind_address of the server.";
/// Time for the farewell on a connection that is dropped.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(100);
/// The largest packet that is sent; one that is full would have to go on in a second.
const SENT_SIZE_BYTES_MAX: usize = 0x00ff_fffe;

/// A request for log that says which transactions are not needed.
const DUMP_WITH_SET: u16 = 4;

/// Commands of the protocol.
mod command {
    pub(super) const QUIT: u8 = 1;
    pub(super) const QUERY: u8 = 3;
    pub(super) const DUMP: u8 = 30;
    pub(super) const CLONE: u8 = 32;
}

/// A logged-in session.
pub(crate) struct Connection {
    transport: Transport,
    inbox: Inbox,
    /// Time spent waiting since the server last said anything that matters; our own slowness
    /// does not count, and the server's chatter does not help it.
    silence: Duration,
    /// Of the next packet of this exchange.
    number: u8,
    greeting: Option<Greeting>,
    /// Commands of the ordinary protocol mean something else while a clone is talked about.
    is_cloning: bool,
}

impl Connection {
    /// Connects and logs in, within [`limits::SOURCE_CONNECT_TIMEOUT_MS`] altogether.
    pub(crate) fn open(source: &Source, watch: &Watch<'_>) -> Result<Self> {
        let watch = watch.with_deadline(Duration::from_millis(limits::SOURCE_CONNECT_TIMEOUT_MS));
        Self::begin(Transport::open(source, REMEDY, &watch)?, source, &watch)
    }

    /// Connects to a socket file of a server of this machine that takes this user without a password.
    pub(crate) fn open_local(socket: &Path, user: &str, watch: &Watch<'_>) -> Result<Self> {
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
        Self::begin(Transport::open_local(socket)?, &source, &watch)
    }

    fn begin(transport: Transport, source: &Source, watch: &Watch<'_>) -> Result<Self> {
        let mut connection = Self::over(transport);
        let greeting = login::log_in(&mut connection, source, watch)?;
        connection.greeting = Some(greeting);
        Ok(connection)
    }

    fn over(transport: Transport) -> Self {
        let (inbox, silence) = (Inbox::new(), Duration::ZERO);
        Self { transport, inbox, silence, number: 0, greeting: None, is_cloning: false }
    }

    /// What the server said about itself before the login.
    pub(crate) fn greeting(&self) -> Result<&Greeting> {
        self.greeting.as_ref().ok_or_else(|| Fault::Domain(strongroom_core::Error::internal("no greeting")))
    }

    /// The TLS session, when the connection is encrypted.
    pub(crate) fn session(&self) -> Option<&ClientConnection> {
        self.transport.session()
    }

    /// Nobody between us and the server can read along.
    pub(crate) fn is_protected(&self) -> bool {
        self.session().is_some() || self.transport.local_address().is_none()
    }

    /// How the connection is protected, in words.
    pub(crate) fn protection(&self, mode: TlsMode) -> String {
        self.transport.protection(mode)
    }

    /// Our own end of the connection.
    pub(crate) fn local_address(&self) -> Option<std::net::IpAddr> {
        self.transport.local_address()
    }

    /// The server was asked to encrypt. What a stranger put behind its greeting in plain text must not
    /// be taken for its words.
    fn encrypt(&mut self, source: &Source, watch: &Watch<'_>) -> Result<()> {
        if !self.inbox.is_empty() {
            return Err(Fault::hostile("plain text where TLS begins"));
        }
        Ok(self.transport.encrypt(source, watch)?)
    }

    /// Runs a statement to its end and answers with its rows.
    pub(crate) fn query(&mut self, statement: &str, watch: &Watch<'_>) -> Result<Vec<Row>> {
        self.query_patiently(statement, &watch.with_deadline(STATEMENT_TIMEOUT))
    }

    /// As [`Self::query`], for statements that work for as long as the watch allows.
    pub(crate) fn query_patiently(&mut self, statement: &str, watch: &Watch<'_>) -> Result<Vec<Row>> {
        self.command(&[&[command::QUERY], statement.as_bytes()].concat(), watch)?;
        let columns = match Beginning::parse(self.answer(watch)?)? {
            Beginning::Done => return Ok(Vec::new()),
            Beginning::Columns(count) => count,
        };
        for _ in 0..columns {
            self.answer(watch)?;
        }
        let (mut rows, mut size) = (Vec::new(), 0);
        loop {
            let body = self.answer(watch)?;
            // No value of a row is so long that its length begins like the mark of the end.
            if body.first() == Some(&0xfe) {
                result::end_of_result(body)?;
                return Ok(rows);
            }
            size += body.len();
            if rows.len() >= ROWS_MAX || size > ROWS_SIZE_BYTES_MAX {
                return Err(Fault::hostile("a result without an end"));
            }
            rows.push(Row::decode(body, columns)?);
        }
    }

    /// The single value that a statement answers with.
    pub(crate) fn query_value(&mut self, statement: &str, watch: &Watch<'_>) -> Result<String> {
        let rows = self.query(statement, watch)?;
        match rows.as_slice() {
            [row] => Ok(row.text(0)?.to_owned()),
            _ => Err(Fault::hostile(format!("{} rows in answer to {statement}", rows.len()))),
        }
    }

    /// From now on events of the binary log come: from this place of this file on, and of those transactions
    /// none that are in the set. `number` is ours among those who listen.
    pub(crate) fn ask_for_log(
        &mut self,
        number: u32,
        file: &str,
        place: u64,
        set: &[u8],
        watch: &Watch<'_>,
    ) -> Result<()> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        let request = [
            &[command::DUMP][..],
            &DUMP_WITH_SET.to_le_bytes(),
            &number.to_le_bytes(),
            &length(file.as_bytes()),
            file.as_bytes(),
            &place.to_le_bytes(),
            &length(set),
            set,
        ];
        self.command(&request.concat(), watch)
    }

    /// From now on the clone's own requests are sent.
    pub(crate) fn enter_clone(&mut self, watch: &Watch<'_>) -> Result<()> {
        self.command(&[command::CLONE], watch)?;
        match self.answer(watch)? {
            [0, ..] => {
                self.is_cloning = true;
                Ok(())
            }
            _ => Err(Fault::hostile("an answer to COM_CLONE that is none")),
        }
    }

    /// The clone was left by its own request; statements can be run again.
    pub(crate) fn left_clone(&mut self) {
        self.is_cloning = false;
    }

    /// The next packet; an error report of the server is an `Err`.
    fn answer(&mut self, watch: &Watch<'_>) -> Result<&[u8]> {
        let body = self.receive(watch)?;
        match body.first() {
            Some(0xff) => Err(Fault::Server(Box::new(ServerError::decode(body)))),
            _ => Ok(body),
        }
    }

    /// The next packet, whatever it is.
    pub(crate) fn receive(&mut self, watch: &Watch<'_>) -> Result<&[u8]> {
        let envelope = loop {
            if let Some(envelope) = self.receive_within(TICK, watch)? {
                break envelope;
            }
        };
        self.number = envelope.number.wrapping_add(1);
        Ok(self.inbox.open(envelope))
    }

    fn receive_within(&mut self, limit: Duration, watch: &Watch<'_>) -> Result<Option<Envelope>> {
        self.take_within(limit, watch, Inbox::take)
    }

    /// Waits for bytes until something can be taken of them.
    fn take_within<T>(
        &mut self,
        limit: Duration,
        watch: &Watch<'_>,
        take: impl Fn(&mut Inbox) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        // Also when more is there already: a stream that never pauses must not go on uncancelled.
        watch.check()?;
        let begun = Instant::now();
        loop {
            if let Some(taken) = take(&mut self.inbox)? {
                self.silence = Duration::ZERO;
                return Ok(Some(taken));
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
        Err(Fault::lost(format!("The source has been silent for {} s.", silence.as_secs())))
    }

    /// Waits at most one tick for bytes; 0 when none came.
    fn read_once(&mut self) -> Result<usize> {
        match self.inbox.fill(&mut self.transport) {
            Ok(0) => Err(Fault::lost("The source closed the connection.")),
            Ok(count) => Ok(count),
            Err(error) if is_tick(&error) => Ok(0),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(Fault::lost("The source closed the connection."))
            }
            Err(error) => Err(broken(&error).into()),
        }
    }

    /// Begins a new exchange with a command or a request of the clone.
    pub(crate) fn command(&mut self, body: &[u8], watch: &Watch<'_>) -> Result<()> {
        self.number = 0;
        self.reply(body, watch)
    }

    /// Sends the next packet of this exchange.
    fn reply(&mut self, body: &[u8], watch: &Watch<'_>) -> Result<()> {
        if body.len() > SENT_SIZE_BYTES_MAX {
            return Err(Fault::Domain(strongroom_core::Error::internal("a packet of ours is too large")));
        }
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
        let packet = [&[length[0], length[1], length[2], self.number], body].concat();
        self.number = self.number.wrapping_add(1);
        self.send(&packet, watch)
    }

    /// Ends the connection at once, without goodbye.
    pub(crate) fn close(&self) {
        self.transport.close();
    }

    fn send(&mut self, mut bytes: &[u8], watch: &Watch<'_>) -> Result<()> {
        let begun = Instant::now();
        while !bytes.is_empty() {
            match self.transport.write(bytes) {
                Ok(0) => return Err(Fault::lost("The source closed the connection.")),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if is_tick(&error) => {
                    watch.check()?;
                    if begun.elapsed() > watch.silence_max {
                        return Err(Fault::lost("The source has stopped reading."));
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
    /// Says goodbye, so that the server does not count the connection as one that broke.
    fn drop(&mut self) {
        if !self.is_cloning {
            self.transport.set_write_timeout(FAREWELL_TIMEOUT);
            let _ = self.transport.write(&[1, 0, 0, 0, command::QUIT]);
            let _ = self.transport.flush();
        }
        self.transport.close();
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
