//! Packages of the system that a chore needs, installed only when missing and never silently.

use std::process::Command;

use anyhow::{Context, bail};

use crate::{process, say};

/// Makes sure that `is_there` holds, by installing `packages` when it does not.
pub(crate) fn ensure(packages: &[&str], why: &str, is_there: impl Fn() -> bool) -> anyhow::Result<()> {
    if is_there() {
        return Ok(());
    }
    install(packages, why)?;
    if !is_there() {
        bail!("{} was installed, but what was expected of it is not there", packages.join(" "));
    }
    Ok(())
}

fn install(packages: &[&str], why: &str) -> anyhow::Result<()> {
    let names = packages.join(" ");
    if !process::exists("apt-get") {
        bail!("{names} is missing ({why}); this is no Debian or Ubuntu, so please install it yourself");
    }
    say::note(format_args!("{names} is missing: {why}."));
    say::note("About to run the package manager:");
    for arguments in [vec!["update"], [&["install", "-y", "--no-install-recommends"], packages].concat()] {
        let mut command = apt_get(&arguments)?;
        say::note(format_args!("  $ {}", process::line(&command)));
        process::run(&mut command).with_context(|| format!("installing {names}"))?;
    }
    Ok(())
}

/// `apt-get` as root: directly, or through sudo without a question.
fn apt_get(arguments: &[&str]) -> anyhow::Result<Command> {
    let mut command = if rustix::process::getuid().is_root() {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    } else if process::exists("sudo") {
        let mut command = Command::new("sudo");
        command.args(["-n", "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        command
    } else {
        bail!(
            "installing packages needs root, and there is no sudo; as root run: apt-get {}",
            arguments.join(" ")
        );
    };
    command.arg("-q").args(arguments);
    Ok(command)
}
