//! Starts a server on a restored directory, on this machine only.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use strongroom_core::engine::{BackupFacts, StartedServer};
use strongroom_core::{Error, ErrorKind, Result};

use super::io_failed;
use crate::facts::PostgresFacts;
use crate::fault::for_people;

/// Names the folder of the server's programs when they are in no usual place.
const BINDIR_VARIABLE: &str = "STRONGROOM_POSTGRES_BINDIR";

/// Where the server writes while it starts.
const LOG: &str = "strongroom-start.log";

/// Replaying the log of a long backup takes a while.
const READY_TIMEOUT: Duration = Duration::from_mins(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// The longest path of a socket file that the operating system takes.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Lines of the server's log that an error quotes.
const QUOTED_LINES: usize = 5;

pub(crate) fn start(target: &Path, facts: &BackupFacts, port: u16) -> Result<StartedServer> {
    let facts = PostgresFacts::of(facts)?;
    let target = fs::canonicalize(target).map_err(|error| io_failed(target, &error))?;
    let postgres = find_postgres(facts.major_version())?;
    let account = account_for(&target)?;
    let mut server = Starting::spawn(&postgres, &target, port, account)?;
    server.wait_until_ready()?;
    Ok(StartedServer { pid: server.pid, port, stop_command: format!("kill -INT {}", server.pid) })
}

/// The server of this major version, looked for where packages and people put it.
fn find_postgres(major: u32) -> Result<PathBuf> {
    let named = std::env::var_os(BINDIR_VARIABLE).map(PathBuf::from);
    let packaged = [format!("/usr/lib/postgresql/{major}/bin"), format!("/usr/pgsql-{major}/bin")];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let reported = Command::new("pg_config").arg("--bindir").output().ok();
    let reported = reported.map(|output| PathBuf::from(OsStr::from_bytes(output.stdout.trim_ascii_end())));
    named
        .into_iter()
        .chain(packaged.into_iter().map(PathBuf::from))
        .chain(std::env::split_paths(&path))
        .chain(reported)
        .map(|folder| folder.join("postgres"))
        .find(|program| is_version(program, major))
        .ok_or_else(|| {
            Error::new(
                ErrorKind::NotSupported,
                format!(
                    "No PostgreSQL {major} server was found on this machine. The restored files are complete."
                ),
            )
            .with_hint(format!(
                "Install PostgreSQL {major}, or name the folder of its programs in {BINDIR_VARIABLE}."
            ))
        })
}

/// `postgres (PostgreSQL) 15.18 …`
fn is_version(program: &Path, major: u32) -> bool {
    program.is_file()
        && Command::new(program).arg("--version").output().is_ok_and(|output| {
            String::from_utf8_lossy(&output.stdout).contains(&format!("(PostgreSQL) {major}."))
        })
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
        "PostgreSQL does not run as root, and the restored directory belongs to root. The files are complete.",
    )
    .with_hint(format!(
        "Give it to the server's account: chown -R postgres: {} (and the tablespaces), then start again.",
        target.display()
    )))
}

/// A server on its way up.
struct Starting {
    pid: u32,
    target: PathBuf,
    /// Tells when the process has ended; its thread also takes the exit status off the system.
    ended: Receiver<std::io::Result<ExitStatus>>,
}

impl Starting {
    fn spawn(postgres: &Path, target: &Path, port: u16, account: Option<(u32, u32)>) -> Result<Self> {
        let log_path = target.join(LOG);
        let open_log = || -> std::io::Result<(File, File)> {
            let log =
                OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&log_path)?;
            Ok((log.try_clone()?, log))
        };
        let (out, err) = open_log().map_err(|error| io_failed(&log_path, &error))?;
        let mut command = Command::new(postgres);
        command.arg("-D").arg(target);
        for (name, value) in overrides(target, port) {
            let mut setting = OsString::from(name);
            setting.push("=");
            setting.push(value);
            command.arg("-c").arg(setting);
        }
        // A group of its own: the terminal's Ctrl-C is meant for the command, not for the server.
        command.current_dir(target).stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        if let Some((uid, gid)) = account {
            command.uid(uid).gid(gid);
        }
        let child = command.spawn().map_err(|error| io_failed(postgres, &error))?;
        let pid = child.id();
        let ended = reap(child)?;
        Ok(Self { pid, target: target.to_owned(), ended })
    }

    /// The server says `ready` in the eighth line of its pid file.
    fn wait_until_ready(&mut self) -> Result<()> {
        let begun = Instant::now();
        while !self.is_ready() {
            match self.ended.recv_timeout(LOOK_INTERVAL) {
                Err(RecvTimeoutError::Timeout) if begun.elapsed() < READY_TIMEOUT => {}
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
                        let _ = kill_process(pid, Signal::QUIT);
                    }
                    return Err(self.failed("did not become ready in time"));
                }
                Ok(_) | Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.failed("ended while starting"));
                }
            }
        }
        Ok(())
    }

    fn is_ready(&self) -> bool {
        let pid_file = fs::read_to_string(self.target.join("postmaster.pid")).unwrap_or_default();
        let mut lines = pid_file.lines();
        lines.next() == Some(self.pid.to_string().as_str())
            && lines.nth(6).is_some_and(|line| line.trim() == "ready")
    }

    fn failed(&self, how: &str) -> Error {
        let log = fs::read(self.target.join(LOG)).unwrap_or_default();
        let lines: Vec<_> = log.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect();
        let last = lines[lines.len().saturating_sub(QUOTED_LINES)..].iter().map(|line| for_people(line));
        Error::new(
            ErrorKind::Unavailable,
            format!(
                "The restored server {how}. The files and the backup were not harmed. Its last words: {}",
                last.collect::<Vec<_>>().join(" | ")
            ),
        )
        .with_hint(format!("The whole log is in {}.", self.target.join(LOG).display()))
    }
}

/// What must hold whatever the restored configuration says: this directory, this machine, and
/// messages where we can read them.
fn overrides(target: &Path, port: u16) -> Vec<(&'static str, OsString)> {
    let socket_name_length = format!("/.s.PGSQL.{port}").len();
    let has_room = target.as_os_str().len() + socket_name_length <= SOCKET_PATH_BYTES_MAX;
    vec![
        ("data_directory", target.into()),
        ("hba_file", target.join("pg_hba.conf").into()),
        ("ident_file", target.join("pg_ident.conf").into()),
        ("external_pid_file", OsString::new()),
        ("listen_addresses", "localhost".into()),
        ("port", port.to_string().into()),
        ("unix_socket_directories", if has_room { target.into() } else { OsString::new() }),
        ("logging_collector", "off".into()),
        ("log_destination", "stderr".into()),
        ("ssl", "off".into()),
    ]
}

fn reap(mut child: Child) -> Result<Receiver<std::io::Result<ExitStatus>>> {
    let (tell, ended) = mpsc::channel();
    thread::Builder::new()
        .name("restored-server".to_owned())
        .spawn(move || tell.send(child.wait()))
        .map_err(Error::internal)?;
    Ok(ended)
}
