//! Starts a server on a restored directory, on this machine only.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use strongroom_core::engine::{BackupFacts, StartedServer};
use strongroom_core::foreign_text::for_people;
use strongroom_core::{Error, ErrorKind, Result};
use strongroom_host::{Rise, ServerProcess, io_failed};

use crate::facts::PostgresFacts;

/// Names the folders of servers' programs when they are in no usual place, separated as in `PATH`.
const BINDIR_VARIABLE: &str = "STRONGROOM_POSTGRES_BINDIR";

/// Where the server writes while it starts.
const LOG: &str = "strongroom-start.log";

/// Replaying the log of a long backup takes a while.
const READY_TIMEOUT: Duration = Duration::from_mins(30);

/// The longest path of a socket file that the operating system takes.
pub(crate) const SOCKET_PATH_BYTES_MAX: usize = 107;

pub(crate) fn start(target: &Path, facts: &BackupFacts, port: u16) -> Result<StartedServer> {
    let facts = PostgresFacts::of(facts)?;
    let target = fs::canonicalize(target).map_err(|error| io_failed(target, &error))?;
    let major = facts.major_version();
    let postgres =
        find_postgres(major).ok_or_else(|| no_server(major, "The restored files are complete."))?;
    let account = account_for(&target)?;
    let mut command = Command::new(&postgres);
    command.arg("-D").arg(&target);
    for (name, value) in overrides(&target, port) {
        let mut setting = OsString::from(name);
        setting.push("=");
        setting.push(value);
        command.arg("-c").arg(setting);
    }
    if let Some((uid, gid)) = account {
        command.uid(uid).gid(gid);
    }
    let mut server = ServerProcess::spawn(command, &target, target.join(LOG))?;
    match server.wait_until_ready(READY_TIMEOUT, &|server| is_ready(server, &target), &|| Ok(()))? {
        Rise::Ready => {}
        Rise::Ended => return Err(failed(&server, "ended while starting")),
        Rise::Late => {
            server.signal(Signal::QUIT);
            return Err(failed(&server, "did not become ready in time"));
        }
    }
    Ok(StartedServer { pid: server.pid(), port, stop_command: format!("kill -INT {}", server.pid()) })
}

/// Says `ready` in the eighth line of the server's pid file.
pub(crate) fn is_ready(server: &ServerProcess, target: &Path) -> bool {
    let pid_file = fs::read_to_string(target.join("postmaster.pid")).unwrap_or_default();
    let mut lines = pid_file.lines();
    lines.next() == Some(server.pid().to_string().as_str())
        && lines.nth(6).is_some_and(|line| line.trim() == "ready")
}

/// The server of this major version, looked for where packages and people put it.
pub(crate) fn find_postgres(major: u32) -> Option<PathBuf> {
    let named = std::env::var_os(BINDIR_VARIABLE).unwrap_or_default();
    let packaged = [format!("/usr/lib/postgresql/{major}/bin"), format!("/usr/pgsql-{major}/bin")];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let reported = Command::new("pg_config").arg("--bindir").output().ok();
    let reported = reported.map(|output| PathBuf::from(OsStr::from_bytes(output.stdout.trim_ascii_end())));
    std::env::split_paths(&named)
        .chain(packaged.into_iter().map(PathBuf::from))
        .chain(std::env::split_paths(&path))
        .chain(reported)
        .map(|folder| folder.join("postgres"))
        .find(|program| is_version(program, major))
}

pub(crate) fn no_server(major: u32, what_stands: &str) -> Error {
    Error::new(
        ErrorKind::NotSupported,
        format!("No PostgreSQL {major} server was found on this machine. {what_stands}"),
    )
    .with_hint(format!(
        "Install PostgreSQL {major}, or name the folder of its programs in {BINDIR_VARIABLE}."
    ))
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

fn failed(server: &ServerProcess, how: &str) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        format!(
            "The restored server {how}. The files and the backup were not harmed. Its last words: {}",
            server.last_words(for_people)
        ),
    )
    .with_hint(format!("The whole log is in {}.", server.log().display()))
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
