//! Headers of a tar archive, in GNU's form: names of any bytes and length, files of any size.

/// Everything in a tar is a multiple of this.
pub(super) const BLOCK_BYTES: usize = 512;
/// Two blocks of zeroes.
pub(super) const END_BYTES: usize = 2 * BLOCK_BYTES;

const NAME_BYTES: usize = 100;
const FILE: u8 = b'0';
const DIRECTORY: u8 = b'5';
const LONG_NAME: u8 = b'L';

/// What stands in a header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    /// Relative; a directory's ends with a slash.
    pub(super) name: &'a [u8],
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) mtime_s: i64,
    /// Account and group it belongs to, where they are known.
    pub(super) owner: &'static str,
}

/// Zeroes behind so many bytes of content.
pub(super) const fn padding(size: u64) -> usize {
    (BLOCK_BYTES - (size % BLOCK_BYTES as u64) as usize) % BLOCK_BYTES
}

/// Length of [`Entry::write`].
pub(super) const fn header_bytes(name: usize) -> usize {
    if name <= NAME_BYTES {
        return BLOCK_BYTES;
    }
    let told = name + 1;
    2 * BLOCK_BYTES + told + padding(told as u64)
}

impl Entry<'_> {
    pub(super) fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(header_bytes(self.name.len()));
        if self.name.len() > NAME_BYTES {
            let told = self.name.len() + 1;
            let long = Self { name: b"././@LongLink", size: told as u64, mode: 0o644, mtime_s: 0, ..*self };
            out.extend_from_slice(&long.block(LONG_NAME));
            out.extend_from_slice(self.name);
            out.resize(out.len() + 1 + padding(told as u64), 0);
        }
        let kind = if self.name.ends_with(b"/") { DIRECTORY } else { FILE };
        out.extend_from_slice(&self.block(kind));
        out
    }

    fn block(&self, kind: u8) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        let name = &self.name[..self.name.len().min(NAME_BYTES)];
        block[..name.len()].copy_from_slice(name);
        octal(&mut block[100..108], u64::from(self.mode & 0o7777));
        octal(&mut block[108..116], 0);
        octal(&mut block[116..124], 0);
        number(&mut block[124..136], i128::from(self.size));
        number(&mut block[136..148], i128::from(self.mtime_s));
        block[156] = kind;
        block[257..265].copy_from_slice(b"ustar  \0");
        for at in [265, 297] {
            block[at..at + self.owner.len()].copy_from_slice(self.owner.as_bytes());
        }
        // The checksum counts its own field as blanks.
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        octal(&mut block[148..155], sum);
        block
    }
}

/// Octal digits and an end.
fn octal(field: &mut [u8], mut value: u64) {
    let digits = field.len() - 1;
    for digit in field[..digits].iter_mut().rev() {
        *digit = b'0' + (value & 7) as u8;
        value >>= 3;
    }
    field[digits] = 0;
}

/// Octal where it fits, else GNU's binary form.
fn number(field: &mut [u8], value: i128) {
    if let Ok(small) = u64::try_from(value)
        && small < 1 << 33
    {
        return octal(field, small);
    }
    let bytes = value.to_be_bytes();
    field.copy_from_slice(&bytes[bytes.len() - field.len()..]);
    // The first bits say that it is binary, and its sign.
    field[0] = if value < 0 { 0xff } else { 0x80 };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_what_they_are_said_to_be() {
        for length in [1, 99, 100, 101, 510, 511, 512, 513, 4096] {
            let name = vec![b'x'; length];
            let entry = Entry { name: &name, size: 1, mode: 0o600, mtime_s: 0, owner: "postgres" };
            assert_eq!(entry.write().len(), header_bytes(length), "{length}");
        }
        assert_eq!([padding(0), padding(1), padding(511), padding(512)], [0, 511, 1, 0]);
    }

    #[test]
    fn numbers_beyond_octal_are_binary() {
        let mut field = [0; 12];
        number(&mut field, (1 << 33) - 1);
        assert_eq!(&field, b"77777777777\0");
        number(&mut field, 1 << 33);
        assert_eq!(field, [0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]);
        number(&mut field, -1);
        assert_eq!(field, [0xff; 12]);
    }
}
