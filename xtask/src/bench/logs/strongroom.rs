//! Ourselves: a server with a repository of its own, and a capture that is switched on.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::receiver::Receiver;
use super::source::{Place, Source};
use crate::bench::meter;
use crate::bench::peers::usage;
use crate::cluster::{PASSWORD, ROLE};
use crate::database::Engine;
use crate::interrupt;
use crate::room::Room;

/// A first full backup of a small database.
const BASE_TIMEOUT: Duration = Duration::from_mins(5);
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
const LOGS: &str = "/strongroom/v1/instances/shop/logs";
/// An object may be replaced by another one while the folder is counted.
const COUNTS_MAX: u32 = 50;

pub(super) struct Strongroom {
    name: &'static str,
    room: Room,
    repository: PathBuf,
    _folder: TempDir,
}

impl Strongroom {
    /// Ready when the backup that the capture begins by itself is complete: it is not what is measured.
    pub(super) fn start(program: &Path, source: &dyn Source) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("strongroom-bench-").tempdir()?;
        let data_dir = folder.path().join("data");
        let room = Room::start(program, &data_dir)?;
        let password = folder.path().join("password");
        fs::write(&password, PASSWORD)?;
        let (port, word) = (source.port().to_string(), source.engine().word());
        let mut command = room.command(&[
            "instance",
            "add",
            "shop",
            "--engine",
            word,
            "--host",
            "127.0.0.1",
            "--port",
            &port,
        ]);
        command.args(["--user", ROLE, "--password-file"]).arg(&password);
        let name = match source.engine() {
            Engine::Postgresql => {
                command.args(["--tls", "disable"]);
                "strongroom"
            }
            Engine::Mysql => "strongroom, TLS",
        };
        meter::command(&mut command, None).context("registering the database")?;
        room.client()?.json("PUT", LOGS, &serde_json::json!({ "capture": true }).to_string())?;
        let ours = Self { name, room, repository: data_dir.join("repository"), _folder: folder };
        interrupt::wait_for("a backup leads to the log", BASE_TIMEOUT, LOOK_INTERVAL, || {
            let view = ours.logs()?;
            Ok((view["has_backup"] == true && view["state"] == "capturing").then_some(()))
        })?;
        Ok(ours)
    }

    fn logs(&self) -> anyhow::Result<Value> {
        self.room.client()?.json("GET", LOGS, "")
    }
}

fn place(told: &Value) -> anyhow::Result<Place> {
    let number = |name: &str| told[name].as_u64().with_context(|| format!("no `{name}` in {told}"));
    Ok(Place { file: number("file")?, offset: number("offset")? })
}

impl Receiver for Strongroom {
    fn name(&self) -> &str {
        self.name
    }

    fn pid(&self) -> u32 {
        self.room.pid()
    }

    fn reached(&mut self, _source: &dyn Source) -> anyhow::Result<Place> {
        let view = self.logs()?;
        ensure!(view["state"] == "capturing", "the log is not captured: {view}");
        match view["ranges"].as_array().and_then(|ranges| ranges.last()) {
            Some(range) => place(&range["until"]),
            None => Ok(Place { file: 0, offset: 0 }),
        }
    }

    fn stored_bytes(&self) -> anyhow::Result<u64> {
        let mut counts = 0;
        loop {
            counts += 1;
            match usage(&self.repository) {
                Err(_) if counts < COUNTS_MAX => interrupt::pause(LOOK_INTERVAL),
                counted => return Ok(counted?.0),
            }
        }
    }

    /// One range without a gap, and every object of the repository is what it was when it was stored.
    fn judge(&mut self, _source: &dyn Source, from: Place, until: Place) -> anyhow::Result<()> {
        let view = self.logs()?;
        let ranges = view["ranges"].as_array().map(Vec::as_slice).unwrap_or_default();
        let [range] = ranges else { anyhow::bail!("there is a gap: {view}") };
        ensure!(place(&range["from"])? <= from && place(&range["until"])? >= until, "not all of it: {view}");
        let mut check =
            self.room.command(&["repository", "check", "--level", "decode", "--progress", "none"]);
        meter::command(&mut check, None).context("checking the repository").map(drop)
    }
}
