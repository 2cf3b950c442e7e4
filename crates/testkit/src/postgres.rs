//! A real PostgreSQL server for tests: made in a temporary folder, on loopback, gone on drop.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

pub use crate::postgres_binaries::{available, bindir, require, tool};

use crate::account::Account;
use crate::port::Port;

/// The superuser of every test server, and its password.
pub const SUPERUSER: &str = "postgres";
pub const SUPERUSER_PASSWORD: &str = "pässword of the superuser";

const READY_TIMEOUT: Duration = Duration::from_mins(2);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// What a test server is made with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Page checksums on.
    pub checksums: bool,
    /// A certificate for `localhost`, signed by an authority of its own (`ca_pem`).
    pub tls: bool,
    /// What the certificate stands for.
    pub certificate_names: Vec<String>,
    /// Survive a power cut; off, because tests do not cut the power and fsync is slow.
    pub fsync: bool,
    /// More arguments for `initdb`, such as `--wal-segsize=1`.
    pub initdb: Vec<String>,
    /// Lines for the end of `postgresql.conf`; later lines win.
    pub conf: Vec<String>,
    /// The whole `pg_hba.conf`; empty for the usual one (see `HBA`).
    pub hba: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            checksums: true,
            tls: false,
            certificate_names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            fsync: false,
            initdb: Vec::new(),
            conf: Vec::new(),
            hba: Vec::new(),
        }
    }
}

/// The superuser comes in over the socket without a password; everybody else proves who they are.
const HBA: [&str; 4] = [
    "local all postgres trust",
    "local replication postgres trust",
    "host all all 127.0.0.1/32 scram-sha-256",
    "host replication all 127.0.0.1/32 scram-sha-256",
];

/// A running (or stopped) server and its folders.
pub struct PostgresServer {
    version: u32,
    bindir: PathBuf,
    account: Account,
    /// Holds the log, the socket and, for a server made here, the data directory.
    home: TempDir,
    data_dir: PathBuf,
    port: Port,
    ca_pem: Option<String>,
    process: Option<Child>,
}

impl PostgresServer {
    /// Makes a cluster and starts it.
    pub fn start(version: u32, options: &Options) -> anyhow::Result<Self> {
        let mut server = Self::new(version)?;
        server.initdb(options)?;
        if options.tls {
            server.install_certificate(&options.certificate_names)?;
        }
        server.configure(options)?;
        server.launch()?;
        Ok(server)
    }

    /// Starts a server on an existing data directory, such as a restored one. The directory is
    /// handed to the ordinary account and stays where it is when the server is dropped.
    pub fn adopt(version: u32, data_dir: &Path) -> anyhow::Result<Self> {
        let mut server = Self::new(version)?;
        data_dir.clone_into(&mut server.data_dir);
        server.account.own(data_dir)?;
        server.launch()?;
        Ok(server)
    }

    fn new(version: u32) -> anyhow::Result<Self> {
        let home = tempfile::Builder::new().prefix("strongroom-pg-").tempdir()?;
        let account = Account::ordinary();
        account.own(home.path())?;
        Ok(Self {
            version,
            bindir: bindir(version)?,
            account,
            data_dir: home.path().join("data"),
            home,
            port: Port::hold()?,
            ca_pem: None,
            process: None,
        })
    }

    pub fn version(&self) -> u32 {
        self.version
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// A folder of the server's account for tablespaces and the like.
    pub fn make_folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.home.path().join(name);
        fs::create_dir(&folder)?;
        self.account.own(&folder)?;
        Ok(folder)
    }

