//! A real MySQL server for tests: made in a temporary folder, on loopback, gone on drop.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

pub use crate::mysql_binaries::{available, mysqld, require, require_keyring, tool};

use crate::account::Account;
use crate::mysql_binaries::{self, places};
use crate::mysql_template;
use crate::port::Port;

const READY_TIMEOUT: Duration = Duration::from_mins(2);
const STOP_TIMEOUT: Duration = Duration::from_mins(1);

/// What a test server is made with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The clone plugin, installed by its statement.
    pub clone_plugin: bool,
    /// A certificate for these names, signed by an authority of its own (`ca_pem`); otherwise the
    /// server makes one by itself, as it does everywhere.
    pub certificate_names: Vec<String>,
    /// A keyring in a file, which encrypted tables need; see [`require_keyring`].
    pub keyring: bool,
    /// More arguments for the server, the first start included; later ones win.
    pub arguments: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { clone_plugin: true, certificate_names: Vec::new(), keyring: false, arguments: Vec::new() }
    }
}

/// For every test server: small, and fast where a power cut is all that would be survived. A disk with
/// others on it takes its time for each sync, and a new table wants several.
const USUAL: [&str; 13] = [
    "--no-defaults",
    "--secure-file-priv=NULL",
    "--mysqlx=OFF",
    "--bind-address=127.0.0.1",
    "--gtid-mode=ON",
    "--enforce-gtid-consistency=ON",
    "--log-bin=binlog",
    "--sync-binlog=0",
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-buffer-pool-size=64M",
    "--innodb-redo-log-capacity=64M",
    "--innodb-use-native-aio=OFF",
    "--innodb-flush-method=nosync",
];

/// Arguments that change nothing of what a first start makes.
const OF_RUNNING: [&str; 4] =
    ["--innodb-directories=", "--ssl-", "--gtid-mode=", "--enforce-gtid-consistency="];

/// A running (or stopped) server and its folders. `root` comes in over the socket without a password.
pub struct MySqlServer {
    program: PathBuf,
    account: Account,
    /// Holds the log, the socket and, for a server made here, the data directory.
    home: TempDir,
    data_dir: PathBuf,
    port: Port,
    arguments: Vec<String>,
    ca_pem: Option<String>,
    process: Option<Child>,
}

impl MySqlServer {
    /// Makes a data directory and starts a server on it.
    pub fn start(options: &Options) -> anyhow::Result<Self> {
        let mut server = Self::new(&options.arguments)?;
        if !options.certificate_names.is_empty() {
            server.install_certificate(&options.certificate_names)?;
        }
        server.initialize()?;
        if options.keyring {
            server.add_keyring()?;
        }
        server.launch()?;
        if options.clone_plugin {
            server.sql("INSTALL PLUGIN clone SONAME 'mysql_clone.so'")?;
        }
        Ok(server)
    }

    /// Starts a server on an existing data directory, such as a restored one. The directory is
    /// handed to the ordinary account and stays where it is when the server is dropped.
    pub fn adopt(data_dir: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
        let mut server = Self::new(&arguments)?;
        data_dir.clone_into(&mut server.data_dir);
        server.account.own(data_dir)?;
        server.launch()?;
        Ok(server)
    }

    fn new(arguments: &[String]) -> anyhow::Result<Self> {
        let home = tempfile::Builder::new().prefix("strongroom-my-").tempdir()?;
        let account = Account::ordinary();
        account.own(home.path())?;
        Ok(Self {
            program: mysqld()?,
            account,
            data_dir: home.path().join("data"),
            home,
            port: Port::hold()?,
            arguments: arguments.to_vec(),
            ca_pem: None,
            process: None,
        })
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub fn socket(&self) -> PathBuf {
        self.home.path().join("sock")
    }

    /// The authority that signed the server's certificate, when it was made here.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// A folder of the server's account for tablespaces and the like.
    pub fn make_folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.home.path().join(name);
        fs::create_dir(&folder)?;
        self.account.own(&folder)?;
        Ok(folder)
    }

