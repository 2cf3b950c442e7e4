//! The time that rows and leases are counted in.
//!
//! On a catalog that several machines share, its server's clock decides, so that nobody's lease ends
//! early because another machine is ahead. Between two readings time is counted by this machine's
//! monotonic clock, which no step of the wall clock moves. Where the catalog has no clock of its
//! own, the port is the time.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use strongroom_core::time::Clock;
use strongroom_core::{Result, limits};

use crate::parts::Service;

/// A reading that took longer says too little about the moment it was made.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(1);

/// What is wrong with this machine's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockTrouble {
    /// This machine's clock less the catalog's.
    pub offset_ms: i64,
    /// It moved by so much since the reading before.
    pub jumped_ms: i64,
}

impl ClockTrouble {
    fn of(offset_ms: i64, jumped_ms: i64) -> Option<Self> {
        let worst = offset_ms.saturating_abs().max(jumped_ms.saturating_abs());
        (worst > limits::CLOCK_OFFSET_MS_MAX).then_some(Self { offset_ms, jumped_ms })
    }
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    server: Timestamp,
    at: Instant,
    offset_ms: i64,
    trouble: Option<ClockTrouble>,
}

/// The newest reading of the catalog's clock.
#[derive(Debug, Default)]
pub(crate) struct SharedTime(Mutex<Option<Reading>>);

impl SharedTime {
    fn reading(&self) -> MutexGuard<'_, Option<Reading>> {
        self.0.lock().expect("no thread panics while it holds the reading of the clock")
    }

    pub(crate) fn now(&self, clock: &dyn Clock) -> Timestamp {
        match *self.reading() {
            None => clock.now(),
            Some(reading) => {
                let passed = SignedDuration::try_from(reading.at.elapsed()).unwrap_or(SignedDuration::MAX);
                reading.server.saturating_add(passed).unwrap_or(Timestamp::MAX)
            }
        }
    }

    /// Takes in what the server said between `asked` and now; `local` is this machine's clock at
    /// the moment of asking.
    fn note(&self, server: Timestamp, local: Timestamp, asked: Instant) {
        let round_trip = asked.elapsed();
        if round_trip > ROUND_TRIP_MAX && self.reading().is_some() {
            return;
        }
        let half = round_trip / 2;
        let signed = SignedDuration::try_from(half).unwrap_or(SignedDuration::ZERO);
        let local = local.saturating_add(signed).unwrap_or(local);
        let offset_ms = local.duration_since(server).as_millis();
        let offset_ms = i64::try_from(offset_ms).unwrap_or(i64::MAX);
        let mut reading = self.reading();
        let jumped_ms = reading.map_or(0, |before| offset_ms.saturating_sub(before.offset_ms));
        let trouble = ClockTrouble::of(offset_ms, jumped_ms);
        *reading = Some(Reading { server, at: asked + half, offset_ms, trouble });
    }

    fn is_fresh(&self) -> bool {
        let interval = Duration::from_millis(limits::HEARTBEAT_INTERVAL_MS);
        self.reading().is_some_and(|reading| reading.at.elapsed() < interval)
    }
}

impl Service {
    /// Reads the clock of a shared catalog, unless that was done just now.
    pub async fn time_refresh(&self) -> Result<()> {
        let time = &self.inner.time;
        if !self.catalog().is_shared() || time.is_fresh() {
            return Ok(());
        }
        let (asked, local) = (Instant::now(), self.parts().clock.now());
        if let Some(server) = self.catalog().server_time().await? {
            time.note(server, local, asked);
            if let Some(trouble) = self.clock_trouble() {
                tracing::warn!(
                    clock.offset_ms = trouble.offset_ms,
                    clock.jumped_ms = trouble.jumped_ms,
                    "The clock of this machine is {} ms from the catalog's: no work is taken until they agree.",
                    trouble.offset_ms
                );
            }
        }
        Ok(())
    }

    /// Keeps the time of a shared catalog in mind, for as long as the process runs.
    pub async fn time_keep(self) {
        if !self.catalog().is_shared() {
            return;
        }
        let mut ticks = tokio::time::interval(Duration::from_millis(limits::HEARTBEAT_INTERVAL_MS));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.time_refresh().await {
                tracing::debug!("The catalog's clock could not be read: {}", error.chain());
            }
        }
    }

    /// Why this machine may take no work now.
    pub fn clock_trouble(&self) -> Option<ClockTrouble> {
        self.inner.time.reading().and_then(|reading| reading.trouble)
    }

    /// This machine's clock less the catalog's, where that has one.
    pub(crate) fn clock_offset_ms(&self) -> Option<i64> {
        self.inner.time.reading().map(|reading| reading.offset_ms)
    }
}

#[cfg(test)]
mod tests {
    use strongroom_core::time::from_micros;

    use super::*;

    struct Fixed(i64);

    impl Clock for Fixed {
        fn now(&self) -> Timestamp {
            from_micros(self.0)
        }
    }

    const SERVER_S: i64 = 1_800_000_000;

    fn at(ms: i64) -> Timestamp {
        from_micros(SERVER_S * 1_000_000 + ms * 1_000)
    }

    fn noted(offsets_ms: &[i64]) -> SharedTime {
        let time = SharedTime::default();
        for offset in offsets_ms {
            time.note(at(0), at(*offset), Instant::now());
        }
        time
    }

    fn trouble(offsets_ms: &[i64]) -> Option<ClockTrouble> {
        noted(offsets_ms).reading().unwrap().trouble
    }

    #[test]
    fn t01_a_step_of_this_machines_clock_moves_no_lease() {
        assert_eq!(SharedTime::default().now(&Fixed(7)), from_micros(7), "no other clock than the port");
        let time = noted(&[0]);
        for stepped in [0, i64::MAX / 2, SERVER_S * 1_000_000 + 3_600_000_000] {
            let now = time.now(&Fixed(stepped));
            assert!(now.duration_since(at(0)).abs() < SignedDuration::from_secs(60), "{now}");
        }
    }

    #[test]
    fn t01_a_clock_that_is_far_off_or_jumps_is_trouble() {
        let max = limits::CLOCK_OFFSET_MS_MAX;
        assert_eq!(trouble(&[0]), None);
        assert_eq!(trouble(&[max - 100]), None);
        assert!(trouble(&[max + 100]).is_some());
        assert!(trouble(&[-max - 100]).is_some());
        // Neither is far, but one to the other is a jump.
        assert!(trouble(&[max - 1_000, 2_000 - max]).is_some());
        assert_eq!(trouble(&[max - 1_000, 2_000 - max, 2_000 - max]), None, "and passes when it stays");
        assert!(trouble(&[i64::MIN / 4_000_000]).is_some());
    }
}
