//! What `serve` runs with: command line, then environment, then file, then default. Each value
//! remembers where it came from; an unknown key in the file is an error with its line.

mod file;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use strongroom_core::limits;
use strongroom_repository::WriterOptions;

use crate::client::ClientOptions;
use crate::exit::{Exit, Outcome, Stop};
use values::Values;

pub(crate) use values::{Origin, data_dir};

/// Every setting, as it is spelled in the file; `STRONGROOM_` and upper case in the environment.
const KEYS: [&str; 15] = [
    "data_dir",
    "listen",
    "database_url",
    "repository",
    "compression_level",
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
];

/// Options of `serve`. Every one is an environment variable `STRONGROOM_<OPTION>` as well.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ServeOptions {
    /// A TOML file with any of the other options as keys [env: STRONGROOM_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Set from the option that every command has.
    #[arg(skip)]
    data_dir: Option<String>,
    /// Where the API listens; port 0 picks a free one [env: STRONGROOM_LISTEN] [default: 127.0.0.1:8640]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// The catalog's database; SQLite only for now [env: STRONGROOM_DATABASE_URL]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Where backups are stored, file:///path [env: STRONGROOM_REPOSITORY]
    #[arg(long, value_name = "URL")]
    repository: Option<String>,
    /// zstd level of new data, 1 (fast) to 19 [env: STRONGROOM_COMPRESSION_LEVEL] [default: 1]
    #[arg(long, value_name = "LEVEL")]
    compression_level: Option<String>,
    /// The key of the repository [env: STRONGROOM_RECOVERY_KEY_FILE]
    #[arg(long, value_name = "FILE")]
    recovery_key_file: Option<String>,
    /// Certificate chain, PEM; needed beyond loopback [env: STRONGROOM_TLS_CERT]
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<String>,
    /// Private key of the certificate, PEM [env: STRONGROOM_TLS_KEY]
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,
    /// Allow plain HTTP beyond loopback [env: STRONGROOM_INSECURE_HTTP]
    #[arg(long)]
    insecure_http: bool,
    /// What `region` says in answers; names the first project [env: STRONGROOM_REGION] [default: eu-de]
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
    /// error, warn, info or debug [env: STRONGROOM_LOG] [default: info]
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
    /// text or json [env: STRONGROOM_LOG_FORMAT] [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Where verifications of level engine restore to [env: STRONGROOM_SANDBOX_DIR] [default: in the data directory]
    #[arg(long, value_name = "DIR")]
    sandbox_dir: Option<String>,
    /// Whom restored servers run as when this runs as root [env: STRONGROOM_DRILL_ACCOUNT] [default: nobody]
    #[arg(long, value_name = "NAME")]
    drill_account: Option<String>,
    /// Time for one verification of level engine [env: STRONGROOM_DRILL_TIMEOUT_MINUTES] [default: 1440]
    #[arg(long, value_name = "MINUTES")]
    drill_timeout_minutes: Option<String>,
}

impl ServeOptions {
    /// With the data directory that was given to the command as a whole.
    pub(crate) fn in_data_dir(&self, client: &ClientOptions) -> Self {
        let data_dir = client.data_dir.as_ref().map(|path| path.display().to_string());
        Self { data_dir, ..self.clone() }
    }

    fn given(&self, key: &str) -> Option<String> {
        match key {
            "data_dir" => self.data_dir.clone(),
            "listen" => self.listen.clone(),
            "database_url" => self.database_url.clone(),
            "repository" => self.repository.clone(),
            "compression_level" => self.compression_level.clone(),
            "recovery_key_file" => self.recovery_key_file.clone(),
            "tls_cert" => self.tls_cert.clone(),
            "tls_key" => self.tls_key.clone(),
            "insecure_http" => self.insecure_http.then(|| "true".to_owned()),
            "region" => self.region.clone(),
            "log" => self.log.clone(),
            "log_format" => self.log_format.clone(),
            "sandbox_dir" => self.sandbox_dir.clone(),
            "drill_account" => self.drill_account.clone(),
            "drill_timeout_minutes" => self.drill_timeout_minutes.clone(),
            _ => None,
        }
    }
}

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

/// The effective configuration.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) catalog_file: PathBuf,
    /// The directory of the repository.
    pub(crate) repository_dir: PathBuf,
    /// Nobody named the repository: it may be made in the data directory.
    pub(crate) repository_by_default: bool,
    pub(crate) compression_level: i32,
    pub(crate) recovery_key_file: PathBuf,
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    insecure_http: bool,
    pub(crate) region: String,
    pub(crate) log: String,
    pub(crate) log_format: LogFormat,
    pub(crate) drill: DrillConfig,
    /// Key, value and origin of each, for `config check`.
    pub(crate) listing: Vec<(&'static str, String, Origin)>,
}

