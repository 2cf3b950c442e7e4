//! Where a thread stands still until a test lets it go on.

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Longer than anything here takes; only a broken test waits for so long.
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Debug, Default, Clone, Copy)]
struct State {
    arrived: bool,
    released: bool,
}

/// A gate for one thread.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds the gate")
    }

    fn wait_for(&self, is_so: impl Fn(State) -> bool) {
        let until = Instant::now() + PATIENCE;
        let mut state = self.state();
        while !is_so(*state) {
            assert!(Instant::now() < until, "nobody came to the gate");
            let waited = self.changed.wait_timeout(state, Duration::from_secs(1));
            state = waited.expect("no thread panics while it holds the gate").0;
        }
    }

    /// Called by the thread that is to stand still.
    pub fn stand(&self) {
        self.state().arrived = true;
        self.changed.notify_all();
        self.wait_for(|state| state.released);
    }

    pub fn has_arrived(&self) -> bool {
        self.state().arrived
    }

    /// Waits until the thread has come. Blocks.
    pub fn arrived(&self) {
        self.wait_for(|state| state.arrived);
    }

    pub fn release(&self) {
        self.state().released = true;
        self.changed.notify_all();
    }
}
