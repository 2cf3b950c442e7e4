//! What a blocking wait looks at: the cancel token, the clock.

use std::time::{Duration, Instant};

use strongroom_core::engine::CancelToken;
use strongroom_core::limits;

use crate::fault::{Fault, Result};

/// The longest a wait sleeps before it looks around.
pub(crate) const TICK: Duration = Duration::from_millis(500);

/// How long, and for whose sake, a wait goes on.
#[derive(Clone, Copy)]
pub(crate) struct Watch<'a> {
    cancel: &'a CancelToken,
    deadline: Option<Instant>,
    /// Silence of the server after which it is given up.
    pub(crate) silence_max: Duration,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(cancel: &'a CancelToken) -> Self {
        Self { cancel, deadline: None, silence_max: Duration::from_millis(limits::SOURCE_IDLE_TIMEOUT_MS) }
    }

    /// Takes another silence of the server for its end.
    pub(crate) fn with_silence(self, silence_max: Duration) -> Self {
        Self { silence_max, ..self }
    }

    /// Also ends when `limit` has passed, whatever the server sends.
    pub(crate) fn with_deadline(self, limit: Duration) -> Self {
        Self { deadline: Some(Instant::now() + limit.min(self.remaining())), ..self }
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.cancel.check()?;
        if self.remaining().is_zero() {
            return Err(Fault::lost("The source did not answer in time."));
        }
        Ok(())
    }

    /// Time until the deadline; very long without one.
    pub(crate) fn remaining(&self) -> Duration {
        self.deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()))
    }
}
