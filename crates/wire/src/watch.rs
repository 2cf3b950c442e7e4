//! What a blocking wait looks at: the cancel token, a partner, the clock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use strongroom_core::engine::CancelToken;
use strongroom_core::limits;

use crate::transport::lost;
use crate::trouble::{Result, Trouble};

/// The longest a wait sleeps before it looks around.
pub const TICK: Duration = Duration::from_millis(500);

/// How long, and for whose sake, a wait goes on.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    cancel: &'a CancelToken,
    abandoned: Option<&'a AtomicBool>,
    deadline: Option<Instant>,
    /// Silence of the server after which it is given up.
    pub silence_max: Duration,
}

impl<'a> Watch<'a> {
    pub fn new(cancel: &'a CancelToken) -> Self {
        Self {
            cancel,
            abandoned: None,
            deadline: None,
            silence_max: Duration::from_millis(limits::SOURCE_IDLE_TIMEOUT_MS),
        }
    }

    /// Also ends when the other connection of the backup has failed.
    #[must_use]
    pub fn with_partner(self, abandoned: &'a AtomicBool) -> Self {
        Self { abandoned: Some(abandoned), ..self }
    }

    /// Takes a longer silence of the server for work.
    #[must_use]
    pub fn with_silence(self, silence_max: Duration) -> Self {
        Self { silence_max, ..self }
    }

    /// Also ends when `limit` has passed, whatever the server sends.
    #[must_use]
    pub fn with_deadline(self, limit: Duration) -> Self {
        Self { deadline: Some(Instant::now() + limit.min(self.remaining())), ..self }
    }

    pub fn check(&self) -> Result<()> {
        self.cancel.check()?;
        if self.abandoned.is_some_and(|abandoned| abandoned.load(Ordering::Acquire)) {
            return Err(Trouble::Abandoned);
        }
        if self.remaining().is_zero() {
            return Err(lost("The source did not answer in time."));
        }
        Ok(())
    }

    /// Time until the deadline; very long without one.
    pub fn remaining(&self) -> Duration {
        self.deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()))
    }
}
