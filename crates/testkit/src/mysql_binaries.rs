//! Where a MySQL server for tests is on this machine.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::Context;

use crate::{debian, skip};

/// Names the server to use, a `mysqld` of 8.0.27 or newer with the clone plugin beside it.
const NAMED: &str = "STRONGROOM_TEST_MYSQLD";
/// What may be missing, by its name in `STRONGROOM_TEST_ALLOW_SKIP`.
const WHAT: &str = "mysql";
/// The first version whose clone lets statements of data definition go on.
const OLDEST: (u32, u32, u32) = (8, 0, 27);

/// Whether a server can be started, without making anything.
pub fn available() -> bool {
    installed().is_some()
}

/// Answers whether a test that needs a server can run. A missing one fails the test loudly, unless
/// `mysql` may be skipped.
pub fn require() -> bool {
    match mysqld() {
        Ok(_) => true,
        Err(reason) => {
            skip::missing(WHAT, &format!("{reason:#}"));
            false
        }
    }
}

/// The same of a test that needs a server whose data directories may name a keyring: a packaged one
/// lets none.
pub fn require_keyring() -> bool {
    if !require() {
        return false;
    }
    let may_have = mysqld().is_ok_and(|program| base(&program).join(debian::MANIFEST).is_file());
    if !may_have {
        skip::missing("mysql-keyring", "the MySQL server here lets data directories name no keyring");
    }
    may_have
}

/// The server's program; a Debian tree is made where there is none.
pub fn mysqld() -> anyhow::Result<PathBuf> {
    // Tests of one process ask at once; the second must not find a tree half made.
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match installed() {
        Some(program) if debian::mysql_tree().is_none_or(|tree| !program.starts_with(tree)) => Ok(program),
        Some(_) | None => debian::ensure_mysql_tree()
            .map(|place| place.join("sbin/mysqld"))
            .context("no MySQL of 8.0.27 or newer with its clone plugin is installed"),
    }
}

/// A tool that came with the server.
pub fn tool(name: &str) -> anyhow::Result<PathBuf> {
    let base = base(&mysqld()?);
    ["bin", "sbin"]
        .iter()
        .map(|folder| base.join(folder).join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{} has no {name}", base.display()))
}

/// The folder that holds everything of an installation.
pub(crate) fn base(mysqld: &Path) -> PathBuf {
    mysqld.parent().and_then(Path::parent).unwrap_or(Path::new("/")).to_owned()
}

/// What tells a server where the rest of its installation is. One that was moved does not find it.
pub(crate) fn places(mysqld: &Path) -> Vec<String> {
    let base = base(mysqld);
    let mut places = vec![format!("--basedir={}", base.display())];
    for (option, folder) in [
        ("plugin-dir", "lib/mysql/plugin"),
        ("lc-messages-dir", "share/mysql"),
        ("character-sets-dir", "share/mysql/charsets"),
    ] {
        let folder = base.join(folder);
        if folder.is_dir() {
            places.push(format!("--{option}={}", folder.display()));
        }
    }
    places
}

fn installed() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(NAMED) {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into()])
        .map(|folder| folder.join("mysqld"))
        .find(|program| is_fitting(program))
        .or_else(|| debian::mysql_tree().map(|place| place.join("sbin/mysqld")))
}

/// A MySQL, no MariaDB, that is new enough and has its clone plugin where we look for it.
fn is_fitting(program: &Path) -> bool {
    if !program.is_file() || !base(program).join("lib/mysql/plugin/mysql_clone.so").is_file() {
        return false;
    }
    let Ok(output) =
        Command::new(program).args([OsStr::new("--no-defaults"), OsStr::new("--version")]).output()
    else {
        return false;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    !said.contains("MariaDB") && version_in(&said).is_some_and(|version| version >= OLDEST)
}

/// `/usr/sbin/mysqld  Ver 8.0.36-0ubuntu0.22.04.1 for Linux on x86_64 ((Ubuntu))`
fn version_in(said: &str) -> Option<(u32, u32, u32)> {
    let text = said.split_once("Ver ")?.1;
    let numbers = text.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
    let mut numbers = numbers.split('.').map_while(|number| number.parse().ok());
    Some((numbers.next()?, numbers.next()?, numbers.next().unwrap_or(0)))
}
