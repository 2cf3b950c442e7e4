//! `bench api`: how fast requests are answered, with few and with many backups in the catalog.
//!
//! Every create is durable before it is answered. The source of the benchmark's instances is a
//! listener that never answers, so that the worker stays quiet and the API is what is measured.

use std::fmt::Write as _;
use std::fs;
use std::io::{Seek, SeekFrom, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Deserialize;

use super::{ApiOptions, machine, meter, page};
use crate::http::Client;
use crate::room::{self, Room};
use crate::{interrupt, process, say, workspace};

/// (backups in the whole catalog, projects they are spread over)
const SCENES: [(u32, u32); 2] = [(10, 1), (100_000, 1_000)];
/// One backup at a time is allowed on an instance, so this many creates are measured at most.
const INSTANCES: u32 = 3_000;

const HEAD: &str = "| Backups in the catalog | Projects | Request | Per second | Median ms | 99 % below ms \
    | Server, µs each | Clients, µs each |\n";

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
    /// Processor time of the server and of the clients.
    server_cpu_s: f64,
    clients_cpu_s: f64,
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
    text += HEAD;
    text += "|---:|---:|---|---:|---:|---:|---:|---:|\n";
    let mut notes = String::new();
    for (backups, projects) in SCENES {
        say::step(format_args!("{backups} backups in {projects} projects"));
        let scene = measure(options, &program, backups, projects)?;
        for series in &scene.series {
            let row = series.row(backups, projects);
            say::note(row.trim_end());
            text += &row;
        }
        let note = scene.note(backups);
        say::note(note.trim_end());
        notes += &note;
    }
    page::publish(&format!("{text}\n{notes}"), options.write.then_some("api"))
}

/// What was measured with one catalog.
struct Scene {
    series: Vec<Series>,
    /// Of the server, at its greatest.
    peak_bytes: u64,
    creates_per_s: f64,
    bytes_per_create: u64,
    /// Writes of as many bytes as a create that the disk makes durable, one after another.
    syncs_per_s: f64,
}

fn measure(options: &ApiOptions, program: &Path, backups: u32, projects: u32) -> anyhow::Result<Scene> {
    let scratch = tempfile::Builder::new().prefix("strongroom-bench-").tempdir()?;
    let data_dir = scratch.path().join("data");
    let silent = TcpListener::bind("127.0.0.1:0").context("a port that accepts and says nothing")?;
    let first = Room::start(program, &data_dir)?;
    let project_id = first.project_id.clone();
    first.stop()?;
    let populated = populate(&data_dir, &project_id, silent.local_addr()?.port(), backups, projects)?;
    let room = Room::start(program, &data_dir)?;

    let job = &populated.job;
    let reads = [
        ("v1: status of a job", format!("/rds/v1/{project_id}/jobs/{job}")),
        ("v3: status of a job", format!("/v3/{project_id}/jobs?id={job}")),
        ("v1: list", format!("/rds/v1/{project_id}/backups")),
        ("v3: list", format!("/v3/{project_id}/backups?instance_id={project_id}in03&limit=100")),
    ];
    let mut series = Vec::new();
    for (name, path) in &reads {
        series.push(load(name, options, &room, |client, _| client.success("GET", path, "").map(|_| true))?);
    }
    let written_before = written_bytes(room.pid())?;
    let path = format!("/rds/v1/{project_id}/backups");
    let create = load("v1: create", options, &room, |client, number| {
        let Some(node) = populated.nodes.get(number) else { return Ok(false) };
        let body = serde_json::json!({"backup": {"name": format!("bench-{number}"), "instance": node}});
        client.success("POST", &path, &body.to_string()).map(|_| true)
    })?;
    let written = written_bytes(room.pid())? - written_before;
    let creates_per_s = create.per_second();
    let bytes_per_create = written / u64::try_from(create.latencies.len().max(1))?;
    series.push(create);
    let peak_bytes = meter::peak_bytes(room.pid())?;
    room.stop()?;
    let syncs_per_s = syncs_per_second(scratch.path(), bytes_per_create, options.seconds)?;
    Ok(Scene { series, peak_bytes, creates_per_s, bytes_per_create, syncs_per_s })
}

/// Bytes that a process gave to the disk.
fn written_bytes(pid: u32) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).context("what the server wrote")?;
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.context("no write_bytes")?.trim().parse().context("write_bytes is a number")
}

/// How often the disk makes a write of this size durable, one after another, over a file that has its
/// room already: what a database's log does.
fn syncs_per_second(folder: &Path, bytes: u64, seconds: u64) -> anyhow::Result<f64> {
    const WRITES_IN_FILE: u64 = 64;
    let piece = vec![7_u8; usize::try_from(bytes.max(1))?];
    let mut file = fs::File::create(folder.join("syncs"))?;
    for _ in 0..WRITES_IN_FILE {
        file.write_all(&piece)?;
    }
    file.sync_all()?;
    let (begun, mut syncs) = (Instant::now(), 0_u64);
    while begun.elapsed() < Duration::from_secs(seconds) {
        interrupt::check()?;
        file.seek(SeekFrom::Start(syncs % WRITES_IN_FILE * bytes))?;
        file.write_all(&piece)?;
        file.sync_data()?;
        syncs += 1;
    }
    Ok(count(usize::try_from(syncs)?) / begun.elapsed().as_secs_f64())
}

impl Scene {
    fn note(&self, backups: u32) -> String {
        format!(
            "With {backups} backups: a create writes {} KiB; alone, the disk makes {:.0} such writes durable \
             a second, so creates reach {:.0} % of that. The server's memory at its greatest: {} MiB.\n",
            self.bytes_per_create / 1024,
            self.syncs_per_s,
            100.0 * self.creates_per_s / self.syncs_per_s,
            self.peak_bytes / (1024 * 1024)
        )
    }
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
    let cpu = || Ok::<_, anyhow::Error>((meter::tree_cpu_s(room.pid())?, meter::own_cpu_s()?));
    let before = cpu()?;
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
    let after = cpu()?;
    let mut latencies = Vec::new();
    for result in results {
        latencies.extend(result?);
    }
    latencies.sort_unstable();
    Ok(Series {
        name,
        latencies,
        elapsed,
        server_cpu_s: after.0 - before.0,
        clients_cpu_s: after.1 - before.1,
    })
}

impl Series {
    fn per_second(&self) -> f64 {
        count(self.latencies.len()) / self.elapsed.as_secs_f64()
    }

    fn row(&self, backups: u32, projects: u32) -> String {
        let each = |cpu_s: f64| cpu_s * 1_000_000.0 / count(self.latencies.len().max(1));
        let mut row = String::new();
        let _ = writeln!(
            row,
            "| {backups} | {projects} | {} | {:.0} | {:.2} | {:.2} | {:.0} | {:.0} |",
            self.name,
            self.per_second(),
            self.quantile_ms(50),
            self.quantile_ms(99),
            each(self.server_cpu_s),
            each(self.clients_cpu_s)
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
        let series = Series {
            name: "x",
            latencies,
            elapsed: Duration::from_secs(2),
            server_cpu_s: 0.01,
            clients_cpu_s: 0.002,
        };
        assert_eq!(series.row(10, 1), "| 10 | 1 | x | 50 | 51.00 | 100.00 | 100 | 20 |\n");
    }
}
