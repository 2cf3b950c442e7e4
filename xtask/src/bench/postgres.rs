//! `bench postgres`: our backups and restores beside the tools that come with the database.
//!
//! One data set, one machine, one run: `pg_basebackup` with its output thrown away is the floor
//! (what the server alone needs), `pg_basebackup` into a zstd archive is what people do today,
//! `cp -a` with a sync is the floor of a restore.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use strongroom_testkit::postgres::PostgresServer;
use tempfile::TempDir;

use super::meter::{self, Cost};
use super::{PostgresOptions, machine, page};
use crate::cluster::{self, Shop, Text};
use crate::http::Client;
use crate::room::{self, Room};
use crate::{interrupt, say};

const JOB_TIMEOUT: Duration = Duration::from_hours(4);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
const MIB: f64 = 1_048_576.0;

/// What is compared, in the order of the table; the first of each operation is the floor.
const OPERATIONS: [(&str, &[&str]); 3] = [
    ("first backup", &["pg_basebackup to nothing", "pg_basebackup, tar, zstd level 1", "strongroom"]),
    (
        "backup after 1 % of the rows changed",
        &["pg_basebackup to nothing", "pg_basebackup, tar, zstd level 1", "strongroom"],
    ),
    ("restore", &["cp -a and sync", "tar, zstd and sync", "strongroom"]),
];

pub(crate) fn run(options: &PostgresOptions) -> anyhow::Result<()> {
    let version = cluster::installed_version()?;
    say::step("building (release)");
    let program = room::build()?;
    let scratch = tempfile::Builder::new().prefix("strongroom-bench-").tempdir()?;
    let mut bench = Bench { program, scratch, rows: Vec::new(), source_bytes: 0 };
    for run in 1..=options.runs {
        say::step(format_args!("run {run} of {}", options.runs));
        bench.measure(version, options)?;
    }
    let section = bench.section(version, options.runs);
    let name = match options.text {
        Text::Digests => "postgres",
        Text::Blank => "postgres-blank",
    };
    page::publish(name, &section, options.write)
}

struct Bench {
    program: PathBuf,
    scratch: TempDir,
    /// (operation, tool, cost), one for each run
    rows: Vec<(usize, usize, Cost)>,
    source_bytes: u64,
}

impl Bench {
    /// One complete run with a fresh database and a fresh repository.
    fn measure(&mut self, version: u32, options: &PostgresOptions) -> anyhow::Result<()> {
        let mut shop = Shop::open(version, &cluster::options(false))?;
        say::note("filling the database");
        shop.fill(options.gb, options.text)?;
        let data_dir = self.scratch.path().join("data");
        let room = Room::start(&self.program, &data_dir)?;
        self.register(&room, &shop)?;
        self.backups(0, "first", &room, &shop)?;
        shop.change_one_percent()?;
        self.backups(1, "second", &room, &shop)?;
        self.restores(&room, &shop)?;
        room.stop()?;
        fs::remove_dir_all(&data_dir)?;
        Ok(())
    }

    fn keep(&mut self, operation: usize, tool: usize, cost: Cost) {
        let (name, tools) = OPERATIONS[operation];
        say::note(format_args!(
            "{name}, {}: {:.2} s, cpu {:.2} s + server {:.2} s, peak {:.0} MiB, stored {:.1} MiB",
            tools[tool],
            cost.wall_s,
            cost.tool_cpu_s,
            cost.server_cpu_s,
            bytes(cost.peak_bytes) / MIB,
            bytes(cost.stored_bytes) / MIB
        ));
        self.rows.push((operation, tool, cost));
    }

    fn register(&self, room: &Room, shop: &Shop) -> anyhow::Result<()> {
        let password = self.scratch.path().join("password");
        fs::write(&password, cluster::PASSWORD)?;
        let port = shop.server.port().to_string();
        let arguments =
            ["instance", "add", "shop", "--engine", "postgresql", "--host", "127.0.0.1", "--port", &port];
        let mut command = room.command(&arguments);
        command.args(["--user", cluster::ROLE, "--tls", "disable", "--password-file"]).arg(&password);
        meter::command(&mut command, None).context("registering the database").map(drop)
    }

