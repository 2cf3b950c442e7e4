//! From a data directory to a running service: the first start makes everything, later ones open
//! what is there, and nothing is ever made over something that exists.
//!
//! Order of a first start, so that a kill anywhere is healed by starting again: recovery key →
//! repository → `bootstrap.json` → all rows of the catalog in one transaction, the repository's id
//! among them. A catalog in a file is made under a temporary name and gets its own last of all; one
//! in PostgreSQL is complete when it names a repository, and processes take turns to look.

mod files;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FlockOperation;
use secrecy::ExposeSecret;
use strongroom_catalog::{Catalog, FirstStartTurn};
use strongroom_core::time::{Clock, Randomness};
use strongroom_repository::{LocalStore, RecoveryKey, Repository, Store, WriterOptions};
use strongroom_service::{FirstStart, Parts, Service, Settings};

use crate::config::{CatalogPlace, Config};
use crate::engines::engines;
use crate::exit::{Exit, Outcome, Stop};
use crate::ports::{SystemClock, SystemRandomness};

pub(crate) use files::{Credentials, read_credentials};

/// A service ready to be used, and the locks on its data directory and its catalog.
pub(crate) struct Opened {
    pub(crate) service: Service,
    pub(crate) catalog: Catalog,
    pub(crate) data_dir: PathBuf,
    _locks: Vec<File>,
}

/// Opens the data directory, making it and everything else when it is new.
pub(crate) async fn open(config: &Config) -> Outcome<Opened> {
    let ground = Ground::take(config)?;
    match &config.catalog {
        CatalogPlace::File(file) if file.exists() => {}
        CatalogPlace::File(file) => make_in_file(&ground, file).await?,
        CatalogPlace::Server(server) => {
            let mut turn = FirstStartTurn::take(server.url.expose_secret()).await?;
            if turn.is_due().await? {
                make_on_server(&ground, server.url.expose_secret()).await?;
            }
            turn.end().await?;
        }
    }
    open_made(ground).await
}

/// Opens what a server has made, for a process that only works: it makes nothing.
pub(crate) async fn open_existing(config: &Config) -> Outcome<Opened> {
    let ground = Ground::take(config)?;
    if let CatalogPlace::Server(server) = &config.catalog {
        let mut turn = FirstStartTurn::take(server.url.expose_secret()).await?;
        let is_due = turn.is_due().await?;
        turn.end().await?;
        if is_due {
            return Err(no_first_start());
        }
    }
    open_made(ground).await
}

/// What everything else stands on.
struct Ground<'a> {
    config: &'a Config,
    data_dir: PathBuf,
    locks: Vec<File>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Randomness>,
}

impl<'a> Ground<'a> {
    fn take(config: &'a Config) -> Outcome<Self> {
        let data_dir = files::make_private_dir(&config.data_dir)?;
        let mut locks = vec![lock(&data_dir.join("lock"), &data_dir)?];
        if let CatalogPlace::File(file) = &config.catalog {
            // Of its own, also in our data directory: a server with another one may be sent here.
            let file = absolute(file);
            locks.push(lock(&file.with_extension("lock"), &file)?);
        }
        Ok(Self { config, data_dir, locks, clock: Arc::new(SystemClock), random: Arc::new(SystemRandomness) })
    }

    async fn open_catalog(&self, url: &str, key: &RecoveryKey) -> Outcome<Catalog> {
        Ok(Catalog::open(url, key.catalog_key(), self.random.clone(), self.clock.now()).await?)
    }
}

async fn open_made(ground: Ground<'_>) -> Outcome<Opened> {
    let config = ground.config;
    let key = read_key(&config.recovery_key_file)?;
    let url = match &config.catalog {
        CatalogPlace::File(file) => sqlite_url(file),
        CatalogPlace::Server(server) => server.url.expose_secret().to_owned(),
    };
    let catalog = ground.open_catalog(&url, &key).await?;
    end_leases(&catalog, &*ground.clock).await?;
    let repository = Repository::open(store(config)?, &key, ground.clock.clone(), ground.random.clone())?;
    check_pair(&catalog, &repository).await?;
    let location = format!("file://{}", absolute(&config.repository_dir).display());
    let service = Service::new(Parts {
        catalog: catalog.clone(),
        repository,
        engines: engines(),
        clock: ground.clock,
        random: ground.random,
        recovery_key: key,
        location,
        data_dir: ground.data_dir.clone(),
        settings: settings(config),
    });
    service.time_refresh().await?;
    tokio::spawn(service.clone().time_keep());
    tokio::spawn(service.clone().refusals_keep());
    Ok(Opened { service, catalog, data_dir: ground.data_dir, _locks: ground.locks })
}

