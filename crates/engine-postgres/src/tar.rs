//! A tar stream, read in pieces of any size.
//!
//! Pure: bytes in, events out, no I/O and no memory beyond one header. Takes only what a base
//! backup consists of, regular files and directories under relative names; everything else is
//! refused before a byte of it is passed on (faults.md H01–H03).

use strongroom_core::{Result, limits};

use crate::fault::hostile;

const BLOCK_SIZE_BYTES: usize = 512;
const ZERO_BLOCK: [u8; BLOCK_SIZE_BYTES] = [0; BLOCK_SIZE_BYTES];

/// A file or directory as its header announces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TarEntry {
    /// Relative, without a leading `./` or a trailing `/`; raw bytes.
    pub(crate) name: Vec<u8>,
    pub(crate) is_directory: bool,
    pub(crate) size: u64,
    /// Permission bits, at most `0o777`.
    pub(crate) mode: u32,
    /// Seconds since the epoch.
    pub(crate) mtime_s: i64,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TarEvent<'a> {
    Entry(TarEntry),
    /// Bytes of the entry's content; several in a row.
    Content(&'a [u8]),
    /// The entry's content is complete; comes for directories too.
    EntryEnd,
    /// The archive is complete.
    End,
}

enum State {
    /// Collecting a header.
    Header,
    /// In the content of an entry: bytes of it left, then padding.
    Content {
        left: u64,
        padding: usize,
    },
    Padding {
        left: usize,
    },
    /// One zero block has come, the second is being collected.
    Ending,
    Ended,
}

/// The state machine. Feed it with [`TarReader::next`] until the input is used up.
pub(crate) struct TarReader {
    state: State,
    header: [u8; BLOCK_SIZE_BYTES],
    filled: usize,
}

impl TarReader {
    pub(crate) fn new() -> Self {
        Self { state: State::Header, header: ZERO_BLOCK, filled: 0 }
    }

    /// Takes bytes off the front of `input` and answers with what they mean; `None` when more
    /// input is needed.
    pub(crate) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<TarEvent<'a>>> {
        loop {
            match self.state {
                State::Content { left: 0, padding } => {
                    self.state = State::Padding { left: padding };
                    return Ok(Some(TarEvent::EntryEnd));
                }
                State::Padding { left: 0 } => self.state = State::Header,
                _ if input.is_empty() => return Ok(None),
                State::Content { left, padding } => {
                    let content = take(input, usize::try_from(left).unwrap_or(usize::MAX));
                    self.state = State::Content { left: left - content.len() as u64, padding };
                    return Ok(Some(TarEvent::Content(content)));
                }
                State::Padding { left } => {
                    self.state = State::Padding { left: left - take(input, left).len() };
                }
                State::Header | State::Ending => {
                    if self.collect(input)
                        && let Some(event) = self.header_complete()?
                    {
                        return Ok(Some(event));
                    }
                }
                State::Ended => return Err(hostile("bytes behind the end of an archive")),
            }
        }
    }

    /// Whether the stream may end here.
    pub(crate) fn is_between_entries(&self) -> bool {
        match self.state {
            State::Header => self.filled == 0,
            State::Padding { left } => left == 0,
            State::Ended => true,
            State::Content { .. } | State::Ending => false,
        }
    }

    /// Fills the header; `true` when it is complete.
    fn collect(&mut self, input: &mut &[u8]) -> bool {
        let piece = take(input, BLOCK_SIZE_BYTES - self.filled);
        self.header[self.filled..self.filled + piece.len()].copy_from_slice(piece);
        self.filled += piece.len();
        self.filled == BLOCK_SIZE_BYTES
    }

    fn header_complete(&mut self) -> Result<Option<TarEvent<'static>>> {
        self.filled = 0;
        if self.header == ZERO_BLOCK {
            if matches!(self.state, State::Ending) {
                self.state = State::Ended;
                return Ok(Some(TarEvent::End));
            }
            self.state = State::Ending;
            return Ok(None);
        }
        if matches!(self.state, State::Ending) {
            return Err(hostile("a file behind the end of an archive"));
        }
        let entry = parse_header(&self.header)?;
        let past_block = (entry.size % BLOCK_SIZE_BYTES as u64) as usize;
        let padding = (BLOCK_SIZE_BYTES - past_block) % BLOCK_SIZE_BYTES;
        self.state = State::Content { left: entry.size, padding };
        Ok(Some(TarEvent::Entry(entry)))
    }
}

fn take<'a>(input: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(count.min(input.len()));
    *input = rest;
    taken
}

/// Places in a ustar header.
mod field {
    use std::ops::Range;

