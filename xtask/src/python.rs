//! Pythons with the packages that tests need, kept beside the build: one for the decoder under
//! `fixtures/formats`, one with real clients, one with a program that makes requests from documents. Each is installed once, from its pinned list.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;

use crate::{packages, process, workspace};

/// A folder beside the build, and the list of what is in it.
pub(crate) struct Wanted {
    folder: &'static str,
    requirements: &'static str,
}

pub(crate) const DECODER: Wanted =
    Wanted { folder: "decoder-python", requirements: "fixtures/formats/decoder-requirements.txt" };
pub(crate) const CLIENTS: Wanted =
    Wanted { folder: "clients-python", requirements: "fixtures/wire/clients/requirements.txt" };
pub(crate) const SCHEMATHESIS: Wanted = Wanted {
    folder: "schemathesis-python",
    requirements: "fixtures/wire/clients/schemathesis-requirements.txt",
};

/// The list that was installed; another one is installed anew.
const STAMP: &str = "installed.txt";

/// Makes one when it is not there as its list wants it; answers its program.
pub(crate) fn ensure(of: &Wanted) -> anyhow::Result<PathBuf> {
    let folder = workspace::target_dir().join(of.folder);
    let program = folder.join("bin/python");
    let wanted = fs::read_to_string(workspace::root().join(of.requirements)).context(of.requirements)?;
    if program.exists() && fs::read_to_string(folder.join(STAMP)).is_ok_and(|installed| installed == wanted) {
        return Ok(program);
    }
    let has_venv = || {
        let mut python = Command::new("python3");
        python.args(["-c", "import ensurepip, venv"]).output().is_ok_and(|output| output.status.success())
    };
    packages::ensure(&["python3", "python3-venv"], "it runs clients and the decoder of the tests", has_venv)?;
    process::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let mut install = Command::new(&program);
    install.args(["-m", "pip", "install", "--quiet", "--only-binary", ":all:", "--requirement"]);
    process::run(install.arg(workspace::root().join(of.requirements)))?;
    fs::write(folder.join(STAMP), wanted).context("noting what was installed")?;
    Ok(program)
}
