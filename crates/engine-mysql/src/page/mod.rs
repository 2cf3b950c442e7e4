//! InnoDB's pages: what a look at one says, and what all looks of a backup found.
//!
//! A page carries a checksum of itself, so damage that was in the source before the backup is found
//! while the bytes pass by. Pages whose content is compressed or encrypted carry the checksum of what
//! they were before; of these only the place is judged.

mod directory;
mod judge;

pub(crate) use self::directory::Directory;
pub(crate) use self::judge::{PageFindings, TablespaceJudge};

/// Page types whose content is not what the checksum speaks of.
pub(crate) const COMPRESSED: u16 = 14;
const COMPRESSED_AND_ENCRYPTED: u16 = 16;
const ENCRYPTED_INDEX: u16 = 17;

/// Where the header ends and the content begins.
pub(crate) const HEADER_BYTES: usize = 38;
/// Checksum and log position once more.
const TRAILER_BYTES: usize = 8;

/// What servers write that were told to write no checksums.
const NO_CHECKSUM: u32 = 0xDEAD_BEEF;

/// The system tablespace.
const SYSTEM_SPACE: u32 = 0;

/// What the pages of a file look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageShape {
    /// Bytes of a page in the file.
    size: usize,
    /// Rows are compressed, and with them the page: another checksum, no trailer.
    is_zipped: bool,
    /// Some pages may be compressed or encrypted as a whole.
    is_veiled: bool,
    space_id: u32,
}

/// Flags of a tablespace.
mod flag {
    pub(super) const ZIP_SIZE_SHIFT: u32 = 1;
    pub(super) const ZIP_SIZE_MASK: u32 = 0xf;
    pub(super) const ENCRYPTED: u32 = 1 << 13;
}

impl PageShape {
    /// From what a clone tells of a file. `is_compressed` is its own word for page compression, which
    /// stands in no flag of the tablespace. `None` when no InnoDB has such pages.
    pub(crate) fn of(
        innodb_page_size: u32,
        space_id: u32,
        space_flags: u32,
        is_compressed: bool,
    ) -> Option<Self> {
        if !(4096..=65_536).contains(&innodb_page_size) || !innodb_page_size.is_power_of_two() {
            return None;
        }
        let zip = (space_flags >> flag::ZIP_SIZE_SHIFT) & flag::ZIP_SIZE_MASK;
        let size = if zip == 0 { innodb_page_size } else { 512_u32.checked_shl(zip)? };
        let is_veiled = is_compressed || space_flags & flag::ENCRYPTED != 0;
        (size >= 1024 && size <= innodb_page_size).then_some(Self {
            size: size as usize,
            is_zipped: zip != 0,
            is_veiled,
            space_id,
        })
    }

    /// Bytes of a page in the file.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// A look at one page of so many bytes, which is the n-th of its file.
    pub(crate) fn look(&self, page: &[u8], number: u64) -> PageState {
        debug_assert_eq!(page.len(), self.size);
        if page.iter().all(|byte| *byte == 0) {
            return PageState::Unused;
        }
        let found = word(page, 0);
        let damaged = |expected| PageState::Damaged { position: position(page), expected, found };
        if !self.is_in_place(page, number) {
            return damaged(self.checksum(page));
        }
        let kind = half(page, 24);
        if self.is_veiled && (COMPRESSED..=ENCRYPTED_INDEX).contains(&kind) {
            return PageState::Veiled;
        }
        let expected = self.checksum(page);
        if self.is_zipped {
            return match found {
                found if found == expected || found == adler(zipped_parts(page)) => PageState::Sound,
                NO_CHECKSUM => PageState::Unchecked,
                _ => damaged(expected),
            };
        }
        let again = word(page, self.size - TRAILER_BYTES);
        if word(page, 20) != word(page, self.size - 4) {
            // The end is of another moment than the beginning.
            return damaged(expected);
        }
        match (found == expected, again == expected) {
            (true, true) => PageState::Sound,
            (false, false) if found == NO_CHECKSUM && again == NO_CHECKSUM => PageState::Unchecked,
            // The methods of old servers write two different sums. A page of ours has the same twice,
            // whatever has become of its content.
            (false, false) if found != again => PageState::Unchecked,
            _ => damaged(expected),
        }
    }