    /// What the server has written to its log.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.home.path().join("server.err")).unwrap_or_default())
            .into_owned()
    }

    /// Runs statements as root over the socket and answers with the bare rows: fields are separated
    /// by tabs, rows by newlines. Any error is an error.
    pub fn sql(&self, statements: &str) -> anyhow::Result<String> {
        let mut command = self.tool("mysql")?;
        let output = command.args(["-N", "-B", "-r", "-e", statements]).stdin(Stdio::null()).output()?;
        ensure!(
            output.status.success(),
            "{statements} failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
    }

    /// A command for a tool that came with the server, pointed at it as root.
    pub fn tool(&self, name: &str) -> anyhow::Result<Command> {
        let mut command = Command::new(mysql_binaries::tool(name)?);
        command
            .args(["--no-defaults", "--user=root", "--default-character-set=utf8mb4"])
            .arg(format!("--socket={}", self.socket().display()))
            .env("LC_ALL", "C.UTF-8")
            .current_dir(self.home.path());
        self.account.apply(&mut command);
        Ok(command)
    }

    /// Ends the server in good order.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        signal(&process, Signal::TERM)?;
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

    /// Ends the server as the kernel would when it is short of memory.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.kill()?;
        process.wait()?;
        Ok(())
    }

    /// Stops every thread of the server where it is, or lets them go on.
    pub fn freeze(&self, frozen: bool) -> anyhow::Result<()> {
        let process = self.process.as_ref().context("the server is not running")?;
        signal(process, if frozen { Signal::STOP } else { Signal::CONT })
    }

    /// Starts again after `stop` or `kill9`.
    pub fn launch(&mut self) -> anyhow::Result<()> {
        ensure!(self.process.is_none(), "the server is running");
        let _ = fs::remove_file(self.socket());
        let mut command = self.server(&self.data_dir);
        command.arg(format!("--port={}", self.port())).arg(format!("--socket={}", self.socket().display()));
        command.arg(format!("--pid-file={}", self.home.path().join("pid").display()));
        self.process = Some(command.args(&self.arguments).spawn().context("cannot run mysqld")?);
        self.wait_until_ready()
    }

    fn initialize(&self) -> anyhow::Result<()> {
        let is_usual = |argument: &String| OF_RUNNING.iter().any(|known| argument.starts_with(known));
        if self.arguments.iter().all(is_usual) {
            let make = |place: &Path| self.initialize_at(place, &[]);
            return mysql_template::fill(&self.data_dir, &self.program, &USUAL, make);
        }
        self.initialize_at(&self.data_dir, &self.arguments)
    }

    fn initialize_at(&self, data_dir: &Path, arguments: &[String]) -> anyhow::Result<()> {
        let mut command = self.server(data_dir);
        let status = command.args(arguments).arg("--initialize-insecure").status();
        let status = status.context("cannot run mysqld")?;
        ensure!(status.success(), "the data directory could not be made ({status}): {}", self.log());
        Ok(())
    }

    fn server(&self, data_dir: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(USUAL)
            .args(places(&self.program))
            .arg(format!("--datadir={}", data_dir.display()))
            .arg(format!("--log-error={}", self.home.path().join("server.err").display()))
            .env("LC_ALL", "C")
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.account.apply(&mut command);
        command
    }

    fn add_keyring(&self) -> anyhow::Result<()> {
        let keyring = self.home.path().join("keyring");
        let config = serde_json::json!({"path": keyring, "read_only": false});
        fs::write(self.data_dir.join("component_keyring_file.cnf"), config.to_string())?;
        let manifest = serde_json::json!({"components": "file://component_keyring_file"});
        fs::write(self.data_dir.join("mysqld.my"), manifest.to_string())?;
        self.account.own(&self.data_dir)
    }

    fn install_certificate(&mut self, names: &[String]) -> anyhow::Result<()> {
        let authority_key = rcgen::KeyPair::generate()?;
        let mut authority = rcgen::CertificateParams::new(Vec::new())?;
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        authority.distinguished_name.push(rcgen::DnType::CommonName, "strongroom test authority");
        let ca_pem = authority.self_signed(&authority_key)?.pem();
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let key = rcgen::KeyPair::generate()?;
        let certificate = rcgen::CertificateParams::new(names.to_vec())?.signed_by(&key, &issuer)?;
        let folder = self.make_folder("tls")?;
        for (option, name, text) in [
            ("ssl-ca", "ca.pem", ca_pem.clone()),
            ("ssl-cert", "server-cert.pem", certificate.pem()),
            ("ssl-key", "server-key.pem", key.serialize_pem()),
        ] {
            let path = folder.join(name);
            fs::write(&path, text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
            self.arguments.push(format!("--{option}={}", path.display()));
        }
        self.ca_pem = Some(ca_pem);
        self.account.own(&folder)
    }

    /// A server that is ready greets whoever comes.
    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            let process = self.process.as_mut().context("the server was spawned")?;
            if let Some(status) = process.try_wait()? {
                self.process = None;
                bail!("the server ended ({status}): {}", self.log());
            }
            if greets(&self.socket()) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the server is not ready: {}", self.log());
            pause();
        }
    }
}

impl Drop for MySqlServer {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Nothing of it is kept; a frozen server would not hear a milder signal.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Whether somebody says `protocol 10` on this socket.
fn greets(socket: &Path) -> bool {
    let Ok(mut stream) = UnixStream::connect(socket) else { return false };
    let mut head = [0; 5];
    stream.set_read_timeout(Some(Duration::from_secs(1))).is_ok()
        && stream.read_exact(&mut head).is_ok()
        && head[4] == 10
}

fn signal(process: &Child, what: Signal) -> anyhow::Result<()> {
    let pid = Pid::from_raw(i32::try_from(process.id())?).context("a process id is not 0")?;
    kill_process(pid, what).context("cannot signal the server")
}

/// Between two looks at a process that is starting or ending.
#[allow(clippy::disallowed_methods, reason = "the end of a process that is not our child wakes nobody")]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}
