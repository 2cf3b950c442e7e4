//! The engine's own checkers, run as programs: `pg_amcheck` on the running server, `pg_checksums` on
//! the stopped one.

use std::fmt::Write as _;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use strongroom_core::foreign_text::for_people;
use strongroom_core::verification::Outcome;
use strongroom_core::{Error, ErrorKind};
use strongroom_host::outcome_of;

use super::count::{Login, NO_EVENT_TRIGGERS, SESSION};
use super::room::{MAJOR_WITH_EVENT_TRIGGER_SWITCH, PORT};
use super::{Drill, Halt, is_of_this_machine};

const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// What is kept of a tool's words; a broken cluster has endlessly many.
const WORDS_SIZE_BYTES_MAX: u64 = 256 << 10;

/// How `pg_amcheck` ends when it found something.
const CORRUPTION: i32 = 2;

/// Settings of a session that would keep `pg_amcheck` from its work.
const NOT_FOR_AMCHECK: [&str; 3] = ["default_transaction_read_only", "enable_indexscan", "client_encoding"];

/// What a tool said and how it ended; no code when a signal ended it.
struct Said {
    code: Option<i32>,
    words: String,
}

impl Drill<'_> {
    /// Structure of heaps and B-trees, and each row of a table in each of its B-trees.
    pub(super) fn check_relations(&mut self, login: &Login) -> Result<(), Halt> {
        const TOOL: &str = "pg_amcheck";
        self.order.progress.set_phase("checking-indexes");
        let Some(program) = self.tool(TOOL) else {
            self.found.note_check(TOOL, Outcome::NotRun, "it is not installed beside the server");
            return Ok(());
        };
        let mut command = self.cell.command(&program);
        command
            .args(["--all", "--heapallindexed", "--install-missing", "--no-password"])
            .arg(format!("--username={}", login.user))
            .arg(format!("--maintenance-db={}", login.database))
            .env("PGHOST", self.order.run_dir)
            .env("PGPORT", PORT)
            .env("PGCLIENTENCODING", "UTF8")
            .env("PGOPTIONS", self.session_options())
            .env("HOME", self.order.run_dir);
        let said = self.run_tool(TOOL, command)?;
        let findings = sentences(&said.words);
        match said.code {
            Some(0) => {
                self.found.note_check(TOOL, Outcome::Passed, "heaps, B-trees and the rows in them agree");
            }
            Some(CORRUPTION) => {
                let (mut failed, mut unjudged) = (0, 0);
                for finding in &findings {
                    if is_of_this_machine(finding) {
                        unjudged += 1;
                        self.found.unjudged.tell(format!("{TOOL}: {finding}"));
                    } else {
                        failed += 1;
                        self.found.failures.tell(format!("{TOOL}: {finding}"));
                    }
                }
                // It says by its code that there is something, also when we do not understand what.
                if findings.is_empty() {
                    failed = 1;
                    self.found.failures.tell(format!("{TOOL} found damage and did not say where."));
                }
                let detail = format!("{} findings", findings.len().max(1));
                self.found.note_check(TOOL, outcome_of(failed, unjudged), detail);
            }
            _ => {
                let words = findings.join(" | ");
                self.found.report.notes.push(format!("Note: {TOOL} could not do its work: {words}"));
                self.found.note_check(TOOL, Outcome::NotRun, words);
            }
        }
        Ok(())
    }

    /// Every page of the stopped cluster against its checksum.
    pub(super) fn check_pages(&mut self) -> Result<(), Halt> {
        const TOOL: &str = "pg_checksums";
        self.order.progress.set_phase("checking-pages");
        if !self.facts.data_checksums {
            self.found.note_check(TOOL, Outcome::NotRun, "the source keeps no page checksums");
            return Ok(());
        }
        let Some(program) = self.tool(TOOL) else {
            self.found.note_check(TOOL, Outcome::NotRun, "it is not installed beside the server");
            return Ok(());
        };
        let mut command = self.cell.command(&program);
        command.args(["--check", "-D"]).arg(self.order.target);
        let said = self.run_tool(TOOL, command)?;
        if said.code == Some(0) {
            let detail = match number_after(&said.words, "Blocks scanned:") {
                Some(blocks) => format!("{blocks} pages have the checksum that they should"),
                None => "every page has the checksum that it should".to_owned(),
            };
            self.found.note_check(TOOL, Outcome::Passed, detail);
            return Ok(());
        }
        let place = format!("{}/", self.order.target.display());
        let findings = sentences(&said.words.replace(&place, ""));
        let bad: Vec<_> = findings.iter().filter(|line| line.contains("verification failed")).collect();
        for finding in &bad {
            self.found
                .failures
                .tell(format!("{TOOL}: {}", finding.trim_start_matches("pg_checksums: error: ")));
        }
        if bad.is_empty() {
            let words = findings.join(" | ");
            self.found.unjudged.tell(format!("{TOOL} could not do its work: {words}"));
            self.found.note_check(TOOL, Outcome::NotRun, words);
        } else {
            let count = number_after(&said.words, "Bad checksums:").unwrap_or(bad.len() as u64);
            self.found.note_check(TOOL, Outcome::Failed, format!("{count} pages are damaged"));
        }
        Ok(())
    }

    /// A program that lies beside the server.
    fn tool(&self, name: &str) -> Option<PathBuf> {
        let program = self.order.server.with_file_name(name);
        program.is_file().then_some(program)
    }

    /// The session's own settings for a tool that connects by itself.
    fn session_options(&self) -> String {
        let triggers =
            (self.facts.major_version() >= MAJOR_WITH_EVENT_TRIGGER_SWITCH).then_some(NO_EVENT_TRIGGERS);
        let settings = SESSION.iter().filter(|(name, _)| !NOT_FOR_AMCHECK.contains(name));
        settings.copied().chain(triggers).fold(String::new(), |mut options, (name, value)| {
            let _ = write!(options, "-c {name}={value} ");
            options
        })
    }

    fn run_tool(&self, tool: &str, command: Command) -> Result<Said, Halt> {
        let (mut child, words) = spawn(command, self.order.target).map_err(|error| {
            Error::new(ErrorKind::Unavailable, format!("{tool} could not be started ({}).", error.kind()))
                .with_source(error)
        })?;
        let words = loop {
            match words.recv_timeout(LOOK_INTERVAL) {
                Ok(words) => break words,
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(halt) = self.found.remaining() {
                        end(&mut child);
                        return Err(halt);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break Vec::new(),
            }
        };
        let status = child.wait().map_err(Error::internal)?;
        // A tool that ends between two looks must not carry a cancelled drill into the next phase.
        self.order.cancel.check()?;
        Ok(Said { code: status.code(), words: String::from_utf8_lossy(&words).into_owned() })
    }
}

