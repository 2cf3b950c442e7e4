//! What `serve` and `worker` run with: command line, then environment, then file, then default. Each value
//! remembers where it came from; an unknown key in the file is an error with its line.

mod catalog;
mod file;
mod options;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use strongroom_core::limits;
use strongroom_core::network::SourceNetworks;
use strongroom_repository::WriterOptions;

use crate::exit::{Exit, Outcome, Stop};
use values::Values;

pub(crate) use catalog::CatalogPlace;
pub(crate) use options::{ServeOptions, WorkerOptions};
pub(crate) use values::{Origin, data_dir};

/// Every setting, as it is spelled in the file; `STRONGROOM_` and upper case in the environment.
const KEYS: [&str; 20] = [
    "data_dir",
    "listen",
    "no_worker",
    "health_listen",
    "database_url",
    "database_password_file",
    "repository",
    "compression_level",
    "source_networks",
    "recovery_key_file",
    "tls_cert",
    "tls_key",
    "insecure_http",
    "region",
    "log",
    "log_format",
    "sandbox_dir",
    "drill_account",
    "drill_timeout_minutes",
    "sweep_delay_seconds",
];

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// How verifications of level engine are run.
#[derive(Debug, Clone)]
pub(crate) struct DrillConfig {
    pub(crate) sandbox_dir: Option<PathBuf>,
    pub(crate) account: Option<String>,
    pub(crate) timeout: Duration,
}

/// Which process the configuration is for. One file may serve both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Serve,
    Worker,
}

/// The effective configuration.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    role: Role,
    pub(crate) data_dir: PathBuf,
    /// Where the API listens.
    pub(crate) listen: SocketAddr,
    /// Whether this server leaves all work to workers elsewhere.
    pub(crate) no_worker: bool,
    /// Where a worker answers about its health.
    pub(crate) health_listen: Option<SocketAddr>,
    pub(crate) catalog: CatalogPlace,
    /// The directory of the repository.
    pub(crate) repository_dir: PathBuf,
    /// Nobody named the repository: it may be made in the data directory.
    pub(crate) repository_by_default: bool,
    pub(crate) compression_level: i32,
    pub(crate) source_networks: SourceNetworks,
    pub(crate) recovery_key_file: PathBuf,
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    insecure_http: bool,
    pub(crate) region: String,
    pub(crate) log: String,
    pub(crate) log_format: LogFormat,
    pub(crate) drill: DrillConfig,
    /// Between a delete and the sweep that follows it; without one, nobody sweeps unasked.
    pub(crate) sweep_delay: Option<Duration>,
    /// Key, value and origin of each, for `config check`.
    pub(crate) listing: Vec<(&'static str, String, Origin)>,
}

impl Config {
    /// Resolves and checks everything; opens nothing.
    pub(crate) fn load(options: &ServeOptions) -> Outcome<Self> {
        Self::layered(Role::Serve, options.config.as_ref(), |key| options.given(key))
    }

    /// As [`Config::load`], for a process that only works.
    pub(crate) fn load_worker(options: &WorkerOptions) -> Outcome<Self> {
        Self::layered(Role::Worker, options.config.as_ref(), |key| options.given(key))
    }

    fn layered(role: Role, file: Option<&PathBuf>, given: impl Fn(&str) -> Option<String>) -> Outcome<Self> {
        let path = file.cloned().or_else(|| std::env::var_os("STRONGROOM_CONFIG").map(Into::into));
        let file = path.as_deref().map(file::read).transpose()?.unwrap_or_default();
        Self::of(role, &Values::new(given, |name| std::env::var(name).ok(), file))
    }