    fn backups(&mut self, operation: usize, name: &str, room: &Room, shop: &Shop) -> anyhow::Result<()> {
        let postmaster = shop.server.pid().context("the server runs")?;
        // Once unmeasured, so that nobody is the one who warms the page cache.
        meter::command(&mut base_backup(&shop.server, &["-D", "-"]), None)?;
        let nothing = meter::command(&mut base_backup(&shop.server, &["-D", "-"]), Some(postmaster))?;
        self.keep(operation, 0, nothing);

        let archive = shop.server.make_folder(&format!("archive-{name}"))?;
        let place = archive.to_string_lossy().into_owned();
        let arguments = ["-D", &place, "--compress=client-zstd:1"];
        let mut tar = meter::command(&mut base_backup(&shop.server, &arguments), Some(postmaster))?;
        tar.stored_bytes = room::folder_bytes(&archive)?;
        self.keep(operation, 1, tar);

        let ours = back_up(room, postmaster, name)?;
        self.keep(operation, 2, ours);
        Ok(())
    }

    fn restores(&mut self, room: &Room, shop: &Shop) -> anyhow::Result<()> {
        let target = self.scratch.path().join("restored");
        meter::forget_peak(room.pid())?;
        let cpu_before = meter::tree_cpu_s(room.pid())?;
        let mut command = room.command(&["restore", "second", "--progress", "none", "--to-dir"]);
        let mut ours = meter::command(command.arg(&target), None)?;
        ours.tool_cpu_s += meter::tree_cpu_s(room.pid())? - cpu_before;
        ours.peak_bytes += meter::peak_bytes(room.pid())?;
        self.source_bytes = room::folder_bytes(&target)?;

        let copy = self.scratch.path().join("copy");
        let script = "cp -a \"$1\" \"$2\" && sync -f \"$2\"";
        let floor = meter::command(&mut shell(script, &target, &copy), None)?;
        let archive = shop.server.data_dir().with_file_name("archive-second").join("base.tar.zst");
        let unpacked = self.scratch.path().join("unpacked");
        let script = "mkdir \"$2\" && zstd -qdc \"$1\" | tar -x -C \"$2\" && sync -f \"$2\"";
        let tar = meter::command(&mut shell(script, &archive, &unpacked), None)?;

        self.keep(2, 0, floor);
        self.keep(2, 1, tar);
        self.keep(2, 2, ours);
        compare(shop, &target)?;
        for folder in [target, copy, unpacked] {
            fs::remove_dir_all(folder)?;
        }
        Ok(())
    }

    fn section(&self, version: u32, runs: u32) -> String {
        let mut text = format!(
            "PostgreSQL {version}, {:.0} MiB to restore, {}. Medians of {runs} runs; `×` is the ratio to the first line of each group.\n\n",
            bytes(self.source_bytes) / MIB,
            machine::describe()
        );
        text += "| Operation | Tool | Wall s | × | CPU tool s | CPU server s | Peak memory MiB | Stored MiB | % of data |\n";
        text += "|---|---|---:|---:|---:|---:|---:|---:|---:|\n";
        for (operation, (name, tools)) in OPERATIONS.iter().enumerate() {
            let floor = self.median(operation, 0);
            for (tool, tool_name) in tools.iter().enumerate() {
                let cost = self.median(operation, tool);
                let _ = writeln!(
                    text,
                    "| {name} | {tool_name} | {:.2} | {:.2} | {:.2} | {:.2} | {:.0} | {} | {} |",
                    cost.wall_s,
                    cost.wall_s / floor.wall_s,
                    cost.tool_cpu_s,
                    cost.server_cpu_s,
                    bytes(cost.peak_bytes) / MIB,
                    or_dash(cost.stored_bytes, bytes(cost.stored_bytes) / MIB),
                    or_dash(cost.stored_bytes, 100.0 * bytes(cost.stored_bytes) / bytes(self.source_bytes)),
                );
            }
        }
        text
    }