/// Starts a tool in the data directory; its words come when it has closed its mouth.
fn spawn(mut command: Command, within: &Path) -> io::Result<(Child, mpsc::Receiver<Vec<u8>>)> {
    let (mut reader, writer) = io::pipe()?;
    command.current_dir(within).stdout(writer.try_clone()?).stderr(writer);
    let child = command.spawn()?;
    // The command holds the other ends of the pipe.
    drop(command);
    let (tell, words) = mpsc::channel();
    thread::Builder::new().name("drill-tool".to_owned()).spawn(move || {
        let mut kept = Vec::new();
        let _ = reader.by_ref().take(WORDS_SIZE_BYTES_MAX).read_to_end(&mut kept);
        // A tool whose words nobody reads would stand still.
        let _ = io::copy(&mut reader, &mut io::sink());
        tell.send(kept)
    })?;
    Ok((child, words))
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Lines of a tool, each with the indented ones that belong to it, made fit for people.
fn sentences(words: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for line in words.lines().filter(|line| !line.trim().is_empty()) {
        match out.last_mut() {
            Some(last) if line.starts_with(char::is_whitespace) => {
                last.push(' ');
                last.push_str(line.trim());
            }
            _ => out.push(line.trim_end().to_owned()),
        }
    }
    out.iter().map(|sentence| for_people(sentence.as_bytes())).collect()
}

fn number_after(words: &str, label: &str) -> Option<u64> {
    words.lines().find_map(|line| line.trim().strip_prefix(label)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_together_is_one_sentence() {
        let words = "btree index \"d.s.i\":\n    ERROR:  item order\n    DETAIL:  x\x1b[1m\n\nheap table \"t\":\n    y\n";
        assert_eq!(
            sentences(words),
            ["btree index \"d.s.i\": ERROR:  item order DETAIL:  x\u{FFFD}[1m", "heap table \"t\": y"]
        );
        assert_eq!(number_after("Files scanned:  5\nBad checksums:  12\n", "Bad checksums:"), Some(12));
        assert_eq!(number_after("", "Bad checksums:"), None);
    }

    #[test]
    fn a_tool_that_talks_without_end_costs_no_memory() {
        let mut command = Command::new("sh");
        command.args(["-c", "head -c 3000000 /dev/zero; exit 2"]);
        let (mut child, words) = spawn(command, Path::new("/")).unwrap();
        assert_eq!(words.recv().unwrap().len() as u64, WORDS_SIZE_BYTES_MAX);
        assert_eq!(child.wait().unwrap().code(), Some(2));
    }
}
