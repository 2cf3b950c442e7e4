//! `cargo xtask bench …`: figures beside figures, from one run on one machine and one data set.

mod api;
mod depth;
mod logs;
mod machine;
mod meter;
mod mysql;
mod page;
mod peers;
mod postgres;
mod table;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cluster::Text;
use crate::database::Engine;
use crate::demo::parse_gb;
use crate::interrupt;

pub(crate) use self::mysql::MySqlPeer;
pub(crate) use self::peers::Peer;
pub(crate) use self::postgres::Operation;

#[derive(Subcommand)]
pub(crate) enum Subject {
    /// Backups and restores of PostgreSQL beside the tools that people use
    Postgres(PostgresOptions),
    /// The same of MySQL
    Mysql(MySqlOptions),
    /// The log captured while it is written, beside the field's own tool
    Logs(LogsOptions),
    /// Requests per second and their latency, with few and with many backups in the catalog
    Api(ApiOptions),
}

#[derive(Args)]
pub(crate) struct PostgresOptions {
    /// Major version of the server; the newest installed one by default
    #[arg(long, value_parser = clap::value_parser!(u32).range(15..=18))]
    version: Option<u32>,
    /// Size of the shop's database in gigabytes
    #[arg(long, default_value_t = 1.0, value_parser = parse_gb)]
    gb: f64,
    /// What the shop's text columns hold
    #[arg(long, value_enum, default_value = "words")]
    text: Text,
    /// Tables of pgbench at this scale instead of the shop
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    scale: Option<u32>,
    /// Who is measured beside us
    #[arg(long, value_enum, value_delimiter = ',', default_value = "basebackup,pgbackrest")]
    peers: Vec<Peer>,
    /// What is measured, always in the same order
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "first,unchanged,contiguous,random,restore"
    )]
    operations: Vec<Operation>,
    /// zstd levels of strongroom and of pgBackRest, each with a repository of its own
    #[arg(long, value_delimiter = ',', default_value = "1,3", value_parser = clap::value_parser!(u8).range(1..=19))]
    levels: Vec<u8>,
    /// The server summarises its log (17 and later): block lists, and incrementals of pg_basebackup
    #[arg(long)]
    summaries: bool,
    /// Repetitions; the medians are shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,
    /// Measure this executable of ours instead of building one
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Put the table into docs/benchmarks.md, between the marks of this name
    #[arg(long, value_name = "NAME")]
    write: Option<String>,
}

#[derive(Args)]
pub(crate) struct MySqlOptions {
    /// Size of the shop's database in gigabytes
    #[arg(long, default_value_t = 1.0, value_parser = parse_gb)]
    gb: f64,
    /// Who is measured beside us
    #[arg(long, value_enum, value_delimiter = ',', default_value = "clone,mysqldump,mydumper,mariadb")]
    peers: Vec<MySqlPeer>,
    /// What is measured: first, unchanged, random, restore
    #[arg(long, value_enum, value_delimiter = ',', default_value = "first,random,restore")]
    operations: Vec<Operation>,
    /// Our zstd levels, each with a repository of its own
    #[arg(long, value_delimiter = ',', default_value = "1,3", value_parser = clap::value_parser!(u8).range(1..=19))]
    levels: Vec<u8>,
    /// Repetitions; the medians are shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,
    /// Measure this executable of ours instead of building one
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Put the table into docs/benchmarks.md, between the marks of this name
    #[arg(long, value_name = "NAME")]
    write: Option<String>,
}

#[derive(Args)]
pub(crate) struct LogsOptions {
    /// Whose log; that of each when none is named
    #[arg(long, value_enum)]
    engine: Option<Engine>,
    /// How long the writers write
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Repetitions; the medians are shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,
    /// Measure this executable of ours instead of building one
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Put the tables into docs/benchmarks.md, between the marks of this name
    #[arg(long, value_name = "NAME")]
    write: Option<String>,
}

#[derive(Args)]
pub(crate) struct ApiOptions {
    /// Seconds for each measurement
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Clients at once, each on a connection of its own
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    clients: u32,
    /// Put the table into docs/benchmarks.md
    #[arg(long)]
    write: bool,
}

pub(crate) fn run(subject: &Subject) -> anyhow::Result<()> {
    interrupt::listen()?;
    match subject {
        Subject::Postgres(options) => postgres::run(options),
        Subject::Mysql(options) => mysql::run(options),
        Subject::Logs(options) => logs::run(options),
        Subject::Api(options) => api::run(options),
    }
}
