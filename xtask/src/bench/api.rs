//! `bench api`: how fast requests are answered, with few and with many backups in the catalog.
//!
//! Every create is durable before it is answered. The source of the benchmark's instances is a
//! listener that never answers, so that the worker stays quiet and the API is what is measured.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Deserialize;

use super::{ApiOptions, machine, page};
use crate::http::Client;
use crate::room::{self, Room};
use crate::{interrupt, process, say, workspace};

/// (backups in the whole catalog, projects they are spread over)
const SCENES: [(u32, u32); 2] = [(10, 1), (100_000, 1_000)];
/// One backup at a time is allowed on an instance, so this many creates are measured at most.
const INSTANCES: u32 = 3_000;

/// What was put into the catalog before the server started again.
#[derive(Deserialize)]
struct Populated {
    nodes: Vec<String>,
    job: String,
}

/// The latencies of one kind of request.
struct Series {
    name: &'static str,
    latencies: Vec<Duration>,
    elapsed: Duration,
}

pub(crate) fn run(options: &ApiOptions) -> anyhow::Result<()> {
    say::step("building (release)");
    let program = room::build()?;
    let mut text = format!(
        "{}. {} clients at once, {} s each; a create is on disk before it is answered.\n\n",
        machine::describe(),
        options.clients,
        options.seconds
    );
    text += "| Backups in the catalog | Projects | Request | Per second | Median ms | 99 % below ms |\n";
    text += "|---:|---:|---|---:|---:|---:|\n";
    for (backups, projects) in SCENES {
        say::step(format_args!("{backups} backups in {projects} projects"));
        for series in measure(options, &program, backups, projects)? {
            let row = series.row(backups, projects);
            say::note(row.trim_end());
            text += &row;
        }
    }
    page::publish(&text, options.write.then_some("api"))
}

fn measure(options: &ApiOptions, program: &Path, backups: u32, projects: u32) -> anyhow::Result<Vec<Series>> {
    let scratch = tempfile::Builder::new().prefix("strongroom-bench-").tempdir()?;
    let data_dir = scratch.path().join("data");
    let silent = TcpListener::bind("127.0.0.1:0").context("a port that accepts and says nothing")?;
    let first = Room::start(program, &data_dir)?;
    let project_id = first.project_id.clone();
    first.stop()?;
    let populated = populate(&data_dir, &project_id, silent.local_addr()?.port(), backups, projects)?;
    let room = Room::start(program, &data_dir)?;

    let backups_path = format!("/rds/v1/{project_id}/backups");
    let status_path = format!("/rds/v1/{project_id}/jobs/{}", populated.job);
    let status = load("status of a job", options, &room, |client, _| {
        client.json("GET", &status_path, "").map(|_| true)
    })?;
    let list = load("list", options, &room, |client, _| client.json("GET", &backups_path, "").map(|_| true))?;
    let create = load("create", options, &room, |client, number| {
        let Some(node) = populated.nodes.get(number) else { return Ok(false) };
        let body = serde_json::json!({"backup": {"name": format!("bench-{number}"), "instance": node}});
        client.json("POST", &backups_path, &body.to_string()).map(|_| true)
    })?;
    room.stop()?;
    Ok(vec![create, list, status])
}

/// Fills the catalog file through the catalog's own code, while no server runs.
fn populate(
    data_dir: &Path,
    project_id: &str,
    port: u16,
    backups: u32,
    projects: u32,
) -> anyhow::Result<Populated> {
    say::note("filling the catalog");
    let mut cargo = workspace::cargo();
    cargo
        .args([
            "run",
            "--release",
            "--locked",
            "--quiet",
            "--package",
            "strongroom-catalog",
            "--example",
            "populate",
            "--",
        ])
        .arg(data_dir.join("catalog.sqlite"))
        .arg(data_dir.join("recovery.key"))
        .arg(project_id)
        .arg(port.to_string())
        .args([backups, projects, INSTANCES].map(|number| number.to_string()));
    let text = process::output(&mut cargo)?;
    fs::write(data_dir.with_extension("populated.json"), &text)?;
    serde_json::from_str(&text).context("what was put into the catalog")
}

/// All clients at once for the given time, or until `request` says that there is no more to ask.
fn load(
    name: &'static str,
    options: &ApiOptions,
    room: &Room,
    request: impl Fn(&mut Client, usize) -> anyhow::Result<bool> + Sync,
) -> anyhow::Result<Series> {
    let number = AtomicUsize::new(0);
    let begun = Instant::now();
    let deadline = begun + Duration::from_secs(options.seconds);
    let client_loop = || -> anyhow::Result<Vec<Duration>> {
        let mut client = room.client()?;
        let mut latencies = Vec::new();
        while Instant::now() < deadline {
            interrupt::check()?;
            let asked = Instant::now();
            if !request(&mut client, number.fetch_add(1, Ordering::Relaxed))? {
                break;
            }
            latencies.push(asked.elapsed());
        }
        Ok(latencies)
    };
    let results = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..options.clients).map(|_| scope.spawn(client_loop)).collect();
        clients.into_iter().map(|client| client.join().expect("clients report errors")).collect::<Vec<_>>()
    });
    let elapsed = begun.elapsed();
    let mut latencies = Vec::new();
    for result in results {
        latencies.extend(result?);
    }
    latencies.sort_unstable();
    Ok(Series { name, latencies, elapsed })
}

impl Series {
    fn row(&self, backups: u32, projects: u32) -> String {
        let mut row = String::new();
        let _ = writeln!(
            row,
            "| {backups} | {projects} | {} | {:.0} | {:.2} | {:.2} |",
            self.name,
            count(self.latencies.len()) / self.elapsed.as_secs_f64(),
            self.quantile_ms(50),
            self.quantile_ms(99)
        );
        row
    }

    fn quantile_ms(&self, percent: usize) -> f64 {
        let index = (self.latencies.len() * percent / 100).min(self.latencies.len().saturating_sub(1));
        self.latencies.get(index).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of requests, shown without digits behind the point")]
fn count(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_taken_from_the_sorted_latencies() {
        let latencies = (1..=100).map(Duration::from_millis).collect();
        let series = Series { name: "x", latencies, elapsed: Duration::from_secs(2) };
        assert_eq!(series.row(10, 1), "| 10 | 1 | x | 50 | 51.00 | 100.00 |\n");
    }
}
