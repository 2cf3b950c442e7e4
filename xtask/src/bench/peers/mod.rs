//! Whom we are measured beside, and ourselves: every tool behind the same trait.

mod basebackup;
mod pgbackrest;
mod strongroom;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ValueEnum;

use super::meter::Cost;
use crate::cluster::Shop;
use crate::packages;

pub(super) use self::basebackup::{Archive, Incremental, Nothing};
pub(super) use self::pgbackrest::PgBackRest;
pub(super) use self::strongroom::{Strongroom, back_up, served};

/// A group of tools to be measured beside us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// pg_basebackup: its output thrown away, and as a compressed archive
    Basebackup,
    /// pg_basebackup --incremental and pg_combinebackup; needs --summaries
    Incremental,
    /// pgBackRest of Debian sid
    Pgbackrest,
    /// pgBackRest of this system's packages, which knows servers up to 15
    PgbackrestPackaged,
}

/// A tool that takes backups. Made anew for each run, dropped with all it stored.
pub(super) trait Tool {
    /// With version and level, as the table shows it.
    fn name(&self) -> &str;

    /// A backup called `name`; the first one is a full one, each later one stands on the one before.
    fn back_up(&mut self, shop: &Shop, name: &str) -> anyhow::Result<Cost>;

    /// Makes a startable directory of a backup. `None`: this tool keeps nothing.
    fn restore(&mut self, shop: &Shop, name: &str, target: &Path) -> anyhow::Result<Option<Cost>>;

    /// The same without any server running. `None`: this tool has no other way.
    fn extract(&mut self, _name: &str, _target: &Path) -> anyhow::Result<Option<Cost>> {
        Ok(None)
    }

    /// Reads everything stored and checks it. `None`: this tool has no such command.
    fn verify(&mut self, shop: &Shop) -> anyhow::Result<Option<Cost>>;
}

/// The programs behind the peers, looked for before anything is measured.
pub(super) struct Programs {
    pub(super) strongroom: PathBuf,
    pgbackrest: Option<PathBuf>,
    packaged: Option<PathBuf>,
}

impl Programs {
    pub(super) fn find(strongroom: PathBuf, peers: &[Peer]) -> anyhow::Result<Self> {
        let pgbackrest = peers
            .contains(&Peer::Pgbackrest)
            .then(strongroom_testkit::debian::ensure_pgbackrest)
            .transpose()
            .context("pgBackRest of Debian sid")?;
        let packaged = PathBuf::from("/usr/bin/pgbackrest");
        let wants_packaged = peers.contains(&Peer::PgbackrestPackaged);
        if wants_packaged {
            packages::ensure(&["pgbackrest"], "we are measured beside it", || packaged.is_file())?;
        }
        Ok(Self { strongroom, pgbackrest, packaged: wants_packaged.then_some(packaged) })
    }

    /// All pgBackRests that were asked for, at one level.
    pub(super) fn pgbackrests(&self, shop: &Shop, level: u8) -> anyhow::Result<Vec<Box<dyn Tool>>> {
        let mut tools: Vec<Box<dyn Tool>> = Vec::new();
        for program in [&self.pgbackrest, &self.packaged].into_iter().flatten() {
            tools.push(Box::new(PgBackRest::new(program, shop, level)?));
        }
        Ok(tools)
    }
}

/// Bytes and files below a folder.
pub(super) fn usage(folder: &Path) -> anyhow::Result<(u64, u64)> {
    let (mut bytes, mut files) = (0, 0);
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            let below = usage(&entry.path())?;
            (bytes, files) = (bytes + below.0, files + below.1);
        } else {
            (bytes, files) = (bytes + metadata.len(), files + 1);
        }
    }
    Ok((bytes, files))
}

/// Runs `work` and notes by how much it made the folder grow.
pub(super) fn growth(folder: &Path, work: impl FnOnce() -> anyhow::Result<Cost>) -> anyhow::Result<Cost> {
    let before = usage(folder)?;
    let cost = work()?;
    let after = usage(folder)?;
    Ok(Cost {
        stored_bytes: after.0.saturating_sub(before.0),
        objects: after.1.saturating_sub(before.1),
        ..cost
    })
}
