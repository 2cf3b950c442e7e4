//! The engine port: what a kind of database must be able to do for us.
//!
//! An engine reads a source over the network and hands members (files) to a [`BackupSink`]; it
//! knows neither the repository nor the catalog. All calls block: engines run on threads of
//! their own, and look at [`CancelToken`] at least once a second.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::foreign_text::for_people;
use crate::id::AttemptId;
use crate::logs::{LogOrder, LogPoint, LogSink};
use crate::member::{Member, MemberPath};
use crate::network::SourceNetworks;
use crate::overwrite::{ContentJudge, OverwriteWriter, not_overwritable};
use crate::parent::{ParentOffer, Reading};
use crate::progress::Progress;
use crate::verification::DrillCheck;
use crate::{Error, ErrorKind, Field, Result};

/// The kinds of database the API knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    MySql,
    PostgreSql,
    SqlServer,
}

impl EngineKind {
    pub const ALL: [Self; 3] = [Self::MySql, Self::PostgreSql, Self::SqlServer];

    /// Case-insensitive, as the contract demands.
    pub fn parse(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.word().eq_ignore_ascii_case(text))
            .ok_or_else(|| Error::parameter(Field::Engine, "engine: must be postgresql, mysql or sqlserver"))
    }

    /// The lower-case word of our own commands, API and stored documents.
    pub const fn word(self) -> &'static str {
        match self {
            Self::MySql => "mysql",
            Self::PostgreSql => "postgresql",
            Self::SqlServer => "sqlserver",
        }
    }

    /// The engine number at the end of issued ids (contract section 1).
    pub const fn number(self) -> &'static str {
        match self {
            Self::MySql => "01",
            Self::PostgreSql => "03",
            Self::SqlServer => "04",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// How the connection to a source is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    Disable,
    /// Encrypted, certificate not checked.
    Require,
    /// Encrypted, certificate chain and host name checked.
    VerifyFull,
}

impl TlsMode {
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "disable" => Ok(Self::Disable),
            "require" => Ok(Self::Require),
            "verify-full" => Ok(Self::VerifyFull),
            _ => Err(Error::parameter(Field::Tls, "tls: must be disable, require or verify-full")),
        }
    }

    pub const fn word(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Require => "require",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// Where a source database is and how to log in there.
#[derive(Debug, Clone)]
pub struct Source {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: SecretString,
    pub tls: TlsMode,
    /// PEM certificates to trust instead of the system's.
    pub ca_pem: Option<String>,
    /// Answer an MD5 challenge; only when asked for, it is a weak scheme.
    pub allow_md5: bool,
    /// What the host may resolve to. An engine judges each address before it connects to it.
    pub networks: SourceNetworks,
}

/// Equality decides "the same database".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceIdentity {
    pub engine: EngineKind,
    /// Complete version, such as `15.18`.
    pub version: String,
    /// PostgreSQL system identifier, MySQL server UUID.
    pub system_identifier: String,
}

/// One line of a check: what / found / wanted / the exact next step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckLine {
    /// What was looked at, in a few words: `replication right`.
    pub what: String,
    pub state: CheckState,
    pub found: String,
    pub wanted: String,
    /// The exact statement or line that mends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Why it is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl CheckLine {
    /// What was found may be words of the source.
    pub fn new(
        state: CheckState,
        what: impl Into<String>,
        found: impl Into<String>,
        wanted: impl Into<String>,
    ) -> Self {
        let (what, found, wanted) = (what.into(), found.into(), wanted.into());
        Self { what, state, found: for_people(found.as_bytes()), wanted, remedy: None, why: None }
    }

    pub fn ok(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(CheckState::Ok, what, found, "")
    }

    pub fn warning(what: impl Into<String>, found: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self::new(CheckState::Warning, what, found, wanted)
    }

    pub fn missing(what: impl Into<String>, found: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self::new(CheckState::Missing, what, found, wanted)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    Ok,
    /// Works, but a person should know.
    Warning,
    /// A backup is not possible until this is mended.
    Missing,
}

/// What a check of a source found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Known as soon as a login worked.
    pub identity: Option<SourceIdentity>,
    pub lines: Vec<CheckLine>,
}

impl Probe {
    /// Whether a backup can be taken now.
    pub fn passed(&self) -> bool {
        self.identity.is_some() && self.lines.iter().all(|line| line.state != CheckState::Missing)
    }
}

/// Why a running piece of work should stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum StopReason {
    /// A person cancelled the job.
    Cancelled = 1,
    /// The process is draining; the job goes back to ready.
    Draining = 2,
    /// The lease was lost; another worker owns the job.
    Fenced = 3,
}

