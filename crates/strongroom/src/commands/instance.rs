//! `strongroom instance …`

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use reqwest::StatusCode;
use strongroom_api::native::wire::{
    CheckLineView, CheckView, InstanceAdded, InstanceList, InstanceRequest, InstanceView, LogRequest, LogView,
};

use super::password::PasswordOptions;
use super::{Desk, Nothing};
use crate::exit::{Exit, Outcome, Stop};
use crate::output::{self, Table};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Check a database and register it; nothing is saved until everything is there
    Add(AddOptions),
    /// All that are registered
    List,
    /// One, by id, node id or name
    Show { instance: String },
    /// Look again whether it can be backed up
    Check { instance: String },
    /// Retire it; its backups stay
    Remove { instance: String },
    /// Its log, captured as it is written: what is held, and whether it is captured
    Logs {
        instance: String,
        /// Switch the capture on or off
        #[arg(long, value_enum)]
        capture: Option<Switch>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

#[derive(Debug, Args)]
pub(crate) struct AddOptions {
    /// 4 to 64 letters, digits, - and _, a letter first
    name: String,
    #[arg(long, value_enum)]
    engine: EngineWord,
    #[arg(long)]
    host: String,
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// The role that takes the backups
    #[arg(long)]
    user: String,
    #[command(flatten)]
    password: PasswordOptions,
    #[arg(long, value_enum, default_value = "require")]
    tls: TlsWord,
    /// PEM certificates to trust for verify-full, instead of the system's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Answer an MD5 challenge; a weak scheme, only for servers that know no other
    #[arg(long)]
    allow_md5: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum EngineWord {
    Postgresql,
    Mysql,
    Sqlserver,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum TlsWord {
    Disable,
    Require,
    VerifyFull,
}

pub(crate) fn run(verb: &Verb, desk: &Desk) -> Outcome<Exit> {
    match verb {
        Verb::Add(options) => add(options, desk),
        Verb::List => list(desk),
        Verb::Show { instance } => {
            let found: InstanceView = desk.runtime.block_on(desk.client.get(&["instances", instance]))?;
            show(&found, desk);
            Ok(Exit::Done)
        }
        Verb::Check { instance } => check(instance, desk),
        Verb::Logs { instance, capture } => logs(instance, *capture, desk),
        Verb::Remove { instance } => {
            let _: Nothing = desk.runtime.block_on(desk.client.delete(&["instances", instance]))?;
            output::note(format_args!("removed {instance}; its backups stay listed and restorable"));
            Ok(Exit::Done)
        }
    }
}

fn add(options: &AddOptions, desk: &Desk) -> Outcome<Exit> {
    let ca_pem = options.ca_file.as_ref().map(|path| read(path, "ca-file")).transpose()?;
    let request = InstanceRequest {
        name: options.name.clone(),
        engine: match options.engine {
            EngineWord::Postgresql => "postgresql",
            EngineWord::Mysql => "mysql",
            EngineWord::Sqlserver => "sqlserver",
        }
        .to_owned(),
        host: options.host.clone(),
        port: options.port,
        user: options.user.clone(),
        password: options.password.read(&options.user)?,
        tls: Some(
            match options.tls {
                TlsWord::Disable => "disable",
                TlsWord::Require => "require",
                TlsWord::VerifyFull => "verify-full",
            }
            .to_owned(),
        ),
        ca_pem,
        allow_md5: options.allow_md5,
    };
    let sent = desk.client.post_or(&["instances"], &request, StatusCode::UNPROCESSABLE_ENTITY);
    let added: InstanceAdded = desk.runtime.block_on(sent)?;
    output::note(format_args!("{} at {}:{}", options.engine.word(), options.host, options.port));
    say_lines(&added.check.lines);
    match added.instance {
        Some(instance) => {
            show(&instance, desk);
            output::next(format_args!("strongroom backup create {} --name first --wait", instance.name));
            Ok(Exit::Done)
        }
        None => Err(Stop::new(Exit::Refused, "the database cannot be backed up yet; nothing was saved")
            .with_hint("do what the lines above say, then run the same command again")),
    }
}

impl EngineWord {
    const fn word(self) -> &'static str {
        match self {
            Self::Postgresql => "PostgreSQL",
            Self::Mysql => "MySQL",
            Self::Sqlserver => "SQL Server",
        }
    }
}

fn read(path: &PathBuf, option: &str) -> Outcome<String> {
    std::fs::read_to_string(path)
        .map_err(|error| Stop::usage(format!("{option}: {} cannot be read: {error}", path.display())))
}

/// What / found, and the next step for what is missing.
pub(super) fn say_lines(lines: &[CheckLineView]) {
    for line in lines {
        let mark = match line.state.as_str() {
            "ok" => "ok",
            "warning" => "WARNING",
            _ => "MISSING",
        };
        output::note(format_args!("  {:.<28} {mark:<8} {}", format!("{} ", line.what), line.found));
        if line.state == "ok" {
            continue;
        }
        output::note(format_args!("      wanted: {}", line.wanted));
        for (word, text) in [("do:    ", &line.remedy), ("why:   ", &line.why)] {
            if let Some(text) = text {
                output::note(format_args!("      {word} {}", text.replace('\n', "\n              ")));
            }
        }
    }
}

fn list(desk: &Desk) -> Outcome<Exit> {
    let list: InstanceList = desk.runtime.block_on(desk.client.get(&["instances"]))?;
    if desk.is_json() {
        output::json(&list);
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["NAME", "STATUS", "ENGINE", "ADDRESS", "ID", "NODE ID"]);
    for instance in &list.instances {
        table.row([
            instance.name.clone(),
            instance.status.clone(),
            format!("{} {}", instance.engine, instance.version),
            format!("{}:{}", instance.host, instance.port),
            instance.id.clone(),
            instance.primary_node_id.clone(),
        ]);
    }
    table.print(
        "No instances yet. Register one:\n  strongroom instance add NAME --engine postgresql --host HOST \
         --port 5432 --user USER --password-file FILE",
    );
    Ok(Exit::Done)
}

fn show(instance: &InstanceView, desk: &Desk) {
    if desk.is_json() {
        return output::json(instance);
    }
    for (name, value) in [
        ("id", instance.id.as_str()),
        ("node id", &instance.primary_node_id),
        ("name", &instance.name),
        ("engine", &format!("{} {}", instance.engine, instance.version)),
        ("status", &instance.status),
        ("address", &format!("{}:{}", instance.host, instance.port)),
        ("user", &instance.user),
        ("tls", &instance.tls),
        ("created", &output::moment(&instance.created)),
    ] {
        output::data(format_args!("{name:<10} {value}"));
    }
}

fn check(instance: &str, desk: &Desk) -> Outcome<Exit> {
    let found: CheckView =
        desk.runtime.block_on(desk.client.post(&["instances", instance, "check"], &serde_json::json!({})))?;
    if desk.is_json() {
        output::json(&found);
    } else {
        say_lines(&found.lines);
    }
    if found.passed {
        return Ok(Exit::Done);
    }
    Err(Stop::new(Exit::Refused, "the instance cannot be backed up now")
        .with_hint("do what the lines marked MISSING say, then check again"))
}

fn logs(instance: &str, capture: Option<Switch>, desk: &Desk) -> Outcome<Exit> {
    let path = ["instances", instance, "logs"];
    let found: LogView = match capture {
        None => desk.runtime.block_on(desk.client.get(&path))?,
        Some(switch) => {
            let request = LogRequest { capture: switch == Switch::On };
            desk.runtime.block_on(desk.client.put(&path, &request))?
        }
    };
    if desk.is_json() {
        output::json(&found);
        return Ok(Exit::Done);
    }
    output::data(format_args!("{:<10} {}", "capture", found.state));
    if let Some(lag) = found.lag_s {
        let confirmed = found.confirmed.as_deref().map_or_else(|| "never".to_owned(), output::moment);
        output::data(format_args!("{:<10} {lag} s (all log was here at: {confirmed})", "lag"));
        let backup = if found.has_backup { "leads to this log" } else { "none leads to this log yet" };
        output::data(format_args!("{:<10} {backup}", "backup"));
    }
    for range in &found.ranges {
        let until = range.until_time.as_deref().map_or_else(|| "not known".to_owned(), output::moment);
        output::data(format_args!(
            "{:<10} {} {}+{} to {}+{}, until {until}",
            "range", range.stream, range.from.file, range.from.offset, range.until.file, range.until.offset
        ));
    }
    if let Some(failure) = &found.failure {
        output::note(format_args!("  failed: {failure}"));
        if let Some(hint) = &found.hint {
            output::note(format_args!("  do:     {hint}"));
        }
    }
    Ok(Exit::Done)
}
