//! The configuration a drill runs under: ours alone. Nothing of the source's is read, so that neither
//! a command, a library nor an address in it comes to life.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use strongroom_core::engine::DrillOrder;
use strongroom_core::{Error, ErrorKind, Result};
use strongroom_host::io_failed;

use crate::facts::PostgresFacts;
use crate::restore::{NOT_LOWER, SOCKET_PATH_BYTES_MAX};

/// Part of the socket's name only: there is no network. Short, because socket paths are.
pub(super) const PORT: &str = "1";

/// The first version that has `event_triggers`, and triggers that run at a login.
pub(super) const MAJOR_WITH_EVENT_TRIGGER_SWITCH: u32 = 17;

/// What holds for the server. Preloaded libraries, archiving and replication are absent because
/// their defaults are; what has another default, or would hide damage, is said.
const SETTINGS: [(&str, &str); 12] = [
    ("listen_addresses", ""),
    ("port", PORT),
    ("unix_socket_permissions", "0700"),
    ("max_logical_replication_workers", "0"),
    ("autovacuum", "off"),
    ("restart_after_crash", "off"),
    ("huge_pages", "off"),
    ("jit", "off"),
    ("lc_messages", "C"),
    ("log_line_prefix", ""),
    ("zero_damaged_pages", "off"),
    ("ignore_checksum_failure", "off"),
];

/// Only who reaches the socket comes in, and its directory is closed to everybody else.
const HBA: &str = "local all all trust\n";

/// Where the files of a drill are.
pub(super) struct Room<'a> {
    run_dir: &'a Path,
    order: &'a DrillOrder<'a>,
}

impl<'a> Room<'a> {
    pub(super) fn furnish(order: &'a DrillOrder<'a>, facts: &PostgresFacts) -> Result<Self> {
        let room = Self { run_dir: order.run_dir, order };
        if room.socket().as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::NotSupported,
                format!("The path {} is too long for a socket of the server.", order.run_dir.display()),
            )
            .with_hint("name a sandbox directory with a shorter path"));
        }
        room.write("postgresql.conf", &room.configuration(facts)?)?;
        room.write("pg_hba.conf", HBA)?;
        room.write("pg_ident.conf", "")?;
        // Read whatever the command line says.
        let auto_conf = order.target.join("postgresql.auto.conf");
        fs::write(&auto_conf, b"").map_err(|error| io_failed(&auto_conf, &error))?;
        Ok(room)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.run_dir.join(name)
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.path(&format!(".s.PGSQL.{PORT}"))
    }

    fn configuration(&self, facts: &PostgresFacts) -> Result<String> {
        let mut text = String::new();
        let mut set = |name: &str, value: &str| {
            text.extend([name, " = ", &quoted(value), "\n"]);
        };
        for (name, value) in SETTINGS {
            set(name, value);
        }
        if facts.major_version() >= MAJOR_WITH_EVENT_TRIGGER_SWITCH {
            set("event_triggers", "off");
        }
        for name in NOT_LOWER {
            // A number, or it is not from a server.
            if let Some(value) = facts.setting(name).filter(|value| value.parse::<u32>().is_ok()) {
                set(name, value);
            }
        }
        let run_dir = self.plain(self.run_dir)?;
        // A list of names, so its elements are quoted once more.
        set("unix_socket_directories", &format!("\"{}\"", run_dir.replace('"', "\"\"")));
        set("hba_file", self.plain(&self.path("pg_hba.conf"))?.as_str());
        set("ident_file", self.plain(&self.path("pg_ident.conf"))?.as_str());
        Ok(text)
    }

    fn plain(&self, path: &Path) -> Result<String> {
        let text = path.to_str().filter(|text| !text.chars().any(char::is_control));
        text.map(str::to_owned).ok_or_else(|| {
            Error::new(
                ErrorKind::NotSupported,
                format!("The path {} cannot be written into a configuration file.", self.run_dir.display()),
            )
            .with_hint("name a sandbox directory whose path is plain text")
        })
    }

    fn write(&self, name: &str, content: &str) -> Result<()> {
        use std::io::Write;

        let path = self.path(name);
        let write = || {
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(content.as_bytes())?;
            match self.order.account {
                Some(account) => chown(&path, Some(account.uid), Some(account.gid)),
                None => Ok(()),
            }
        };
        write().map_err(|error| io_failed(&path, &error))
    }
}

/// A value of a configuration file.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}