    fn of(role: Role, values: &Values) -> Outcome<Self> {
        let data_dir = PathBuf::from(values.text_or("data_dir", values::DATA_DIR));
        let repository = values.text("repository").map(|url| repository_dir(&url)).transpose()?;
        let log_format = match values.text_or("log_format", "text").as_str() {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            other => return Err(values.wrong("log_format", other, "text or json")),
        };
        let catalog = CatalogPlace::of(values, &data_dir)?;
        let mut config = Self {
            role,
            source_networks: source_networks(values, &catalog)?,
            listen: address(values, "listen", "127.0.0.1:8640")?,
            no_worker: values.flag("no_worker")?,
            health_listen: health_listen(values)?,
            catalog,
            repository_by_default: repository.is_none(),
            repository_dir: repository.unwrap_or_else(|| data_dir.join("repository")),
            compression_level: compression_level(values)?,
            recovery_key_file: values
                .text("recovery_key_file")
                .map_or_else(|| data_dir.join("recovery.key"), PathBuf::from),
            tls: tls(values)?,
            insecure_http: values.flag("insecure_http")?,
            region: region(values)?,
            log: values.text_or("log", "info"),
            log_format,
            drill: drill(values)?,
            sweep_delay: sweep_delay(values)?,
            listing: Vec::new(),
            data_dir,
        };
        config.refuse_clear_text()?;
        config.refuse_lonely_worker()?;
        config.listing = values.listing(|key| config.effective(key));
        Ok(config)
    }

    fn refuse_clear_text(&self) -> Outcome<()> {
        let (key, address) = match self.role {
            Role::Serve => ("listen", Some(self.listen)),
            Role::Worker => ("health_listen", self.health_listen),
        };
        let Some(address) = address.filter(|address| !address.ip().is_loopback()) else { return Ok(()) };
        if self.tls.is_some() || self.insecure_http {
            return Ok(());
        }
        let what = format!(
            "{key}: {address} is not a loopback address, and answers would cross the network in clear"
        );
        Err(Stop::new(Exit::Refused, what).with_hint("give --tls-cert and --tls-key, or say --insecure-http"))
    }

    /// A worker shares catalog and repository with a server; a file is shared with nobody.
    fn refuse_lonely_worker(&self) -> Outcome<()> {
        if self.role == Role::Serve {
            return Ok(());
        }
        if let CatalogPlace::File(_) = self.catalog {
            return Err(Stop::new(
                Exit::Refused,
                "a worker of its own needs a catalog in PostgreSQL: a catalog in an SQLite file has the worker of \
                 its server",
            )
            .with_hint("give --database-url postgres://USER@HOST:PORT/DATABASE, the same as the server's"));
        }
        if self.repository_by_default {
            return Err(Stop::new(
                Exit::Refused,
                "a worker of its own needs the repository that its server uses, by name",
            )
            .with_hint("give --repository file:///path of the directory that all of them share"));
        }
        Ok(())
    }

    fn effective(&self, key: &str) -> Option<String> {
        let path = |path: &PathBuf| Some(path.display().to_string());
        match key {
            "data_dir" => path(&self.data_dir),
            "listen" => Some(self.listen.to_string()),
            "no_worker" => Some(self.no_worker.to_string()),
            "health_listen" => Some(self.health_listen?.to_string()),
            "database_url" => Some(self.catalog.shown()),
            "repository" => Some(format!("file://{}", self.repository_dir.display())),
            "compression_level" => Some(self.compression_level.to_string()),
            "source_networks" => Some(self.source_networks.to_string()),
            "recovery_key_file" => path(&self.recovery_key_file),
            "tls_cert" => path(&self.tls.as_ref()?.0),
            "tls_key" => path(&self.tls.as_ref()?.1),
            "insecure_http" => Some(self.insecure_http.to_string()),
            "region" => Some(self.region.clone()),
            "log" => Some(self.log.clone()),
            "sandbox_dir" => path(self.drill.sandbox_dir.as_ref()?),
            "drill_account" => self.drill.account.clone(),
            "drill_timeout_minutes" => Some((self.drill.timeout.as_secs() / 60).to_string()),
            "sweep_delay_seconds" => {
                Some(self.sweep_delay.map_or_else(|| NEVER.to_owned(), |delay| delay.as_secs().to_string()))
            }
            "log_format" => Some(if self.log_format == LogFormat::Json { "json" } else { "text" }.to_owned()),
            _ => None,
        }
    }
}

fn address(values: &Values, key: &str, default: &str) -> Outcome<SocketAddr> {
    let text = values.text_or(key, default);
    text.parse().map_err(|_| values.wrong(key, &text, "ADDRESS:PORT, such as 127.0.0.1:8640 or [::1]:0"))
}

