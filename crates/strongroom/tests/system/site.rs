//! One installation of several processes: a catalog in PostgreSQL, a server that takes no work
//! itself, and workers that come, freeze and go.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use strongroom_testkit::postgres::{Options, PostgresServer};

use crate::room::{Done, PROGRAM, Room, STOP_TIMEOUT, scrub, until};
use crate::source::VERSION;

pub(crate) const CATALOG_PASSWORD: &str = "canary: p@ss/word of the catalog";

/// The server of the catalog, and an empty database in it.
pub(crate) fn catalog_server() -> PostgresServer {
    let server = PostgresServer::start(VERSION, &Options::default()).unwrap();
    server.psql("postgres", &format!("create role keeper login password '{CATALOG_PASSWORD}'")).unwrap();
    server.psql("postgres", "create database catalog owner keeper").unwrap();
    server
}

pub(crate) fn catalog_url(server: &PostgresServer) -> String {
    format!("postgres://keeper@127.0.0.1:{}/catalog", server.port())
}

pub(crate) struct Site {
    pub(crate) catalog: PostgresServer,
    /// The one server and its data directory; its repository is the shared one.
    pub(crate) room: Room,
}

/// One `strongroom worker`.
pub(crate) struct Worker {
    child: Option<Child>,
    log: PathBuf,
    /// What it said on stdout before it began to work.
    pub(crate) said: Vec<String>,
}

impl Site {
    pub(crate) fn serving() -> Self {
        let mut site = Self { catalog: catalog_server(), room: Room::empty() };
        site.room.options = site.shared_options();
        site.room.options.push("--no-worker".to_owned());
        site.room.serve();
        site
    }

    /// What every process of the installation is given.
    pub(crate) fn shared_options(&self) -> Vec<String> {
        let password = self.room.scratch.path().join("catalog-password");
        fs::write(&password, format!("{CATALOG_PASSWORD}\n")).unwrap();
        [
            "--database-url",
            &catalog_url(&self.catalog),
            "--database-password-file",
            &password.display().to_string(),
            "--source-networks",
            "loopback",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// A worker's command, with a data directory of its own.
    pub(crate) fn worker_command(&self, name: &str) -> Command {
        let mut command = Command::new(PROGRAM);
        scrub(&mut command);
        command.arg("worker").arg("--data-dir").arg(self.room.scratch.path().join(name));
        let [_, url, _, password, _, networks] = self.shared_options().try_into().unwrap();
        command.env("STRONGROOM_DATABASE_URL", url).env("STRONGROOM_DATABASE_PASSWORD_FILE", password);
        command.env("STRONGROOM_SOURCE_NETWORKS", networks);
        let repository = format!("file://{}", self.room.repository().display());
        command.env("STRONGROOM_REPOSITORY", repository);
        command.env("STRONGROOM_RECOVERY_KEY_FILE", self.room.data_dir().join("recovery.key"));
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn worker(&self, name: &str) -> Worker {
        self.worker_with(name, &[])
    }

    /// Starts a worker and waits until it works.
    pub(crate) fn worker_with(&self, name: &str, options: &[&str]) -> Worker {
        let log = self.room.scratch.path().join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let mut command = self.worker_command(name);
        let mut child = command.args(options).stdout(Stdio::piped()).stderr(file).spawn().unwrap();
        let mut said = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap) {
            let works = line.starts_with("working as ");
            said.push(line);
            if works {
                return Worker { child: Some(child), log, said };
            }
        }
        panic!("the worker ended: {:?}\n{}", child.wait(), fs::read_to_string(&log).unwrap());
    }

    /// Tries to start with some settings changed; answers how it ended.
    pub(crate) fn worker_refused(&self, name: &str, settings: &[(&str, &str)]) -> Done {
        let mut command = self.worker_command(name);
        for (setting, value) in settings {
            command.env(format!("STRONGROOM_{setting}"), value);
        }
        Done::of(&command.output().unwrap())
    }

    /// What the workers of this name have said, one after the other.
    pub(crate) fn worker_log(&self, name: &str) -> String {
        read(&self.room.scratch.path().join(format!("{name}.log")))
    }

    /// One value of the catalog, asked past everybody.
    pub(crate) fn row(&self, sql: &str) -> String {
        self.catalog.psql("catalog", sql).unwrap()
    }

    pub(crate) fn create(&self, instance: &str, name: &str) -> serde_json::Value {
        self.room.json(&["backup", "create", instance, "--name", name])
    }

    /// Everything in the catalog that a worker may change about jobs and backups.
    pub(crate) fn rows(&self) -> String {
        let jobs = "select string_agg(j::text, E'\\n' order by id) from jobs j where kind <> 'sweep'";
        let backups = "select string_agg(b::text, E'\\n' order by id) from backups b";
        let steps = "select string_agg(s::text, E'\\n' order by job_id, ordinal) from job_steps s";
        [jobs, backups, steps].map(|sql| self.row(sql)).join("\n--\n")
    }

    /// Verdicts of the repository, each with its bytes.
    pub(crate) fn verdicts(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let is_verdict = |path: &PathBuf| path.parent().is_some_and(|parent| parent.ends_with("at"));
        let mut found: Vec<_> = crate::room::files(&self.room.repository().join("l"))
            .into_iter()
            .filter(is_verdict)
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        found.sort();
        found
    }
}

impl Worker {
    pub(crate) fn log(&self) -> String {
        read(&self.log)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().unwrap()), signal).unwrap();
    }

    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let mut child = self.child.take().unwrap();
        until("the worker stops", STOP_TIMEOUT, || child.try_wait().unwrap())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "{}:\n{}", self.log.display(), self.log());
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
