//! Captures of MySQL's binary log into an archive, and what judges it: the server's own files.

use std::fs;
use std::ops::Deref;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::desk::engine;
use strongroom_core::Error;
use strongroom_core::engine::{CancelToken, Engine, EngineKind, Source, SourceIdentity};
use strongroom_core::logs::{LogOrder, LogPosition, LogRange, LogStream};
use strongroom_core::progress::Progress;
use strongroom_testkit::log_archive::{ArchiveSink, Capture, LogArchive, Mishap};
use strongroom_testkit::mysql::{MySqlServer, Options, tool};

use crate::desk::{create_account, source};

pub(crate) const OWNER: &str = "0190aaaabbbbccccddddeeeeffff0000in01";
/// Of the flags of a file's first event.
const IN_USE_AT: usize = 4 + 17;
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) struct Desk(LogArchive);

impl Deref for Desk {
    type Target = LogArchive;

    fn deref(&self) -> &LogArchive {
        &self.0
    }
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self(LogArchive::new())
    }

    pub(crate) fn capture(&self, server: &MySqlServer) -> Capture {
        self.capture_with(server, Mishap::None)
    }

    pub(crate) fn capture_with(&self, server: &MySqlServer, mishap: Mishap) -> Capture {
        self.begin(source(server), identity(server), mishap)
    }

    /// From one server, where another one is registered.
    pub(crate) fn capture_as(&self, server: &MySqlServer, registered: &MySqlServer) -> Capture {
        self.begin(source(server), identity(registered), Mishap::None)
    }

    fn begin(&self, source: Source, identity: SourceIdentity, mishap: Mishap) -> Capture {
        self.0.capture(mishap, move |sink, cancel| run(&source, &identity, sink, cancel))
    }

    /// Waits until all the server has written is durable here.
    pub(crate) fn wait_for(&self, server: &MySqlServer) {
        let (begun, wanted) = (Instant::now(), end(server));
        loop {
            let held = self.ranges();
            if held.iter().any(|(_, ranges)| ranges.last().is_some_and(|held| held.until >= wanted)) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{wanted} of {held:?}");
            server.sql("select sleep(0.2)").unwrap();
        }
    }

    /// Every held byte is the server's own, which the server must still have.
    pub(crate) fn judge(&self, server: &MySqlServer) -> usize {
        let mut compared = 0;
        for (about, ranges) in self.ranges() {
            let base = about.facts["base"].as_str().unwrap();
            for range in ranges {
                for (number, held) in self.files(&about, range) {
                    let name = format!("{base}.{number:06}");
                    let mut own = fs::read(server.data_dir().join(&name)).unwrap();
                    // A mark that the server may have it open; it is not sent.
                    own[IN_USE_AT] &= !1;
                    assert!(held.len() == own.len() || number == range.until.file, "{name}");
                    assert!(held == own[..held.len()], "{name} differs from the server's own");
                    compared += 1;
                }
            }
        }
        compared
    }

    /// Every held byte is one that the server's own tool gets over the wire, which matters where the
    /// files on its disk are encrypted. Answers how many of them are.
    pub(crate) fn judge_by_tool(&self, server: &MySqlServer) -> usize {
        let mut encrypted = 0;
        for (about, ranges) in self.ranges() {
            let base = about.facts["base"].as_str().unwrap();
            for (range, (number, held)) in ranges
                .into_iter()
                .flat_map(|range| self.files(&about, range).into_iter().map(move |file| (range, file)))
            {
                let name = format!("{base}.{number:06}");
                let on_disk = fs::read(server.data_dir().join(&name)).unwrap();
                let folder = tempfile::tempdir().unwrap();
                let mut tool = Command::new(tool("mysqlbinlog").unwrap());
                tool.args(["--no-defaults", "--user=root", "--read-from-remote-server", "--raw"]);
                tool.arg(format!("--socket={}", server.socket().display()));
                tool.arg(format!("--result-file={}/", folder.path().display())).arg(&name);
                let output = tool.output().unwrap();
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                let mut own = fs::read(folder.path().join(&name)).unwrap();
                own[IN_USE_AT] &= !1;
                assert!(held.len() == own.len() || number == range.until.file, "{name}");
                assert!(held == own[..held.len()], "{name} differs from what the tool gets");
                encrypted += usize::from(!on_disk.starts_with(b"\xfebin"));
            }
        }
        encrypted
    }

    /// Writes the files from a place on where a tool finds them; answers with their paths.
    pub(crate) fn write_out(&self, stream: &LogStream, range: LogRange) -> Vec<PathBuf> {
        let folder = self.written();
        let paths = self.files(stream, range).into_iter().map(|(number, bytes)| {
            let path = folder.join(format!("held.{number:06}"));
            fs::write(&path, bytes).unwrap();
            path
        });
        let paths = paths.collect();
        strongroom_testkit::account::Account::ordinary().own(&folder).unwrap();
        paths
    }
}

/// Where the log of a server ends now.
pub(crate) fn end(server: &MySqlServer) -> LogPosition {
    let status =
        ["show binary log status", "show master status"].iter().find_map(|text| server.sql(text).ok());
    let status = status.unwrap();
    let mut fields = status.split('\t');
    let (name, offset) = (fields.next().unwrap(), fields.next().unwrap());
    LogPosition { file: name.rsplit_once('.').unwrap().1.parse().unwrap(), offset: offset.parse().unwrap() }
}

fn identity(server: &MySqlServer) -> SourceIdentity {
    let system_identifier = server.sql("select @@server_uuid").unwrap();
    SourceIdentity { engine: EngineKind::MySql, version: "9.7.4".to_owned(), system_identifier }
}

fn run(source: &Source, identity: &SourceIdentity, sink: &mut ArchiveSink, cancel: &CancelToken) -> Error {
    let progress = Progress::new();
    let order =
        LogOrder { source, identity, owner: OWNER, retained_bytes_max: 1 << 30, cancel, progress: &progress };
    match engine().capture_logs(&order, sink) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

/// Small files, so that there are many, and all of them kept to be compared with.
pub(crate) fn log_server(arguments: &[&str]) -> MySqlServer {
    let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
    let server = MySqlServer::start(&Options { arguments, ..Options::default() }).unwrap();
    create_account(&server);
    server.sql("grant replication slave, replication client on *.* to 'strong''room'@'%'").unwrap();
    server
}
