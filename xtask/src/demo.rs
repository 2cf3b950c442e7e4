//! `cargo xtask demo`: from nothing to a restored and compared database, every command shown.
//!
//! Everything lives in one scratch folder: the database, the service, the restored copy. All of
//! it is stopped and removed at the end, also after Ctrl-C or a failure.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use tempfile::TempDir;

use crate::cluster;
use crate::database::{Database, Digests, Engine};
use crate::http::{Answer, Client};
use crate::room::{self, Room};
use crate::{interrupt, process, say};

const BACKUP_TIMEOUT: Duration = Duration::from_hours(1);
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
const MIB: u64 = 1 << 20;

#[derive(Args)]
pub(crate) struct Options {
    /// Which database
    #[arg(long, value_enum, default_value = "postgresql")]
    engine: Engine,
    /// Size of the database in gigabytes
    #[arg(long, default_value_t = 1.0, value_parser = parse_gb)]
    gb: f64,
}

pub(crate) fn parse_gb(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(gb) if (0.01..=1000.0).contains(&gb) => Ok(gb),
        _ => Err("a number of gigabytes between 0.01 and 1000".to_owned()),
    }
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    interrupt::listen()?;
    options.engine.ensure()?;
    say::step("Building strongroom (release; minutes the first time, seconds afterwards)");
    let program = room::build()?;
    let outcome = show(options, program);
    // A program that Ctrl-C ended reports its own failure; the wish behind it is the better story.
    interrupt::check()?;
    outcome
}

fn show(options: &Options, program: PathBuf) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut stage = Stage::set(program, options.engine)?;
    stage.make_database(options.gb)?;
    stage.serve()?;
    stage.register()?;
    let job = stage.ask_for_a_backup()?;
    stage.wait_for(&job)?;
    stage.back_up_one_percent()?;
    stage.list()?;
    let before = stage.wreck()?;
    stage.restore()?;
    stage.compare(&before)?;
    let seconds = begun.elapsed().as_secs();
    drop(stage);
    say::note(format_args!(
        "\nDone in {seconds} s; the servers are stopped and the scratch folder is removed."
    ));
    say::note(NEXT.replace("ENGINE", options.engine.word()));
    Ok(())
}

const NEXT: &str = "
With a database of yours:
  $ target/release/strongroom serve
  $ target/release/strongroom instance add NAME --engine ENGINE --host HOST --port PORT --user USER --password-file FILE
  $ target/release/strongroom backup create NAME --name first --wait
  $ target/release/strongroom restore first --to-dir ./restored --plan
docs/guides/first-backup.md tells it in detail, docs/guides/restore-at-3am.md is for the bad night.";

/// Everything the demonstration holds; dropped from the top: servers first, the folder last.
struct Stage {
    room: Option<Room>,
    shop: Option<Box<dyn Database>>,
    program: PathBuf,
    engine: Engine,
    steps: u32,
    scratch: TempDir,
}

impl Stage {
    fn set(program: PathBuf, engine: Engine) -> anyhow::Result<Self> {
        let scratch = tempfile::Builder::new().prefix("strongroom-demo-").tempdir()?;
        Ok(Self { room: None, shop: None, program, engine, steps: 0, scratch })
    }

    fn room(&self) -> &Room {
        self.room.as_ref().expect("the service was started before")
    }

    fn shop(&self) -> &dyn Database {
        self.shop.as_deref().expect("the database was made before")
    }

    fn restored_dir(&self) -> PathBuf {
        self.scratch.path().join("restored")
    }

    fn step(&mut self, title: &str) -> anyhow::Result<Instant> {
        interrupt::check()?;
        self.steps += 1;
        say::step(format_args!("{}. {title}", self.steps));
        Ok(Instant::now())
    }

    fn make_database(&mut self, gb: f64) -> anyhow::Result<()> {
        let begun = self.step(&format!("A database of its own, with about {gb} GB of a shop's orders"))?;
        let mut shop = self.engine.open()?;
        shop.fill(gb)?;
        say::note(format_args!("   {}, port {}, {} MiB", shop.version()?, shop.port(), shop.bytes()? / MIB));
        self.shop = Some(shop);
        done(begun);
        Ok(())
    }

