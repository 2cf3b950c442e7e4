//! The table of passwords and the map to its file, read before a server is started on them.

use super::superuser::{entry, mapped_file, tuples};
use crate::page::Page;

pub(crate) fn password_table(bytes: &[u8]) {
    let _ = mapped_file(bytes, 1260);
    let pages = bytes.chunks_exact(size_of::<Page>());
    assert!(pages.flat_map(tuples).filter_map(entry).count() <= bytes.len() / 4);
}
