//! `strongroom-extract`: gets backups out of a repository with nothing but its directory and the
//! recovery kit. No server, no catalog, no network, and nothing is ever written into the repository.
//!
//! Owns what a person types and reads here. Reading the format is `repository`'s, writing files is
//! `restore`'s, making them startable is the engine's: there is no second way of doing any of it.

mod archive;
mod cli;
mod commands;
mod exit;
mod output;
mod ports;
mod progress;
mod salvage;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match commands::run(&cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            output::failure(&error);
            exit::Exit::of(error.kind()).into()
        }
    }
}
