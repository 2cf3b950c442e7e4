//! `cargo xtask fuzz`: feeds every parser of foreign bytes with what a coverage-guided fuzzer makes
//! up. The stable compiler's own instrumentation serves; the fuzzer is a workspace of its own.

use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, bail, ensure};
use clap::Args;

use crate::{packages, process, say, workspace};

/// Coverage of edges and of compared values, as libFuzzer reads it.
const INSTRUMENTATION: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";
const INPUT_BYTES_MAX: &str = "-max_len=20000";

#[derive(Args)]
pub(crate) struct Options {
    /// Only these targets; all when none is named
    targets: Vec<String>,
    /// For each target
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let program = build()?;
    let names = names()?;
    for wanted in &options.targets {
        ensure!(names.contains(wanted), "there is no target {wanted}; there are {}", names.join(", "));
    }
    let chosen = names.iter().filter(|name| options.targets.is_empty() || options.targets.contains(name));
    let broken = side_by_side(chosen, |name| fuzz(&program, name, options.seconds));
    if !broken.is_empty() {
        bail!("broken: {}", broken.join(", "));
    }
    Ok(())
}

/// One target on each processor; answers those that failed. A fuzzer has one thread, and none
/// shares anything with another.
fn side_by_side<'a>(
    names: impl Iterator<Item = &'a String> + Send,
    act: impl Fn(&str) -> anyhow::Result<()> + Sync,
) -> Vec<&'a str> {
    let (waiting, broken) = (Mutex::new(names), Mutex::new(Vec::new()));
    let next = || waiting.lock().expect("no thread panics while it takes a name").next();
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| {
                while let Some(name) = next() {
                    if let Err(error) = act(name) {
                        say::failure(&error);
                        broken.lock().expect("no thread panics while it adds a name").push(name.as_str());
                    }
                }
            });
        }
    });
    broken.into_inner().expect("no thread panics while it adds a name")
}

/// Every target, for a while each.
pub(crate) fn run_all(seconds: u32) -> anyhow::Result<()> {
    run(&Options { targets: Vec::new(), seconds })
}

fn build() -> anyhow::Result<PathBuf> {
    say::step("building the fuzzer");
    packages::ensure(&["g++"], "libFuzzer is written in C++", || process::exists("c++"))?;
    let said = process::output(Command::new("rustc").arg("-vV"))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names its host")?;
    let mut cargo = workspace::cargo();
    // Naming the target keeps build scripts and macros free of instrumentation.
    cargo.args(["build", "--release", "--locked", "--target", host, "--manifest-path"]);
    cargo.arg(workspace::root().join("fuzz/Cargo.toml")).arg("--target-dir").arg(folder());
    cargo.env("RUSTFLAGS", INSTRUMENTATION);
    process::run(&mut cargo)?;
    Ok(folder().join(host).join("release/strongroom-fuzz"))
}

fn folder() -> PathBuf {
    workspace::target_dir().join("fuzz")
}

fn seeds() -> PathBuf {
    workspace::root().join("fixtures/fuzz")
}

/// A target is what inputs are kept for; a test compares the folders with the code.
fn names() -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(seeds()).context("reading the kept inputs")? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn fuzz(program: &Path, name: &str, seconds: u32) -> anyhow::Result<()> {
    // What it has found goes on from run to run.
    let (corpus, findings) = (folder().join("corpus").join(name), folder().join("findings"));
    for folder in [&corpus, &findings] {
        fs::create_dir_all(folder)?;
    }
    let mut command = Command::new(program);
    command
        .env("STRONGROOM_FUZZ_TARGET", name)
        .stdin(Stdio::null())
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/{name}-", findings.display()))
        .args([INPUT_BYTES_MAX, "-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1"])
        .args([corpus, seeds().join(name)]);
    let output = command.output().context("starting the fuzzer")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let last: Vec<&str> = said.lines().rev().take(25).collect();
        let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
        bail!("{name}: an input breaks it; it is in {}\n{last}", findings.display());
    }
    let executed = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let executed: u64 =
        executed.and_then(|count| count.trim().parse().ok()).context("how many inputs were tried")?;
    let reached = said.lines().rev().find_map(|line| line.split_once("cov: ")?.1.split(' ').next());
    let reached = reached.unwrap_or("?");
    ensure!(executed > 0 && reached != "0", "{name}: nothing was tried, or nothing was reached");
    say::note(format_args!(
        "{name}: {executed} inputs in {seconds} s, {reached} edges reached, none breaks it"
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_runs_once_and_each_broken_one_is_named() {
        let names: Vec<String> = (0..9).map(|number| format!("target-{number}")).collect();
        let tried = Mutex::new(Vec::new());
        let mut broken = side_by_side(names.iter(), |name| {
            tried.lock().unwrap().push(name.to_owned());
            anyhow::ensure!(!name.ends_with(['3', '7']), "{name}: an input breaks it");
            Ok(())
        });
        broken.sort_unstable();
        assert_eq!(broken, ["target-3", "target-7"]);
        let mut tried = tried.into_inner().unwrap();
        tried.sort_unstable();
        assert_eq!(tried, names);
    }
}
