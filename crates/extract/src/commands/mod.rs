//! One file for each command.

mod check;
mod extract;
mod files;
mod list;

use strongroom_core::Result;

use crate::archive::Archive;
use crate::cli::{Cli, Command};
use crate::exit::Exit;
use crate::output;

pub(crate) fn run(cli: &Cli) -> Result<Exit> {
    let archive = Archive::open(&cli.repository)?;
    match &cli.command {
        Command::List => Ok(list::run(&archive, cli.output)),
        Command::Files { backup, path } => files::list(&archive, backup, path.as_deref(), cli.output),
        Command::Cat { backup, path } => files::cat(&archive, backup, path),
        Command::Extract(options) => extract::run(&archive, options, cli),
        Command::Check { backup, level } => check::run(&archive, backup.as_deref(), *level, cli),
    }
}

/// Keys and manifests that cannot be read hide their backups; nobody shall miss that.
fn say_damaged(archive: &Archive) -> Exit {
    for error in &archive.damaged {
        output::note(format_args!("damaged: {}", error.public()));
    }
    if archive.damaged.is_empty() { Exit::Done } else { Exit::DamageFound }
}
