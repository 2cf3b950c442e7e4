//! `bench mysql`: our backups and restores of MySQL beside the tools that people use instead.
//!
//! One data set, one machine, one run, as for PostgreSQL. A restore counts when a server runs that
//! holds what the source holds: where a tool gives a directory, its start is part of the time, and
//! where it gives statements, the start of an empty server is.

mod clone;
mod dumps;
mod mariadb;
mod strongroom;

use std::time::Instant;

use anyhow::{Context, ensure};
use clap::ValueEnum;
use strongroom_testkit::mysql::MySqlServer;

use self::clone::LocalClone;
use self::dumps::{MyDumper, MySqlDump};
use self::mariadb::MariaDbBackup;
use self::strongroom::Strongroom;
use super::meter::Cost;
use super::postgres::{Operation, build, heading, is_backup};
use super::table::Measured;
use super::{MySqlOptions, page};
use crate::database::Digests;
use crate::mysql_shop::{self, MySqlShop};
use crate::{interrupt, say};

/// A tool to be measured beside us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MySqlPeer {
    /// CLONE LOCAL DATA DIRECTORY: the server copies itself into a directory of its own machine
    Clone,
    /// mysqldump, one statement after the other, compressed by zstd 1
    Mysqldump,
    /// mydumper with two threads, compressed by zstd, of Debian sid
    Mydumper,
    /// mariadb-backup of Debian, on a MariaDB with the same rows; skipped where it cannot be had
    Mariadb,
}

/// What the data is backed up from and given back to. Made anew for each run.
trait Tool {
    fn name(&self) -> &str;

    /// A backup called `name`; each later one stands on the one before where the tool can do that.
    fn back_up(&mut self, shop: &MySqlShop, name: &str) -> anyhow::Result<Cost>;

    /// Gives the last backup back, to be compared. `None`: somebody else's server would be needed.
    fn restore(&mut self, shop: &MySqlShop, name: &str) -> anyhow::Result<(Cost, Digests)>;

    /// Whether its own data changed as the shop's did, to be compared with that.
    fn change(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    /// What a restore must hold, where that is not what the shop holds.
    fn expected(&self) -> anyhow::Result<Option<Digests>> {
        Ok(None)
    }
}

type Tools = Vec<Box<dyn Tool>>;

pub(crate) fn run(options: &MySqlOptions) -> anyhow::Result<()> {
    if let Some(name) = &options.write {
        page::check(name)?;
    }
    let known = [Operation::First, Operation::Unchanged, Operation::Random, Operation::Restore];
    ensure!(
        options.operations.iter().all(|operation| known.contains(operation)),
        "of MySQL are measured: first, unchanged, random, restore"
    );
    mysql_shop::ensure_server()?;
    let program = options.program.clone().map_or_else(build, Ok)?;
    let mut measured = Measured::default();
    let mut server_name = String::new();
    for run in 1..=options.runs {
        say::step(format_args!("run {run} of {}", options.runs));
        let mut shop = MySqlShop::open()?;
        say::note("filling the database");
        shop.fill(options.gb)?;
        measured.source_bytes = shop.bytes()?;
        server_name = shop.version()?;
        let mut tools: Tools = Vec::new();
        for peer in &options.peers {
            tools.extend(open(*peer, &shop, options.gb)?);
        }
        for level in &options.levels {
            tools.push(Box::new(Strongroom::new(&program, &shop, *level)?));
        }
        measure(&shop, &mut tools, options, &mut measured)?;
    }
    let section = heading(&server_name, &measured, options.runs) + &measured.table();
    page::publish(&section, options.write.as_deref())
}

fn open(peer: MySqlPeer, shop: &MySqlShop, gb: f64) -> anyhow::Result<Option<Box<dyn Tool>>> {
    Ok(match peer {
        MySqlPeer::Clone => Some(Box::new(LocalClone::new(shop)?)),
        MySqlPeer::Mysqldump => Some(Box::new(MySqlDump::new(shop)?)),
        MySqlPeer::Mydumper => Some(Box::new(MyDumper::new(shop)?)),
        MySqlPeer::Mariadb => match MariaDbBackup::new(gb) {
            Ok(tool) => Some(Box::new(tool)),
            Err(error) => {
                say::note(format_args!("!! mariadb-backup cannot be had and is not measured: {error:#}"));
                None
            }
        },
    })
}

fn measure(
    shop: &MySqlShop,
    tools: &mut Tools,
    options: &MySqlOptions,
    measured: &mut Measured,
) -> anyhow::Result<()> {
    let mut operations = options.operations.clone();
    operations.sort_unstable();
    operations.dedup();
    let mut last = None;
    for operation in operations.iter().copied().filter(|operation| is_backup(*operation)) {
        if operation == Operation::Random {
            shop.change_one_percent()?;
            tools.iter_mut().try_for_each(|tool| tool.change())?;
        }
        // Once unmeasured, so that nobody is the one who warms the page cache.
        LocalClone::new(shop)?.back_up(shop, "warm")?;
        for tool in tools.iter_mut() {
            interrupt::check()?;
            let cost = tool.back_up(shop, operation.name()).with_context(|| tool.name().to_owned())?;
            measured.keep(operation, tool.name(), cost);
        }
        last = Some(operation.name());
    }
    if operations.contains(&Operation::Restore) {
        let last = last.context("a restore needs a backup among --operations")?;
        let expected = shop.digests()?;
        for tool in tools.iter_mut() {
            interrupt::check()?;
            let wanted = tool.expected()?.unwrap_or_else(|| expected.clone());
            let (cost, found) = tool.restore(shop, last).with_context(|| tool.name().to_owned())?;
            ensure!(found == wanted, "{}: the restored database differs", tool.name());
            measured.keep(Operation::Restore, tool.name(), cost);
        }
    }
    Ok(())
}

/// A server started in the time that was taken already, and what it holds.
fn started(
    cost: Cost,
    start: impl FnOnce() -> anyhow::Result<MySqlServer>,
) -> anyhow::Result<(Cost, Digests)> {
    let begun = Instant::now();
    let server = start()?;
    let cost = Cost { wall_s: cost.wall_s + begun.elapsed().as_secs_f64(), ..cost };
    Ok((cost, mysql_shop::digests(&server)?))
}
