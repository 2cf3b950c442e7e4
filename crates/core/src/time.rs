//! Time comes from a port, so that tests own it.

use jiff::Timestamp;

/// Where every "now" comes from.
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
}

/// Where every random number comes from: ids and salts must be reproducible in a simulation.
pub trait Randomness: Send + Sync {
    fn fill(&self, bytes: &mut [u8]);

    /// A UUIDv7 of this moment.
    fn uuid(&self, now: Timestamp) -> uuid::Uuid {
        let mut random = [0_u8; 10];
        self.fill(&mut random);
        let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }
}

/// Microseconds since the epoch, the catalog's only form of time.
pub fn to_micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// The inverse of [`to_micros`]; out-of-range values saturate.
pub fn from_micros(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(if micros < 0 { Timestamp::MIN } else { Timestamp::MAX })
}