    fn median(&self, operation: usize, tool: usize) -> Cost {
        let costs: Vec<Cost> =
            self.rows.iter().filter(|row| (row.0, row.1) == (operation, tool)).map(|row| row.2).collect();
        let of = |value: fn(&Cost) -> f64| median(costs.iter().map(value).collect());
        let of_bytes = |value: fn(&Cost) -> u64| {
            let mut values: Vec<u64> = costs.iter().map(value).collect();
            values.sort_unstable();
            values.get(values.len() / 2).copied().unwrap_or(0)
        };
        Cost {
            wall_s: of(|cost| cost.wall_s),
            tool_cpu_s: of(|cost| cost.tool_cpu_s),
            server_cpu_s: of(|cost| cost.server_cpu_s),
            peak_bytes: of_bytes(|cost| cost.peak_bytes),
            stored_bytes: of_bytes(|cost| cost.stored_bytes),
        }
    }
}

/// A fast restore of something else would be no restore.
fn compare(shop: &Shop, target: &Path) -> anyhow::Result<()> {
    let before = cluster::digests(&shop.server)?;
    let restored = PostgresServer::adopt(shop.server.version(), target)?;
    if cluster::digests(&restored)? != before {
        bail!("the restored database differs");
    }
    Ok(())
}

/// The same way in as ours: TCP, the same role, no TLS.
fn base_backup(server: &PostgresServer, arguments: &[&str]) -> Command {
    let mut command = server.tool("pg_basebackup");
    command
        .env("PGHOST", "127.0.0.1")
        .env("PGUSER", cluster::ROLE)
        .env("PGPASSWORD", cluster::PASSWORD)
        .args(["--format=tar", "--wal-method=none", "--checkpoint=fast", "--no-manifest"])
        .args(arguments);
    command
}

fn shell(script: &str, from: &Path, to: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(from).arg(to);
    command
}

/// One backup through the API, from the request to COMPLETED.
fn back_up(room: &Room, postmaster: u32, name: &str) -> anyhow::Result<Cost> {
    let mut client = room.client()?;
    meter::forget_peak(room.pid())?;
    let (server_before, own_before) = (meter::tree_cpu_s(postmaster)?, meter::tree_cpu_s(room.pid())?);
    let begun = Instant::now();
    let request = serde_json::json!({"name": name, "instance": "shop"});
    let accepted = client.json("POST", "/strongroom/v1/backups", &request.to_string())?;
    let id = accepted["id"].as_str().context("the answer has an id")?;
    let view = interrupt::wait_for("the backup", JOB_TIMEOUT, LOOK_INTERVAL, || ended(&mut client, id))?;
    let wall_s = begun.elapsed().as_secs_f64();
    if view["status"] != "COMPLETED" {
        bail!("the backup ended {}: {}", view["status"], view["failure"]);
    }
    Ok(Cost {
        wall_s,
        tool_cpu_s: meter::tree_cpu_s(room.pid())? - own_before,
        server_cpu_s: meter::tree_cpu_s(postmaster)? - server_before,
        peak_bytes: meter::peak_bytes(room.pid())?,
        stored_bytes: view["stored_bytes"].as_u64().context("stored_bytes of a completed backup")?,
    })
}

fn ended(client: &mut Client, id: &str) -> anyhow::Result<Option<serde_json::Value>> {
    let view = client.json("GET", &format!("/strongroom/v1/backups/{id}"), "")?;
    Ok((view["status"] != "BUILDING").then_some(view))
}

fn or_dash(stored: u64, value: f64) -> String {
    if stored == 0 { "–".to_owned() } else { format!("{value:.1}") }
}

#[expect(clippy::cast_precision_loss, reason = "sizes shown with three digits")]
fn bytes(count: u64) -> f64 {
    count as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        length if length % 2 == 1 => values[length / 2],
        length => f64::midpoint(values[length / 2 - 1], values[length / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middles() {
        let of = |values: &[f64]| format!("{:.2}", median(values.to_vec()));
        assert_eq!([of(&[3.0, 1.0, 2.0]), of(&[4.0, 1.0]), of(&[])], ["2.00", "2.50", "0.00"]);
    }
}
