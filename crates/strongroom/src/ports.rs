//! Time and randomness of the real machine: the only place that asks for them (invariant C5).

use jiff::Timestamp;
use strongroom_core::time::{Clock, Randomness};

/// The system's clock.
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the Clock port's real adapter")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// The operating system's random numbers.
pub(crate) struct SystemRandomness;

impl Randomness for SystemRandomness {
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("without random numbers of the system there is no key worth the name");
    }
}
