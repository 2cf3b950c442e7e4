//! Starts a server on a restored directory, on this machine only.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use strongroom_core::engine::{BackupFacts, StartedServer};
use strongroom_core::foreign_text::for_people;
use strongroom_core::{Error, ErrorKind, Result};
use strongroom_host::{Rise, ServerProcess, io_failed};

use super::keyring::{Program, Stage, keyring_of};
use super::server::find_mysqld;
use super::settings::{OPTION_FILE, PID_FILE, SOCKET, SOCKET_PATH_BYTES_MAX};
use crate::facts::MySqlFacts;

/// Where the server writes while it starts.
const LOG: &str = "strongroom-start.log";

/// What a server with a keyring is started from; no schema has such a name.
const STAGE: &str = "#strongroom";

/// Replaying the log of a long backup takes a while.
const READY_TIMEOUT: Duration = Duration::from_mins(30);
/// A server that is ready greets at once.
const GREETING_TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) fn start(target: &Path, facts: &BackupFacts, port: u16) -> Result<StartedServer> {
    let facts = MySqlFacts::of(facts)?;
    let target = fs::canonicalize(target).map_err(|error| io_failed(target, &error))?;
    let mysqld = find_mysqld(&facts, "The restored files are complete.")?;
    let account = account_for(&target)?;
    let socket = socket(&target)?;
    let program = match &facts.keyring {
        None => Program::installed(&mysqld),
        Some(_) => Program::with_keyring(
            &mysqld,
            &Stage { folder: &target.join(STAGE), keyring: &keyring_of(&target), is_read_only: false },
        )?,
    };
    let mut command = Command::new(&program.path);
    command.arg(option("defaults-file", &target.join(OPTION_FILE)));
    command.args(&program.arguments);
    command.arg(option("datadir", &target)).arg(option("socket", &socket));
    command.arg(option("pid-file", &target.join(PID_FILE)));
    command.arg(format!("--port={port}")).args([
        "--bind-address=127.0.0.1",
        "--mysqlx=OFF",
        "--secure-file-priv=NULL",
    ]);
    if let Some((uid, gid)) = account {
        command.uid(uid).gid(gid);
    }
    let mut server = ServerProcess::spawn(command, &target, target.join(LOG))?;
    match server.wait_until_ready(READY_TIMEOUT, &|_| greets(&socket), &|| Ok(()))? {
        Rise::Ready => {}
        Rise::Ended => return Err(failed(&server, "ended while starting")),
        Rise::Late => {
            server.signal(Signal::KILL);
            return Err(failed(&server, "did not become ready in time"));
        }
    }
    Ok(StartedServer { pid: server.pid(), port, stop_command: format!("kill -TERM {}", server.pid()) })
}

fn option(name: &str, value: &Path) -> OsString {
    let mut option = OsString::from(format!("--{name}="));
    option.push(value);
    option
}

/// In the data directory, unless its path is too long for a socket.
fn socket(target: &Path) -> Result<PathBuf> {
    let socket = target.join(SOCKET);
    if socket.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return Ok(socket);
    }
    Err(Error::new(
        ErrorKind::NotSupported,
        format!(
            "The path {} is too long for a socket of the server. The files are complete.",
            target.display()
        ),
    )
    .with_hint("restore into a directory with a shorter path, or start the server yourself"))
}

/// Whether somebody answers there as a server that takes connections: with protocol 10.
pub(crate) fn greets(socket: &Path) -> bool {
    let Ok(mut stream) = UnixStream::connect(socket) else { return false };
    let mut head = [0; 5];
    stream.set_read_timeout(Some(GREETING_TIMEOUT)).is_ok()
        && stream.read_exact(&mut head).is_ok()
        && head[4] == 10
}

/// The server refuses to run as root: root lends it to the owner of the directory.
fn account_for(target: &Path) -> Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let owner = fs::metadata(target).map_err(|error| io_failed(target, &error))?;
    if owner.uid() != 0 {
        return Ok(Some((owner.uid(), owner.gid())));
    }
    Err(Error::new(
        ErrorKind::NotAllowed,
        "MySQL does not run as root, and the restored directory belongs to root. The files are complete.",
    )
    .with_hint(format!(
        "Give it to the server's account: chown -R mysql: {}, then start again.",
        target.display()
    )))
}

/// Lines of a server's log that are quoted.
const QUOTED_LINES: usize = 5;

/// Why a server ended, in its own words: its first errors. What it says after them is that it ends.
pub(crate) fn reasons(server: &ServerProcess) -> String {
    let log = fs::read(server.log()).unwrap_or_default();
    let errors = log.split(|b| *b == b'\n').filter(|line| line.windows(7).any(|window| window == b"[ERROR]"));
    let errors: Vec<String> = errors.take(QUOTED_LINES).map(for_people).collect();
    if errors.is_empty() { server.last_words(for_people) } else { errors.join(" | ") }
}

fn failed(server: &ServerProcess, how: &str) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        format!(
            "The restored server {how}. The files and the backup were not harmed. It says: {}",
            reasons(server)
        ),
    )
    .with_hint(format!("The whole log is in {}.", server.log().display()))
}