/// Asks blocking work to stop. Cheap to clone and to look at.
#[derive(Debug, Clone, Default)]
pub struct CancelToken(Arc<AtomicU8>);

impl CancelToken {
    pub fn new() -> Self {
        Self::default()
    }

    /// The first reason given stands.
    pub fn stop(&self, reason: StopReason) {
        let _ = self.0.compare_exchange(0, reason as u8, Ordering::AcqRel, Ordering::Acquire);
    }

    pub fn reason(&self) -> Option<StopReason> {
        match self.0.load(Ordering::Acquire) {
            1 => Some(StopReason::Cancelled),
            2 => Some(StopReason::Draining),
            3 => Some(StopReason::Fenced),
            _ => None,
        }
    }

    /// An error when asked to stop, so that loops can say `cancel.check()?`.
    pub fn check(&self) -> Result<()> {
        match self.reason() {
            None => Ok(()),
            Some(StopReason::Cancelled) => Err(Error::new(ErrorKind::Cancelled, "The job was cancelled.")),
            Some(StopReason::Draining) => {
                Err(Error::new(ErrorKind::Cancelled, "The server is stopping; the job will be tried again."))
            }
            Some(StopReason::Fenced) => {
                Err(Error::new(ErrorKind::Fenced, "The lease was lost; another worker owns the job."))
            }
        }
    }
}

/// What an engine is asked to back up.
pub struct BackupOrder<'a> {
    pub source: &'a Source,
    /// Unique per try; engines may use it to name what they create at the source.
    pub attempt: AttemptId,
    /// Human label for the server's own records; printable ASCII.
    pub label: &'a str,
    /// The database that was registered; a different one is a terminal failure (faults.md B03).
    pub identity: Option<&'a SourceIdentity>,
    /// The backup this one may be built on, when the source can name what changed since. An
    /// engine that cannot use it reads everything, and says why in [`BackupFacts::reading`].
    pub parent: ParentOffer<'a>,
    pub cancel: &'a CancelToken,
    pub progress: &'a Progress,
}

/// Where an engine puts the bytes of a backup. Implemented by the repository's writer.
pub trait BackupSink: Sync {
    /// Begins a member. Several may be open at once, from several threads, at any order of paths;
    /// each path once. Directories are complete with this call and their writer takes no bytes.
    fn open(&self, member: Member) -> Result<Box<dyn MemberWriter + '_>>;

    /// Begins a file that is the parent's file at the same path with changes. It will have
    /// `member.size` bytes, which must be announced: those that are written; of the others the
    /// parent's as far as `kept` and the parent's file reach; zeroes behind. The same rules as
    /// for [`BackupSink::open`] hold otherwise. Fails when the parent has no such file, or not
    /// undamaged; the attempt is void then, and one without the parent may succeed.
    fn patch(&self, member: Member, kept: u64) -> Result<Box<dyn PatchWriter + '_>>;

    /// Begins a file whose bytes come in order and may be overwritten afterwards. It has as many
    /// bytes as its furthest write, overwrite or extension; zeroes where nothing came. An announced
    /// size is not held against it: such files grow. `judge` sees what will be stored.
    fn overwritable(
        &self,
        _member: Member,
        _judge: Option<Arc<dyn ContentJudge>>,
    ) -> Result<Box<dyn OverwriteWriter + '_>> {
        Err(not_overwritable())
    }

    /// Puts bytes over those of an overwritable file, or behind its end. The last call wins.
    fn overwrite(&self, _path: &MemberPath, _offset: u64, _bytes: &[u8]) -> Result<()> {
        Err(not_overwritable())
    }

    /// An overwritable file has at least so many bytes.
    fn extend(&self, _path: &MemberPath, _size: u64) -> Result<()> {
        Err(not_overwritable())
    }

    /// Gives an overwritable file another name, which no other one has. It is still compared with the
    /// parent's file of the name it began with.
    fn rename(&self, _from: &MemberPath, _to: &MemberPath) -> Result<()> {
        Err(not_overwritable())
    }

    /// An overwritable file is no part of the backup any more: it was deleted at the source. What
    /// its writer still takes is thrown away, and its name is free again.
    fn discard(&self, _path: &MemberPath) -> Result<()> {
        Err(not_overwritable())
    }

    /// No more overwrites come, and every writer of an overwritable file was ended: puts the pieces
    /// together and stores what they come to. Once, and needed by who opened such a file. Whatever a
    /// judge had to see it has seen when this returns.
    fn settle(&self) -> Result<()> {
        Err(not_overwritable())
    }
}

