//! The commands, a file for each noun. They speak HTTP to the server and decide nothing.

pub(crate) mod access_key;
pub(crate) mod backup;
mod doctor;
mod follow;
pub(crate) mod instance;
pub(crate) mod job;
mod password;
pub(crate) mod policy;
pub(crate) mod project;
pub(crate) mod repository;
pub(crate) mod restore;
mod sweep;
pub(crate) mod token;
pub(crate) mod user;

use clap::CommandFactory;
use serde::Deserialize;
use strongroom_api::native::wire::RecoveryKitView;
use tokio::runtime::Runtime;

use crate::cli::{Cli, Command, ConfigVerb, KitVerb};
use crate::client::Client;
use crate::config::Config;
use crate::exit::{Exit, Outcome, Stop};
use crate::output::{self, Format, Table};
use crate::{explain, serve};

/// What every client command has.
pub(crate) struct Desk {
    pub(crate) client: Client,
    pub(crate) format: Format,
    pub(crate) runtime: Runtime,
}

impl Desk {
    fn is_json(&self) -> bool {
        self.format == Format::Json
    }
}

/// The empty object that the API answers when there is nothing to tell.
#[derive(Debug, Deserialize)]
struct Nothing {}

/// Runs one command to its end.
pub(crate) fn run(cli: &Cli) -> Outcome<Exit> {
    let format = cli.output;
    let desk = |options| -> Outcome<Desk> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| Stop::new(Exit::Failed, format!("the runtime does not start: {error}")))?;
        Ok(Desk { client: Client::open(options)?, format, runtime })
    };
    match &cli.command {
        Command::Serve(options) => serve::run(&options.in_data_dir(&cli.client)).map(|()| Exit::Done),
        Command::Worker(options) => serve::run_worker(&options.in_data_dir(&cli.client)).map(|()| Exit::Done),
        Command::Config(ConfigVerb::Check(options)) => {
            config_check(&Config::load(&options.in_data_dir(&cli.client))?, format);
            Ok(Exit::Done)
        }
        Command::Explain { code } => explain::run(code.as_deref(), format),
        Command::Completions { shell } => {
            let mut command = Cli::command();
            clap_complete::generate(*shell, &mut command, "strongroom", &mut std::io::stdout());
            Ok(Exit::Done)
        }
        Command::Doctor => doctor::run(&cli.client, desk),
        Command::Instance(verb) => instance::run(verb, &desk(&cli.client)?),
        Command::Backup(verb) => backup::run(verb, &desk(&cli.client)?),
        Command::Restore(options) => restore::run(options, &desk(&cli.client)?),
        Command::Job(verb) => job::run(verb, &desk(&cli.client)?),
        Command::Policy(verb) => policy::run(verb, &desk(&cli.client)?),
        Command::Repository(verb) => repository::run(verb, &desk(&cli.client)?),
        Command::Project(verb) => project::run(verb, &desk(&cli.client)?),
        Command::User(verb) => user::run(verb, &desk(&cli.client)?),
        Command::Token(verb) => token::run(verb, &desk(&cli.client)?),
        Command::AccessKey(verb) => access_key::run(verb, &desk(&cli.client)?),
        Command::RecoveryKit(KitVerb::Print) => recovery_kit(&desk(&cli.client)?),
    }
}

fn recovery_kit(desk: &Desk) -> Outcome<Exit> {
    let kit: RecoveryKitView = desk.runtime.block_on(desk.client.get(&["recovery-kit"]))?;
    if desk.is_json() {
        output::json(&kit);
    } else {
        output::data(kit.text.trim_end());
    }
    Ok(Exit::Done)
}

fn config_check(config: &Config, format: Format) {
    if format == Format::Json {
        let settings = config.listing.iter().map(|(key, value, origin)| {
            serde_json::json!({ "key": key, "value": value, "origin": origin.to_string() })
        });
        output::json(&serde_json::json!({ "schema": 1, "settings": settings.collect::<Vec<_>>() }));
        return;
    }
    let mut table = Table::new(&["SETTING", "VALUE", "FROM"]);
    for (key, value, origin) in &config.listing {
        table.row([(*key).to_owned(), value.clone(), origin.to_string()]);
    }
    table.print("");
}