    fn serve(&mut self) -> anyhow::Result<()> {
        let begun = self.step("The backup service, with nothing configured")?;
        let data_dir = self.scratch.path().join("strongroom-data");
        show_command(&room::serve_command(&self.program, &data_dir));
        let room = Room::start(&self.program, &data_dir)?;
        say::note(format_args!("   listening on {}", room.endpoint));
        self.room = Some(room);
        done(begun);
        Ok(())
    }

    fn register(&mut self) -> anyhow::Result<()> {
        let begun = self.step("Tell it about the database")?;
        let password = self.scratch.path().join("password");
        fs::write(&password, cluster::PASSWORD)?;
        let port = self.shop().port().to_string();
        let engine = self.engine.word();
        let arguments =
            ["instance", "add", "shop", "--engine", engine, "--host", "127.0.0.1", "--port", &port];
        let mut command = self.room().command(&arguments);
        command.args(["--user", cluster::ROLE, "--password-file"]).arg(&password);
        run_shown(&mut command)?;
        done(begun);
        Ok(())
    }

    /// The request of the published API, sent by hand; answers the id of the job.
    fn ask_for_a_backup(&mut self) -> anyhow::Result<String> {
        let begun = self.step("Ask for a backup with the request of the RDS API")?;
        let instances = output_of(&mut self.room().command(&["instance", "list", "--output", "json"]))?;
        let node =
            instances["instances"][0]["primary_node_id"].as_str().context("the instance has a node")?;
        let path = format!("/rds/v1/{}/backups", self.room().project_id);
        let body = serde_json::json!({
            "backup": {"name": "first", "instance": node, "description": "before anything happens"}
        });
        let mut client = self.room().client()?;
        let answer = exchange(&mut client, "POST", &path, &body.to_string())?;
        let answer: Value = serde_json::from_str(&answer.body)?;
        done(begun);
        let job = answer["extendparam"]["jobs"][0].as_str().context("the answer names the job")?;
        Ok(job.to_owned())
    }

    /// Follows the job with a bar; lines when stderr is no terminal.
    fn wait_for(&mut self, job: &str) -> anyhow::Result<()> {
        let begun = self.step("Wait until it is sealed and read back")?;
        let path = format!("/strongroom/v1/jobs/{job}");
        say::note(format_args!("   GET {path}, again and again"));
        let mut client = self.room().client()?;
        let bar = ProgressBar::new(0);
        bar.set_style(ProgressStyle::with_template(
            "   {msg} [{bar:30}] {bytes} of {total_bytes}  {bytes_per_sec}",
        )?);
        let ended = interrupt::wait_for("the backup", BACKUP_TIMEOUT, LOOK_INTERVAL, || {
            let view = client.json("GET", &path, "")?;
            let progress = &view["progress"];
            bar.set_message(progress["phase"].as_str().unwrap_or_default().to_owned());
            bar.set_length(progress["total_bytes"].as_u64().unwrap_or(0));
            bar.set_position(progress["done_bytes"].as_u64().unwrap_or(0));
            let is_over = matches!(view["state"].as_str(), Some("succeeded" | "failed" | "cancelled"));
            Ok(is_over.then_some(view))
        })?;
        bar.finish_and_clear();
        if ended["state"] != "succeeded" {
            bail!("the backup ended {}: {}", ended["state"], ended["failure"]);
        }
        self.say_cost("first")?;
        done(begun);
        Ok(())
    }

    fn back_up_one_percent(&mut self) -> anyhow::Result<()> {
        let begun = self.step("Change 1 % of the orders, at random, and back up again")?;
        self.shop().change_one_percent()?;
        run_shown(&mut self.room().command(&["backup", "create", "shop", "--name", "second", "--wait"]))?;
        self.say_cost("second")?;
        done(begun);
        Ok(())
    }