fn health_listen(values: &Values) -> Outcome<Option<SocketAddr>> {
    values.text("health_listen").map(|_| address(values, "health_listen", "")).transpose()
}

/// What is stored already keeps the level it was written with; every level reads alike.
fn compression_level(values: &Values) -> Outcome<i32> {
    let text = values.text_or("compression_level", &WriterOptions::default().full_level.to_string());
    match text.parse() {
        Ok(level) if limits::COMPRESSION_LEVELS.contains(&level) => Ok(level),
        _ => Err(values.wrong("compression_level", &text, "a number from 1 to 19")),
    }
}

/// Where catalog and server are one, the database beside them is what people back up first. With
/// several machines, this machine is no tenant's database.
fn source_networks(values: &Values, catalog: &CatalogPlace) -> Outcome<SourceNetworks> {
    let Some(text) = values.text("source_networks") else {
        return Ok(match catalog {
            CatalogPlace::File(_) => SourceNetworks::loopback(),
            CatalogPlace::Server(_) => SourceNetworks::default(),
        });
    };
    text.parse().map_err(|wrong: String| {
        values.wrong(
            "source_networks",
            &wrong,
            "loopback, private, networks such as 10.1.0.0/16, or addresses",
        )
    })
}

const NEVER: &str = "never";

fn sweep_delay(values: &Values) -> Outcome<Option<Duration>> {
    match values.text("sweep_delay_seconds") {
        None => Ok(Some(Duration::from_secs(limits::SWEEP_DELAY_S))),
        Some(text) if text == NEVER => Ok(None),
        Some(text) => match text.parse::<u32>() {
            Ok(seconds) => Ok(Some(Duration::from_secs(u64::from(seconds)))),
            Err(_) => Err(values.wrong("sweep_delay_seconds", &text, "a number of seconds, or `never`")),
        },
    }
}

fn tls(values: &Values) -> Outcome<Option<(PathBuf, PathBuf)>> {
    match (values.text("tls_cert"), values.text("tls_key")) {
        (Some(cert), Some(key)) => Ok(Some((cert.into(), key.into()))),
        (None, None) => Ok(None),
        _ => Err(Stop::usage("tls_cert and tls_key must be given together")),
    }
}

fn drill(values: &Values) -> Outcome<DrillConfig> {
    let timeout = match values.text("drill_timeout_minutes") {
        None => Duration::from_millis(limits::DRILL_TIMEOUT_MS),
        Some(text) => match text.parse::<u32>() {
            Ok(minutes) if minutes > 0 => Duration::from_secs(u64::from(minutes) * 60),
            _ => return Err(values.wrong("drill_timeout_minutes", &text, "a number of minutes, 1 or more")),
        },
    };
    let sandbox_dir = values.text("sandbox_dir").map(PathBuf::from);
    Ok(DrillConfig { sandbox_dir, account: values.text("drill_account"), timeout })
}

fn region(values: &Values) -> Outcome<String> {
    let region = values.text_or("region", "eu-de");
    let is_plain = (1..=64).contains(&region.len())
        && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if is_plain { Ok(region) } else { Err(values.wrong("region", &region, "letters, digits, - and _")) }
}

/// `file:///path` is a directory; other stores are refused by name until they exist.
fn repository_dir(url: &str) -> Outcome<PathBuf> {
    if url.starts_with("s3:") {
        return Err(Stop::new(Exit::Refused, "repository: object stores are not supported by this release")
            .with_hint("give file:///path, or leave the option away"));
    }
    local_path(url, "file://", "repository")
}

