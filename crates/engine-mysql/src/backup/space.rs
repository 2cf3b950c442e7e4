//! What the flags of a tablespace say about the shape of its file, and the first page of a new one.

use crate::page::stamp;

/// Pages of 16 KiB, when the flags do not say.
const USUAL_PAGE_BYTES: u32 = 16 << 10;
const LARGEST_PAGE_BYTES: u32 = 64 << 10;
/// Pages of a file that was just made.
const NEW_PAGES: u64 = 7;
const NEW_UNDO_BYTES: u64 = 16 << 20;

/// Bytes of a page as it lies in the file: smaller than the server's pages when rows are compressed.
pub(crate) fn page_bytes(space_flags: u32) -> u32 {
    match (space_flags >> 1) & 0xf {
        0 => server_page_bytes(space_flags),
        zip => (512_u32 << zip).min(LARGEST_PAGE_BYTES),
    }
}

/// Bytes of a page in the server's memory.
fn server_page_bytes(space_flags: u32) -> u32 {
    match (space_flags >> 6) & 0xf {
        0 => USUAL_PAGE_BYTES,
        shift => (512_u32 << shift).min(LARGEST_PAGE_BYTES),
    }
}

/// Pages of an extent: a mebibyte of the server's pages, 64 at least.
pub(crate) fn extent_pages(space_flags: u32) -> usize {
    ((1 << 20) / server_page_bytes(space_flags) as usize).max(64)
}

pub(crate) fn has_compressed_rows(space_flags: u32) -> bool {
    (space_flags >> 1) & 0xf > 0
}

/// Bytes that a file grows by when it is no small one any more.
pub(crate) fn extent_bytes(space_flags: u32) -> u64 {
    match u64::from(page_bytes(space_flags)) {
        page @ 32_768.. => page * 64,
        _ => 1 << 20,
    }
}

/// How long a file is that was made while a clone ran.
pub(crate) fn new_file_bytes(space_flags: u32, is_undo: bool) -> u64 {
    if is_undo { NEW_UNDO_BYTES } else { NEW_PAGES * u64::from(page_bytes(space_flags)) }
}

/// The first page of a file that was made while a clone ran, as far as it is known. Recovery reads it to
/// find out whose file it is; pages and log fill in the rest.
pub(crate) fn first_page(space_id: u32, space_flags: u32) -> Vec<u8> {
    let size = page_bytes(space_flags) as usize;
    let mut page = vec![0; size];
    for at in [34, 38] {
        page[at..at + 4].copy_from_slice(&space_id.to_be_bytes());
    }
    page[54..58].copy_from_slice(&space_flags.to_be_bytes());
    stamp(&mut page, has_compressed_rows(space_flags));
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_tell_the_size_of_pages() {
        for (flags, bytes) in [
            (0, 16_384),
            (0x4021, 16_384),
            (0x4021 | 5 << 6, 16_384),
            (0x4021 | 3 << 6, 4_096),
            (0x4021 | 7 << 6, 65_536),
            (0x4021 | 4 << 1, 8_192),
            (0x4021 | 1 << 1, 1_024),
        ] {
            assert_eq!(page_bytes(flags), bytes, "{flags:x}");
            assert_eq!(first_page(7, flags).len(), bytes as usize);
        }
        // Whatever a stranger says, nothing is too short for its own header, or huge.
        for flags in (0..0x400).chain([u32::MAX]) {
            assert!((1024..=65_536).contains(&first_page(7, flags).len()), "{flags:x}");
        }
        assert_eq!(extent_bytes(0x4021 | 7 << 6), 4 << 20);
    }
}
