//! Ourselves: a server with a repository of its own, over TLS as everybody is told to.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use strongroom_testkit::mysql::MySqlServer;
use tempfile::TempDir;

use super::{Tool, started};
use crate::bench::meter::{self, Cost};
use crate::bench::peers::{back_up, growth, served};
use crate::cluster::{PASSWORD, ROLE};
use crate::database::Digests;
use crate::mysql_shop::MySqlShop;
use crate::room::Room;

pub(super) struct Strongroom {
    name: String,
    room: Room,
    repository: PathBuf,
    folder: TempDir,
}

impl Strongroom {
    pub(super) fn new(program: &Path, shop: &MySqlShop, level: u8) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("strongroom-bench-").tempdir()?;
        let data_dir = folder.path().join("data");
        let settings = [("STRONGROOM_COMPRESSION_LEVEL", &*level.to_string())];
        let room = Room::start_with(program, &data_dir, &settings)?;
        let password = folder.path().join("password");
        fs::write(&password, PASSWORD)?;
        let port = shop.server.port().to_string();
        let arguments =
            ["instance", "add", "shop", "--engine", "mysql", "--host", "127.0.0.1", "--port", &port];
        let mut command = room.command(&arguments);
        command.args(["--user", ROLE, "--password-file"]).arg(&password);
        meter::command(&mut command, None).context("registering the database")?;
        let (name, repository) = (format!("strongroom, TLS, zst {level}"), data_dir.join("repository"));
        Ok(Self { name, room, repository, folder })
    }
}

impl Tool for Strongroom {
    fn name(&self) -> &str {
        &self.name
    }

    fn back_up(&mut self, shop: &MySqlShop, name: &str) -> anyhow::Result<Cost> {
        let server = shop.server.pid().context("the server runs")?;
        growth(&self.repository, || back_up(&self.room, server, name))
    }

    fn restore(&mut self, _shop: &MySqlShop, name: &str) -> anyhow::Result<(Cost, Digests)> {
        let target = self.folder.path().join("restored");
        let mut command =
            self.room.command(&["restore", name, "--progress", "none", "--streams", "2", "--to-dir"]);
        command.arg(&target);
        let cost = served(&self.room, &mut command)?;
        let restored = started(cost, || MySqlServer::adopt(&target, &[]))?;
        fs::remove_dir_all(target)?;
        Ok(restored)
    }
}