    /// Whether the page says itself that it belongs here. In the system tablespace pages of others may
    /// wait to be written elsewhere, and its second file does not begin with page 0.
    fn is_in_place(&self, page: &[u8], number: u64) -> bool {
        self.space_id == SYSTEM_SPACE
            || (u64::from(word(page, 4)) == number && word(page, 34) == self.space_id)
    }

    fn checksum(&self, page: &[u8]) -> u32 {
        checksum(page, self.is_zipped)
    }
}

/// What a look at one page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageState {
    /// It is what its checksum says, and where it belongs.
    Sound,
    /// All zeroes: room that the server has not used yet.
    Unused,
    /// Compressed or encrypted as a whole; it is where it belongs.
    Veiled,
    /// Its checksum was made by a method that is not computed here, or by none.
    Unchecked,
    Damaged {
        position: u64,
        expected: u32,
        found: u32,
    },
}

/// Gives a page the checksum of what is in it.
pub(crate) fn stamp(page: &mut [u8], is_zipped: bool) {
    let sum = checksum(page, is_zipped).to_be_bytes();
    page[..4].copy_from_slice(&sum);
    if !is_zipped {
        let again = page.len() - TRAILER_BYTES;
        page[again..again + 4].copy_from_slice(&sum);
    }
}

fn checksum(page: &[u8], is_zipped: bool) -> u32 {
    if is_zipped {
        return zipped_parts(page).into_iter().fold(0, |sum, part| sum ^ crc32c::crc32c(part));
    }
    crc32c::crc32c(&page[4..26]) ^ crc32c::crc32c(&page[HEADER_BYTES..page.len() - TRAILER_BYTES])
}

/// What the checksum of a page with compressed rows speaks of.
fn zipped_parts(page: &[u8]) -> [&[u8]; 3] {
    [&page[4..16], &page[24..26], &page[34..]]
}

/// What old servers wrote to pages with compressed rows: Adler-32 that starts from nothing.
fn adler(parts: [&[u8]; 3]) -> u32 {
    const MODULUS: u32 = 65_521;
    /// Bytes after which the sums still fit.
    const RUN_BYTES: usize = 4096;
    let (mut low, mut high) = (0, 0);
    for run in parts.into_iter().flat_map(|part| part.chunks(RUN_BYTES)) {
        for byte in run {
            low += u32::from(*byte);
            high += low;
        }
        (low, high) = (low % MODULUS, high % MODULUS);
    }
    high << 16 | low
}

/// The log position of the last change that the page knows of.
fn position(page: &[u8]) -> u64 {
    u64::from(word(page, 16)) << 32 | u64::from(word(page, 20))
}

fn half(page: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([page[at], page[at + 1]])
}

fn word(page: &[u8], at: usize) -> u32 {
    u32::from(half(page, at)) << 16 | u32::from(half(page, at + 2))
}

