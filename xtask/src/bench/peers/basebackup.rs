//! The tools that come with the server.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::{Tool, growth};
use crate::bench::meter::{self, Cost};
use crate::cluster::{self, Shop};

/// The same way in as ours: TCP, the same role, no TLS.
fn base_backup(shop: &Shop, arguments: &[&str]) -> Command {
    let mut command = shop.server.tool("pg_basebackup");
    command
        .env("PGHOST", "127.0.0.1")
        .env("PGUSER", cluster::ROLE)
        .env("PGPASSWORD", cluster::PASSWORD)
        .args(["--format=tar", "--checkpoint=fast"])
        .args(arguments);
    command
}

/// A shell of the server's account; `$1` is where to, the others where from.
fn shell(shop: &Shop, script: &str, to: &Path, from: &[PathBuf]) -> Command {
    let mut command = shop.server.tool("/bin/sh");
    command.args(["-c", script, "sh"]).arg(to).args(from);
    command
}

/// What the server alone needs: everything is sent, nothing kept.
pub(in crate::bench) struct Nothing;

impl Tool for Nothing {
    fn name(&self) -> &'static str {
        "pg_basebackup to nothing"
    }

    fn back_up(&mut self, shop: &Shop, _name: &str) -> anyhow::Result<Cost> {
        let mut command = base_backup(shop, &["-D", "-", "--wal-method=none", "--no-manifest"]);
        meter::command(&mut command, shop.server.pid())
    }

    fn restore(&mut self, _shop: &Shop, _name: &str, _target: &Path) -> anyhow::Result<Option<Cost>> {
        Ok(None)
    }

    fn verify(&mut self, _shop: &Shop) -> anyhow::Result<Option<Cost>> {
        Ok(None)
    }
}

/// A compressed archive each time, with the log it needs.
pub(in crate::bench) struct Archive {
    folder: PathBuf,
}

impl Archive {
    pub(in crate::bench) fn new(shop: &Shop) -> anyhow::Result<Self> {
        Ok(Self { folder: shop.server.make_folder("archives")? })
    }
}

/// Unpacks a whole archive and makes it durable.
const UNPACK: &str = "zstd -qdc \"$2\"/base.tar.zst | tar -x -C \"$1\" && sync -f \"$1\"";

impl Tool for Archive {
    fn name(&self) -> &'static str {
        "pg_basebackup, tar, zst 1"
    }

    fn back_up(&mut self, shop: &Shop, name: &str) -> anyhow::Result<Cost> {
        let place = self.folder.join(name).to_string_lossy().into_owned();
        let arguments = ["-D", &place, "--wal-method=fetch", "--no-manifest", "--compress=client-zstd:1"];
        growth(&self.folder, || meter::command(&mut base_backup(shop, &arguments), shop.server.pid()))
    }

    fn restore(&mut self, shop: &Shop, name: &str, target: &Path) -> anyhow::Result<Option<Cost>> {
        let script = format!("mkdir -m 700 \"$1\" && {UNPACK}");
        meter::command(&mut shell(shop, &script, target, &[self.folder.join(name)]), None).map(Some)
    }

    fn verify(&mut self, _shop: &Shop) -> anyhow::Result<Option<Cost>> {
        Ok(None)
    }
}

/// A full archive, then incremental ones; a restore unpacks all of them and combines.
pub(in crate::bench) struct Incremental {
    folder: PathBuf,
    chain: Vec<PathBuf>,
}

impl Incremental {
    pub(in crate::bench) fn new(shop: &Shop) -> anyhow::Result<Self> {
        Ok(Self { folder: shop.server.make_folder("incrementals")?, chain: Vec::new() })
    }
}

impl Tool for Incremental {
    fn name(&self) -> &'static str {
        "pg_basebackup --incremental, tar, zst 1"
    }

    fn back_up(&mut self, shop: &Shop, name: &str) -> anyhow::Result<Cost> {
        let folder = self.folder.join(name);
        let place = folder.to_string_lossy().into_owned();
        let mut command =
            base_backup(shop, &["-D", &place, "--wal-method=fetch", "--compress=client-zstd:1"]);
        if let Some(parent) = self.chain.last() {
            command.arg("--incremental").arg(parent.join("backup_manifest"));
        }
        let cost = growth(&self.folder, || meter::command(&mut command, shop.server.pid()))?;
        self.chain.push(folder);
        Ok(cost)
    }

    fn restore(&mut self, shop: &Shop, name: &str, target: &Path) -> anyhow::Result<Option<Cost>> {
        let last =
            self.chain.iter().position(|folder| folder.ends_with(name)).context("an unknown backup")?;
        let combine = shop.server.tool("pg_combinebackup").get_program().to_string_lossy().into_owned();
        let script = format!(
            "to=\"$1\"; mkdir -m 700 \"$to.parts\"; parts=; \
             for from; do [ \"$from\" = \"$to\" ] && continue; \
               part=\"$to.parts/$(basename \"$from\")\"; mkdir -m 700 \"$part\"; \
               zstd -qdc \"$from\"/base.tar.zst | tar -x -C \"$part\" && cp \"$from\"/backup_manifest \"$part\" || exit 1; \
               parts=\"$parts $part\"; \
             done; '{combine}' --output=\"$to\" $parts"
        );
        let chain = &self.chain[..=last];
        if chain.len() == 1 {
            let script = format!("mkdir -m 700 \"$1\" && {UNPACK}");
            return meter::command(&mut shell(shop, &script, target, chain), None).map(Some);
        }
        meter::command(&mut shell(shop, &script, target, chain), None).map(Some)
    }

    fn verify(&mut self, _shop: &Shop) -> anyhow::Result<Option<Cost>> {
        Ok(None)
    }
}
