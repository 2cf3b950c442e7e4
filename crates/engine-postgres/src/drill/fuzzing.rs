//! The table of passwords and the map to its file, read before a server is started on them.

use super::superuser::{entry, mapped_file, tuples};
use crate::page::Page;

pub(crate) fn password_table(bytes: &[u8]) -> bool {
    let _ = mapped_file(bytes, 1260);
    let pages = bytes.chunks_exact(size_of::<Page>());
    let entries = pages.flat_map(tuples).filter_map(entry).count();
    assert!(entries <= bytes.len() / 4);
    entries > 0
}
