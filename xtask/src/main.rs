//! Build chores, in Rust so that they run wherever the product builds.
//!
//! Owns the commands `cargo xtask test | ci | tidy | demo | fuzz | bench`, one module each. The product
//! must never depend on anything here.

mod bench;
mod ci;
mod cluster;
mod database;
mod demo;
mod fuzz;
mod http;
mod interrupt;
mod mysql_shop;
mod packages;
mod process;
mod python;
mod room;
mod say;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores of the strongroom workspace", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Install what the tests need, then run all of them; ends with `N passed, N failed, N skipped`
    Test(test::Options),
    /// Everything that must hold before a change is merged: format, tidy, lints, tests, documents, licences
    Ci(ci::Options),
    /// Check the rules of ARCHITECTURE.md that no compiler knows
    Tidy(tidy::Options),
    /// From nothing to a restored and compared database, with every command shown
    Demo(demo::Options),
    /// Feed every parser of foreign bytes with what a fuzzer makes up
    Fuzz(fuzz::Options),
    /// Measure
    #[command(subcommand)]
    Bench(bench::Subject),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().chore {
        Chore::Test(options) => test::run(&options),
        Chore::Ci(options) => ci::run(&options),
        Chore::Tidy(options) => tidy::run(&options),
        Chore::Demo(options) => demo::run(&options),
        Chore::Fuzz(options) => fuzz::run(&options),
        Chore::Bench(subject) => bench::run(&subject),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::failure(&error);
            ExitCode::FAILURE
        }
    }
}