    pub(super) const NAME: Range<usize> = 0..100;
    pub(super) const MODE: Range<usize> = 100..108;
    pub(super) const SIZE: Range<usize> = 124..136;
    pub(super) const MTIME: Range<usize> = 136..148;
    pub(super) const CHECKSUM: Range<usize> = 148..156;
    pub(super) const TYPE: usize = 156;
    pub(super) const MAGIC: Range<usize> = 257..262;
    pub(super) const PREFIX: Range<usize> = 345..500;
}

fn parse_header(header: &[u8; BLOCK_SIZE_BYTES]) -> Result<TarEntry> {
    if &header[field::MAGIC] != b"ustar" {
        return Err(hostile("an archive that is not ustar"));
    }
    check_header_sum(header)?;
    let name = parse_name(&header[field::NAME], &header[field::PREFIX])?;
    let is_directory = match header[field::TYPE] {
        b'0' | 0 => false,
        b'5' => true,
        kind => {
            return Err(hostile(format!(
                "an archive member of type {kind:?}, neither file nor directory",
                kind = char::from(kind)
            )));
        }
    };
    let size = parse_number(&header[field::SIZE])?;
    if size > limits::MEMBER_SIZE_BYTES_MAX || (is_directory && size > 0) {
        return Err(hostile(format!("an archive member that says it has {size} bytes")));
    }
    let mode = parse_number(&header[field::MODE])?;
    // Directories may carry the bits that pass a group on; programs that change their user may not.
    let forbidden = if is_directory { 0o4000 } else { 0o6000 };
    if mode > 0o177_777 || mode & forbidden != 0 {
        return Err(hostile(format!("an archive member with mode {mode:o}")));
    }
    let mtime_s = i64::try_from(parse_number(&header[field::MTIME])?)
        .map_err(|_| hostile("a time that does not exist"))?;
    Ok(TarEntry { name, is_directory, size, mode: (mode & 0o777) as u32, mtime_s })
}

/// The sum of all bytes, the sum itself counted as spaces.
fn check_header_sum(header: &[u8; BLOCK_SIZE_BYTES]) -> Result<()> {
    let sum = |bytes: &[u8]| bytes.iter().map(|b| u64::from(*b)).sum::<u64>();
    let expected = sum(header) - sum(&header[field::CHECKSUM]) + 8 * u64::from(b' ');
    if parse_number(&header[field::CHECKSUM])? != expected {
        return Err(hostile("an archive header whose checksum is wrong"));
    }
    Ok(())
}

fn parse_name(name: &[u8], prefix: &[u8]) -> Result<Vec<u8>> {
    let (name, prefix) = (c_string(name)?, c_string(prefix)?);
    let full = if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() };
    let mut relative = full.as_slice();
    relative = relative.strip_prefix(b"./").unwrap_or(relative);
    relative = relative.strip_suffix(b"/").unwrap_or(relative);
    let is_bad = |part: &[u8]| part.is_empty() || part == b"." || part == b"..";
    if relative.split(|b| *b == b'/').any(is_bad) {
        return Err(hostile(format!(
            "the file name \"{}\", which is empty, absolute or leaves its directory",
            full.escape_ascii()
        )));
    }
    Ok(relative.to_vec())
}

/// Text up to the first NUL, behind which there may only be more of them.
fn c_string(bytes: &[u8]) -> Result<&[u8]> {
    let length = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    let (text, rest) = bytes.split_at(length);
    if rest.iter().any(|b| *b != 0) {
        return Err(hostile("a file name that holds a NUL byte"));
    }
    Ok(text)
}

/// Octal digits, or, when the first bit is set, a big-endian binary number.
fn parse_number(bytes: &[u8]) -> Result<u64> {
    let malformed = || hostile("a malformed number in an archive header");
    if bytes[0] & 0x80 != 0 {
        // The second bit is the sign.
        if bytes[0] & 0x40 != 0 {
            return Err(malformed());
        }
        let digits = std::iter::once(bytes[0] & 0x3f).chain(bytes[1..].iter().copied());
        return digits
            .map(u64::from)
            .try_fold(0_u64, |number, digit| Some(number.checked_mul(256)? + digit))
            .ok_or_else(malformed);
    }
    let text = bytes.trim_ascii_start();
    let length = text.iter().position(|b| *b == 0 || *b == b' ').unwrap_or(text.len());
    text[..length].iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'7' => Ok(number * 8 + u64::from(digit - b'0')),
        _ => Err(malformed()),
    })
}

#[cfg(test)]
#[path = "tar_tests.rs"]
mod tests;
