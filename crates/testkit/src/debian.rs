//! Servers that this system has no package for, from a Debian suite unpacked beside it.
//!
//! The tree is made once with `debootstrap` and kept in a cache folder. Its programs are run by
//! the tree's own loader and libraries, so they work whatever C library the system has. Nothing
//! is installed into the system and no maintainer script of a package is run.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use rustix::fs::{FlockOperation, flock};

/// Names the cache folder; it must be readable by an ordinary account.
const CACHE: &str = "STRONGROOM_TEST_CACHE";

/// Suffix of a program whose place a wrapper has taken.
const WRAPPED: &str = "wrapped";

/// The programs of PostgreSQL 17 (trixie) or 18 (sid): the folder that holds `postgres`.
/// Makes the tree when it is not there yet, which takes about a minute and needs root.
pub fn ensure_postgres_tree(version: u32) -> anyhow::Result<PathBuf> {
    let suite = match version {
        17 => "trixie",
        18 => "sid",
        _ => bail!("no Debian suite is known for PostgreSQL {version}"),
    };
    let package = format!("postgresql-{version}");
    let programs = format!("usr/lib/postgresql/{version}/bin");
    let tree = ensure_tree(suite, &package, &programs)?;
    Ok(tree.join(programs))
}

/// pgBackRest of Debian sid, which knows every server that we know and block incrementals; older
/// suites have one that knows neither. Made like the servers' trees.
pub fn ensure_pgbackrest() -> anyhow::Result<PathBuf> {
    let program = "usr/bin/pgbackrest";
    Ok(ensure_tree("sid", "pgbackrest", program)?.join(program))
}

/// Where `ensure_postgres_tree` has put, or would put, the programs; nothing is made.
pub fn postgres_tree(version: u32) -> Option<PathBuf> {
    let tree = cache_folder().join(format!("debian-postgresql-{version}"));
    let programs = tree.join(format!("usr/lib/postgresql/{version}/bin"));
    programs.join("postgres").is_file().then_some(programs)
}

pub(crate) fn cache_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os(CACHE) {
        return folder.into();
    }
    if rustix::process::getuid().is_root() {
        // The target folder of a checkout below /root cannot be read by the ordinary account.
        return PathBuf::from("/var/cache/strongroom-test");
    }
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-cache")
}

/// A tree of one suite with one package and what it depends on; `programs`, a folder or a single
/// one, get wrappers.
fn ensure_tree(suite: &str, package: &str, programs: &str) -> anyhow::Result<PathBuf> {
    let cache = cache_folder();
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let tree = cache.join(format!("debian-{package}"));
    let lock = fs::File::create(cache.join(format!("debian-{package}.lock")))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    if tree.is_dir() {
        return Ok(tree);
    }
    ensure!(rustix::process::getuid().is_root(), "making a Debian tree needs root");
    let partial = cache.join(format!("debian-{package}.partial"));
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    bootstrap(suite, &partial)?;
    unpack(package, &partial)?;
    wrap_programs(&partial, &tree, programs)?;
    fs::set_permissions(&partial, fs::Permissions::from_mode(0o755))?;
    fs::rename(&partial, &tree)?;
    Ok(tree)
}

fn bootstrap(suite: &str, tree: &Path) -> anyhow::Result<()> {
    let mirror = system_mirror()?;
    run(Command::new("debootstrap")
        .args(["--variant=minbase", "--include=ca-certificates", suite])
        .arg(tree)
        .arg(&mirror))?;
    // A mirror may be a frozen copy whose release file is past its date.
    fs::write(
        tree.join("etc/apt/apt.conf.d/90strongroom-test"),
        "Acquire::Check-Valid-Until \"false\";\nAPT::Keep-Downloaded-Packages \"true\";\n",
    )?;
    for conf in fs::read_dir("/etc/apt/apt.conf.d")? {
        let conf = conf?.path();
        let text = fs::read_to_string(&conf).unwrap_or_default();
        if text.to_ascii_lowercase().contains("proxy") {
            fs::copy(&conf, tree.join(conf.strip_prefix("/")?))?;
        }
    }
    Ok(())
}

/// Fetches a package with all it depends on and lays the files down, without any script.
fn unpack(package: &str, tree: &Path) -> anyhow::Result<()> {
    run(Command::new("chroot").arg(tree).args(["apt-get", "-q", "update"]))?;
    run(Command::new("chroot").arg(tree).args([
        "apt-get",
        "-q",
        "install",
        "-y",
        "--download-only",
        "--no-install-recommends",
        package,
    ]))?;
    for archive in fs::read_dir(tree.join("var/cache/apt/archives"))? {
        let archive = archive?.path();
        if archive.extension().is_some_and(|ending| ending == "deb") {
            run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(tree))?;
            fs::remove_file(&archive)?;
        }
    }
    Ok(())
}

/// Puts a script in the place of each program, which runs it with the tree's own loader. The
/// programs find each other and their data by path, so they must not notice that they moved.
fn wrap_programs(tree: &Path, final_place: &Path, programs: &str) -> anyhow::Result<()> {
    let programs = tree.join(programs);
    if programs.is_file() {
        return wrap(&programs, tree, final_place);
    }
    for program in fs::read_dir(programs)? {
        let program = program?.path();
        if is_elf(&program)? {
            wrap(&program, tree, final_place)?;
        }
    }
    Ok(())
}

fn wrap(program: &Path, tree: &Path, final_place: &Path) -> anyhow::Result<()> {
    let wrapped = program.with_extension(WRAPPED);
    fs::rename(program, &wrapped)?;
    let script = format!(
        "#!/bin/sh\nexec '{root}/lib64/ld-linux-x86-64.so.2' --library-path '{root}/usr/lib/x86_64-linux-gnu' \\\n  \
         --argv0 '{shown}' '{real}' \"$@\"\n",
        root = final_place.display(),
        shown = final_place.join(program.strip_prefix(tree)?).display(),
        real = final_place.join(wrapped.strip_prefix(tree)?).display(),
    );
    fs::write(program, script)?;
    fs::set_permissions(program, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn is_elf(path: &Path) -> anyhow::Result<bool> {
    let mut magic = [0; 4];
    let read = fs::File::open(path)?.read(&mut magic)?;
    Ok(read == 4 && magic == *b"\x7fELF")
}

/// The first Debian mirror of the system's own apt configuration.
fn system_mirror() -> anyhow::Result<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    files.retain(|file| file.extension().is_some_and(|ending| ending == "list" || ending == "sources"));
    files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .find_map(|text| text.lines().find_map(mirror_of_line))
        .context("the system's apt configuration names no Debian mirror")
}

fn mirror_of_line(line: &str) -> Option<String> {
    let is_entry = line.starts_with("URIs:") || line.starts_with("deb ");
    let address = line.split_whitespace().find(|word| word.contains("://"))?;
    let is_main_archive = address.trim_end_matches('/').ends_with("/debian");
    (is_entry && is_main_archive).then(|| address.to_owned())
}

pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C")
        .output()
        .with_context(|| format!("cannot run {}", command.get_program().to_string_lossy()))?;
    ensure!(
        output.status.success(),
        "{} failed: {}{}",
        command.get_program().to_string_lossy(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