    fn say_cost(&self, backup: &str) -> anyhow::Result<()> {
        let view = output_of(&mut self.room().command(&["backup", "show", backup, "--output", "json"]))?;
        let bytes = |name: &str| view[name].as_u64().with_context(|| format!("backup show has no {name}"));
        let (source, stored) = (bytes("source_bytes")?, bytes("stored_bytes")?);
        let tenths = stored * 1000 / source.max(1);
        say::note(format_args!(
            "   `{backup}`: {} MiB to restore, {} MiB added to the repository: {}.{} %",
            source / MIB,
            stored / MIB,
            tenths / 10,
            tenths % 10
        ));
        Ok(())
    }

    fn list(&mut self) -> anyhow::Result<()> {
        let begun = self.step("What a client of the API sees now")?;
        let path = format!("/rds/v1/{}/backups", self.room().project_id);
        exchange(&mut self.room().client()?, "GET", &path, "")?;
        done(begun);
        Ok(())
    }

    /// Answers what the tables held the moment before.
    fn wreck(&mut self) -> anyhow::Result<Digests> {
        let begun = self.step("A bad day: the server is killed and its data directory deleted")?;
        let shop = self.shop.as_mut().expect("the database was made before");
        let before = shop.digests()?;
        let data_dir = shop.data_dir();
        say::note(format_args!("   $ kill -9 {}", shop.pid().unwrap_or_default()));
        shop.kill9()?;
        say::note(format_args!("   $ rm -rf {}", data_dir.display()));
        fs::remove_dir_all(&data_dir).context("deleting the data directory")?;
        done(begun);
        Ok(before)
    }

    fn restore(&mut self) -> anyhow::Result<()> {
        let begun = self.step("Restore")?;
        let mut command = self.room().command(&["restore", "second", "--to-dir"]);
        command.arg(self.restored_dir());
        run_shown(&mut command)?;
        done(begun);
        Ok(())
    }

    fn compare(&mut self, before: &Digests) -> anyhow::Result<()> {
        let begun = self.step("Start the restored server and compare every table")?;
        let after = self.shop().digests_in(&self.restored_dir())?;
        for (table, digest) in before {
            let verdict = if after.get(table) == Some(digest) { "equal" } else { "DIFFERENT" };
            say::note(format_args!("   {table:<10} {digest:<50} {verdict}"));
        }
        if after != *before {
            bail!("the restored database differs from the one that was lost");
        }
        done(begun);
        Ok(())
    }
}

/// Sends a request and shows it and its answer as they are on the wire, but for the token.
fn exchange(client: &mut Client, method: &str, path: &str, body: &str) -> anyhow::Result<Answer> {
    let answer = client.send(method, path, body)?;
    let sent = client.request_text(method, path, body).replace("\r\n", "\n");
    for line in sent.trim_end().lines() {
        say::note(format_args!("   > {line}"));
    }
    let pretty = serde_json::from_str::<Value>(&answer.body)
        .and_then(|value| serde_json::to_string_pretty(&value))
        .unwrap_or_else(|_| answer.body.clone());
    for line in answer.head.lines().chain([""]).chain(pretty.lines()) {
        say::note(format_args!("   < {line}"));
    }
    if answer.status != 200 {
        bail!("{method} {path} was answered {}", answer.status);
    }
    Ok(answer)
}

fn show_command(command: &Command) {
    say::note(format_args!("   $ {}", process::line(command)));
}

/// Runs a client command with its own words on the terminal.
fn run_shown(command: &mut Command) -> anyhow::Result<()> {
    show_command(command);
    process::run(command)
}

/// Runs a client command and answers its JSON.
fn output_of(command: &mut Command) -> anyhow::Result<Value> {
    let text = process::output(command.stderr(Stdio::inherit()))?;
    serde_json::from_str(&text).with_context(|| format!("`{}` printed no JSON", process::line(command)))
}

fn done(begun: Instant) {
    say::note(format_args!("   ({:.1} s)", begun.elapsed().as_secs_f64()));
}