    /// The authority that signed the server's certificate, when it has one.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Process id of the postmaster.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// What the server has written to its log.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.home.path().join("log")).unwrap_or_default()).into_owned()
    }

    /// Runs SQL as the superuser over the socket and answers with the bare rows: fields are
    /// separated by `|`, rows by newlines. Any error is an error.
    pub fn psql(&self, database: &str, sql: &str) -> anyhow::Result<String> {
        let arguments = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql];
        Ok(self.run_tool("psql", &arguments)?.trim_end_matches('\n').to_owned())
    }

    /// Runs a tool of this version under the ordinary account, pointed at the server by the
    /// usual environment variables. A status other than 0 is an error with all the output.
    pub fn run_tool(&self, tool: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.tool(tool).args(arguments).stdin(Stdio::null()).output()?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "{tool} {arguments:?} failed ({}): {stdout}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(stdout)
    }

    /// Whether the server came with this tool. One that reads a data directory must be of its version.
    pub fn has_tool(&self, tool: &str) -> bool {
        self.bindir.join(tool).is_file()
    }

    /// A command for a tool of this version, as `run_tool` would run it.
    pub fn tool(&self, tool: &str) -> Command {
        // One that is nowhere fails when it is run, with its name.
        let path = crate::postgres_binaries::tool(self.version, tool);
        let mut command = Command::new(path.unwrap_or_else(|_| self.bindir.join(tool)));
        command
            .env("PGHOST", self.home.path())
            .env("PGPORT", self.port().to_string())
            .env("PGUSER", SUPERUSER)
            .env("PGDATABASE", "postgres")
            .env("PGCLIENTENCODING", "UTF8")
            .env("LC_ALL", "C")
            .current_dir(self.home.path());
        self.account.apply(&mut command);
        command
    }

    /// Ends the server in good order (sessions are cut off).
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        signal(&process, Signal::INT)?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        while process.try_wait()?.is_none() {
            if Instant::now() > deadline {
                process.kill()?;
                process.wait()?;
                bail!("the server did not stop within {STOP_TIMEOUT:?}: {}", self.log());
            }
            pause();
        }
        Ok(())
    }

    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.stop()?;
        self.launch()
    }

    /// Starts again after `stop` or `kill9`.
    pub fn launch(&mut self) -> anyhow::Result<()> {
        ensure!(self.process.is_none(), "the server is running");
        let log = fs::OpenOptions::new().create(true).append(true).open(self.home.path().join("log"))?;
        let mut command = Command::new(self.bindir.join("postgres"));
        command
            .arg("-D")
            .arg(&self.data_dir)
            .args(["-c", "listen_addresses=127.0.0.1", "-c"])
            .arg(format!("port={}", self.port()))
            .arg("-c")
            .arg(format!("unix_socket_directories={}", self.home.path().display()))
            .env("LC_ALL", "C")
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.account.apply(&mut command);
        self.process = Some(command.spawn().context("cannot run postgres")?);
        self.wait_until_ready()
    }

    /// Ends the server as a power cut would end it: nothing is flushed, nothing said.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        let children = children_of(process.id())?;
        process.kill()?;
        process.wait()?;
        // The children notice the death of their parent by themselves; as long as one of them holds
        // the shared memory, no server starts on this directory.
        let pid_file = self.data_dir.join("postmaster.pid");
        let deadline = Instant::now() + STOP_TIMEOUT;
        while children.iter().any(|child| is_alive(*child)) && Instant::now() < deadline {
            pause();
        }
        if pid_file.exists() {
            fs::remove_file(pid_file)?;
        }
        Ok(())
    }

    /// Freezes the postmaster and every process of the server, or lets them go on.
    pub fn freeze(&self, frozen: bool) -> anyhow::Result<()> {
        let process = self.process.as_ref().context("the server is not running")?;
        signal_all(process, if frozen { Signal::STOP } else { Signal::CONT })
    }

    fn initdb(&self, options: &Options) -> anyhow::Result<()> {
        let password_file = self.home.path().join("password");
        fs::write(&password_file, SUPERUSER_PASSWORD)?;
        self.account.own(&password_file)?;
        let mut command = self.tool("initdb");
        command.args(["--no-sync", "-U", SUPERUSER, "-A", "scram-sha-256"]);
        command.arg("-D").arg(&self.data_dir).arg("--pwfile").arg(&password_file);
        let has_locale =
            options.initdb.iter().any(|word| word.contains("--locale") || word.contains("--encoding"));
        if !has_locale {
            command.args(["--locale=C", "--encoding=UTF8"]);
        }
        match (options.checksums, self.version) {
            (true, _) => command.arg("--data-checksums"),
            (false, 18..) => command.arg("--no-data-checksums"),
            (false, _) => &mut command,
        };
        let output = command.args(&options.initdb).output().context("cannot run initdb")?;
        ensure!(
            output.status.success(),
            "initdb failed: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    fn configure(&self, options: &Options) -> anyhow::Result<()> {
        let conf_path = self.data_dir.join("postgresql.conf");
        let mut conf = fs::read_to_string(&conf_path)?;
        let fsync = if options.fsync { "on" } else { "off" };
        conf.push_str(
            "\n# Test server.\nshared_buffers = 32MB\nmax_connections = 50\nmax_wal_size = 512MB\n",
        );
        conf.push_str("password_encryption = 'scram-sha-256'\n");
        conf.push_str("fsync = ");
        conf.push_str(fsync);
        conf.push('\n');
        if options.tls {
            conf.push_str("ssl = on\n");
        }
        for line in &options.conf {
            conf.push_str(line);
            conf.push('\n');
        }
        fs::write(&conf_path, conf)?;
        self.write_hba(&options.hba)
    }

    /// Replaces `pg_hba.conf`; a running server takes it up with `pg_reload_conf()`.
    pub fn write_hba(&self, lines: &[String]) -> anyhow::Result<()> {
        let text = if lines.is_empty() { HBA.join("\n") } else { lines.join("\n") };
        fs::write(self.data_dir.join("pg_hba.conf"), text + "\n")?;
        Ok(())
    }

    fn install_certificate(&mut self, names: &[String]) -> anyhow::Result<()> {
        let authority_key = rcgen::KeyPair::generate()?;
        let mut authority = rcgen::CertificateParams::new(Vec::new())?;
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        authority.distinguished_name.push(rcgen::DnType::CommonName, "strongroom test authority");
        self.ca_pem = Some(authority.self_signed(&authority_key)?.pem());
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let key = rcgen::KeyPair::generate()?;
        let certificate = rcgen::CertificateParams::new(names.to_vec())?.signed_by(&key, &issuer)?;
        let key_path = self.data_dir.join("server.key");
        fs::write(&key_path, key.serialize_pem())?;
        fs::set_permissions(&key_path, fs::Permissions::from_mode(0o600))?;
        fs::write(self.data_dir.join("server.crt"), certificate.pem())?;
        self.account.own(&self.data_dir)
    }

    /// The postmaster says `ready` in the eighth line of its pid file.
    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            let process = self.process.as_mut().context("the server was spawned")?;
            let pid = process.id().to_string();
            if let Some(status) = process.try_wait()? {
                self.process = None;
                bail!("the server ended ({status}): {}", self.log());
            }
            let pid_file = fs::read_to_string(self.data_dir.join("postmaster.pid")).unwrap_or_default();
            let mut lines = pid_file.lines();
            if lines.next() == Some(pid.as_str()) && lines.nth(6).is_some_and(|line| line.trim() == "ready") {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the server is not ready: {}", self.log());
            pause();
        }
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // An immediate shutdown: the folder goes away, but no child may outlive the test.
        if let Some(mut process) = self.process.take() {
            // A frozen server would not hear the signal.
            let _ = signal_all(&process, Signal::CONT);
            let _ = signal(&process, Signal::QUIT);
            let deadline = Instant::now() + Duration::from_secs(10);
            while matches!(process.try_wait(), Ok(None)) && Instant::now() < deadline {
                pause();
            }
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn signal(process: &Child, what: Signal) -> anyhow::Result<()> {
    let pid = Pid::from_raw(i32::try_from(process.id())?).context("a process id is not 0")?;
    kill_process(pid, what).context("cannot signal the server")
}

fn signal_all(process: &Child, what: Signal) -> anyhow::Result<()> {
    for child in children_of(process.id())? {
        kill_process(child, what)?;
    }
    signal(process, what)
}

fn children_of(parent: u32) -> anyhow::Result<Vec<Pid>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The command in parentheses may hold anything; what follows the last one is regular.
        let parent_field = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1));
        if parent_field == Some(parent.to_string().as_str()) {
            children.extend(Pid::from_raw(pid));
        }
    }
    Ok(children)
}

fn is_alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// Between two looks at a process that is starting or ending.
#[allow(clippy::disallowed_methods, reason = "the end of a process that is not our child wakes nobody")]
fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}
