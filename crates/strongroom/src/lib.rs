//! The executable: configuration, wiring, client commands, and everything that prints.
//!
//! Owns what a person types and reads. Must never decide anything about backups: the server's
//! part wires the crates together, the commands speak HTTP to it.

mod bootstrap;
mod cli;
mod client;
mod commands;
mod config;
mod engines;
mod exit;
mod explain;
mod memory;
mod output;
mod ports;
mod serve;
mod telemetry;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

/// Runs one command line and answers its exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    memory::bound();
    let cli = match cli::Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // clap knows which stream and whether it is help or a mistake.
            let _ = error.print();
            return exit::Exit::from_clap(&error).into();
        }
    };
    // Without a provider the first TLS connection would panic.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match commands::run(&cli) {
        Ok(exit) => exit.into(),
        Err(stop) => {
            output::failure(&stop);
            stop.exit.into()
        }
    }
}
