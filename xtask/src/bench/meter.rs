//! What a piece of work costs: wall time, processor time of client and server, peak memory.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Seek};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::{interrupt, process};

/// Linux counts processor time in these, on every platform we build for.
const TICKS_PER_SECOND: f64 = 100.0;
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// One measured piece of work.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) wall_s: f64,
    /// Our side: the tool, or the commands and the service.
    pub(crate) tool_cpu_s: f64,
    /// The database server's processes.
    pub(crate) server_cpu_s: f64,
    pub(crate) peak_bytes: u64,
    /// Peak of a second program that worked beside: the command of a restore beside our server.
    pub(crate) peak_beside_bytes: u64,
    pub(crate) stored_bytes: u64,
    /// Files that were written into the store.
    pub(crate) objects: u64,
}

/// Runs a program to its end and watches it; `server` is the postmaster to watch beside, if any.
pub(crate) fn command(command: &mut Command, server: Option<u32>) -> anyhow::Result<Cost> {
    let line = process::line(command);
    let complaints = tempfile::tempfile().context("a file for what the tool complains of")?;
    let server_before = server.map(tree_cpu_s).transpose()?.unwrap_or(0.0);
    let own_before = waited_for_cpu_s()?;
    // What others left unwritten must not be written in this tool's time.
    rustix::fs::sync();
    let begun = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(complaints.try_clone()?).spawn();
    let watched = watch(child.with_context(|| format!("starting {line}"))?, &line);
    let peak_bytes = watched.map_err(|error| explain(error, complaints))?;
    let wall_s = begun.elapsed().as_secs_f64();
    Ok(Cost {
        wall_s,
        tool_cpu_s: waited_for_cpu_s()? - own_before,
        server_cpu_s: server.map(tree_cpu_s).transpose()?.unwrap_or(0.0) - server_before,
        peak_bytes,
        ..Cost::default()
    })
}

/// Adds the end of what a failed tool wrote to stderr.
fn explain(error: anyhow::Error, mut complaints: fs::File) -> anyhow::Error {
    let mut said = String::new();
    let _ = complaints.rewind().and_then(|()| complaints.read_to_string(&mut said));
    let lines: Vec<&str> = said.trim().lines().collect();
    error.context(lines[lines.len().saturating_sub(10)..].join("\n"))
}

/// Waits for the end and answers the greatest resident memory seen, of the tool and of the
/// processes it started: the sum of each one's peak.
fn watch(mut child: Child, line: &str) -> anyhow::Result<u64> {
    let mut peaks = BTreeMap::new();
    loop {
        // The kernel keeps each peak itself; only the last look before a process's end counts.
        note_peaks(child.id(), &mut peaks);
        if let Some(status) = child.try_wait()? {
            if !status.success() {
                bail!("`{line}` ended with {status}");
            }
            return Ok(peaks.values().sum());
        }
        if let Err(wish) = interrupt::check() {
            child.kill()?;
            child.wait()?;
            return Err(wish);
        }
        interrupt::pause(LOOK_INTERVAL);
    }
}

fn note_peaks(pid: u32, peaks: &mut BTreeMap<u32, u64>) {
    if let Ok(peak) = peak_bytes(pid) {
        peaks.insert(pid, peak);
    }
    // Asking the kernel for the children is cheap; walking all of /proc would disturb the measured.
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
        note_peaks(child, peaks);
    }
}

/// Processor time of a process, of those it has waited for, and of its living children.
pub(crate) fn tree_cpu_s(pid: u32) -> anyhow::Result<f64> {
    let mut sum = cpu_s(pid)?;
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(other) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process that ends meanwhile has been added to its parent, or will be at the next look.
        if parent(other) == Some(pid) {
            sum += cpu_s(other).unwrap_or(0.0);
        }
    }
    Ok(sum)
}

/// Fields of `/proc/<pid>/stat` after the name, which may contain anything.
fn stat(pid: &str) -> anyhow::Result<Vec<String>> {
    let text =
        fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} is gone"))?;
    let (_, fields) = text.rsplit_once(") ").context("a stat line has a name in brackets")?;
    Ok(fields.split_whitespace().map(str::to_owned).collect())
}

fn ticks(fields: &[String], range: std::ops::Range<usize>) -> anyhow::Result<f64> {
    let ticks: Result<Vec<f64>, _> =
        fields.get(range).context("a short stat line")?.iter().map(|f| f.parse()).collect();
    Ok(ticks?.iter().sum::<f64>() / TICKS_PER_SECOND)
}

fn parent(pid: u32) -> Option<u32> {
    stat(&pid.to_string()).ok()?.get(1)?.parse().ok()
}

/// User and system time of the process and of the children it has waited for.
fn cpu_s(pid: u32) -> anyhow::Result<f64> {
    ticks(&stat(&pid.to_string())?, 11..15)
}

/// The same of all programs that we have started and waited for.
fn waited_for_cpu_s() -> anyhow::Result<f64> {
    ticks(&stat("self")?, 13..15)
}

/// Of this program alone.
pub(crate) fn own_cpu_s() -> anyhow::Result<f64> {
    ticks(&stat("self")?, 11..13)
}

/// Peak resident memory of a process since it started or since [`forget_peak`].
pub(crate) fn peak_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
    let kib: u64 = line.split_whitespace().nth(1).context("VmHWM has a value")?.parse()?;
    Ok(kib * 1024)
}

/// Lets the kernel count the peak anew.
pub(crate) fn forget_peak(pid: u32) -> anyhow::Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("resetting the peak of memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_program_costs_processor_time_and_memory() {
        let mut busy = Command::new("sh");
        busy.args(["-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"]);
        let cost = command(&mut busy, Some(std::process::id())).unwrap();
        assert!(cost.wall_s > 0.0 && cost.tool_cpu_s > 0.0 && cost.peak_bytes > 0, "{cost:?}");
    }

    #[test]
    fn a_failing_program_is_an_error() {
        assert!(command(&mut Command::new("false"), None).is_err());
    }
}
