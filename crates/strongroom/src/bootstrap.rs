//! From a data directory to a running service: the first start makes everything, later ones open
//! what is there, and nothing is ever made over something that exists.
//!
//! Order of a first start, so that a kill anywhere is healed by starting again: recovery key →
//! repository → catalog under a temporary name, with the token and the repository's id in it →
//! `bootstrap.json` → the catalog gets its name. A catalog under its name is complete.

mod files;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FlockOperation;
use strongroom_catalog::Catalog;
use strongroom_core::time::{Clock, Randomness};
use strongroom_repository::{LocalStore, RecoveryKey, Repository, Store, WriterOptions};
use strongroom_service::{Parts, Service, Settings, first_start};

use crate::config::Config;
use crate::engines::engines;
use crate::exit::{Exit, Outcome, Stop};
use crate::ports::{SystemClock, SystemRandomness};

pub(crate) use files::{Credentials, read_credentials};

/// The catalog remembers which repository it belongs to (faults.md D06, D07).
const REPOSITORY_ID: &str = "repository.id";

/// A service ready to be used, and the lock on its data directory.
pub(crate) struct Opened {
    pub(crate) service: Service,
    pub(crate) catalog: Catalog,
    pub(crate) data_dir: PathBuf,
    _lock: File,
}

/// Opens the data directory, making it when it is new.
pub(crate) async fn open(config: &Config) -> Outcome<Opened> {
    let data_dir = files::make_private_dir(&config.data_dir)?;
    let lock = lock(&data_dir)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let random: Arc<dyn Randomness> = Arc::new(SystemRandomness);
    let is_first = !config.catalog_file.exists();
    if is_first {
        make(config, &data_dir, &clock, &random).await?;
    }
    let key = read_key(&config.recovery_key_file)?;
    let catalog = open_catalog(&config.catalog_file, &key, &random, &clock).await?;
    let repository = Repository::open(store(config)?, &key, clock.clone(), random.clone())?;
    check_pair(&catalog, &repository).await?;
    let location = format!("file://{}", absolute(&config.repository_dir).display());
    let service = Service::new(Parts {
        catalog: catalog.clone(),
        repository,
        engines: engines(),
        clock,
        random,
        recovery_key: key,
        location,
        data_dir: data_dir.clone(),
        settings: settings(config),
    });
    Ok(Opened { service, catalog, data_dir, _lock: lock })
}

fn settings(config: &Config) -> Settings {
    Settings {
        writer: WriterOptions { full_level: config.compression_level, ..WriterOptions::default() },
        sandbox_dir: config.drill.sandbox_dir.clone(),
        drill_account: config.drill.account.clone(),
        drill_timeout: config.drill.timeout,
        ..Settings::default()
    }
}

fn absolute(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// One server at a time on a data directory.
fn lock(data_dir: &Path) -> Outcome<File> {
    let path = data_dir.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| files::unusable(&path, &error))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        Stop::new(Exit::Refused, format!("another strongroom serves {} already", data_dir.display()))
            .with_hint("stop that one, or give another --data-dir")
    })?;
    Ok(file)
}

fn store(config: &Config) -> Outcome<Arc<dyn Store>> {
    Ok(Arc::new(LocalStore::open(&config.repository_dir)?))
}

async fn open_catalog(
    file: &Path,
    key: &RecoveryKey,
    random: &Arc<dyn Randomness>,
    clock: &Arc<dyn Clock>,
) -> Outcome<Catalog> {
    // The address is parsed again: what has a meaning in it must stand for itself.
    let path = file.display().to_string().replace('%', "%25").replace('?', "%3F").replace('#', "%23");
    let url = format!("sqlite://{path}");
    Ok(Catalog::open(&url, key.catalog_key(), random.clone(), clock.now()).await?)
}

/// Everything a first start makes. May be called again after a kill at any place.
async fn make(
    config: &Config,
    data_dir: &Path,
    clock: &Arc<dyn Clock>,
    random: &Arc<dyn Randomness>,
) -> Outcome<()> {
    // A repository that somebody named may lie on a disk that is not mounted: its directory is
    // theirs to make, ours is in the data directory.
    if config.repository_by_default {
        files::make_private_dir(&config.repository_dir)?;
    }
    let store = store(config)?;
    let has_repository = Repository::exists(&*store)?;
    let key = if config.recovery_key_file.exists() {
        read_key(&config.recovery_key_file)?
    } else if has_repository {
        return Err(key_missing(&config.recovery_key_file));
    } else {
        let key = RecoveryKey::generate(&**random);
        files::write_new_private(&config.recovery_key_file, &format!("{}\n", key.to_text()))?;
        key
    };
    let repository = if has_repository {
        Repository::open(store, &key, clock.clone(), random.clone())?
    } else {
        Repository::create(store, &key, clock.clone(), random.clone())?
    };
    if !repository.lineages()?.is_empty() {
        return Err(Stop::new(
            Exit::Refused,
            "the repository holds backups, but there is no catalog beside it; nothing was made over them",
        )
        .with_hint(
            "bring back the catalog file from a copy of the data directory; the command that rebuilds it \
             (`repository rebuild-catalog`) does not exist yet",
        ));
    }
    let made = config.catalog_file.with_extension("new");
    files::remove_catalog(&made)?;
    let catalog = open_catalog(&made, &key, random, clock).await?;
    let bootstrap = first_start(&catalog, &**random, clock.now(), &config.region).await?;
    catalog.setting_put(REPOSITORY_ID, repository.id(), clock.now()).await?;
    catalog.close().await;
    files::write_credentials(data_dir, &Credentials::new(bootstrap, data_dir, &config.region))?;
    files::publish(&made, &config.catalog_file)
}

fn key_missing(path: &Path) -> Stop {
    Stop::new(
        Exit::WrongKey,
        format!("there is a repository, but no recovery key at {}; nothing was changed", path.display()),
    )
    .with_hint("bring back the key from the recovery kit: put its line that begins with SR1- into that file, mode 0600")
}

fn read_key(path: &Path) -> Outcome<RecoveryKey> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(RecoveryKey::parse(&text)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(key_missing(path)),
        Err(error) => Err(files::unusable(path, &error).with_exit(Exit::WrongKey)),
    }
}

async fn check_pair(catalog: &Catalog, repository: &Repository) -> Outcome<()> {
    let known = catalog.setting(REPOSITORY_ID).await?;
    if known.as_deref() == Some(repository.id()) {
        return Ok(());
    }
    Err(Stop::new(
        Exit::Refused,
        format!(
            "the catalog belongs to the repository {}, but {} lies here; nothing was touched",
            known.as_deref().unwrap_or("(unknown)"),
            repository.id()
        ),
    )
    .with_hint("mount the right disk, or give its place with --repository"))
}
