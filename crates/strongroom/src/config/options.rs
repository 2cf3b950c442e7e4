//! What can be said on the command line of `serve` and `worker`.

use std::path::PathBuf;

use clap::Args;

use crate::client::ClientOptions;

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
    /// Take no work here: `strongroom worker` does it elsewhere [env: STRONGROOM_NO_WORKER]
    #[arg(long)]
    no_worker: bool,
    #[command(flatten)]
    shared: SharedOptions,
    /// What `region` says in answers; names the first project [env: STRONGROOM_REGION] [default: eu-de]
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
}

/// Options of `worker`. Every one is an environment variable `STRONGROOM_<OPTION>` as well.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct WorkerOptions {
    /// A TOML file with any of the other options as keys; it may be the server's [env: STRONGROOM_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Set from the option that every command has.
    #[arg(skip)]
    data_dir: Option<String>,
    /// Answer /healthz, /readyz and /metrics here [env: STRONGROOM_HEALTH_LISTEN] [default: nowhere]
    #[arg(long, value_name = "ADDR:PORT")]
    health_listen: Option<String>,
    #[command(flatten)]
    shared: SharedOptions,
}

/// What both have.
#[derive(Debug, Clone, Default, Args)]
struct SharedOptions {
    /// The catalog, sqlite:///path or postgres://USER@HOST:PORT/DATABASE [env: STRONGROOM_DATABASE_URL]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// The password for it, in a file [env: STRONGROOM_DATABASE_PASSWORD_FILE]
    #[arg(long, value_name = "FILE")]
    database_password_file: Option<String>,
    /// Where backups are stored, file:///path [env: STRONGROOM_REPOSITORY]
    #[arg(long, value_name = "URL")]
    repository: Option<String>,
    /// zstd level of new data, 1 (fast) to 19 [env: STRONGROOM_COMPRESSION_LEVEL] [default: 1]
    #[arg(long, value_name = "LEVEL")]
    compression_level: Option<String>,
    /// Networks that sources may be in beside the public ones: loopback, private, 10.1.0.0/16, …
    /// [env: STRONGROOM_SOURCE_NETWORKS] [default: loopback with an embedded catalog, else none]
    #[arg(long, value_name = "LIST")]
    source_networks: Option<String>,
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
    /// Between a delete and the sweep that follows it, or `never` [env: STRONGROOM_SWEEP_DELAY_SECONDS] [default: 60]
    #[arg(long, value_name = "SECONDS")]
    sweep_delay_seconds: Option<String>,
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

fn of_command(client: &ClientOptions) -> Option<String> {
    client.data_dir.as_ref().map(|path| path.display().to_string())
}

fn said(flag: bool) -> Option<String> {
    flag.then(|| "true".to_owned())
}

impl ServeOptions {
    /// With the data directory that was given to the command as a whole.
    pub(crate) fn in_data_dir(&self, client: &ClientOptions) -> Self {
        Self { data_dir: of_command(client), ..self.clone() }
    }

    pub(super) fn given(&self, key: &str) -> Option<String> {
        match key {
            "data_dir" => self.data_dir.clone(),
            "listen" => self.listen.clone(),
            "no_worker" => said(self.no_worker),
            "region" => self.region.clone(),
            _ => self.shared.given(key),
        }
    }
}

impl WorkerOptions {
    /// With the data directory that was given to the command as a whole.
    pub(crate) fn in_data_dir(&self, client: &ClientOptions) -> Self {
        Self { data_dir: of_command(client), ..self.clone() }
    }

    pub(super) fn given(&self, key: &str) -> Option<String> {
        match key {
            "data_dir" => self.data_dir.clone(),
            "health_listen" => self.health_listen.clone(),
            _ => self.shared.given(key),
        }
    }
}

impl SharedOptions {
    fn given(&self, key: &str) -> Option<String> {
        match key {
            "database_url" => self.database_url.clone(),
            "database_password_file" => self.database_password_file.clone(),
            "repository" => self.repository.clone(),
            "compression_level" => self.compression_level.clone(),
            "source_networks" => self.source_networks.clone(),
            "recovery_key_file" => self.recovery_key_file.clone(),
            "tls_cert" => self.tls_cert.clone(),
            "tls_key" => self.tls_key.clone(),
            "insecure_http" => said(self.insecure_http),
            "log" => self.log.clone(),
            "log_format" => self.log_format.clone(),
            "sandbox_dir" => self.sandbox_dir.clone(),
            "drill_account" => self.drill_account.clone(),
            "drill_timeout_minutes" => self.drill_timeout_minutes.clone(),
            "sweep_delay_seconds" => self.sweep_delay_seconds.clone(),
            _ => None,
        }
    }
}
