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

/// In the folder of an installation of MySQL: which components its servers have.
pub(crate) const MANIFEST: &str = "sbin/mysqld.my";

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
    let tree = Tree { suite, name: &package, packages: &[&package], programs: &[&programs], libraries: &[] };
    Ok(tree.ensure()?.join(programs))
}

/// The MySQL of sid: the folder that holds `sbin/mysqld`, `bin/mysql` and everything they read. The
/// stable suites have none. Made like the other trees.
pub fn ensure_mysql_tree() -> anyhow::Result<PathBuf> {
    let tree = Tree {
        suite: "sid",
        name: "mysql",
        packages: &["mysql-server-core", "mysql-client-core"],
        programs: &[
            "usr/sbin/mysqld",
            "usr/bin/mysql",
            "usr/bin/mysqladmin",
            "usr/bin/mysqlbinlog",
            "usr/bin/mysqlcheck",
            "usr/bin/mysqldump",
        ],
        libraries: &["usr/lib/mysql/private"],
    };
    let usr = tree.ensure()?.join("usr");
    allow_keyrings(&usr)?;
    Ok(usr)
}

/// Lets a data directory name a keyring of its own: the installation must say that it may.
fn allow_keyrings(usr: &Path) -> anyhow::Result<()> {
    for (name, text) in [
        (MANIFEST, "{\"read_local_manifest\": true}\n"),
        ("lib/mysql/plugin/component_keyring_file.cnf", "{\"read_local_config\": true}\n"),
    ] {
        let path = usr.join(name);
        if !path.is_file() {
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        }
    }
    Ok(())
}

/// Where [`ensure_mysql_tree`] has put everything; nothing is made.
pub fn mysql_tree() -> Option<PathBuf> {
    let place = cache_folder().join("debian-mysql/usr");
    place.join("sbin/mysqld").is_file().then_some(place)
}

/// mydumper of Debian sid: the folder of its programs. Made like the servers' trees.
pub fn ensure_mydumper() -> anyhow::Result<PathBuf> {
    let tree = Tree {
        suite: "sid",
        name: "mydumper",
        packages: &["mydumper"],
        programs: &["usr/bin/mydumper", "usr/bin/myloader"],
        libraries: &[],
    };
    Ok(tree.ensure()?.join("usr/bin"))
}

/// MariaDB of Debian 12, which cannot stand beside a MySQL: the folder that holds `sbin/mariadbd`,
/// `bin/mariadb-backup` and everything they read. Made like the servers' trees.
pub fn ensure_mariadb() -> anyhow::Result<PathBuf> {
    let tree = Tree {
        suite: "bookworm",
        name: "mariadb",
        packages: &["mariadb-server-core", "mariadb-client-core", "mariadb-backup"],
        programs: &[
            "usr/sbin/mariadbd",
            "usr/bin/mariadb",
            "usr/bin/mariadb-backup",
            "usr/bin/mbstream",
            "usr/bin/my_print_defaults",
            "usr/bin/resolveip",
        ],
        libraries: &[],
    };
    Ok(tree.ensure()?.join("usr"))
}

/// pgBackRest of Debian sid, which knows every server that we know and block incrementals; older
/// suites have one that knows neither. Made like the servers' trees.
pub fn ensure_pgbackrest() -> anyhow::Result<PathBuf> {
    let program = "usr/bin/pgbackrest";
    let tree = Tree {
        suite: "sid",
        name: "pgbackrest",
        packages: &["pgbackrest"],
        programs: &[program],
        libraries: &[],
    };
    Ok(tree.ensure()?.join(program))
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

/// A tree of one suite with some packages and what they depend on.
struct Tree<'t> {
    suite: &'t str,
    /// Of its folder in the cache.
    name: &'t str,
    packages: &'t [&'t str],
    /// Folders of programs, or single ones, that get wrappers.
    programs: &'t [&'t str],
    /// Where its libraries are, besides the usual place.
    libraries: &'t [&'t str],
}

impl Tree<'_> {
    fn ensure(&self) -> anyhow::Result<PathBuf> {
        let (cache, name) = (cache_folder(), self.name);
        fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
        let tree = cache.join(format!("debian-{name}"));
        let lock = fs::File::create(cache.join(format!("debian-{name}.lock")))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        if tree.is_dir() {
            return Ok(tree);
        }
        ensure!(rustix::process::getuid().is_root(), "making a Debian tree needs root");
        let partial = cache.join(format!("debian-{name}.partial"));
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        bootstrap(self.suite, &partial)?;
        unpack(self.packages, &partial)?;
        for programs in self.programs {
            self.wrap_programs(&partial, &tree, programs)?;
        }
        fs::set_permissions(&partial, fs::Permissions::from_mode(0o755))?;
        fs::rename(&partial, &tree)?;
        Ok(tree)
    }

    /// Puts a script in the place of each program, which runs it with the tree's own loader. The
    /// programs find each other and their data by path, so they must not notice that they moved.
    fn wrap_programs(&self, tree: &Path, final_place: &Path, programs: &str) -> anyhow::Result<()> {
        let programs = tree.join(programs);
        if programs.is_file() {
            return self.wrap(&programs, tree, final_place);
        }
        for program in fs::read_dir(programs)? {
            let program = program?.path();
            if is_elf(&program)? {
                self.wrap(&program, tree, final_place)?;
            }
        }
        Ok(())
    }

    fn wrap(&self, program: &Path, tree: &Path, final_place: &Path) -> anyhow::Result<()> {
        let wrapped = program.with_extension(WRAPPED);
        fs::rename(program, &wrapped)?;
        let libraries: Vec<String> = ["usr/lib/x86_64-linux-gnu"]
            .iter()
            .chain(self.libraries)
            .map(|folder| final_place.join(folder).display().to_string())
            .collect();
        let script = format!(
            "#!/bin/sh\nexec '{root}/lib64/ld-linux-x86-64.so.2' --library-path '{libraries}' \\\n  \
             --argv0 '{shown}' '{real}' \"$@\"\n",
            root = final_place.display(),
            libraries = libraries.join(":"),
            shown = final_place.join(program.strip_prefix(tree)?).display(),
            real = final_place.join(wrapped.strip_prefix(tree)?).display(),
        );
        fs::write(program, script)?;
        fs::set_permissions(program, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }
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

/// Fetches packages with all they depend on and lays the files down, without any script.
fn unpack(packages: &[&str], tree: &Path) -> anyhow::Result<()> {
    run(Command::new("chroot").arg(tree).args(["apt-get", "-q", "update"]))?;
    run(Command::new("chroot")
        .arg(tree)
        .args(["apt-get", "-q", "install", "-y", "--download-only", "--no-install-recommends"])
        .args(packages))?;
    for archive in fs::read_dir(tree.join("var/cache/apt/archives"))? {
        let archive = archive?.path();
        if archive.extension().is_some_and(|ending| ending == "deb") {
            run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(tree))?;
            fs::remove_file(&archive)?;
        }
    }
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
