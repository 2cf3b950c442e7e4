//! The server of a drill: up, and down again whatever happens.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use strongroom_core::foreign_text::for_people;
use strongroom_host::{Rise, ServerProcess};

use super::{Drill, Halt, is_of_this_machine};
use crate::restore::is_ready;

/// Ending in good order writes out what replay has changed.
const STOP_TIMEOUT: Duration = Duration::from_mins(10);
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Time for the processes of a server to end that is told to drop everything.
const QUIT_TIMEOUT: Duration = Duration::from_secs(10);

/// A running server. Dropped, it is ended at once.
pub(super) struct Server {
    pub(super) process: ServerProcess,
}

impl Drop for Server {
    fn drop(&mut self) {
        for signal in [Signal::QUIT, Signal::KILL] {
            self.process.signal(signal);
            if self.process.ends_within(QUIT_TIMEOUT) {
                return;
            }
        }
    }
}

impl Drill<'_> {
    /// Starts the server and waits until it accepts connections; `None` when it does not, with the
    /// reason told.
    pub(super) fn start(&mut self) -> Result<Option<Server>, Halt> {
        self.order.progress.set_phase("starting");
        let mut command = self.cell.command(self.order.server);
        let mut configuration = OsString::from("config_file=");
        configuration.push(self.room.path("postgresql.conf"));
        command.arg("-D").arg(self.order.target).arg("-c").arg(configuration);
        let begun = Instant::now();
        let log = self.room.path("server.log");
        let process = ServerProcess::spawn(command, self.order.target, log)?;
        let mut server = Server { process };
        let left = self.found.remaining()?;
        let look = || self.order.cancel.check();
        match server.process.wait_until_ready(left, &|server| is_ready(server, self.order.target), &look)? {
            Rise::Ready => {
                self.found.report.start = Some(begun.elapsed());
                return Ok(Some(server));
            }
            Rise::Late => return Err(Halt::OutOfTime),
            Rise::Ended => {}
        }
        let words = server.process.last_words(for_people);
        let sentence = format!("The restored server ended while starting. Its last words: {words}");
        if is_of_this_machine(&words) {
            self.found.unjudged.tell(sentence);
        } else {
            self.found.failures.tell(sentence);
        }
        Ok(None)
    }

    /// Ends the server in good order; only then its pages can be checked. `false` when that failed,
    /// with the reason told.
    pub(super) fn stop(&mut self, mut server: Server) -> Result<bool, Halt> {
        self.order.progress.set_phase("stopping");
        if server.process.ends_within(Duration::ZERO) {
            // Nobody has told it to.
            self.found.failures.tell(format!(
                "The restored server ended while it was checked. Its last words: {}",
                server.process.last_words(for_people)
            ));
            return Ok(false);
        }
        server.process.signal(Signal::INT);
        let begun = Instant::now();
        while !server.process.ends_within(LOOK_INTERVAL) {
            self.found.remaining()?;
            if begun.elapsed() > STOP_TIMEOUT {
                self.found.unjudged.tell(format!(
                    "The restored server did not stop within {} s, so its pages were not checked.",
                    STOP_TIMEOUT.as_secs()
                ));
                return Ok(false);
            }
        }
        Ok(true)
    }
}
