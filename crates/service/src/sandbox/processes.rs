//! Processes that work in a folder, found and ended without mistaking one for another.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

const END_TIMEOUT: Duration = Duration::from_secs(10);
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Kills every process whose working directory lies in the folder, and waits until none is left.
pub(super) fn end_all_in(folder: &Path) -> io::Result<()> {
    let deadline = Instant::now() + END_TIMEOUT;
    while kill_all_in(folder)? > 0 {
        if Instant::now() > deadline {
            return Err(io::Error::other("processes that work there do not end"));
        }
        std::thread::park_timeout(LOOK_INTERVAL);
    }
    Ok(())
}

fn kill_all_in(folder: &Path) -> io::Result<usize> {
    let mut found = 0;
    for entry in fs::read_dir("/proc")?.flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = number.and_then(Pid::from_raw) else { continue };
        // Held before it is looked at: a number that is given to another process meanwhile stays
        // with the one that was looked at.
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        // One that has ended and waits for its parent has no directory any more.
        let directory = fs::read_link(entry.path().join("cwd"));
        if directory.is_ok_and(|directory| directory.starts_with(folder)) {
            found += 1;
            let _ = pidfd_send_signal(&process, Signal::KILL);
        }
    }
    Ok(found)
}
