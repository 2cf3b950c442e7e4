//! A room: one `strongroom serve` in a scratch folder, commands against it, and ways to kill it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_strongroom");
/// Longer than the drain that is promised.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(40);

pub(crate) struct Room {
    pub(crate) scratch: TempDir,
    /// Of the data directory.
    pub(crate) name: String,
    pub(crate) options: Vec<String>,
    /// For the server; everything else of ours is taken away from it.
    pub(crate) environment: Vec<(String, String)>,
    /// How many files the server may have open; as many as it likes when there is no number.
    pub(crate) descriptors: Option<u32>,
    server: Option<Child>,
    pub(crate) endpoint: String,
}

/// What a command did.
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}\nstderr: {}", self.stdout, self.stderr))
    }
}

/// An HTTP answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl Room {
    /// A folder and nothing in it yet.
    pub(crate) fn empty() -> Self {
        let scratch = tempfile::Builder::new().prefix("strongroom-room-").tempdir().unwrap();
        Self {
            scratch,
            name: "data".to_owned(),
            options: Vec::new(),
            environment: Vec::new(),
            descriptors: None,
            server: None,
            endpoint: String::new(),
        }
    }

    pub(crate) fn serving() -> Self {
        let mut room = Self::empty();
        room.serve();
        room
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.scratch.path().join(&self.name)
    }

    pub(crate) fn repository(&self) -> PathBuf {
        self.data_dir().join("repository")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.scratch.path().join("serve.log")).unwrap_or_default()
    }

    pub(crate) fn serve_command(&self) -> Command {
        let mut command = match self.descriptors {
            None => Command::new(PROGRAM),
            Some(number) => {
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(format!("ulimit -n {number}; exec \"$0\" \"$@\"")).arg(PROGRAM);
                shell
            }
        };
        scrub(&mut command);
        command.arg("serve").arg("--data-dir").arg(self.data_dir());
        if !self.options.iter().any(|option| option == "--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.args(&self.options).envs(self.environment.clone()).stdin(Stdio::null());
        command
    }

    /// Starts the server and waits for its line.
    pub(crate) fn serve(&mut self) {
        let log =
            File::options().create(true).append(true).open(self.scratch.path().join("serve.log")).unwrap();
        let mut server = self.serve_command().stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let line = lines.next();
        let Some(Ok(line)) = line else { panic!("serve ended: {:?}\n{}", server.wait(), self.log()) };
        line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}")).clone_into(&mut self.endpoint);
        self.server = Some(server);
    }

    /// Tries to start; answers how it ended.
    pub(crate) fn serve_refused(&self) -> Done {
        Done::of(&self.serve_command().output().unwrap())
    }

    /// Starts the server and kills it after a while, wherever it is by then.
    pub(crate) fn serve_and_kill_after(&self, moment: Duration) {
        let mut server = self.serve_command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        pause(moment);
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// The most memory that the server has had so far.
    pub(crate) fn peak_memory_kib(&self) -> u64 {
        let pid = self.server.as_ref().unwrap().id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        let mut server = self.server.take().unwrap();
        kill_process(Pid::from_child(&server), Signal::TERM).unwrap();
        until("the server stops", STOP_TIMEOUT, || server.try_wait().unwrap())
    }

    /// A client command that finds the server through its data directory.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        scrub(&mut command);
        command.arg("--data-dir").arg(self.data_dir()).args(arguments).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Done {
        Done::of(&self.command(arguments).output().unwrap())
    }

    /// Runs, insists on success, answers the JSON.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.extend(["--output", "json"]);
        self.run(&all).expect(0).json()
    }

    pub(crate) fn credential(&self, name: &str) -> String {
        let text = fs::read_to_string(self.data_dir().join("bootstrap.json")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()[name].as_str().unwrap().to_owned()
    }

    /// One request with the administrator's token.
    pub(crate) fn http(&self, method: &str, path: &str, body: &str) -> Answer {
        self.ask(method, path, &format!("X-Auth-Token: {}\r\n", self.credential("token")), body)
    }

    /// One request of a page that needs no token.
    pub(crate) fn http_open(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "")
    }

    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let authority = self.endpoint.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(authority).unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {authority}\r\n{headers}Content-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        let body = &if is_chunked { dechunked(body) } else { body.to_owned() };
        let body = serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned()));
        Answer { status, head: head.to_owned(), body }
    }

    /// Waits until a backup is no longer BUILDING; answers its facts.
    pub(crate) fn ended(&self, backup: &str) -> Value {
        until("the backup ends", Duration::from_mins(2), || {
            let view = self.json(&["backup", "show", backup]);
            (view["status"] != "BUILDING").then_some(view)
        })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            for line in tail.into_iter().rev() {
                let _ = writeln!(std::io::stderr(), "serve: {line}");
            }
        }
    }
}

fn dechunked(mut rest: &str) -> String {
    let mut out = String::new();
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        out.push_str(&after[..length]);
        rest = &after[(length + 2).min(after.len())..];
    }
    out
}

/// Nothing of the environment of whoever runs the tests.
pub(crate) fn scrub(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("STRONGROOM_") {
            command.env_remove(name);
        }
    }
}

/// Lets time pass: the moment of a kill, or the next look. Nothing relies on it being enough.
#[expect(clippy::disallowed_methods, reason = "the one place of these tests that sleeps")]
pub(crate) fn pause(length: Duration) {
    std::thread::sleep(length);
}

/// Looks until there is something, or the time is over.
#[track_caller]
pub(crate) fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < limit, "waited {limit:?} in vain: {what}");
        pause(Duration::from_millis(20));
    }
}

/// Every file below a directory.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { out.extend(files(&path)) } else { out.push(path) }
    }
    out
}