/// Nobody but the holder of the locks works on a catalog in a file: what an earlier process held when it
/// was killed is taken up now and not when its leases are over.
async fn end_leases(catalog: &Catalog, clock: &dyn Clock) -> Outcome<()> {
    if catalog.is_shared() {
        return Ok(());
    }
    let ended = catalog.leases_end(clock.now()).await?;
    if ended > 0 {
        tracing::info!(
            "An earlier process was ended in the middle of {ended} jobs or captures; they go on now."
        );
    }
    Ok(())
}

fn settings(config: &Config) -> Settings {
    Settings {
        writer: WriterOptions { full_level: config.compression_level, ..WriterOptions::default() },
        source_networks: config.source_networks.clone(),
        sandbox_dir: config.drill.sandbox_dir.clone(),
        drill_account: config.drill.account.clone(),
        drill_timeout: config.drill.timeout,
        sweep_delay: config.sweep_delay,
        ..Settings::default()
    }
}

fn absolute(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// One server at a time on a data directory, and on a catalog in a file wherever that lies.
fn lock(path: &Path, what: &Path) -> Outcome<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|error| files::unusable(path, &error))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        Stop::new(Exit::Refused, format!("another strongroom serves {} already", what.display()))
            .with_hint("stop that one, or give another --data-dir")
    })?;
    Ok(file)
}

fn store(config: &Config) -> Outcome<Arc<dyn Store>> {
    Ok(Arc::new(LocalStore::open(&config.repository_dir)?))
}

fn sqlite_url(file: &Path) -> String {
    // The address is parsed again: what has a meaning in it must stand for itself.
    let path = file.display().to_string().replace('%', "%25").replace('?', "%3F").replace('#', "%23");
    format!("sqlite://{path}")
}

/// A first start with a catalog of its own. May be made again after a kill at any place.
async fn make_in_file(ground: &Ground<'_>, file: &Path) -> Outcome<()> {
    let (key, repository) = make_repository(ground)?;
    let made = file.with_extension("new");
    files::remove_catalog(&made)?;
    let catalog = ground.open_catalog(&sqlite_url(&made), &key).await?;
    fill(ground, &catalog, &repository).await?;
    catalog.close().await;
    files::publish(&made, file)
}

/// The same in a database that is there already; the caller has the turn.
async fn make_on_server(ground: &Ground<'_>, url: &str) -> Outcome<()> {
    let (key, repository) = make_repository(ground)?;
    let catalog = ground.open_catalog(url, &key).await?;
    fill(ground, &catalog, &repository).await?;
    catalog.close().await;
    Ok(())
}

async fn fill(ground: &Ground<'_>, catalog: &Catalog, repository: &Repository) -> Outcome<()> {
    let (now, region) = (ground.clock.now(), &ground.config.region);
    let first = FirstStart::plan(&*ground.random, now, region)?;
    let credentials = Credentials::new(first.bootstrap(), &ground.data_dir, region);
    files::write_credentials(&ground.data_dir, &credentials)?;
    Ok(first.store(catalog, repository.id()).await?)
}

/// The key and the repository of a first start, or what a killed one left of them.
fn make_repository(ground: &Ground<'_>) -> Outcome<(RecoveryKey, Repository)> {
    let (config, clock, random) = (ground.config, &ground.clock, &ground.random);
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
        files::replace_private(&config.recovery_key_file, &format!("{}\n", key.to_text()))?;
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
            "the repository holds backups, but the catalog is new; nothing was made over them",
        )
        .with_hint(
            "bring back the catalog from a copy of it; the command that rebuilds it \
             (`repository rebuild-catalog`) does not exist yet",
        ));
    }
    Ok((key, repository))
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

fn no_first_start() -> Stop {
    Stop::new(Exit::Refused, "the catalog has had no first start yet; nothing was made")
        .with_hint("start `strongroom serve` with this catalog first")
}

async fn check_pair(catalog: &Catalog, repository: &Repository) -> Outcome<()> {
    let known = catalog.repository_id().await?;
    if known.is_none() {
        return Err(no_first_start());
    }
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
