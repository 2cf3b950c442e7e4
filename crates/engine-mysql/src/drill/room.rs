//! The configuration a drill runs under: ours alone. Nothing of the source's is read, so that neither
//! a library, a log nor an address in it comes to life.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use strongroom_core::engine::DrillOrder;
use strongroom_core::{Error, ErrorKind, Result};
use strongroom_host::io_failed;

use crate::facts::MySqlFacts;
use crate::restore::{Program, SOCKET_PATH_BYTES_MAX, Stage, keyring_of, must_be_the_same};

/// What holds for the server. Without grant tables it loads no plugin, component or function that a
/// table names, starts no event and lets nobody in from the network, which it does not have at all;
/// whoever reaches the socket comes in.
const SETTINGS: [(&str, &str); 16] = [
    ("skip_grant_tables", "ON"),
    ("skip_networking", "ON"),
    ("mysqlx", "OFF"),
    ("skip_replica_start", "ON"),
    ("event_scheduler", "OFF"),
    ("skip_log_bin", "ON"),
    ("log_replica_updates", "OFF"),
    ("local_infile", "OFF"),
    ("secure_file_priv", "NULL"),
    ("lc_messages", "en_US"),
    ("innodb_buffer_pool_size", "128M"),
    ("innodb_flush_log_at_trx_commit", "2"),
    ("innodb_buffer_pool_load_at_startup", "OFF"),
    ("innodb_buffer_pool_dump_at_shutdown", "OFF"),
    ("innodb_force_recovery", "0"),
    ("performance_schema", "OFF"),
];

const CONFIGURATION: &str = "my.cnf";
const SOCKET: &str = "s";
const TEMPORARY: &str = "tmp";
const STAGE: &str = "server";
pub(super) const LOG: &str = "server.log";

/// Where the files of a drill are.
pub(super) struct Room<'a> {
    order: &'a DrillOrder<'a>,
    pub(super) program: Program,
}

impl<'a> Room<'a> {
    pub(super) fn furnish(order: &'a DrillOrder<'a>, facts: &MySqlFacts) -> Result<Self> {
        let room = Self { order, program: program(order, facts)? };
        if room.socket().as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::NotSupported,
                format!("The path {} is too long for a socket of the server.", order.run_dir.display()),
            )
            .with_hint("name a sandbox directory with a shorter path"));
        }
        let temporary = room.path(TEMPORARY);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&temporary)
            .and_then(|()| room.hand_over(&temporary))
            .map_err(|error| io_failed(&temporary, &error))?;
        room.write(CONFIGURATION, &room.configuration(facts)?)?;
        Ok(room)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.order.run_dir.join(name)
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.path(SOCKET)
    }

    pub(super) fn configuration_file(&self) -> PathBuf {
        self.path(CONFIGURATION)
    }

    fn configuration(&self, facts: &MySqlFacts) -> Result<String> {
        let mut text = String::from("[mysqld]\n");
        for (name, value) in SETTINGS {
            let _ = writeln!(text, "{name}={value}");
        }
        for (name, value) in must_be_the_same(facts)? {
            let _ = writeln!(text, "{name}={value}");
        }
        for (name, path) in [
            ("datadir", self.order.target),
            ("socket", &self.socket()),
            ("pid_file", &self.path("pid")),
            ("tmpdir", &self.path(TEMPORARY)),
        ] {
            let _ = writeln!(text, "{name}={}", self.quoted(path)?);
        }
        Ok(text)
    }

    /// A path as an option file takes it.
    fn quoted(&self, path: &Path) -> Result<String> {
        let text = path.to_str().filter(|text| !text.chars().any(|c| c.is_control() || "\"'\\".contains(c)));
        text.map(|text| format!("\"{text}\"")).ok_or_else(|| {
            Error::new(
                ErrorKind::NotSupported,
                format!("The path {} cannot be written into an option file.", self.order.run_dir.display()),
            )
            .with_hint("name a sandbox directory whose path is plain text")
        })
    }

    fn write(&self, name: &str, content: &str) -> Result<()> {
        let path = self.path(name);
        let write = || {
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(content.as_bytes())?;
            self.hand_over(&path)
        };
        write().map_err(|error| io_failed(&path, &error))
    }

    fn hand_over(&self, path: &Path) -> std::io::Result<()> {
        match self.order.account {
            Some(account) => chown(path, Some(account.uid), Some(account.gid)),
            None => Ok(()),
        }
    }
}

/// The server to start, with the keys of encrypted tables where there are any. The drill changes none.
fn program(order: &DrillOrder<'_>, facts: &MySqlFacts) -> Result<Program> {
    if facts.keyring.is_none() {
        return Ok(Program::installed(order.server));
    }
    let target = fs::canonicalize(order.target).map_err(|error| io_failed(order.target, &error))?;
    Program::with_keyring(
        order.server,
        &Stage { folder: &order.run_dir.join(STAGE), keyring: &keyring_of(&target), is_read_only: true },
    )
}