impl Config {
    /// Resolves and checks everything; opens nothing.
    pub(crate) fn load(options: &ServeOptions) -> Outcome<Self> {
        let path = options.config.clone().or_else(|| std::env::var_os("STRONGROOM_CONFIG").map(Into::into));
        let file = path.as_deref().map(file::read).transpose()?.unwrap_or_default();
        let values = Values::new(|key| options.given(key), |name| std::env::var(name).ok(), file);
        Self::of(&values)
    }

    fn of(values: &Values) -> Outcome<Self> {
        let data_dir = PathBuf::from(values.text_or("data_dir", values::DATA_DIR));
        let listen = listen(values)?;
        let repository = values.text("repository").map(|url| repository_dir(&url)).transpose()?;
        let catalog = values.text("database_url").map(|url| catalog_file(&url)).transpose()?;
        let tls = tls(values)?;
        let insecure_http = values.flag("insecure_http")?;
        if !listen.ip().is_loopback() && tls.is_none() && !insecure_http {
            return Err(Stop::new(
                Exit::Refused,
                format!(
                    "listen: {listen} is not a loopback address, and tokens would cross the network in clear"
                ),
            )
            .with_hint("give --tls-cert and --tls-key, or say --insecure-http"));
        }
        let log_format = match values.text_or("log_format", "text").as_str() {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            other => return Err(values.wrong("log_format", other, "text or json")),
        };
        let mut config = Self {
            listen,
            catalog_file: catalog.unwrap_or_else(|| data_dir.join("catalog.sqlite")),
            repository_by_default: repository.is_none(),
            repository_dir: repository.unwrap_or_else(|| data_dir.join("repository")),
            compression_level: compression_level(values)?,
            recovery_key_file: values
                .text("recovery_key_file")
                .map_or_else(|| data_dir.join("recovery.key"), PathBuf::from),
            tls,
            insecure_http,
            region: region(values)?,
            log: values.text_or("log", "info"),
            log_format,
            drill: drill(values)?,
            listing: Vec::new(),
            data_dir,
        };
        config.listing = values.listing(|key| config.effective(key));
        Ok(config)
    }

    fn effective(&self, key: &str) -> Option<String> {
        let path = |path: &PathBuf| Some(path.display().to_string());
        match key {
            "data_dir" => path(&self.data_dir),
            "listen" => Some(self.listen.to_string()),
            "database_url" => Some(format!("sqlite://{}", self.catalog_file.display())),
            "repository" => Some(format!("file://{}", self.repository_dir.display())),
            "compression_level" => Some(self.compression_level.to_string()),
            "recovery_key_file" => path(&self.recovery_key_file),
            "tls_cert" => path(&self.tls.as_ref()?.0),
            "tls_key" => path(&self.tls.as_ref()?.1),
            "insecure_http" => Some(self.insecure_http.to_string()),
            "region" => Some(self.region.clone()),
            "log" => Some(self.log.clone()),
            "sandbox_dir" => path(self.drill.sandbox_dir.as_ref()?),
            "drill_account" => self.drill.account.clone(),
            "drill_timeout_minutes" => Some((self.drill.timeout.as_secs() / 60).to_string()),
            "log_format" => Some(if self.log_format == LogFormat::Json { "json" } else { "text" }.to_owned()),
            _ => None,
        }
    }
}

fn listen(values: &Values) -> Outcome<SocketAddr> {
    let text = values.text_or("listen", "127.0.0.1:8640");
    text.parse().map_err(|_| values.wrong("listen", &text, "ADDRESS:PORT, such as 127.0.0.1:8640 or [::1]:0"))
}

/// What is stored already keeps the level it was written with; every level reads alike.
fn compression_level(values: &Values) -> Outcome<i32> {
    let text = values.text_or("compression_level", &WriterOptions::default().full_level.to_string());
    match text.parse() {
        Ok(level) if limits::COMPRESSION_LEVELS.contains(&level) => Ok(level),
        _ => Err(values.wrong("compression_level", &text, "a number from 1 to 19")),
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

fn catalog_file(url: &str) -> Outcome<PathBuf> {
    if url.starts_with("postgres:") || url.starts_with("postgresql:") {
        return Err(Stop::new(
            Exit::Refused,
            "database_url: a catalog in PostgreSQL is not supported by this release",
        )
        .with_hint("give sqlite:///path, or leave the option away"));
    }
    local_path(url, "sqlite://", "database_url")
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
        Config::of(&Values::new(|_| None, |_| None, file::parse("f.toml", lines)?))
    }

    #[test]
    fn nothing_has_to_be_configured() {
        let config = load("").unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:8640");
        assert_eq!(config.catalog_file, PathBuf::from("./strongroom-data/catalog.sqlite"));
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
        assert_eq!(load("database_url = 'postgres://h/d'").unwrap_err().exit, Exit::Refused);
        for wrong in ["repository = '/path'", "repository = 'file://path'", "repository = 'file:///a?b'"] {
            assert_eq!(load(wrong).unwrap_err().exit, Exit::Usage, "{wrong}");
        }
        assert_eq!(load("repository = 'file:///a/b'").unwrap().repository_dir, PathBuf::from("/a/b"));
    }
}
