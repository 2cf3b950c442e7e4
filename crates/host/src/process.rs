//! A server as a process of ours: on its way up, up, and ended.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use strongroom_core::{Error, Result};

use crate::directory::io_failed;

const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Lines of the server's log that an error quotes.
const QUOTED_LINES: usize = 5;

/// A server that was started here.
pub struct ServerProcess {
    pid: u32,
    log: PathBuf,
    /// Tells when the process has ended; its thread also takes the exit status off the system.
    ended: Receiver<std::io::Result<ExitStatus>>,
    has_ended: bool,
}

/// How a start went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rise {
    Ready,
    Ended,
    Late,
}

impl ServerProcess {
    /// Starts the command in the data directory; what it says goes to `log`, made anew.
    pub fn spawn(mut command: Command, target: &Path, log: PathBuf) -> Result<Self> {
        let open_log = || -> std::io::Result<(File, File)> {
            let log = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&log)?;
            Ok((log.try_clone()?, log))
        };
        let (out, err) = open_log().map_err(|error| io_failed(&log, &error))?;
        // A group of its own: the terminal's Ctrl-C is meant for the command, not for the server.
        command.current_dir(target).stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        let child = command.spawn().map_err(|error| io_failed(Path::new(command.get_program()), &error))?;
        let pid = child.id();
        let ended = reap(child)?;
        Ok(Self { pid, log, ended, has_ended: false })
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Waits until `is_ready` says so; `look` may end it earlier.
    pub fn wait_until_ready(
        &mut self,
        timeout: Duration,
        is_ready: &dyn Fn(&Self) -> bool,
        look: &dyn Fn() -> Result<()>,
    ) -> Result<Rise> {
        let begun = Instant::now();
        while !is_ready(self) {
            look()?;
            if self.ends_within(LOOK_INTERVAL) {
                return Ok(Rise::Ended);
            }
            if begun.elapsed() >= timeout {
                return Ok(Rise::Late);
            }
        }
        Ok(Rise::Ready)
    }

    /// Waits for the end of the process.
    pub fn ends_within(&mut self, limit: Duration) -> bool {
        if !self.has_ended {
            self.has_ended = !matches!(self.ended.recv_timeout(limit), Err(RecvTimeoutError::Timeout));
        }
        self.has_ended
    }

    /// A process that has ended gets no signal: its number may be somebody else's by now.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if let (false, Some(pid)) = (self.has_ended, pid) {
            let _ = kill_process(pid, signal);
        }
    }

    /// The last lines of the log, as `for_people` makes each of them fit for people.
    pub fn last_words(&self, for_people: fn(&[u8]) -> String) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect();
        let last = lines[lines.len().saturating_sub(QUOTED_LINES)..].iter().map(|line| for_people(line));
        last.collect::<Vec<_>>().join(" | ")
    }
}

fn reap(mut child: Child) -> Result<Receiver<std::io::Result<ExitStatus>>> {
    let (tell, ended) = mpsc::channel();
    thread::Builder::new()
        .name("restored-server".to_owned())
        .spawn(move || tell.send(child.wait()))
        .map_err(Error::internal)?;
    Ok(ended)
}
