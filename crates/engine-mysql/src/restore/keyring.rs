//! The keys of encrypted tablespaces, given to the server of a copy as a keyring file.
//!
//! A server takes a keyring from its data directory only where its installation says that it may, and
//! no package comes with that. A server that we start is told by a folder of ours that stands in for its
//! installation's: the program and its plugins by links, and beside them what names the keyring.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use strongroom_core::engine::RestoredTree;
use strongroom_core::{Error, ErrorKind, Result};
use strongroom_host::io_failed;

use super::server::{base, first_folder, installation};
use crate::facts::MySqlFacts;

/// In the data directory.
const KEYRING: &str = "strongroom-keyring.json";
const MANIFEST: &str = "mysqld.my";
const CONFIGURATION: &str = "component_keyring_file.cnf";
const LIBRARY: &str = "component_keyring_file.so";
const FILE_MODE: u32 = 0o600;

/// Below the base of an installation: as packages of Debian, of RPM and archives have it.
const PLUGIN_FOLDERS: [&str; 3] = ["lib/mysql/plugin", "lib64/mysql/plugin", "lib/plugin"];

/// Puts the keyring where a server of this directory reads it. `target` is where that is, unless it is
/// not known yet.
pub(super) fn write(
    tree: &mut dyn RestoredTree,
    facts: &MySqlFacts,
    target: Option<&Path>,
) -> Result<Vec<String>> {
    let Some(fact) = &facts.keyring else { return Ok(Vec::new()) };
    let place = match target {
        Some(target) => keyring_of(&fs::canonicalize(target).map_err(|error| io_failed(target, &error))?),
        None => PathBuf::from(KEYRING),
    };
    tree.replace(KEYRING, FILE_MODE, fact.keyring.file().as_bytes())?;
    tree.replace(CONFIGURATION, FILE_MODE, configuration(&place, false)?.as_bytes())?;
    tree.replace(MANIFEST, FILE_MODE, manifest().as_bytes())?;
    let files = fact.files;
    let noun = if files == 1 { "file is" } else { "files are" };
    let mut notes = vec![format!(
        "{files} {noun} encrypted; {KEYRING} in the directory opens them and must be kept as safe as a \
         password. `restore --start` starts a server with it. Another one reads it where {MANIFEST} beside its program \
         says {{\"read_local_manifest\": true}} and {CONFIGURATION} beside its plugins {{\"read_local_config\": true}}. \
         Afterwards: ALTER INSTANCE ROTATE INNODB MASTER KEY."
    )];
    if target.is_none() {
        notes
            .push(format!("Name the keyring with its whole path in {CONFIGURATION} before the first start."));
    }
    Ok(notes)
}

pub(crate) fn keyring_of(target: &Path) -> PathBuf {
    target.join(KEYRING)
}

/// The program of a server and what to start it with.
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) arguments: Vec<String>,
}

/// Where a server is started that reads the keyring of a copy.
pub(crate) struct Stage<'a> {
    /// Made, with everything in it.
    pub(crate) folder: &'a Path,
    pub(crate) keyring: &'a Path,
    pub(crate) is_read_only: bool,
}

impl Program {
    /// As it is installed.
    pub(crate) fn installed(mysqld: &Path) -> Self {
        Self { path: mysqld.to_owned(), arguments: installation(mysqld) }
    }

    /// The same server with a keyring.
    pub(crate) fn with_keyring(mysqld: &Path, stage: &Stage<'_>) -> Result<Self> {
        let base = base(mysqld);
        let installed = PLUGIN_FOLDERS.iter().map(|folder| base.join(folder));
        let installed = installed.clone().find(|folder| folder.join(LIBRARY).is_file()).ok_or_else(|| {
            Error::new(
                ErrorKind::NotSupported,
                format!(
                    "The backup has encrypted tables, and the server {} has no {LIBRARY} to open them with. \
                     The restored files are complete.",
                    mysqld.display()
                ),
            )
            .with_hint("install MySQL's own packages, which have component_keyring_file")
        })?;
        let plugins = stage.folder.join("plugins");
        make(stage.folder)?;
        make(&plugins)?;
        for entry in fs::read_dir(&installed).map_err(|error| io_failed(&installed, &error))? {
            let entry = entry.map_err(|error| io_failed(&installed, &error))?;
            if entry.file_name() != CONFIGURATION {
                link(&entry.path(), &plugins.join(entry.file_name()))?;
            }
        }
        let path = stage.folder.join("mysqld");
        link(mysqld, &path)?;
        put(&stage.folder.join(MANIFEST), &manifest())?;
        put(&plugins.join(CONFIGURATION), &configuration(stage.keyring, stage.is_read_only)?)?;
        let mut arguments = vec![format!("--basedir={}", base.display())];
        for (option, folders) in [
            ("lc-messages-dir", &["share/mysql", "share/mysql-8.0", "share/mysql-8.4", "share"][..]),
            (
                "character-sets-dir",
                &["share/mysql/charsets", "share/mysql-8.0/charsets", "share/charsets"][..],
            ),
        ] {
            arguments
                .extend(first_folder(&base, folders).map(|path| format!("--{option}={}", path.display())));
        }
        arguments.push(format!("--plugin-dir={}", plugins.display()));
        Ok(Self { path, arguments })
    }
}

fn manifest() -> String {
    "{\"components\": \"file://component_keyring_file\"}\n".to_owned()
}

fn configuration(keyring: &Path, is_read_only: bool) -> Result<String> {
    let path = keyring.to_str().ok_or_else(|| {
        Error::new(
            ErrorKind::NotSupported,
            format!("The path {} cannot be written into the configuration of a keyring.", keyring.display()),
        )
        .with_hint("name a directory whose path is UTF-8")
    })?;
    Ok(serde_json::json!({ "path": path, "read_only": is_read_only }).to_string())
}

fn make(folder: &Path) -> Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(io_failed(folder, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A link of an earlier start goes first.
fn link(to: &Path, at: &Path) -> Result<()> {
    let _ = fs::remove_file(at);
    symlink(to, at).map_err(|error| io_failed(at, &error))
}

fn put(path: &Path, content: &str) -> Result<()> {
    fs::write(path, content).map_err(|error| io_failed(path, &error))
}
