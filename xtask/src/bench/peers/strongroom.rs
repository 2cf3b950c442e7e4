//! Ourselves: a server with a repository of its own, and the commands.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tempfile::TempDir;

use super::{Tool, growth};
use crate::bench::meter::{self, Cost};
use crate::cluster::{self, Shop};
use crate::http::Client;
use crate::interrupt;
use crate::room::Room;

const JOB_TIMEOUT: Duration = Duration::from_hours(4);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

pub(in crate::bench) struct Strongroom {
    name: String,
    room: Room,
    repository: PathBuf,
    extractor: PathBuf,
    recovery_kit: PathBuf,
    _folder: TempDir,
}

impl Strongroom {
    pub(in crate::bench) fn new(program: &Path, shop: &Shop, level: u8) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("strongroom-bench-").tempdir()?;
        let data_dir = folder.path().join("data");
        let room =
            Room::start_with(program, &data_dir, &[("STRONGROOM_COMPRESSION_LEVEL", &level.to_string())])?;
        register(&room, shop, folder.path())?;
        let recovery_kit = folder.path().join("kit.txt");
        let kit = room.command(&["recovery-kit", "print"]).output().context("printing the recovery kit")?;
        fs::write(&recovery_kit, kit.stdout)?;
        let lists = if shop.has_summaries() { ", block lists" } else { "" };
        let name = format!("strongroom, zst {level}{lists}");
        let extractor = program.with_file_name("strongroom-extract");
        let repository = data_dir.join("repository");
        Ok(Self { name, room, repository, extractor, recovery_kit, _folder: folder })
    }
}

fn register(room: &Room, shop: &Shop, folder: &Path) -> anyhow::Result<()> {
    let password = folder.join("password");
    fs::write(&password, cluster::PASSWORD)?;
    let port = shop.server.port().to_string();
    let arguments =
        ["instance", "add", "shop", "--engine", "postgresql", "--host", "127.0.0.1", "--port", &port];
    let mut command = room.command(&arguments);
    command.args(["--user", cluster::ROLE, "--tls", "disable", "--password-file"]).arg(&password);
    meter::command(&mut command, None).context("registering the database").map(drop)
}

impl Tool for Strongroom {
    fn name(&self) -> &str {
        &self.name
    }

    fn back_up(&mut self, shop: &Shop, name: &str) -> anyhow::Result<Cost> {
        let postmaster = shop.server.pid().context("the server runs")?;
        growth(&self.repository, || back_up(&self.room, postmaster, name))
    }

    fn restore(&mut self, _shop: &Shop, name: &str, target: &Path) -> anyhow::Result<Option<Cost>> {
        let mut command =
            self.room.command(&["restore", name, "--progress", "none", "--streams", "2", "--to-dir"]);
        command.arg(target);
        served(&self.room, &mut command).map(Some)
    }

    fn extract(&mut self, name: &str, target: &Path) -> anyhow::Result<Option<Cost>> {
        let mut command = Command::new(&self.extractor);
        command.args(["extract", name, "--progress", "none", "--threads", "2", "--target"]).arg(target);
        command.arg("--repository").arg(&self.repository).arg("--recovery-kit").arg(&self.recovery_kit);
        meter::command(&mut command, None).map(Some)
    }

    fn verify(&mut self, _shop: &Shop) -> anyhow::Result<Option<Cost>> {
        let mut command =
            self.room.command(&["repository", "check", "--level", "decode", "--progress", "none"]);
        served(&self.room, &mut command).map(Some)
    }
}

/// A command of ours, with what it costs our server.
pub(in crate::bench) fn served(room: &Room, command: &mut Command) -> anyhow::Result<Cost> {
    meter::forget_peak(room.pid())?;
    let cpu_before = meter::tree_cpu_s(room.pid())?;
    let cost = meter::command(command, None)?;
    Ok(Cost {
        tool_cpu_s: cost.tool_cpu_s + meter::tree_cpu_s(room.pid())? - cpu_before,
        peak_bytes: meter::peak_bytes(room.pid())?,
        peak_beside_bytes: cost.peak_bytes,
        ..cost
    })
}

/// One backup through the API, from the request to COMPLETED.
pub(in crate::bench) fn back_up(room: &Room, postmaster: u32, name: &str) -> anyhow::Result<Cost> {
    let mut client = room.client()?;
    meter::forget_peak(room.pid())?;
    let (server_before, own_before) = (meter::tree_cpu_s(postmaster)?, meter::tree_cpu_s(room.pid())?);
    rustix::fs::sync();
    let begun = Instant::now();
    let request = serde_json::json!({"name": name, "instance": "shop"});
    let accepted = client.json("POST", "/strongroom/v1/backups", &request.to_string())?;
    let id = accepted["id"].as_str().context("the answer has an id")?;
    let view = interrupt::wait_for("the backup", JOB_TIMEOUT, LOOK_INTERVAL, || ended(&mut client, id))?;
    let wall_s = begun.elapsed().as_secs_f64();
    if view["status"] != "COMPLETED" {
        bail!("the backup ended {}: {}", view["status"], view["failure"]);
    }
    Ok(Cost {
        wall_s,
        tool_cpu_s: meter::tree_cpu_s(room.pid())? - own_before,
        server_cpu_s: meter::tree_cpu_s(postmaster)? - server_before,
        peak_bytes: meter::peak_bytes(room.pid())?,
        ..Cost::default()
    })
}

fn ended(client: &mut Client, id: &str) -> anyhow::Result<Option<serde_json::Value>> {
    let view = client.json("GET", &format!("/strongroom/v1/backups/{id}"), "")?;
    Ok((view["status"] != "BUILDING").then_some(view))
}
