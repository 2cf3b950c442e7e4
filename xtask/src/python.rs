//! A Python with the packages that the decoder under `fixtures/formats` needs, kept beside the
//! build. Installed once, from the pinned list.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};

use crate::{process, workspace};

const REQUIREMENTS: &str = "fixtures/formats/decoder-requirements.txt";
/// The list that was installed; another one is installed anew.
const STAMP: &str = "installed.txt";

/// Makes it when it is not there as the list wants it; answers its program.
pub(crate) fn ensure() -> anyhow::Result<PathBuf> {
    let folder = workspace::target_dir().join("decoder-python");
    let program = folder.join("bin/python");
    let wanted = fs::read_to_string(workspace::root().join(REQUIREMENTS)).context(REQUIREMENTS)?;
    if program.exists() && fs::read_to_string(folder.join(STAMP)).is_ok_and(|installed| installed == wanted) {
        return Ok(program);
    }
    if !process::exists("python3") {
        bail!("python3 is not installed");
    }
    process::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let mut install = Command::new(&program);
    install.args(["-m", "pip", "install", "--quiet", "--only-binary", ":all:", "--requirement"]);
    process::run(install.arg(workspace::root().join(REQUIREMENTS)))?;
    fs::write(folder.join(STAMP), wanted).context("noting what was installed")?;
    Ok(program)
}
