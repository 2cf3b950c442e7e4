//! The way to the server: a TCP socket, and TLS over it; or a socket file on this machine.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream, ToSocketAddrs};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};
use socket2::{SockRef, TcpKeepalive};
use strongroom_core::engine::{Source, TlsMode};
use strongroom_core::network::SourceNetworks;
use strongroom_core::{Error, ErrorKind};

use crate::tls;
use crate::trouble::{Result, Trouble};
use crate::watch::{TICK, Watch};

/// What a TLS connection takes from the kernel at once.
const GATHERED_BYTES_MAX: usize = 256 << 10;

/// A connected socket, with or without TLS. Reads and writes give up after [`TICK`].
pub enum Transport {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, Gathering>>),
    Local(UnixStream),
}

impl Transport {
    /// Resolves and connects. `remedy` is what helps when nobody answers there.
    pub fn open(source: &Source, remedy: &'static str, watch: &Watch<'_>) -> Result<Self> {
        let socket = dial(source, remedy, watch)?;
        configure(&socket).map_err(|error| broken(&error))?;
        Ok(Self::Plain(socket))
    }

    /// Goes on encrypted; the server was asked for it and waits for the handshake.
    pub fn encrypt(&mut self, source: &Source, watch: &Watch<'_>) -> Result<()> {
        let Self::Plain(socket) = self else { return Ok(()) };
        let socket = socket.try_clone().map_err(|error| broken(&error))?;
        *self = shake_hands(tls::client(source)?, socket, watch)?;
        Ok(())
    }

    /// Connects to a socket file. A server that is up answers at once or not at all.
    pub fn open_local(path: &Path) -> Result<Self> {
        let open = || -> io::Result<UnixStream> {
            let socket = UnixStream::connect(path)?;
            socket.set_read_timeout(Some(TICK))?;
            socket.set_write_timeout(Some(TICK))?;
            Ok(socket)
        };
        open().map(Self::Local).map_err(|error| broken(&error))
    }

    /// The TLS session, when there is one.
    pub fn session(&self) -> Option<&ClientConnection> {
        match self {
            Self::Plain(_) | Self::Local(_) => None,
            Self::Tls(stream) => Some(&stream.conn),
        }
    }

    /// How it is protected, in words. `mode` is what was asked for when it was opened.
    pub fn protection(&self, mode: TlsMode) -> String {
        let Some(session) = self.session() else { return "without TLS".to_owned() };
        let version = match session.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
            _ => "TLS",
        };
        let certificate = match mode {
            TlsMode::VerifyFull => "certificate verified",
            TlsMode::Require | TlsMode::Disable => "certificate not checked",
        };
        format!("{version}, {certificate}")
    }

    /// Our own end, when it has an address.
    pub fn local_address(&self) -> Option<IpAddr> {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock.socket,
            Self::Local(_) => return None,
        };
        socket.local_addr().ok().map(|address| address.ip().to_canonical())
    }

    /// How long a read waits before it gives up; nothing is lost by that.
    pub fn set_read_timeout(&self, timeout: Duration) {
        let _ = match self {
            Self::Plain(socket) => socket.set_read_timeout(Some(timeout)),
            Self::Tls(stream) => stream.sock.socket.set_read_timeout(Some(timeout)),
            Self::Local(socket) => socket.set_read_timeout(Some(timeout)),
        };
    }

    /// Bounds the farewell: nobody waits for a server that does not read any more.
    pub fn set_write_timeout(&self, timeout: Duration) {
        let _ = match self {
            Self::Plain(socket) => socket.set_write_timeout(Some(timeout)),
            Self::Tls(stream) => stream.sock.socket.set_write_timeout(Some(timeout)),
            Self::Local(socket) => socket.set_write_timeout(Some(timeout)),
        };
    }

    pub fn close(&self) {
        let _ = match self {
            Self::Plain(socket) => socket.shutdown(Shutdown::Both),
            Self::Tls(stream) => stream.sock.socket.shutdown(Shutdown::Both),
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
pub fn is_tick(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// The connection broke; what the operating system said stays in the log.
pub fn broken(error: &io::Error) -> Trouble {
    let what =
        format!("The connection to the source broke ({}). Nothing was stored as complete.", error.kind());
    Trouble::Lost(Error::new(ErrorKind::SourceUnreachable, what).with_source(error.to_string()))
}

/// The same in other words.
pub(crate) fn lost(what: &str) -> Trouble {
    Trouble::Lost(Error::new(ErrorKind::SourceUnreachable, format!("{what} Nothing was stored as complete.")))
}

/// Resolving and connecting cannot be cut short, so they happen on a thread that is left behind
/// when the caller's patience ends; the operating system ends it soon after.
fn dial(source: &Source, remedy: &'static str, watch: &Watch<'_>) -> Result<TcpStream> {
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
                return Err(Trouble::Domain(
                    Error::new(
                        ErrorKind::SourceRefused,
                        format!("The source {host}:{port} was not called: {error}."),
                    )
                    .with_hint("The operator allows networks with --source-networks; nothing was sent."),
                ));
            }
            Ok(Err(error)) => {
                return Err(Trouble::Lost(
                    Error::new(
                        ErrorKind::SourceUnreachable,
                        format!("The source {host}:{port} could not be reached: {error}."),
                    )
                    .with_hint(remedy),
                ));
            }
            Err(mpsc::RecvTimeoutError::Timeout) if watch.remaining().is_zero() => {
                return Err(Trouble::Lost(Error::new(
                    ErrorKind::SourceUnreachable,
                    format!("The source {host}:{port} did not answer in time."),
                )));
            }
            Err(mpsc::RecvTimeoutError::Timeout) => watch.check()?,
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(Trouble::Domain(Error::internal("the dialling thread ended without an answer")));
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

/// A socket whose bytes are taken from the kernel in large pieces. TLS asks for a few kilobytes at a
/// time, and each of its questions would be a call of the kernel.
pub struct Gathering {
    socket: TcpStream,
    buffer: Box<[u8]>,
    /// What of it came and was not taken yet.
    waiting: Range<usize>,
}

impl Gathering {
    fn of(socket: TcpStream) -> Self {
        Self { socket, buffer: vec![0; GATHERED_BYTES_MAX].into_boxed_slice(), waiting: 0..0 }
    }
}

impl Read for Gathering {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.waiting.is_empty() {
            self.waiting = 0..self.socket.read(&mut self.buffer)?;
        }
        let count = into.len().min(self.waiting.len());
        let (taken, left) = (self.waiting.start, self.waiting.start + count);
        into[..count].copy_from_slice(&self.buffer[taken..left]);
        self.waiting.start = left;
        Ok(count)
    }
}

impl Write for Gathering {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

fn shake_hands(mut client: ClientConnection, socket: TcpStream, watch: &Watch<'_>) -> Result<Transport> {
    let mut socket = Gathering::of(socket);
    while client.is_handshaking() {
        match client.complete_io(&mut socket) {
            Ok(_) => {}
            Err(error) if is_tick(&error) => watch.check()?,
            Err(error) => return Err(tls::refused(&error)),
        }
    }
    Ok(Transport::Tls(Box::new(StreamOwned::new(client, socket))))
}
