//! InnoDB's descriptors: what a donor says about states, files and data. Big-endian throughout.

use super::cursor::Cursor;
use crate::fault::{Fault, Result};
use crate::keyring::FileKey;

/// The one version of descriptors that is known.
const VERSION: u32 = 100;
/// Version, length and type.
const HEADER_BYTES: u32 = 12;

/// Types of descriptors.
mod kind {
    pub(super) const LOCATOR: u32 = 1;
    pub(super) const TASK: u32 = 2;
    pub(super) const STATE: u32 = 3;
    pub(super) const FILE: u32 = 4;
    pub(super) const DATA: u32 = 5;
}

/// A locator without progress.
const LOCATOR_BYTES: usize = 34;
/// A state's descriptor, whose last two bytes are its flags.
const STATE_BYTES: usize = 46;

/// What a clone is at, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Init,
    File,
    Page,
    Redo,
    Done,
}

impl Phase {
    const ALL: [Self; 5] = [Self::Init, Self::File, Self::Page, Self::Redo, Self::Done];

    fn parse(number: u32) -> Result<Self> {
        let position = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        position
            .and_then(|position| Self::ALL.get(position).copied())
            .ok_or_else(|| Fault::hostile(format!("a state of a clone with the number {number}")))
    }

    /// On the wire.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Init => 1,
            Self::File => 2,
            Self::Page => 3,
            Self::Redo => 4,
            Self::Done => 5,
        }
    }

    pub(crate) fn next(self) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.number() == self.number() + 1)
    }
}

/// What a donor describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Descriptor<'a> {
    Task { index: u32 },
    State(StateDescriptor),
    File(FileDescriptor<'a>),
    Data(DataDescriptor),
}

/// The beginning or end of a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StateDescriptor {
    pub(crate) phase: Phase,
    pub(crate) mark: StateMark,
    pub(crate) chunks: u32,
    pub(crate) files: u32,
    /// Estimated: files grow and pages change while they are sent.
    pub(crate) transfer_bytes: u64,
    raw: [u8; STATE_BYTES],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StateMark {
    Begins,
    /// The donor waits for our acknowledgement.
    Ends,
    /// The donor still waits.
    KeepAlive,
}

impl StateDescriptor {
    const BEGINS: u16 = 1;
    const ACKNOWLEDGES: u16 = 2;

    /// The same descriptor as an acknowledgement.
    pub(super) fn acknowledgement(&self) -> [u8; STATE_BYTES] {
        let mut raw = self.raw;
        raw[STATE_BYTES - 2..].copy_from_slice(&Self::ACKNOWLEDGES.to_be_bytes());
        raw
    }
}

/// A file of the donor, or what became of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileDescriptor<'a> {
    /// Of files that changed between two phases: the phase that will follow.
    pub(crate) phase: Phase,
    pub(crate) size: u64,
    /// Flags of the tablespace, as in its first page.
    pub(crate) space_flags: u32,
    /// Of the source's file system, for holes.
    pub(crate) block_bytes: u32,
    flags: u16,
    pub(crate) space_id: u32,
    pub(crate) index: u32,
    pub(crate) first_chunk: u32,
    pub(crate) last_chunk: u32,
    /// Without the NUL that closes it; redo files have none.
    pub(crate) name: &'a [u8],
    /// Of an encrypted file that was made while the clone ran.
    pub(crate) key: Option<FileKey>,
}

impl FileDescriptor<'_> {
    const COMPRESSED_ZLIB: u16 = 1;
    const COMPRESSED_LZ4: u16 = 1 << 1;
    const ENCRYPTED: u16 = 1 << 2;
    const RENAMED: u16 = 1 << 3;
    const DELETED: u16 = 1 << 4;
    const HAS_KEY: u16 = 1 << 5;
    /// Of the tablespace's own flags.
    const SPACE_ENCRYPTED: u32 = 1 << 13;
    /// All flags of the tablespace set: a file that is none.
    const NO_SPACE: u32 = u32::MAX;

    pub(crate) fn is_page_compressed(&self) -> bool {
        self.flags & (Self::COMPRESSED_ZLIB | Self::COMPRESSED_LZ4) != 0
    }

    pub(crate) fn is_renamed(&self) -> bool {
        self.flags & Self::RENAMED != 0
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.flags & Self::DELETED != 0
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.flags & (Self::ENCRYPTED | Self::HAS_KEY) != 0
            || (self.is_tablespace() && self.space_flags & Self::SPACE_ENCRYPTED != 0)
    }

    /// Whether it consists of pages; `ib_buffer_pool` does not.
    pub(crate) fn is_tablespace(&self) -> bool {
        self.space_flags != Self::NO_SPACE
    }
}

