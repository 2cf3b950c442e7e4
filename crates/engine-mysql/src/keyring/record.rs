//! The record in the first page of an encrypted tablespace, and in the header of an encrypted log: whose
//! master key closes which key.
//!
//! `lCC`, the number of the master key (big-endian), the 36 characters of the UUID it was made for, the
//! file's key and its initialisation vector under AES-256-ECB with the master key, and the CRC-32C of
//! these 64 bytes in the clear. In what a donor sends, the number is 0 and nothing is closed.

use std::fmt;
use std::ops::Range;

use aes::Aes256;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};

use super::{KEY_NUMBER, Keyring};
use crate::page::{HEADER_BYTES, stamp};

const MAGIC: &[u8] = b"lCC";
const UUID_BYTES: usize = 36;
const FILE_KEY_BYTES: usize = 64;
const BLOCK_BYTES: usize = 16;
const NUMBER_AT: usize = MAGIC.len();
const UUID_AT: usize = NUMBER_AT + 4;
const KEY_AT: usize = UUID_AT + UUID_BYTES;
const SUM_AT: usize = KEY_AT + FILE_KEY_BYTES;
const RECORD_BYTES: usize = SUM_AT + 4;

/// What a log file begins with: blocks for the file itself, two checkpoints and, third, the record.
pub(crate) const LOG_HEADER_BYTES: usize = 4 * LOG_BLOCK_BYTES;
const LOG_BLOCK_BYTES: usize = 512;
const LOG_RECORD_BLOCK: Range<usize> = 2 * LOG_BLOCK_BYTES..3 * LOG_BLOCK_BYTES;

/// What a page header and that of a tablespace take; descriptors of extents follow, then the record.
const DESCRIPTORS_AT: usize = HEADER_BYTES + 112;

/// Key and initialisation vector of one file, in the clear.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileKey(pub(crate) [u8; FILE_KEY_BYTES]);

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileKey(..)")
    }
}

/// What a first page said of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opened {
    /// It held a key in the clear, which is closed now.
    Closed,
    /// It holds none that is open.
    Nothing,
}

/// Closes the key in a first page that a donor sent, if it is open.
pub(crate) fn close_page(page: &mut [u8], is_zipped: bool, keyring: &Keyring) -> Opened {
    let closed = close(page, keyring);
    if closed == Opened::Closed {
        stamp(page, is_zipped);
    }
    closed
}

/// The same for the header of a log file, whose blocks have sums of their own.
pub(crate) fn close_log(header: &mut [u8], keyring: &Keyring) -> Opened {
    let closed = close(header, keyring);
    if closed == Opened::Closed {
        let block = &mut header[LOG_RECORD_BLOCK];
        let (content, sum) = block.split_at_mut(LOG_BLOCK_BYTES - 4);
        sum.copy_from_slice(&crc32c::crc32c(content).to_be_bytes());
    }
    closed
}

fn close(bytes: &mut [u8], keyring: &Keyring) -> Opened {
    let Some(at) = find_open(bytes) else { return Opened::Nothing };
    let mut key = [0; FILE_KEY_BYTES];
    key.copy_from_slice(&bytes[at + KEY_AT..at + SUM_AT]);
    put(bytes, at, &FileKey(key), keyring);
    Opened::Closed
}

/// Gives the first page of a new file a record. Where it stands follows from the pages of an extent, whose
/// number is that of the server's own pages also where rows are compressed.
pub(crate) fn write_page(
    page: &mut [u8],
    is_zipped: bool,
    extent_pages: usize,
    key: &FileKey,
    keyring: &Keyring,
) {
    let at = record_place(page.len(), extent_pages);
    if at + RECORD_BYTES <= page.len() {
        put(page, at, key, keyring);
        stamp(page, is_zipped);
    }
}

/// Behind as many descriptors as a page has extents to describe.
fn record_place(page_bytes: usize, extent_pages: usize) -> usize {
    let descriptor_bytes = 24 + extent_pages * 2 / 8;
    DESCRIPTORS_AT + page_bytes / extent_pages * descriptor_bytes
}

/// Looked for by its mark and its sum: what stands before it depends on the size of pages.
fn find_open(page: &[u8]) -> Option<usize> {
    let last = page.len().checked_sub(RECORD_BYTES)?;
    (DESCRIPTORS_AT..=last).find(|at| {
        let record = &page[*at..*at + RECORD_BYTES];
        record.starts_with(MAGIC)
            && record[NUMBER_AT..UUID_AT] == [0; 4]
            && record[SUM_AT..] == crc32c::crc32c(&record[KEY_AT..SUM_AT]).to_be_bytes()
    })
}

