//! The checksum of events: CRC-32 as in zip archives, which is not the one of InnoDB's pages.

const SLICES: usize = 8;
/// Reversed 0x04c11db7.
const POLYNOMIAL: u32 = 0xedb8_8320;

/// `TABLES[n][b]` is what byte `b` has become when `n` zeroes have followed it.
static TABLES: [[u32; 256]; SLICES] = tables();

const fn tables() -> [[u32; 256]; SLICES] {
    let mut tables = [[0; 256]; SLICES];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "it is below 256")]
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 0 { value >> 1 } else { (value >> 1) ^ POLYNOMIAL };
            bit += 1;
        }
        tables[0][byte] = value;
        byte += 1;
    }
    let mut slice = 1;
    while slice < SLICES {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[slice - 1][byte];
            tables[slice][byte] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        slice += 1;
    }
    tables
}

/// A checksum that grows piece by piece.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checksum(u32);

impl Checksum {
    pub(super) const fn new() -> Self {
        Self(u32::MAX)
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        let (eights, rest) = bytes.as_chunks::<SLICES>();
        for [a, b, c, d, e, f, g, h] in eights {
            let [a, b, c, d] = (u32::from_le_bytes([*a, *b, *c, *d]) ^ self.0).to_le_bytes();
            let row = [a, b, c, d, *e, *f, *g, *h];
            self.0 = (0..SLICES).fold(0, |sum, at| sum ^ TABLES[SLICES - 1 - at][usize::from(row[at])]);
        }
        for byte in rest {
            let [low, ..] = self.0.to_le_bytes();
            self.0 = (self.0 >> 8) ^ TABLES[0][usize::from(low ^ byte)];
        }
    }

    pub(super) const fn value(self) -> u32 {
        !self.0
    }

    pub(super) fn of(bytes: &[u8]) -> u32 {
        let mut checksum = Self::new();
        checksum.add(bytes);
        checksum.value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_everybody_else() {
        assert_eq!(Checksum::of(b"123456789"), 0xcbf4_3926);
        assert_eq!(Checksum::of(b""), 0);
        // A rotate event as a server sent it.
        let sent = "0000000004010000002c00000000000000200008020000000000006\
                    2696e6c6f672e303030303035b16d6294";
        let event = hex::decode(sent).unwrap();
        let (content, stored) = event.split_last_chunk::<4>().unwrap();
        assert_eq!(Checksum::of(content), u32::from_le_bytes(*stored));
        let long: Vec<u8> =
            (0..10_000_u32).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
        for cut in [1, 7, 8, 9, 4_099] {
            let mut checksum = Checksum::new();
            long.chunks(cut).for_each(|piece| checksum.add(piece));
            assert_eq!(checksum.value(), Checksum::of(&long), "{cut}");
        }
    }
}
