//! The way to the server: a TCP socket, and TLS over it; or a socket file on this machine.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustls::{ClientConnection, StreamOwned};
use socket2::{SockRef, TcpKeepalive};
use strongroom_core::engine::{Source, TlsMode};
use strongroom_core::network::SourceNetworks;
use strongroom_core::{Error, ErrorKind};

use super::tls;
use super::watch::{TICK, Watch};
use crate::fault::{Fault, Result};

/// A connected socket, with or without TLS. Reads and writes give up after [`TICK`].
pub(crate) enum Transport {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    Local(UnixStream),
}

impl Transport {
    /// Resolves, connects and, when the source asks for it, encrypts.
    pub(crate) fn open(source: &Source, watch: &Watch<'_>) -> Result<Self> {
        let socket = dial(source, watch)?;
        configure(&socket).map_err(|error| Fault::Domain(broken(&error)))?;
        if source.tls == TlsMode::Disable {
            return Ok(Self::Plain(socket));
        }
        let client = tls::client(source)?;
        let socket = ask_for_tls(socket, watch)?;
        shake_hands(client, socket, watch)
    }

    /// Connects to a socket file. A server that is up answers at once or not at all.
    pub(crate) fn open_local(path: &Path) -> Result<Self> {
        let open = || -> io::Result<UnixStream> {
            let socket = UnixStream::connect(path)?;
            socket.set_read_timeout(Some(TICK))?;
            socket.set_write_timeout(Some(TICK))?;
            Ok(socket)
        };
        open().map(Self::Local).map_err(|error| Fault::Domain(broken(&error)))
    }

    /// The TLS session, when there is one.
    pub(crate) fn session(&self) -> Option<&ClientConnection> {
        match self {
            Self::Plain(_) | Self::Local(_) => None,
            Self::Tls(stream) => Some(&stream.conn),
        }
    }

    /// Our own end, when it has an address.
    pub(crate) fn local_address(&self) -> Option<IpAddr> {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
            Self::Local(_) => return None,
        };
        socket.local_addr().ok().map(|address| address.ip().to_canonical())
    }

    /// How long a read waits before it gives up; nothing is lost by that.
    pub(crate) fn set_read_timeout(&self, timeout: Duration) {
        let _ = match self {
            Self::Plain(socket) => socket.set_read_timeout(Some(timeout)),
            Self::Tls(stream) => stream.sock.set_read_timeout(Some(timeout)),
            Self::Local(socket) => socket.set_read_timeout(Some(timeout)),
        };
    }

    /// Bounds the farewell: nobody waits for a server that does not read any more.
    pub(crate) fn set_write_timeout(&self, timeout: Duration) {
        let _ = match self {
            Self::Plain(socket) => socket.set_write_timeout(Some(timeout)),
            Self::Tls(stream) => stream.sock.set_write_timeout(Some(timeout)),
            Self::Local(socket) => socket.set_write_timeout(Some(timeout)),
        };
    }

    pub(crate) fn close(&self) {
        let _ = match self {
            Self::Plain(socket) => socket.shutdown(Shutdown::Both),
            Self::Tls(stream) => stream.sock.shutdown(Shutdown::Both),
            Self::Local(socket) => socket.shutdown(Shutdown::Both),
        };
    }
}

impl Read for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
            Self::Local(socket) => socket.read(buffer),
        }
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
            Self::Local(socket) => socket.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
            Self::Local(socket) => socket.flush(),
        }
    }
}

