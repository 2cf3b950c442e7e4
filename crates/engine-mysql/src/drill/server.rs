//! The server of a drill: up, and down again whatever happens.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use strongroom_host::{Rise, ServerProcess};

use super::room::LOG;
use super::{Drill, Halt};
use crate::restore::{greets, reasons};

/// Ending in good order writes out what replay has changed.
const STOP_TIMEOUT: Duration = Duration::from_mins(10);
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// A server whose socket broke may still be writing down why it ends.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// A running server. Dropped, it is ended at once.
pub(super) struct Server {
    pub(super) process: ServerProcess,
}

impl Server {
    /// Whether it is gone, which takes a moment to see.
    pub(super) fn has_ended(&mut self) -> bool {
        self.process.ends_within(END_TIMEOUT)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.signal(Signal::KILL);
        self.process.ends_within(END_TIMEOUT);
    }
}

impl Drill<'_> {
    /// Starts the server and waits until it accepts connections; `None` when it does not, with the
    /// reason told.
    pub(super) fn start(&mut self) -> Result<Option<Server>, Halt> {
        self.order.progress.set_phase("starting");
        let program = &self.room.program;
        let mut command = self.cell.command(&program.path);
        let mut configuration = OsString::from("--defaults-file=");
        configuration.push(self.room.configuration_file());
        command.arg(configuration).args(&program.arguments);
        let begun = Instant::now();
        let process = ServerProcess::spawn(command, self.order.target, self.room.path(LOG))?;
        let mut server = Server { process };
        let (left, socket) = (self.found.remaining()?, self.room.socket());
        let look = || self.order.cancel.check();
        match server.process.wait_until_ready(left, &|_| greets(&socket), &look)? {
            Rise::Ready => {
                self.found.report.start = Some(begun.elapsed());
                return Ok(Some(server));
            }
            Rise::Late => return Err(Halt::OutOfTime),
            Rise::Ended => {}
        }
        let words = reasons(&server.process);
        self.tell_end(format!("The restored server ended while starting. It says: {words}"), &words);
        Ok(None)
    }

    /// Ends the server in good order. `false`, with the reason told, when it does not end: nobody looks
    /// at files that are being written.
    pub(super) fn stop(&mut self, mut server: Server) -> Result<bool, Halt> {
        self.order.progress.set_phase("stopping");
        if server.process.ends_within(Duration::ZERO) {
            // Told already, by whoever was speaking with it.
            return Ok(true);
        }
        server.process.signal(Signal::TERM);
        let begun = Instant::now();
        while !server.process.ends_within(LOOK_INTERVAL) {
            self.found.remaining()?;
            if begun.elapsed() > STOP_TIMEOUT {
                self.found.unjudged.tell(format!(
                    "The restored server did not end within {} min of being told to.",
                    STOP_TIMEOUT.as_secs() / 60
                ));
                return Ok(false);
            }
        }
        Ok(true)
    }
}
