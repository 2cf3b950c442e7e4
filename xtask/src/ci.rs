//! `cargo xtask ci`: everything that must hold before a change is merged, in order of price.
//! `--nightly` runs the long matrices whole.

use std::process::Command;
use std::time::Instant;

use clap::Args;

use crate::{fuzz, process, say, test, workspace};

#[derive(Args)]
pub(crate) struct Options {
    /// Every case of the long matrices instead of a sample of them: an hour or more
    #[arg(long)]
    nightly: bool,
    /// For each target of the fuzzer
    #[arg(long, default_value_t = 60)]
    fuzz_seconds: u32,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    step("lints", || cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))?;
    step("licences and forbidden crates", deny)?;
    step("documentation of the code", || {
        let mut command = workspace::cargo();
        command.args(["doc", "--workspace", "--no-deps", "--locked", "--document-private-items"]);
        process::run(command.env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    step("the fuzzer", || fuzz::run_all(options.fuzz_seconds))?;
    // Format, tidy and the tests, among them those that compare the API documents with the code.
    step("format, tidy and tests", || test::run_all(options.nightly))
}

fn step(name: &str, act: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    say::step(name);
    let begun = Instant::now();
    act()?;
    say::note(format_args!("{name}: {} s", begun.elapsed().as_secs()));
    Ok(())
}

fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    process::run(workspace::cargo().args(arguments))
}

fn deny() -> anyhow::Result<()> {
    if !process::exists("cargo-deny") {
        say::note("cargo-deny is not installed; building it takes some minutes, once:");
        let mut install = Command::new("cargo");
        install.args(["install", "cargo-deny", "--locked"]);
        say::note(format_args!("  $ {}", process::line(&install)));
        process::run(&mut install)?;
    }
    cargo(&["deny", "--all-features", "check", "licenses", "bans", "sources"])?;
    // The list of known weaknesses is elsewhere; a builder without a way there still checks the rest.
    if let Err(error) = cargo(&["deny", "fetch", "db"]) {
        say::note(format_args!(
            "!! known weaknesses were NOT CHECKED, their list cannot be fetched: {error:#}"
        ));
        return Ok(());
    }
    cargo(&["deny", "--all-features", "check", "advisories"])
}
