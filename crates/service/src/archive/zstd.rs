//! zstd frames of known length (RFC 8878): a stored chunk as it is, bytes uncompressed, a run of one
//! byte. Each frame stands for itself and ends with a checksum, so that a range can begin at any of
//! them and stock tools find a changed bit.

use strongroom_core::{Error, Result};

use super::xxh64::xxh64;

const MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
const CHECKSUM_BYTES: u64 = 4;
/// Of the descriptor: a checksum follows the blocks.
const HAS_CHECKSUM: u8 = 1 << 2;
/// Of the descriptor: no window, the content's length is told.
const SINGLE_SEGMENT: u8 = 1 << 5;
const BLOCK_HEADER_BYTES: u64 = 3;
/// The largest block of the format; chunks have no more.
pub(super) const BLOCK_BYTES_MAX: usize = 128 << 10;
const RAW_BLOCK: u32 = 0;
const RUN_BLOCK: u32 = 1;

/// Bytes of the content's length, and the sign of that in the descriptor.
const fn length_field(length: usize) -> (u64, u8) {
    match length {
        0..=255 => (1, 0),
        256..=65_791 => (2, 1 << 6),
        _ => (4, 2 << 6),
    }
}

const fn head_bytes(length: usize) -> u64 {
    4 + 1 + length_field(length).0
}

/// Length of [`plain`].
pub(super) const fn plain_bytes(length: usize) -> u64 {
    head_bytes(length) + BLOCK_HEADER_BYTES + length as u64 + CHECKSUM_BYTES
}

/// Length of [`run`].
pub(super) const fn run_bytes(length: usize) -> u64 {
    head_bytes(length) + BLOCK_HEADER_BYTES + 1 + CHECKSUM_BYTES
}

/// Length of [`checked`].
pub(super) const fn checked_bytes(frame: u32) -> u64 {
    frame as u64 + CHECKSUM_BYTES
}

fn head(length: usize, block: u32, capacity: u64) -> Vec<u8> {
    debug_assert!((1..=BLOCK_BYTES_MAX).contains(&length));
    let (field, sign) = length_field(length);
    let mut out = Vec::with_capacity(capacity as usize);
    out.extend_from_slice(&MAGIC);
    out.push(HAS_CHECKSUM | SINGLE_SEGMENT | sign);
    let told = if field == 2 { length - 256 } else { length };
    out.extend_from_slice(&told.to_le_bytes()[..field as usize]);
    let header = 1 | block << 1 | (length as u32) << 3;
    out.extend_from_slice(&header.to_le_bytes()[..BLOCK_HEADER_BYTES as usize]);
    out
}

fn push_checksum(out: &mut Vec<u8>, content: &[u8]) {
    let checksum = (xxh64(content) as u32).to_le_bytes();
    out.extend_from_slice(&checksum);
}

/// Up to [`BLOCK_BYTES_MAX`] bytes as they are.
pub(super) fn plain(content: &[u8]) -> Vec<u8> {
    let mut out = head(content.len(), RAW_BLOCK, plain_bytes(content.len()));
    out.extend_from_slice(content);
    push_checksum(&mut out, content);
    out
}

/// Content whose bytes are all equal.
pub(super) fn run(content: &[u8]) -> Vec<u8> {
    let mut out = head(content.len(), RUN_BLOCK, run_bytes(content.len()));
    out.push(content.first().copied().unwrap_or_default());
    push_checksum(&mut out, content);
    out
}

/// A frame of the repository, whose content it is, with a checksum.
pub(super) fn checked(mut frame: Vec<u8>, content: &[u8]) -> Result<Vec<u8>> {
    let is_bare = frame.starts_with(&MAGIC) && frame.get(4).is_some_and(|sign| sign & HAS_CHECKSUM == 0);
    if !is_bare {
        return Err(Error::internal("a stored record is no zstd frame without a checksum"));
    }
    frame[4] |= HAS_CHECKSUM;
    push_checksum(&mut frame, content);
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_what_they_are_said_to_be() {
        for length in [1, 2, 255, 256, 257, 65_791, 65_792, BLOCK_BYTES_MAX - 1, BLOCK_BYTES_MAX] {
            let content = vec![7; length];
            assert_eq!(plain(&content).len() as u64, plain_bytes(length), "{length}");
            assert_eq!(run(&content).len() as u64, run_bytes(length), "{length}");
        }
    }

    #[test]
    fn another_kind_of_record_is_refused() {
        assert!(checked(b"no frame".to_vec(), b"").is_err());
        assert!(checked(plain(b"has one"), b"has one").is_err());
    }
}