/// Bytes at the front of a page of a page-compressed file that hold something; the server gives the
/// rest back to the file system. `None` for pages that are stored as they are.
pub(crate) fn compressed_length(page: &[u8]) -> Option<usize> {
    let kind = half(page, 24);
    let length = HEADER_BYTES + usize::from(half(page, 32));
    ((kind == COMPRESSED || kind == COMPRESSED_AND_ENCRYPTED) && length < page.len()).then_some(length)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A page as a server writes it, for units; the real ones are in the tests of the engine.
    pub(crate) fn page(shape: &PageShape, number: u32, seed: u64) -> Vec<u8> {
        let (mut page, mut state) = (vec![0; shape.size], seed | 1);
        for byte in &mut page {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (state >> 40) as u8;
        }
        page[4..8].copy_from_slice(&number.to_be_bytes());
        page[24..26].copy_from_slice(&17_855_u16.to_be_bytes());
        page[34..38].copy_from_slice(&shape.space_id.to_be_bytes());
        let end = shape.size;
        if !shape.is_zipped {
            page.copy_within(20..24, end - 4);
        }
        stamp(&mut page, shape.is_zipped);
        page
    }

    pub(crate) fn shapes() -> Vec<PageShape> {
        let plain = [4096, 8192, 16_384, 32_768, 65_536].map(|size| PageShape::of(size, 7, 33, false));
        let zipped = [1, 2, 3, 4].map(|zip| PageShape::of(16_384, 7, 0x21 | zip << 1, false));
        plain.into_iter().chain(zipped).map(Option::unwrap).collect()
    }

    #[test]
    fn shapes_are_those_that_innodb_has() {
        let sizes: Vec<usize> = shapes().iter().map(PageShape::size).collect();
        assert_eq!(sizes, [4096, 8192, 16_384, 32_768, 65_536, 1024, 2048, 4096, 8192]);
        for (page_size, flags) in
            [(0, 0), (1000, 0), (2048, 0), (131_072, 0), (4096, 5 << 1), (16_384, 15 << 1)]
        {
            assert_eq!(PageShape::of(page_size, 1, flags, false), None, "{page_size} {flags}");
        }
    }

    proptest! {
        #[test]
        fn b13_a_flipped_bit_anywhere_is_seen(seed in any::<u64>(), at in any::<usize>(), bit in 0..8_u8) {
            for shape in shapes() {
                let mut page = page(&shape, 5, seed);
                prop_assert_eq!(shape.look(&page, 5), PageState::Sound);
                let damaged = |state| matches!(state, PageState::Damaged { .. });
                prop_assert!(damaged(shape.look(&page, 6)), "it is another page");
                let at = at % shape.size;
                // These are in no checksum, and nothing reads them there.
                let is_free = if shape.is_zipped { (16..24).contains(&at) || (26..34).contains(&at) } else { (26..34).contains(&at) };
                page[at] ^= 1 << bit;
                prop_assert_eq!(damaged(shape.look(&page, 5)), !is_free, "{:?} {}", shape, at);
            }
        }
    }

    #[test]
    fn pages_of_old_servers_with_compressed_rows_are_judged() {
        assert_eq!(adler([b"Wiki", b"ped", b"ia"]), 0x11DD_0397);
        let shape = shapes()[8];
        let mut page = page(&shape, 3, 1);
        let sum = adler(zipped_parts(&page)).to_be_bytes();
        page[..4].copy_from_slice(&sum);
        assert_eq!(shape.look(&page, 3), PageState::Sound);
        page[5000] ^= 1;
        assert!(matches!(shape.look(&page, 3), PageState::Damaged { .. }));
    }

    #[test]
    fn what_is_not_judged_is_not_called_damage() {
        for shape in shapes() {
            assert_eq!(shape.look(&vec![0; shape.size], 9), PageState::Unused);
            let mut none = page(&shape, 3, 1);
            let end = shape.size;
            none[..4].copy_from_slice(&NO_CHECKSUM.to_be_bytes());
            if !shape.is_zipped {
                none[end - 8..end - 4].copy_from_slice(&NO_CHECKSUM.to_be_bytes());
            }
            assert_eq!(shape.look(&none, 3), PageState::Unchecked);
            let mut veiled = page(&shape, 3, 1);
            veiled[24..26].copy_from_slice(&COMPRESSED.to_be_bytes());
            assert!(
                matches!(shape.look(&veiled, 3), PageState::Damaged { .. }),
                "the file has no such pages"
            );
            let shape = PageShape { is_veiled: true, ..shape };
            assert_eq!(shape.look(&veiled, 3), PageState::Veiled);
            assert!(matches!(shape.look(&veiled, 4), PageState::Damaged { .. }));
        }
        let shape = shapes()[2];
        let mut old = page(&shape, 3, 1);
        old[..4].copy_from_slice(&[1; 4]);
        old[16_376..16_380].copy_from_slice(&[2; 4]);
        assert_eq!(shape.look(&old, 3), PageState::Unchecked);
        let system = PageShape { space_id: SYSTEM_SPACE, ..shape };
        assert_eq!(
            system.look(&page(&shape, 3, 1), 70),
            PageState::Sound,
            "it waits to be written elsewhere"
        );
    }
}
