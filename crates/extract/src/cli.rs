//! What can be typed: one definition for parsing and help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Backups out of a repository, with nothing but its directory and the recovery kit.
#[derive(Debug, Parser)]
#[command(name = "strongroom-extract", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Needs no server, no catalog and no network; writes nothing into the repository.\n\
    Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 refused, 5 damage found, 6 unusable repository, 7 wrong key.\n\
    First: strongroom-extract list --repository DIR --recovery-kit FILE")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) repository: RepositoryOptions,
    /// How data is shown
    #[arg(long, value_enum, global = true, default_value = "table")]
    pub(crate) output: Format,
    /// How long work is shown, on stderr
    #[arg(long, value_enum, global = true, default_value = "auto")]
    pub(crate) progress: ProgressMode,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct RepositoryOptions {
    /// The repository, or a copy of it: a directory, as a path or file:///path
    #[arg(long, global = true, value_name = "DIR", env = "STRONGROOM_REPOSITORY")]
    pub(crate) repository: Option<PathBuf>,
    /// A file that holds the recovery key: the kit's page, or the key alone
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        alias = "recovery-key-file",
        env = "STRONGROOM_RECOVERY_KEY_FILE"
    )]
    pub(crate) recovery_kit: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressMode {
    /// One line that moves on a terminal, lines elsewhere
    Auto,
    Plain,
    /// One object a line
    Json,
    None,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// All backups: of which project and instance, when, how large
    List,
    /// The files of a backup; as JSON one object a line
    Files {
        /// Name, id or attempt of a backup, or @latest
        backup: String,
        /// Only what stands at or below this path, such as data/base
        #[arg(long, value_name = "PREFIX")]
        path: Option<String>,
    },
    /// One file's bytes on stdout, such as meta/backup_manifest
    Cat {
        /// Name, id or attempt of a backup, or @latest
        backup: String,
        /// The whole path of a file, as `files` shows it
        path: String,
    },
    /// Write a backup into a directory that the database can start from
    Extract(ExtractOptions),
    /// Look at every stored byte; names what is damaged and which backups it touches
    Check {
        /// One backup; without it, all
        backup: Option<String>,
        #[arg(long, value_enum, default_value = "decode")]
        level: CheckLevel,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CheckLevel {
    /// Every object is there with its size
    Presence,
    /// And has the bytes that were written
    Digest,
    /// And every chunk decodes to what was backed up
    Decode,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The same command again goes on after any interruption. Nothing that exists is overwritten."
)]
pub(crate) struct ExtractOptions {
    /// Name, id or attempt of a backup, or @latest
    pub(crate) backup: String,
    /// Absent or empty; becomes the data directory
    #[arg(long, value_name = "DIR")]
    pub(crate) target: PathBuf,
    /// Where a tablespace goes: its oid or its path at the source, and a new absolute path
    #[arg(long, value_name = "ID=DIR", alias = "tablespace-map", value_parser = parse_mapping)]
    pub(crate) tablespace: Vec<(String, PathBuf)>,
    /// Threads that read, decode and write; as many as processors when not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) threads: Option<u8>,
    /// Only what stands at or below this path, such as data/base/5; such a directory is not made startable
    #[arg(long, value_name = "PREFIX")]
    pub(crate) path: Option<String>,
    /// Write what can be read of a damaged backup and list what cannot; exit code 5 all the same
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// Also take a backup that was deleted, as long as its data is still there
    #[arg(long)]
    pub(crate) forgotten: bool,
}

/// Split at the first `=` that is followed by an absolute path: a source path may hold one itself.
fn parse_mapping(text: &str) -> Result<(String, PathBuf), String> {
    let at = text.find("=/").filter(|at| *at > 0);
    let at = at.ok_or("give ID=DIR, ID an oid or a path at the source, DIR an absolute path")?;
    Ok((text[..at].to_owned(), PathBuf::from(&text[at + 1..])))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_definition_holds_together() {
        super::Cli::command().debug_assert();
    }
}