/// Takes the changed bytes of one file member.
pub trait PatchWriter: Send {
    /// Offsets ascend and ranges do not overlap. May block when the pipeline is full.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Ends the member. A member that is dropped without this call makes the attempt unusable.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// Takes the bytes of one file member, in order.
pub trait MemberWriter: Send {
    /// May block when the pipeline is full.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Ends the member. A member that is dropped without this call makes the attempt unusable.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// What an engine tells at the end of a backup that is complete and consistent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFacts {
    pub identity: SourceIdentity,
    /// The engine's own facts (positions, settings, tablespaces), a JSON object whose shape is
    /// the engine's and documented in `docs/formats`. Restoring needs nothing else.
    pub engine: serde_json::Value,
    /// Things a person should know, whole sentences.
    pub warnings: Vec<String>,
    /// Damage that was already in the source.
    pub damage: Vec<PageDamage>,
    /// How the bytes came.
    #[serde(default)]
    pub reading: Reading,
    /// From here on the log of the source leads to every moment after this backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogPoint>,
}

/// A page whose checksum is wrong although nobody was writing it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageDamage {
    /// Path of the relation file in the cluster.
    pub relation: String,
    /// Block number in the relation (segments counted in).
    pub block: u64,
    /// The page's own log position, as the engine prints it.
    pub position: String,
    pub expected: u32,
    pub found: u32,
}

/// What a person who restores should know, of the backup and of what finishing it added: each sentence
/// once, for an engine says again what matters most.
pub fn each_once<'a>(said: &'a [String], added: &'a [String]) -> Vec<&'a str> {
    let mut told: Vec<&str> = Vec::new();
    for sentence in said.iter().chain(added) {
        if !told.contains(&sentence.as_str()) {
            told.push(sentence);
        }
    }
    told
}

/// What is needed to turn written files into something the engine starts from.
pub struct RestoreOrder<'a> {
    /// The data directory, all members written.
    pub target: &'a Path,
    pub facts: &'a BackupFacts,
    /// Tablespace id → directory its files were written to.
    pub tablespaces: &'a BTreeMap<String, PathBuf>,
    /// The port the restored server shall listen on, when the caller knows it.
    pub port: Option<u16>,
}

/// The files of a backup as a restore lays them out, wherever they are: in a directory, or in an
/// archive that is being made. What an engine looks at and changes to make them startable. Names are
/// relative to the data directory.
pub trait RestoredTree {
    /// Bytes of a file; `None` when there is none.
    fn size_of(&mut self, name: &str) -> Result<Option<u64>>;

    /// Content of a small file; `None` when there is none.
    fn read(&mut self, name: &str) -> Result<Option<Vec<u8>>>;

    /// Makes or replaces a file: after a crash it is the old one or the new one.
    fn replace(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()>;

    /// Removes a file, if it is there.
    fn remove(&mut self, name: &str) -> Result<()>;

    /// Makes a directory in one that is there, unless it is there itself.
    fn make_directory(&mut self, name: &str, mode: u32) -> Result<()>;

    /// Sets the mode of the data directory itself.
    fn set_mode(&mut self, mode: u32) -> Result<()>;
}

/// A tablespace (or a file group) that lives outside the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tablespace {
    /// The engine's id, as it stands in member paths (`tablespace/<id>/`).
    pub id: String,
    /// Where it was at the source; raw bytes that are not UTF-8 are replaced.
    pub source_path: String,
}

/// A server started from a restored directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedServer {
    pub pid: u32,
    pub port: u16,
    /// The exact command that stops it.
    pub stop_command: String,
}

/// An account of the operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    pub uid: u32,
    pub gid: u32,
}

/// What an engine is asked to prove: that a server starts from a restored directory and finds its
/// data whole. Where this happens, as whom and for how long is decided by who asks.
pub struct DrillOrder<'a> {
    /// The data directory, restored and finished. It is thrown away afterwards: the drill may change
    /// it. Every process of the drill works in it, so that it can be found and ended by whoever comes
    /// after a killed worker.
    pub target: &'a Path,
    /// An empty directory that nobody else can enter, for sockets, configuration and logs.
    pub run_dir: &'a Path,
    pub facts: &'a BackupFacts,
    /// What [`Engine::drill_server`] has found.
    pub server: &'a Path,
    /// Whom the directories belong to and the server runs as; `None` is the account of this process.
    pub account: Option<Account>,
    /// For everything together.
    pub timeout: Duration,
    pub cancel: &'a CancelToken,
    pub progress: &'a Progress,
}