/// Whether a socket error only says that nothing came within the tick.
pub(crate) fn is_tick(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// The connection broke; what the operating system said stays in the log.
pub(crate) fn broken(error: &io::Error) -> Error {
    Error::new(
        ErrorKind::SourceUnreachable,
        format!("The connection to the source broke ({}). Nothing was stored as complete.", error.kind()),
    )
    .with_source(error.to_string())
}

/// Resolving and connecting cannot be cut short, so they happen on a thread that is left behind
/// when the caller's patience ends; the operating system ends it soon after.
fn dial(source: &Source, watch: &Watch<'_>) -> Result<TcpStream> {
    let (answer, answers) = mpsc::channel();
    let (host, port) = (&source.host, source.port);
    let (address, networks) = ((host.clone(), port), source.networks.clone());
    let deadline = Instant::now() + watch.remaining().min(Duration::from_mins(1));
    thread::Builder::new()
        .name("dial".to_owned())
        .spawn(move || answer.send(resolve_and_connect(&address, &networks, deadline)))
        .map_err(Error::internal)?;
    loop {
        match answers.recv_timeout(TICK.min(watch.remaining())) {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Fault::Domain(
                    Error::new(
                        ErrorKind::SourceRefused,
                        format!("The source {host}:{port} was not called: {error}."),
                    )
                    .with_hint("The operator allows networks with --source-networks; nothing was sent."),
                ));
            }
            Ok(Err(error)) => {
                return Err(Fault::Domain(
                    Error::new(
                        ErrorKind::SourceUnreachable,
                        format!("The source {host}:{port} could not be reached: {error}."),
                    )
                    .with_hint("Check host, port, firewall, and listen_addresses in postgresql.conf."),
                ));
            }
            Err(mpsc::RecvTimeoutError::Timeout) if watch.remaining().is_zero() => {
                return Err(Fault::Domain(Error::new(
                    ErrorKind::SourceUnreachable,
                    format!("The source {host}:{port} did not answer in time."),
                )));
            }
            Err(mpsc::RecvTimeoutError::Timeout) => watch.check()?,
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(Fault::Domain(Error::internal("the dialling thread ended without an answer")));
            }
        }
    }
}

/// Only addresses that were judged are called, and all must be allowed: a name with one foot in
/// a forbidden network is not a database.
fn resolve_and_connect(
    address: &(String, u16),
    networks: &SourceNetworks,
    deadline: Instant,
) -> io::Result<TcpStream> {
    let addresses: Vec<_> = address.to_socket_addrs()?.collect();
    if let Some(forbidden) = addresses.iter().find(|candidate| !networks.allow(candidate.ip())) {
        let what = format!("its address {} is not one a database may have here", forbidden.ip());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for (position, candidate) in addresses.iter().enumerate() {
        // An address that swallows packets must not use up the time of the ones after it.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - position).unwrap_or(1);
        match TcpStream::connect_timeout(candidate, share.max(Duration::from_millis(1))) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The receive buffer is left to the kernel: setting a size would switch its own tuning off,
/// which reaches further on long lines. What is read at once is large instead (see `Inbox`).
fn configure(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(TICK))?;
    socket.set_write_timeout(Some(TICK))?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10))
        .with_retries(6);
    SockRef::from(socket).set_tcp_keepalive(&keepalive)
}

/// Sends SSLRequest and reads the one byte of the answer, not one more: whatever a stranger put
/// behind it in plain text must not be taken for the server's words.
fn ask_for_tls(mut socket: TcpStream, watch: &Watch<'_>) -> Result<TcpStream> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    socket.write_all(&request).map_err(|error| broken(&error))?;
    let mut answer = [0];
    loop {
        match socket.read(&mut answer) {
            Ok(0) => return Err(Fault::unreachable("The source closed the connection when asked for TLS.")),
            Ok(_) => break,
            Err(error) if is_tick(&error) => watch.check()?,
            Err(error) => return Err(broken(&error).into()),
        }
    }
    match answer {
        [b'S'] => Ok(socket),
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

fn shake_hands(mut client: ClientConnection, mut socket: TcpStream, watch: &Watch<'_>) -> Result<Transport> {
    while client.is_handshaking() {
        match client.complete_io(&mut socket) {
            Ok(_) => {}
            Err(error) if is_tick(&error) => watch.check()?,
            Err(error) => return Err(tls::refused(&error).into()),
        }
    }
    Ok(Transport::Tls(Box::new(StreamOwned::new(client, socket))))
}
