//! `cargo xtask bench …`: figures beside figures, from one run on one machine and one data set.

mod api;
mod machine;
mod meter;
mod page;
mod postgres;

use clap::{Args, Subcommand};

use crate::cluster::Text;
use crate::demo::parse_gb;
use crate::interrupt;

#[derive(Subcommand)]
pub(crate) enum Subject {
    /// Backups and restores of PostgreSQL beside `pg_basebackup` and `cp`
    Postgres(PostgresOptions),
    /// Requests per second and their latency, with few and with many backups in the catalog
    Api(ApiOptions),
}

#[derive(Args)]
pub(crate) struct PostgresOptions {
    /// Size of the database in gigabytes
    #[arg(long, default_value_t = 1.0, value_parser = parse_gb)]
    gb: f64,
    /// What the text columns hold
    #[arg(long, value_enum, default_value = "digests")]
    text: Text,
    /// Repetitions; the medians are shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,
    /// Put the tables into docs/benchmarks.md
    #[arg(long)]
    write: bool,
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
        Subject::Api(options) => api::run(options),
    }
}
