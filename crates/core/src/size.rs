//! Sizes are bytes until an adapter says otherwise.

use std::fmt;
use std::iter::Sum;
use std::ops::Add;

use serde::{Deserialize, Serialize};

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(u64);

impl ByteSize {
    pub const ZERO: Self = Self(0);

    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl Add for ByteSize {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for ByteSize {
    fn sum<I: Iterator<Item = Self>>(sizes: I) -> Self {
        sizes.fold(Self::ZERO, Add::add)
    }
}

/// Binary units with one decimal, for people: `5.0 GiB`.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let bytes = u128::from(self.0);
        let (mut divisor, mut unit) = (1024, 0);
        while bytes >= divisor * 1024 && unit + 1 < UNITS.len() {
            divisor *= 1024;
            unit += 1;
        }
        let tenths = (bytes * 10 + divisor / 2) / divisor;
        write!(f, "{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::ByteSize;

    #[test]
    fn people_read_binary_units() {
        assert_eq!(ByteSize::new(1023).to_string(), "1023 B");
        assert_eq!(ByteSize::new(1024).to_string(), "1.0 KiB");
        assert_eq!(ByteSize::new(1536 * 1024 + 300).to_string(), "1.5 MiB");
        assert_eq!(ByteSize::new(u64::MAX).to_string(), "16384.0 PiB");
        assert_eq!(ByteSize::new(5 << 30).to_string(), "5.0 GiB");
    }
}