fn put(page: &mut [u8], at: usize, key: &FileKey, keyring: &Keyring) {
    let record = &mut page[at..at + RECORD_BYTES];
    record[..NUMBER_AT].copy_from_slice(MAGIC);
    record[NUMBER_AT..UUID_AT].copy_from_slice(&KEY_NUMBER.to_be_bytes());
    for (place, byte) in record[UUID_AT..KEY_AT].iter_mut().zip(keyring.uuid.bytes()) {
        *place = byte;
    }
    let cipher = Aes256::new(&Array(keyring.master_key.0));
    record[KEY_AT..SUM_AT].copy_from_slice(&key.0);
    for block in record[KEY_AT..SUM_AT].chunks_exact_mut(BLOCK_BYTES) {
        let mut closed = Array([0; BLOCK_BYTES]);
        closed.copy_from_slice(block);
        cipher.encrypt_block(&mut closed);
        block.copy_from_slice(&closed);
    }
    record[SUM_AT..].copy_from_slice(&crc32c::crc32c(&key.0).to_be_bytes());
}

/// First pages as a donor sends them, for tests and kept inputs.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod made {
    use super::{
        FILE_KEY_BYTES, KEY_AT, LOG_HEADER_BYTES, LOG_RECORD_BLOCK, MAGIC, NUMBER_AT, RECORD_BYTES, SUM_AT,
        record_place, stamp,
    };

    pub(crate) const KEY: [u8; FILE_KEY_BYTES] =
        *b"a key that is in no backup at all, and its vector of thirty-two!";

    /// A page of space 7 with a record that is open, and the key in it.
    pub(crate) fn opened_page(page_bytes: usize) -> (Vec<u8>, [u8; FILE_KEY_BYTES]) {
        let mut page = vec![0; page_bytes];
        page[34..38].copy_from_slice(&7_u32.to_be_bytes());
        let at = record_place(page_bytes, 64);
        page[at..at + NUMBER_AT].copy_from_slice(MAGIC);
        page[at + KEY_AT..at + SUM_AT].copy_from_slice(&KEY);
        page[at + SUM_AT..at + RECORD_BYTES].copy_from_slice(&crc32c::crc32c(&KEY).to_be_bytes());
        stamp(&mut page, false);
        (page, KEY)
    }

    /// The header of a log file with the same record.
    pub(crate) fn opened_log_header() -> Vec<u8> {
        let (page, _) = opened_page(16_384);
        let (at, mut header) = (record_place(16_384, 64), vec![0; LOG_HEADER_BYTES]);
        let place = LOG_RECORD_BLOCK.start + 48;
        header[place..place + RECORD_BYTES].copy_from_slice(&page[at..at + RECORD_BYTES]);
        header
    }
}

#[cfg(test)]
mod tests {
    use aes::cipher::BlockCipherDecrypt;

    use super::made::{KEY, opened_page};
    use super::*;

    struct Sevens;

    impl strongroom_core::time::Randomness for Sevens {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(7);
        }
    }

    fn opened_with(record: &[u8], keyring: &Keyring) -> Vec<u8> {
        let cipher = Aes256::new(&Array(keyring.master_key.0));
        let open = |block: &[u8]| {
            let mut block = Array::<u8, _>::try_from(block).unwrap();
            cipher.decrypt_block(&mut block);
            block.to_vec()
        };
        record[KEY_AT..SUM_AT].chunks(BLOCK_BYTES).flat_map(open).collect()
    }

    #[test]
    fn a_closed_key_opens_with_the_master_key_alone() {
        let keyring = Keyring::generate(&Sevens);
        for page_bytes in [4096, 8192, 16_384, 32_768, 65_536] {
            let (mut page, key) = opened_page(page_bytes);
            assert_eq!(close_page(&mut page, false, &keyring), Opened::Closed, "{page_bytes}");
            let at = record_place(page_bytes, 64);
            assert_eq!(opened_with(&page[at..], &keyring), key);
            assert_eq!(page[at + UUID_AT..at + KEY_AT], *keyring.uuid.as_bytes());
            assert_eq!(close_page(&mut page, false, &keyring), Opened::Nothing, "it is closed already");
            let mut made = vec![0; page_bytes];
            write_page(&mut made, false, 64, &FileKey(KEY), &keyring);
            assert_eq!(made[at..at + RECORD_BYTES], page[at..at + RECORD_BYTES]);
        }
        let places = [(4096, 256), (8192, 128), (16_384, 64), (32_768, 64), (65_536, 64), (4096, 64)]
            .map(|(page, extent)| record_place(page, extent));
        assert_eq!(places, [1558, 3734, 10_390, 20_630, 41_110, 2710]);
    }

    #[test]
    fn what_is_no_open_record_stays_as_it_is() {
        let keyring = Keyring::generate(&Sevens);
        let (page, _) = opened_page(16_384);
        let at = record_place(16_384, 64);
        for (what, place) in [("mark", at), ("number", at + 6), ("key", at + KEY_AT), ("sum", at + SUM_AT)] {
            let mut other = page.clone();
            other[place] ^= 1;
            let before = other.clone();
            assert_eq!(close_page(&mut other, false, &keyring), Opened::Nothing, "{what}");
            assert!(other == before, "{what}");
        }
        for short in [0, 10, RECORD_BYTES, 200] {
            assert_eq!(close_page(&mut page[..short].to_vec(), false, &keyring), Opened::Nothing);
        }
    }
}
