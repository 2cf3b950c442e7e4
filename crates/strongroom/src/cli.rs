//! What can be typed: one definition for parsing, help and completions.

use clap::{Parser, Subcommand};

use crate::client::ClientOptions;
use crate::commands::{access_key, backup, instance, job, policy, project, repository, restore, token, user};
use crate::config::{ServeOptions, WorkerOptions};
use crate::output::Format;

/// Backups of your databases, proven to restore.
#[derive(Debug, Parser)]
#[command(name = "strongroom", version, propagate_version = true, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 refused, 5 verification failed, \
                        6 unreachable, 7 wrong key.\nAt 3 a.m.: strongroom help restore"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) client: ClientOptions,
    /// How data is shown
    #[arg(long, value_enum, global = true, default_value = "table")]
    pub(crate) output: Format,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server: API, catalog and a worker, with nothing to configure
    Serve(ServeOptions),
    /// Run a worker alone, beside servers that share a catalog in PostgreSQL and a repository
    ///
    /// It does what they accept: backups, deletes, verifications, checks. Several may run at once, on
    /// one or on several machines. It needs the same --database-url and --repository as the servers
    /// and a copy of their recovery key, and a data directory of its own. Once it works it prints
    /// `working as ID`; SIGTERM makes it hand back what it cannot finish.
    Worker(WorkerOptions),
    /// Source databases: register, look at, remove
    #[command(subcommand)]
    Instance(instance::Verb),
    /// Backups: create, list, show, verify, delete
    #[command(subcommand)]
    Backup(backup::Verb),
    /// Write a backup into a directory that the database can start from
    Restore(restore::Options),
    /// Jobs: list, show, watch, cancel
    #[command(subcommand)]
    Job(job::Verb),
    /// When backups begin by themselves and how long they stay: show, set
    #[command(subcommand)]
    Policy(policy::Verb),
    /// The repository: check, stat, sweep, forget
    #[command(subcommand)]
    Repository(repository::Verb),
    /// Projects of the domain: create, list, delete
    #[command(subcommand)]
    Project(project::Verb),
    /// Users of the domain: create, list, delete, passwords, roles
    #[command(subcommand)]
    User(user::Verb),
    /// Tokens of the project: create, list, revoke
    #[command(subcommand)]
    Token(token::Verb),
    /// Access keys of the project, for clients that sign: create, list, delete
    #[command(subcommand)]
    AccessKey(access_key::Verb),
    /// The page that brings the data back when this server is gone
    #[command(subcommand)]
    RecoveryKit(KitVerb),
    /// Look at everything; each line says what was found and the next step
    Doctor,
    /// What a code of an error means and what to do
    Explain {
        /// Such as target_not_empty; without one, all are listed
        code: Option<String>,
    },
    /// The configuration of `serve`, checked
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Completions for a shell, on stdout
    Completions {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum KitVerb {
    /// Print it; keep it away from the repository and from this host
    Print,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// The effective values and where each comes from; opens nothing
    Check(ServeOptions),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_definition_holds_together() {
        super::Cli::command().debug_assert();
    }
}