fn local_path(url: &str, scheme: &str, key: &str) -> Outcome<PathBuf> {
    let path = url.strip_prefix(scheme).filter(|path| path.starts_with('/') && path.len() > 1);
    // A query or an escape would be taken for part of the name: rather refuse than guess.
    match path {
        Some(path) if !path.contains(['?', '%', '#']) => Ok(path.into()),
        _ => Err(Stop::usage(format!("{key}: {url} is not {scheme} and an absolute path"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(lines: &str) -> Outcome<Config> {
        of(Role::Serve, lines)
    }

    fn of(role: Role, lines: &str) -> Outcome<Config> {
        Config::of(role, &Values::new(|_| None, |_| None, file::parse("f.toml", lines)?))
    }

    #[test]
    fn nothing_has_to_be_configured() {
        let config = load("").unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:8640");
        assert_eq!(config.catalog.shown(), "sqlite://./strongroom-data/catalog.sqlite");
        assert!(!config.no_worker);
        assert_eq!(config.repository_dir, PathBuf::from("./strongroom-data/repository"));
        assert!(config.repository_by_default);
    }

    #[test]
    fn a_compression_level_is_one_that_zstd_has() {
        assert_eq!(load("").unwrap().compression_level, 1);
        let (lowest, highest) = limits::COMPRESSION_LEVELS.into_inner();
        for level in [lowest, highest] {
            assert_eq!(load(&format!("compression_level = {level}")).unwrap().compression_level, level);
        }
        for wrong in [(lowest - 1).to_string(), (highest + 1).to_string(), "'fast'".to_owned()] {
            let refused = load(&format!("compression_level = {wrong}")).unwrap_err();
            assert_eq!(refused.exit, Exit::Usage, "{wrong}");
        }
    }

    #[test]
    fn plain_http_beyond_loopback_has_to_be_asked_for() {
        assert_eq!(load("listen = '0.0.0.0:1'").unwrap_err().exit, Exit::Refused);
        assert!(load("listen = '0.0.0.0:1'\ninsecure_http = true").is_ok());
        assert!(load("listen = '0.0.0.0:1'\ntls_cert = 'c'\ntls_key = 'k'").is_ok());
        assert!(load("listen = '[::1]:1'").is_ok());
        assert_eq!(load("tls_cert = 'c'").unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn what_does_not_exist_yet_is_refused_by_name() {
        let refused = load("repository = 's3://bucket/x'").unwrap_err();
        assert_eq!((refused.exit, refused.message.contains("object stores")), (Exit::Refused, true));
        for wrong in [
            "database_url = 'mysql://h/d'",
            "database_url = 'sqlite://d'",
            "repository = '/path'",
            "repository = 'file://path'",
            "repository = 'file:///a?b'",
        ] {
            assert_eq!(load(wrong).unwrap_err().exit, Exit::Usage, "{wrong}");
        }
        assert_eq!(load("repository = 'file:///a/b'").unwrap().repository_dir, PathBuf::from("/a/b"));
    }

    #[test]
    fn sweeps_follow_deletes_after_a_while_or_never() {
        let delay = |file: &str| load(file).map(|config| config.sweep_delay.map(|delay| delay.as_secs()));
        assert_eq!(delay("").unwrap(), Some(limits::SWEEP_DELAY_S));
        assert_eq!(delay("sweep_delay_seconds = 0").unwrap(), Some(0));
        assert_eq!(delay("sweep_delay_seconds = 86400").unwrap(), Some(86_400));
        assert_eq!(delay("sweep_delay_seconds = 'never'").unwrap(), None);
        for wrong in ["-1", "'1h'", "1.5"] {
            assert_eq!(
                delay(&format!("sweep_delay_seconds = {wrong}")).unwrap_err().exit,
                Exit::Usage,
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_worker_of_its_own_needs_what_it_can_share() {
        let server = "database_url = 'postgres://u@127.0.0.1/d'";
        let refused = of(Role::Worker, "repository = 'file:///r'").unwrap_err();
        assert_eq!((refused.exit, refused.message.contains("PostgreSQL")), (Exit::Refused, true));
        let refused = of(Role::Worker, server).unwrap_err();
        assert_eq!((refused.exit, refused.message.contains("repository")), (Exit::Refused, true));
        let both = format!("{server}\nrepository = 'file:///r'");
        assert_eq!(of(Role::Worker, &both).unwrap().health_listen, None);
        // A server's own address in a file that both read is not the worker's concern.
        assert!(of(Role::Worker, &format!("{both}\nlisten = '0.0.0.0:1'")).is_ok());
        let open = format!("{both}\nhealth_listen = '0.0.0.0:1'");
        assert_eq!(of(Role::Worker, &open).unwrap_err().exit, Exit::Refused);
        assert!(of(Role::Worker, &format!("{open}\ninsecure_http = true")).is_ok());
        assert!(load(&format!("{server}\nno_worker = true")).unwrap().no_worker);
    }
}
