//! Messages that carry nothing: descriptions of rows, ends of commands, keys that nobody uses.

use crate::fault::{Fault, Result};

/// A fair server sends a handful of them in one answer.
const ASIDES_MAX: u32 = 256;

/// Counts the messages without content of one answer. Each of them is a sign of life, so whoever sent
/// them for ever would be waited for as long.
#[derive(Default)]
pub(crate) struct Asides(u32);

impl Asides {
    pub(crate) fn count(&mut self) -> Result<()> {
        self.0 += 1;
        if self.0 <= ASIDES_MAX {
            return Ok(());
        }
        Err(Fault::hostile("an answer without an end"))
    }
}
