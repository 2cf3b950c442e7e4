//! `bench postgres`: our backups and restores beside the tools that people use instead.
//!
//! One data set, one machine, one run: every tool takes its turn on the same state of the same
//! server, so that each of them has its own full backup and its own incremental after each change.
//! A restore counts when the restored server has started and holds what the source holds.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use strongroom_testkit::postgres::PostgresServer;

use super::meter::Cost;
use super::peers::{Archive, Incremental, Nothing, Peer, Programs, Strongroom, Tool, usage};
use super::table::{Measured, mib};
use super::{PostgresOptions, depth, machine, page};
use crate::cluster::{self, Shop};
use crate::{interrupt, room, say};

/// What is measured, in the order in which it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Operation {
    /// The first backup
    First,
    /// Nothing has changed since the last backup
    Unchanged,
    /// 1 % of the rows of the biggest table changed, neighbours all
    Contiguous,
    /// 1 % of the rows of the biggest table changed, at random
    Random,
    /// 20,000 random transactions of pgbench; needs --scale
    Transactions,
    /// The last backup, started and compared
    Restore,
    /// Everything stored is read and checked
    Verify,
    /// 24 backups, each after 1 % of the rows changed at random; a table of its own
    Depth,
}

const TRANSACTIONS: u32 = 20_000;

impl Operation {
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::First => "first backup",
            Self::Unchanged => "backup, nothing changed",
            Self::Contiguous => "backup after 1 % contiguous",
            Self::Random => "backup after 1 % at random",
            Self::Transactions => "backup after 20,000 transactions",
            Self::Restore => "restore",
            Self::Verify => "verify all",
            Self::Depth => "24 backups",
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Unchanged => "unchanged",
            Self::Contiguous => "contiguous",
            Self::Random => "random",
            Self::Transactions => "transactions",
            Self::Restore | Self::Verify | Self::Depth => "",
        }
    }

    /// Makes the change that the backup comes after.
    fn change(self, shop: &Shop) -> anyhow::Result<()> {
        match self {
            Self::Contiguous => shop.change_one_percent_contiguous(),
            Self::Random => shop.change_one_percent(),
            Self::Transactions => shop.transact(TRANSACTIONS),
            Self::First | Self::Unchanged | Self::Restore | Self::Verify | Self::Depth => Ok(()),
        }
    }
}

pub(super) type Tools = Vec<Box<dyn Tool>>;
pub(super) type Digests = BTreeMap<String, String>;

pub(crate) fn run(options: &PostgresOptions) -> anyhow::Result<()> {
    if let Some(name) = &options.write {
        page::check(name)?;
    }
    let version = options.version.map_or_else(cluster::installed_version, Ok)?;
    check(options, version)?;
    let program = options.program.clone().map_or_else(build, Ok)?;
    let programs = Programs::find(program, &options.peers)?;
    let mut measured = Measured::default();
    let mut deep = Vec::new();
    let mut server_name = String::new();
    for run in 1..=options.runs {
        say::step(format_args!("run {run} of {}", options.runs));
        let shop = open(version, options)?;
        let mut tools = tools(&programs, &shop, options)?;
        shop.server.run_tool("postgres", &["--version"])?.trim().clone_into(&mut server_name);
        backups(&shop, &mut tools, options, &mut measured)?;
        if options.operations.contains(&Operation::Restore) {
            restores(&shop, &mut tools, last_backup(options)?, &mut measured)?;
        }
        if options.operations.contains(&Operation::Verify) {
            verifications(&shop, &mut tools, &mut measured)?;
        }
        if options.operations.contains(&Operation::Depth) {
            deep.push(depth::measure(&shop, &mut tools)?);
        }
    }
    let mut section = heading(&server_name, &measured, options.runs);
    if !measured.is_empty() {
        section += &measured.table();
    }
    if !deep.is_empty() {
        section += &depth::table(&deep);
    }
    page::publish(&section, options.write.as_deref())
}

pub(super) fn build() -> anyhow::Result<PathBuf> {
    say::step("building (release)");
    room::build()
}

fn check(options: &PostgresOptions, version: u32) -> anyhow::Result<()> {
    let wants = |operation| options.operations.contains(&operation);
    ensure!(!wants(Operation::Transactions) || options.scale.is_some(), "transactions need --scale");
    let changes_rows = [Operation::Contiguous, Operation::Random, Operation::Depth].into_iter().any(wants);
    ensure!(
        !changes_rows || options.scale.is_none(),
        "with --scale: first, unchanged, transactions, restore, verify"
    );
    ensure!(!options.summaries || version >= 17, "--summaries needs PostgreSQL 17 or later");
    ensure!(
        options.summaries || !options.peers.contains(&Peer::Incremental),
        "incrementals of pg_basebackup need --summaries"
    );
    ensure!(
        version <= 15 || !options.peers.contains(&Peer::PgbackrestPackaged),
        "the packaged pgBackRest knows servers up to 15"
    );
    Ok(())
}

pub(super) fn heading(server: &str, measured: &Measured, runs: u32) -> String {
    let size = if measured.source_bytes == 0 {
        String::new()
    } else {
        format!(", {:.0} MiB to restore", mib(measured.source_bytes))
    };
    format!("`{}`\n\n{server}{size}, {}. Medians of {runs} runs.\n\n", command_shown(), machine::describe())
}

/// The command that measures, for the page.
pub(super) fn command_shown() -> String {
    format!("cargo xtask {}", shown(std::env::args().skip(1)).join(" "))
}

