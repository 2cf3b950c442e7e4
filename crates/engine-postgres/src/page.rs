//! Pages: their checksum, and whether one that does not match is damage.

use crate::lsn::Lsn;
use crate::relation::PAGE_SIZE_BYTES;

/// Values the 32 lanes of the checksum start from.
const BASES: [u32; LANES] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];
const LANES: usize = 32;
const PRIME: u32 = 16_777_619;
const ROW_SIZE_BYTES: usize = LANES * 4;

/// Where the header keeps the checksum.
const CHECKSUM_AT: usize = 8;

pub(crate) type Page = [u8; PAGE_SIZE_BYTES];

/// What a look at one page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageState {
    /// The checksum matches, or the page was never used.
    Sound,
    Mismatch {
        /// The log position of the last change the page knows of.
        position: Lsn,
        expected: u16,
        found: u16,
    },
    /// The header says "never used", yet there is something behind it.
    NotEmpty,
}

/// Checks a page against its place: the block number counts from the start of the relation.
pub(crate) fn check(page: &Page, block: u32) -> PageState {
    let half = |at: usize| u16::from_le_bytes([page[at], page[at + 1]]);
    let word = |at: usize| u64::from(half(at)) | (u64::from(half(at + 2)) << 16);
    let upper = half(14);
    if upper == 0 {
        return if page.iter().all(|b| *b == 0) { PageState::Sound } else { PageState::NotEmpty };
    }
    let found = half(CHECKSUM_AT);
    let expected = checksum(page, block);
    if expected == found {
        return PageState::Sound;
    }
    PageState::Mismatch { position: Lsn((word(0) << 32) | word(4)), expected, found }
}

/// The checksum of a page: 32 interleaved hashes, so that it can be computed in wide registers.
fn checksum(page: &Page, block: u32) -> u16 {
    let mut lanes = BASES;
    let (rows, _) = page.as_chunks::<ROW_SIZE_BYTES>();
    // The checksum itself counts as zero.
    let mut first = rows[0];
    first[CHECKSUM_AT..CHECKSUM_AT + 2].fill(0);
    mix_row(&mut lanes, &first);
    for row in &rows[1..] {
        mix_row(&mut lanes, row);
    }
    for _ in 0..2 {
        mix_row(&mut lanes, &[0; ROW_SIZE_BYTES]);
    }
    let folded = lanes.iter().fold(block, |sum, lane| sum ^ lane);
    u16::try_from(folded % 65_535 + 1).expect("a remainder of 65535 plus one fits 16 bits")
}

#[inline]
fn mix_row(lanes: &mut [u32; LANES], row: &[u8; ROW_SIZE_BYTES]) {
    let (words, _) = row.as_chunks::<4>();
    for (lane, word) in lanes.iter_mut().zip(words) {
        let mixed = *lane ^ u32::from_le_bytes(*word);
        *lane = mixed.wrapping_mul(PRIME) ^ (mixed >> 17);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, word by word, as an independent witness.
    fn checksum_by_definition(page: &Page, block: u32) -> u16 {
        let mut page = *page;
        page[8] = 0;
        page[9] = 0;
        let mut lanes = BASES;
        for (position, word) in page.chunks(4).enumerate() {
            let lane = &mut lanes[position % 32];
            let mixed = *lane ^ u32::from_le_bytes(word.try_into().unwrap());
            *lane = mixed.wrapping_mul(16_777_619) ^ (mixed >> 17);
        }
        for lane in &mut lanes {
            for _ in 0..2 {
                *lane = lane.wrapping_mul(16_777_619) ^ (*lane >> 17);
            }
        }
        let folded = lanes.iter().fold(0, |sum, lane| sum ^ lane) ^ block;
        u16::try_from(folded % 65_535 + 1).unwrap()
    }

    fn page(seed: u32) -> Page {
        let mut state = seed;
        let mut page = [0; PAGE_SIZE_BYTES];
        for byte in &mut page {
            state = state.wrapping_mul(1_103_515_245).wrapping_add(12345);
            *byte = state.to_le_bytes()[3];
        }
        page
    }

    #[test]
    fn the_fast_way_is_the_defined_way() {
        for seed in 0..50 {
            let page = page(seed);
            assert_eq!(checksum(&page, seed * 77_777), checksum_by_definition(&page, seed * 77_777));
        }
    }

    #[test]
    fn b13_a_flipped_bit_anywhere_is_seen() {
        let mut sound = page(1);
        let right = checksum(&sound, 7);
        sound[8..10].copy_from_slice(&right.to_le_bytes());
        assert_eq!(check(&sound, 7), PageState::Sound);
        assert!(matches!(check(&sound, 8), PageState::Mismatch { .. }));
        for at in (0..PAGE_SIZE_BYTES).filter(|at| !(14..16).contains(at)).step_by(61) {
            let mut bad = sound;
            bad[at] ^= 0x10;
            assert_ne!(check(&bad, 7), PageState::Sound, "{at}");
        }
        let PageState::Mismatch { position, expected, found } = check(&sound, 9) else {
            panic!("it is another block")
        };
        let high = u32::from_le_bytes(sound[0..4].try_into().unwrap());
        let low = u32::from_le_bytes(sound[4..8].try_into().unwrap());
        assert_eq!(position, Lsn((u64::from(high) << 32) | u64::from(low)));
        assert!(found == right && expected != right);
    }

    #[test]
    fn unused_pages_are_all_zero() {
        let mut page = [0; PAGE_SIZE_BYTES];
        assert_eq!(check(&page, 3), PageState::Sound);
        page[5000] = 1;
        assert_eq!(check(&page, 3), PageState::NotEmpty);
    }
}