/// Where the bytes of the next packet belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DataDescriptor {
    pub(crate) phase: Phase,
    pub(crate) chunk: u32,
    pub(crate) block: u32,
    pub(crate) file: u32,
    /// 0: no packet of bytes follows.
    pub(crate) length: u32,
    pub(crate) offset: u64,
    /// What the file has grown to.
    pub(crate) file_size: u64,
}

impl<'a> Descriptor<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self> {
        let (version, length, kind) = header(bytes).ok_or_else(|| Fault::hostile("a cut descriptor"))?;
        if version != VERSION || usize::try_from(length).ok() != Some(bytes.len()) {
            return Err(Fault::hostile(format!(
                "a descriptor of version {version} with {length} of {} bytes",
                bytes.len()
            )));
        }
        let mut cursor = Cursor(&bytes[HEADER_BYTES as usize..]);
        let malformed = || Fault::hostile(format!("a malformed descriptor of type {kind}"));
        match kind {
            kind::TASK => Ok(Self::Task { index: cursor.big_u32().ok_or_else(malformed)? }),
            kind::STATE => state(bytes, cursor).map(Self::State),
            kind::FILE => {
                let (number, file) = file(cursor).ok_or_else(malformed)?;
                Ok(Self::File(FileDescriptor { phase: Phase::parse(number)?, ..file }))
            }
            kind::DATA => {
                let (number, data) = data(cursor).ok_or_else(malformed)?;
                Ok(Self::Data(DataDescriptor { phase: Phase::parse(number)?, ..data }))
            }
            other => Err(Fault::hostile(format!("a descriptor of type {other}"))),
        }
    }
}

fn header(bytes: &[u8]) -> Option<(u32, u32, u32)> {
    let mut cursor = Cursor(bytes);
    Some((cursor.big_u32()?, cursor.big_u32()?, cursor.big_u32()?))
}

fn state(bytes: &[u8], mut cursor: Cursor<'_>) -> Result<StateDescriptor> {
    let malformed = || Fault::hostile("a malformed descriptor of a state");
    let raw: [u8; STATE_BYTES] = bytes.try_into().map_err(|_| malformed())?;
    let mut read = || {
        let (number, _task) = (cursor.big_u32()?, cursor.big_u32()?);
        let (chunks, files) = (cursor.big_u32()?, cursor.big_u32()?);
        let (transfer_bytes, _on_disk) = (cursor.big_u64()?, cursor.big_u64()?);
        Some((number, chunks, files, transfer_bytes, cursor.big_u16()?))
    };
    let (number, chunks, files, transfer_bytes, flags) = read().ok_or_else(malformed)?;
    let mark = match flags {
        flags if flags & StateDescriptor::ACKNOWLEDGES != 0 => StateMark::KeepAlive,
        flags if flags & StateDescriptor::BEGINS != 0 => StateMark::Begins,
        _ => StateMark::Ends,
    };
    Ok(StateDescriptor { phase: Phase::parse(number)?, mark, chunks, files, transfer_bytes, raw })
}

/// The number of its phase, and everything else.
fn file(mut cursor: Cursor<'_>) -> Option<(u32, FileDescriptor<'_>)> {
    let number = cursor.big_u32()?;
    let (size, _allocated) = (cursor.big_u64()?, cursor.big_u64()?);
    let (space_flags, block_bytes, flags) = (cursor.big_u32()?, cursor.big_u32()?, cursor.big_u16()?);
    let (space_id, index) = (cursor.big_u32()?, cursor.big_u32()?);
    let (first_chunk, last_chunk) = (cursor.big_u32()?, cursor.big_u32()?);
    let length = cursor.big_u32()?;
    let name: &[u8] = match cursor.bytes(length)? {
        [] => &[],
        [name @ .., 0] if !name.contains(&0) => name,
        _ => return None,
    };
    let key = match flags & FileDescriptor::HAS_KEY {
        0 => None,
        _ => Some(FileKey(cursor.array()?)),
    };
    let file = FileDescriptor {
        phase: Phase::Init,
        size,
        space_flags,
        block_bytes,
        flags,
        space_id,
        index,
        first_chunk,
        last_chunk,
        name,
        key,
    };
    Some((number, file))
}

