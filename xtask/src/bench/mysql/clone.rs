//! The server's own clone, into a directory of its own machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use strongroom_testkit::mysql::MySqlServer;
use tempfile::TempDir;

use super::{Tool, started};
use crate::bench::meter::{self, Cost};
use crate::bench::peers::growth;
use crate::database::Digests;
use crate::mysql_shop::MySqlShop;

pub(super) struct LocalClone {
    /// Belongs to the server's account.
    folder: PathBuf,
    _home: TempDir,
}

impl LocalClone {
    pub(super) fn new(_shop: &MySqlShop) -> anyhow::Result<Self> {
        let home = tempfile::Builder::new().prefix("strongroom-clones-").tempdir()?;
        strongroom_testkit::account::Account::ordinary().own(home.path())?;
        Ok(Self { folder: home.path().to_owned(), _home: home })
    }

    fn place(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Tool for LocalClone {
    fn name(&self) -> &'static str {
        "CLONE LOCAL"
    }

    fn back_up(&mut self, shop: &MySqlShop, name: &str) -> anyhow::Result<Cost> {
        let statement = format!("CLONE LOCAL DATA DIRECTORY = '{}'", self.place(name).display());
        let mut command = shop.server.tool("mysql")?;
        command.args(["-e", &statement]);
        growth(&self.folder, || meter::command(&mut command, shop.server.pid()))
    }

    /// The backup is kept: what runs is a copy of it.
    fn restore(&mut self, _shop: &MySqlShop, name: &str) -> anyhow::Result<(Cost, Digests)> {
        let target = self.folder.join("restored");
        let cost = meter::command(&mut copy(&self.place(name), &target), None)?;
        let restored = started(cost, || MySqlServer::adopt(&target, &[]))?;
        fs::remove_dir_all(target)?;
        Ok(restored)
    }
}

/// Copies a directory and makes it durable.
fn copy(from: &Path, to: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "cp -r --sparse=always \"$1\" \"$2\" && sync -f \"$2\"", "sh"]).arg(from).arg(to);
    command
}
