//! A data directory that is made once and then copied: making one takes a server seconds.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};

use crate::account::Account;
use crate::debian::cache_folder;

/// Holds the server's own id, which no two servers may share.
const IDENTITY: &str = "auto.cnf";

/// Fills a new data directory from the template of this program; `make` fills the template where there
/// is none yet.
pub(crate) fn fill(
    data_dir: &Path,
    program: &Path,
    arguments: &[&str],
    make: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let cache = cache_folder();
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let name = format!("mysql-data-{:016x}", fingerprint(program, arguments)?);
    let template = cache.join(&name);
    let lock = fs::File::create(cache.join(format!("{name}.lock")))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    if !template.is_dir() {
        let partial = cache.join(format!("{name}.partial"));
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        fs::create_dir(&partial)?;
        Account::ordinary().own(&partial)?;
        make(&partial)?;
        fs::remove_file(partial.join(IDENTITY)).context("a new data directory has an identity")?;
        fs::rename(&partial, &template)?;
    }
    drop(lock);
    copy(&template, data_dir)?;
    Account::ordinary().own(data_dir)
}

/// Another program, or other arguments, would make something else.
fn fingerprint(program: &Path, arguments: &[&str]) -> anyhow::Result<u64> {
    let about = fs::metadata(program).with_context(|| format!("looking at {}", program.display()))?;
    let mut hasher = DefaultHasher::new();
    (program, about.len(), about.mtime(), arguments).hash(&mut hasher);
    Ok(hasher.finish())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir(to).with_context(|| format!("cannot make {}", to.display()))?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to): (PathBuf, PathBuf) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::copy(&from, &to).with_context(|| format!("copying {}", from.display()))?;
        }
    }
    Ok(())
}
