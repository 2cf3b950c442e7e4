//! Time and randomness of the real machine (invariant C5). Reading needs them for nothing that
//! lasts; the ports ask for them all the same.

use jiff::Timestamp;
use strongroom_core::time::{Clock, Randomness};

pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the Clock port's real adapter")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

pub(crate) struct SystemRandomness;

impl Randomness for SystemRandomness {
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("every system that runs this has random numbers");
    }
}
