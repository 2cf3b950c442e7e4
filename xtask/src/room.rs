//! A strongroom of our own: built, started in a scratch folder, stopped and gone on drop.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::http::Client;
use crate::{interrupt, process, workspace};

/// More than the drain that the product promises.
const STOP_TIMEOUT: Duration = Duration::from_secs(40);

/// Builds the release executables and answers where the server's is; the extractor's lies beside it.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    let mut cargo = workspace::cargo();
    cargo.args([
        "build",
        "--release",
        "--locked",
        "--package",
        "strongroom",
        "--package",
        "strongroom-extract",
    ]);
    process::run(&mut cargo)?;
    Ok(workspace::target_dir().join("release/strongroom"))
}

/// A running server and what one needs to talk to it.
pub(crate) struct Room {
    program: PathBuf,
    data_dir: PathBuf,
    server: Child,
    pub(crate) endpoint: String,
    pub(crate) token: String,
    pub(crate) project_id: String,
}

impl Room {
    /// Starts `strongroom serve` on a free port; its log goes beside the data directory.
    pub(crate) fn start(program: &Path, data_dir: &Path) -> anyhow::Result<Self> {
        Self::start_with(program, data_dir, &[])
    }

    /// The same with settings in the environment.
    pub(crate) fn start_with(
        program: &Path,
        data_dir: &Path,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let log =
            fs::File::create(data_dir.with_extension("log")).context("creating the log of the server")?;
        let mut server = serve_command(program, data_dir)
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("starting strongroom serve")?;
        let endpoint = match listening_line(&mut server) {
            Ok(endpoint) => endpoint,
            Err(error) => {
                let _ = server.kill();
                let _ = server.wait();
                let said = fs::read_to_string(data_dir.with_extension("log")).unwrap_or_default();
                return Err(error.context(format!("strongroom serve did not start: {}", said.trim())));
            }
        };
        let mut room = Self {
            program: program.to_owned(),
            data_dir: data_dir.to_owned(),
            server,
            endpoint,
            token: String::new(),
            project_id: String::new(),
        };
        room.read_credentials()?;
        Ok(room)
    }

    fn read_credentials(&mut self) -> anyhow::Result<()> {
        let text =
            fs::read_to_string(self.data_dir.join("bootstrap.json")).context("reading bootstrap.json")?;
        let bootstrap: serde_json::Value =
            serde_json::from_str(&text).context("bootstrap.json is no JSON")?;
        let field = |name: &str| -> anyhow::Result<String> {
            let value = bootstrap[name].as_str();
            Ok(value.with_context(|| format!("bootstrap.json has no `{name}`"))?.to_owned())
        };
        self.token = field("token")?;
        self.project_id = field("project_id")?;
        Ok(())
    }

    /// A client command of the same executable, pointed at this server.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env("STRONGROOM_ENDPOINT", &self.endpoint)
            .env("STRONGROOM_TOKEN", &self.token)
            .env("STRONGROOM_PROJECT_ID", &self.project_id);
        command
    }

    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        Client::connect(&self.endpoint, &self.token)
    }

    /// Process id of the server.
    pub(crate) fn pid(&self) -> u32 {
        self.server.id()
    }

    /// Stops the server in good order and says how it ended.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.server.id())?).context("a process id is not 0")?;
        kill_process(pid, Signal::TERM).context("asking the server to stop")?;
        let status =
            interrupt::wait_for("the server stops", STOP_TIMEOUT, Duration::from_millis(10), || {
                Ok(self.server.try_wait()?)
            })?;
        if !status.success() {
            bail!("strongroom serve ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if matches!(self.server.try_wait(), Ok(None)) {
            let _ = self.server.kill();
            let _ = self.server.wait();
        }
    }
}

/// The command that starts the server, also shown to people.
pub(crate) fn serve_command(program: &Path, data_dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("serve").arg("--data-dir").arg(data_dir).args(["--listen", "127.0.0.1:0"]);
    command
}

/// Reads stdout until the promised line; the rest of stdout is read away by a thread.
fn listening_line(server: &mut Child) -> anyhow::Result<String> {
    let stdout = server.stdout.take().context("stdout of the server is a pipe")?;
    let mut lines = BufReader::new(stdout).lines();
    for line in lines.by_ref() {
        if let Some(endpoint) = line?.strip_prefix("listening on ") {
            let endpoint = endpoint.trim().to_owned();
            std::thread::spawn(move || lines.for_each(drop));
            return Ok(endpoint);
        }
    }
    bail!("it ended without the line `listening on …`")
}