/// What a drill found. Passed is: the server accepted connections, and neither `failures` nor
/// `unjudged` say something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DrillReport {
    /// As the server itself says; empty when it never accepted connections.
    pub server_version: String,
    /// Until the server accepted connections.
    pub start: Option<Duration>,
    /// All checks together.
    pub check: Duration,
    pub databases: u64,
    pub tables: u64,
    pub rows: u64,
    /// The largest tables, the largest first; a bounded number.
    pub largest: Vec<TableCount>,
    pub checks: Vec<DrillCheck>,
    /// What is wrong with what was restored, whole sentences; a bounded number.
    pub failures: Vec<String>,
    /// Why nothing can be said about a part of it, such as a library that this machine lacks.
    pub unjudged: Vec<String>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// A table that was read from its first row to its last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableCount {
    pub database: String,
    /// With its schema, quoted as the engine quotes.
    pub table: String,
    pub rows: u64,
}

/// One kind of database. Adding one is a folder and a line of registration.
pub trait Engine: Send + Sync {
    fn kind(&self) -> EngineKind;

    /// Reaches the source and looks at version, rights and settings. Fails only when nothing can
    /// be said; a lack is a line with its remedy.
    fn probe(&self, source: &Source, cancel: &CancelToken) -> Result<Probe>;

    /// Streams one complete, consistent physical backup into the sink. Whatever was opened at
    /// the source (slots, sessions) is released when this returns, also on failure.
    fn backup(&self, order: &BackupOrder<'_>, sink: &dyn BackupSink) -> Result<BackupFacts>;

    /// Hands over the log of the source as it is written, until it is told to stop or cannot go on:
    /// then the source still keeps what comes next, up to its bounds, and a later call goes on from
    /// there. Answers only with the reason why it ended.
    fn capture_logs(&self, _order: &LogOrder<'_>, _sink: &mut dyn LogSink) -> Result<Infallible> {
        Err(logs_not_captured())
    }

    /// Takes away what [`Engine::capture_logs`] keeps at the source under this owner's name.
    fn release_logs(&self, _source: &Source, _owner: &str, _cancel: &CancelToken) -> Result<()> {
        Err(logs_not_captured())
    }

    /// Whether the log of the source can be captured now; a lack is a line with its remedy.
    fn probe_logs(&self, _source: &Source, _cancel: &CancelToken) -> Result<Vec<CheckLine>> {
        Err(logs_not_captured())
    }

    /// The tablespaces of a backup, for mapping at restore.
    fn tablespaces(&self, facts: &BackupFacts) -> Result<Vec<Tablespace>>;

    /// Makes the directory startable: settings, maps, recovery files, empty directories, modes.
    /// Answers with what a person should know.
    fn finish_restore(&self, order: &RestoreOrder<'_>) -> Result<Vec<String>>;

    /// As [`Engine::finish_restore`], for files that lie in no directory yet. Answers with what a
    /// person should know. `tablespaces` tells for each id the directory that holds its files, relative
    /// to the data directory and below it.
    fn finish_archive(
        &self,
        _facts: &BackupFacts,
        _tablespaces: &BTreeMap<String, PathBuf>,
        _tree: &mut dyn RestoredTree,
    ) -> Result<Vec<String>> {
        Err(Error::new(ErrorKind::NotSupported, "Backups of this kind of database cannot be downloaded.")
            .with_hint("`strongroom restore` writes them where it runs"))
    }

    /// The account that servers of this kind usually run as: whom files in an archive belong to.
    fn usual_account(&self) -> &'static str {
        "root"
    }

    /// Starts a server on a restored directory and waits until it accepts connections.
    fn start_restored(&self, target: &Path, facts: &BackupFacts, port: u16) -> Result<StartedServer>;

    /// The program that a drill of this backup would run; `NotSupported` when this machine has none.
    /// Asked before anything is restored.
    fn drill_server(&self, facts: &BackupFacts) -> Result<PathBuf>;

    /// Starts a server on a restored directory, closed to the network, lets it check itself, and
    /// stops it. What it finds is a report; an error means that the drill itself could not go on.
    /// No process of it is left when this returns. Blocks on the calling thread, which must live
    /// until then.
    fn drill(&self, order: &DrillOrder<'_>) -> Result<DrillReport>;
}

fn logs_not_captured() -> Error {
    Error::new(
        ErrorKind::NotSupported,
        "The log of this kind of database cannot be captured by this release.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_twice_is_told_once_and_nothing_is_left_out() {
        let said = ["rows are missing", "pages are damaged"].map(str::to_owned);
        let added = ["start it so", "rows are missing"].map(str::to_owned);
        assert_eq!(each_once(&said, &added), ["rows are missing", "pages are damaged", "start it so"]);
    }
}