fn data(mut cursor: Cursor<'_>) -> Option<(u32, DataDescriptor)> {
    let (number, _task) = (cursor.big_u32()?, cursor.big_u32()?);
    let data = DataDescriptor {
        phase: Phase::Init,
        chunk: cursor.big_u32()?,
        block: cursor.big_u32()?,
        file: cursor.big_u32()?,
        length: cursor.big_u32()?,
        offset: cursor.big_u64()?,
        file_size: cursor.big_u64()?,
    };
    Some((number, data))
}

/// The locator of a client that has nothing yet.
pub(super) fn empty_locator() -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [VERSION, u32::try_from(LOCATOR_BYTES).unwrap_or(0), kind::LOCATOR] {
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    bytes.resize(LOCATOR_BYTES, 0);
    bytes
}

/// Whether these bytes are a locator.
pub(super) fn is_locator(bytes: &[u8]) -> bool {
    let length = u32::try_from(bytes.len()).ok();
    bytes.len() >= LOCATOR_BYTES
        && header(bytes).is_some_and(|(version, said, kind)| {
            version == VERSION && Some(said) == length && kind == kind::LOCATOR
        })
}

/// The locator of a client that has a part already: the phase that it is in, the pieces that it began,
/// and how far it is in each that is not complete.
pub(super) fn locator_with_progress(
    locator: &[u8],
    phase: Phase,
    incomplete: &[(u32, u32)],
    begun: &[u32],
) -> Vec<u8> {
    const PHASE_AT: usize = 32;
    const HAS_METADATA_AT: usize = 33;
    let mut bytes = locator.to_vec();
    bytes.resize(LOCATOR_BYTES, 0);
    bytes[PHASE_AT] = phase.number();
    bytes[HAS_METADATA_AT] = 1;
    let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    bytes.extend_from_slice(&count(incomplete.len()));
    for (chunk, block) in incomplete {
        bytes.extend_from_slice(&chunk.to_be_bytes());
        bytes.extend_from_slice(&block.to_be_bytes());
    }
    bytes.extend_from_slice(&count(begun.len()));
    for word in begun {
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    let length = count(bytes.len());
    bytes[4..8].copy_from_slice(&length);
    bytes
}

/// Descriptors as a donor would make them, for tests and kept inputs.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod made {
    use super::{HEADER_BYTES, Phase, VERSION, kind};

    fn with_header(kind: u32, body: &[u8]) -> Vec<u8> {
        let length = HEADER_BYTES + u32::try_from(body.len()).unwrap_or(0);
        let mut bytes = Vec::new();
        for word in [VERSION, length, kind] {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        bytes.extend_from_slice(body);
        bytes
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    pub(crate) fn task(index: u32) -> Vec<u8> {
        with_header(kind::TASK, &words(&[index, 0, 0]))
    }

    pub(crate) fn state(phase: Phase, flags: u16, chunks: u32, files: u32, transfer_bytes: u64) -> Vec<u8> {
        let mut body = words(&[u32::from(phase.number()), 0, chunks, files]);
        body.extend_from_slice(&transfer_bytes.to_be_bytes());
        body.extend_from_slice(&transfer_bytes.to_be_bytes());
        body.extend_from_slice(&flags.to_be_bytes());
        with_header(kind::STATE, &body)
    }

    /// What a test says of a file.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct File<'a> {
        pub(crate) phase: Phase,
        pub(crate) size: u64,
        pub(crate) space_flags: u32,
        pub(crate) flags: u16,
        pub(crate) space_id: u32,
        pub(crate) index: u32,
        pub(crate) chunks: (u32, u32),
        pub(crate) name: &'a str,
    }

    pub(crate) fn file(file: File<'_>) -> Vec<u8> {
        let mut body = words(&[u32::from(file.phase.number())]);
        body.extend_from_slice(&file.size.to_be_bytes());
        body.extend_from_slice(&file.size.to_be_bytes());
        body.extend_from_slice(&words(&[file.space_flags, 4096]));
        body.extend_from_slice(&file.flags.to_be_bytes());
        let name = if file.name.is_empty() { Vec::new() } else { [file.name.as_bytes(), &[0]].concat() };
        let length = u32::try_from(name.len()).unwrap_or(0);
        body.extend_from_slice(&words(&[file.space_id, file.index, file.chunks.0, file.chunks.1, length]));
        body.extend_from_slice(&name);
        if file.flags & super::FileDescriptor::HAS_KEY != 0 {
            body.extend_from_slice(&crate::keyring::made::KEY);
        }
        with_header(kind::FILE, &body)
    }

    pub(crate) fn data(
        phase: Phase,
        chunk: (u32, u32),
        file: u32,
        length: u32,
        offset: u64,
        size: u64,
    ) -> Vec<u8> {
        let mut body = words(&[u32::from(phase.number()), 0, chunk.0, chunk.1, file, length]);
        body.extend_from_slice(&offset.to_be_bytes());
        body.extend_from_slice(&size.to_be_bytes());
        with_header(kind::DATA, &body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h06_descriptors_are_read_or_refused() {
        let said = made::File {
            phase: Phase::File,
            size: 1 << 20,
            space_flags: 0x4021,
            flags: 8,
            space_id: 7,
            index: 3,
            chunks: (4, 5),
            name: "./shop/t.ibd",
        };
        let file = made::file(said);
        let Descriptor::File(read) = Descriptor::parse(&file).unwrap() else { panic!("no file") };
        assert_eq!((read.name, read.space_id, read.index, read.size), (&b"./shop/t.ibd"[..], 7, 3, 1 << 20));
        assert!(read.is_renamed() && !read.is_deleted() && !read.is_encrypted());
        let data = made::data(Phase::Page, (1, 2), 3, 4, 5, 6);
        let state = made::state(Phase::File, 0, 9, 8, 7);
        for good in [&file, &data, &state, &made::task(0)] {
            for length in 0..good.len() {
                assert!(Descriptor::parse(&good[..length]).is_err(), "{length}");
                // Also when the descriptor says so itself.
                let mut cut = good[..length].to_vec();
                if length >= 8 {
                    cut[4..8].copy_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
                }
                let is_spare = good.len() == 24 && length >= 16;
                assert!(is_spare || Descriptor::parse(&cut).is_err(), "{length}");
            }
        }
        for phase in [0_u32, 6, u32::MAX] {
            let mut bad = data.clone();
            bad[12..16].copy_from_slice(&phase.to_be_bytes());
            assert!(Descriptor::parse(&bad).is_err());
        }
        let with_nul = made::file(made::File { name: "a\0b", ..said });
        assert!(Descriptor::parse(&with_nul).is_err());
        assert!(Descriptor::parse(&empty_locator()).is_err(), "nobody sends one here");
    }

    #[test]
    fn an_acknowledgement_is_the_state_with_other_flags() {
        let bytes = made::state(Phase::File, 0, 9, 8, 7);
        let Descriptor::State(state) = Descriptor::parse(&bytes).unwrap() else { panic!("no state") };
        assert_eq!(state.mark, StateMark::Ends);
        let made = state.acknowledgement();
        assert_eq!((&made[..44], &made[44..]), (&bytes[..44], &[0, 2][..]));
    }

    #[test]
    fn progress_is_told_behind_the_locator() {
        let mut locator = empty_locator();
        assert!(is_locator(&locator) && !is_locator(&locator[..33]));
        locator[12] = 9;
        let told = locator_with_progress(&locator, Phase::File, &[(17, 56)], &[0x1_ffff]);
        assert_eq!(told.len(), 34 + 4 + 8 + 4 + 4);
        assert_eq!((&told[4..8], told[12], told[32], told[33]), (&[0, 0, 0, 54][..], 9, 2, 1));
        assert_eq!(&told[34..], [0, 0, 0, 1, 0, 0, 0, 17, 0, 0, 0, 56, 0, 0, 0, 1, 0, 1, 0xff, 0xff]);
        assert!(is_locator(&told));
    }
}