/// The command as it may be repeated elsewhere: where our executable lay is nobody's business.
fn shown(arguments: impl Iterator<Item = String>) -> Vec<String> {
    let mut shown: Vec<String> = arguments.collect();
    if let Some(at) = shown.iter().position(|argument| argument == "--program") {
        shown.drain(at..(at + 2).min(shown.len()));
    }
    shown.retain(|argument| !argument.starts_with("--program="));
    shown
}

fn open(version: u32, options: &PostgresOptions) -> anyhow::Result<Shop> {
    let mut shop = Shop::open_archiving(version, options.summaries)?;
    say::note("filling the database");
    match options.scale {
        Some(scale) => shop.fill_pgbench(scale)?,
        None => shop.fill(options.gb, options.text)?,
    }
    Ok(shop)
}

fn tools(programs: &Programs, shop: &Shop, options: &PostgresOptions) -> anyhow::Result<Tools> {
    let mut tools: Tools = Vec::new();
    if options.peers.contains(&Peer::Basebackup) {
        tools.push(Box::new(Nothing));
        tools.push(Box::new(Archive::new(shop)?));
    }
    if options.peers.contains(&Peer::Incremental) {
        tools.push(Box::new(Incremental::new(shop)?));
    }
    for level in &options.levels {
        tools.extend(programs.pgbackrests(shop, *level)?);
        tools.push(Box::new(Strongroom::new(&programs.strongroom, shop, *level)?));
    }
    Ok(tools)
}

pub(super) fn is_backup(operation: Operation) -> bool {
    !operation.name().is_empty()
}

fn ordered(options: &PostgresOptions) -> Vec<Operation> {
    let mut operations = options.operations.clone();
    operations.sort_unstable();
    operations.dedup();
    operations
}

fn last_backup(options: &PostgresOptions) -> anyhow::Result<&'static str> {
    let last = ordered(options).into_iter().rfind(|operation| is_backup(*operation));
    last.map(Operation::name).context("a restore needs a backup among --operations")
}

fn backups(
    shop: &Shop,
    tools: &mut Tools,
    options: &PostgresOptions,
    measured: &mut Measured,
) -> anyhow::Result<()> {
    for operation in ordered(options).into_iter().filter(|operation| is_backup(*operation)) {
        operation.change(shop)?;
        // Once unmeasured, so that nobody is the one who warms the page cache.
        Nothing.back_up(shop, "")?;
        for tool in tools.iter_mut() {
            interrupt::check()?;
            let cost = tool.back_up(shop, operation.name()).with_context(|| tool.name().to_owned())?;
            measured.keep(operation, tool.name(), cost);
        }
    }
    Ok(())
}

fn restores(shop: &Shop, tools: &mut Tools, name: &str, measured: &mut Measured) -> anyhow::Result<()> {
    let expected = shop.digests()?;
    for tool in tools.iter_mut() {
        interrupt::check()?;
        let restored = restore(shop, &expected, |target| tool.restore(shop, name, target));
        let Some((cost, bytes)) = restored.with_context(|| tool.name().to_owned())? else { continue };
        measured.source_bytes = bytes;
        measured.keep(Operation::Restore, tool.name(), cost);
        let extracted = restore(shop, &expected, |target| tool.extract(name, target));
        if let Some((cost, _)) = extracted.with_context(|| format!("{}, extracted", tool.name()))? {
            measured.keep(Operation::Restore, &format!("{}, by strongroom-extract", tool.name()), cost);
        }
    }
    Ok(())
}

/// One restore, started and compared; a fast restore of something else would be no restore.
/// Answers its cost and the bytes of the restored files.
pub(super) fn restore(
    shop: &Shop,
    expected: &Digests,
    way: impl FnOnce(&Path) -> anyhow::Result<Option<Cost>>,
) -> anyhow::Result<Option<(Cost, u64)>> {
    let folder = shop.server.make_folder("restored")?;
    let target = folder.join("data");
    let restored = way(&target)?;
    let counted = restored.map(|cost| anyhow::Ok((cost, usage(&target)?.0))).transpose()?;
    if counted.is_some() {
        compare(shop, &target, expected)?;
    }
    fs::remove_dir_all(folder)?;
    Ok(counted)
}

fn compare(shop: &Shop, target: &Path, expected: &Digests) -> anyhow::Result<()> {
    let restored = PostgresServer::adopt(shop.server.version(), target)?;
    if shop.digests_of(&restored)? != *expected {
        bail!("the restored database differs");
    }
    Ok(())
}

fn verifications(shop: &Shop, tools: &mut Tools, measured: &mut Measured) -> anyhow::Result<()> {
    for tool in tools.iter_mut() {
        interrupt::check()?;
        if let Some(cost) = tool.verify(shop).with_context(|| tool.name().to_owned())? {
            measured.keep(Operation::Verify, tool.name(), cost);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_shown_without_the_place_of_the_executable() {
        let of = |line: &str| shown(line.split(' ').map(str::to_owned)).join(" ");
        assert_eq!(of("bench postgres --program /x/y --runs 3"), "bench postgres --runs 3");
        assert_eq!(of("bench postgres --program=/x/y --runs 3"), "bench postgres --runs 3");
        assert_eq!(of("bench postgres --runs 3"), "bench postgres --runs 3");
    }

    #[test]
    fn operations_are_done_in_one_order_and_the_last_backup_is_restored() {
        assert!(Operation::First < Operation::Unchanged && Operation::Random < Operation::Restore);
        assert!(is_backup(Operation::Transactions) && !is_backup(Operation::Verify));
    }
}
