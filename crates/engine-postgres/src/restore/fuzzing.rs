//! The source's own configuration files.

use super::settings::{BLOCK_BEGIN, BLOCK_END, places_named, with_block};

/// A block that was put in once is replaced, never doubled.
pub(crate) fn settings(bytes: &[u8]) -> bool {
    let _ = places_named(&String::from_utf8_lossy(bytes));
    let block = format!("{BLOCK_BEGIN}\nport = 1\n{BLOCK_END}\n");
    let once = with_block(bytes, &block);
    assert_eq!(with_block(&once, &block), once);
    true
}
