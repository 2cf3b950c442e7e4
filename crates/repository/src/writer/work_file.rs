//! What an attempt has to remember and cannot hold in memory: files on local disk without a name, gone
//! with the process.
//!
//! Pages of a database pass through here, so each piece is sealed under a key that is in no file: what
//! is left on the disk says nothing, and a bit that it flips is found.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use strongroom_core::size::ByteSize;
use strongroom_core::time::Randomness;
use strongroom_core::{Error, ErrorKind, Result, Retry, limits};
use zeroize::Zeroizing;

use crate::aead::{SealingKey, TAG_BYTES};

/// How often the room on the disk is looked at, in bytes written.
const GUARD_STEP_BYTES: u64 = 16 << 20;

/// One such file. Written at its end only.
pub(super) struct WorkFile {
    file: File,
    key: SealingKey,
    length: u64,
    /// Up to this length there is room, as far as was looked.
    allowed: u64,
    buffer: Vec<u8>,
}

impl WorkFile {
    pub(super) fn create(directory: &Path, random: &dyn Randomness) -> Result<Self> {
        let file = tempfile::tempfile_in(directory).map_err(|error| refused(&error))?;
        let mut key = Zeroizing::new([0; 32]);
        random.fill(&mut *key);
        Ok(Self { file, key: SealingKey::new(&key), length: 0, allowed: 0, buffer: Vec::new() })
    }

    /// Bytes that a piece takes in the file.
    pub(super) const fn stored_length(plain: usize) -> u64 {
        (plain + TAG_BYTES) as u64
    }

    /// Answers where the piece begins. No two begin at one place, so none shares its nonce.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<u64> {
        let at = self.length;
        let end = at + Self::stored_length(bytes.len());
        if end > self.allowed {
            self.look_for_room()?;
            self.allowed = end.max(at + GUARD_STEP_BYTES);
        }
        self.buffer.clear();
        self.buffer.extend_from_slice(bytes);
        self.key.seal(nonce(at), &[], &mut self.buffer);
        // Whatever comes of it, what follows begins elsewhere.
        self.length = end;
        self.file.write_all_at(&self.buffer, at).map_err(|error| refused(&error))?;
        Ok(at)
    }

    /// The piece of `plain` bytes that begins at `at`, in a buffer that is used again.
    pub(super) fn read(&self, at: u64, plain: usize, buffer: &mut Vec<u8>) -> Result<()> {
        buffer.resize(plain + TAG_BYTES, 0);
        self.file.read_exact_at(buffer, at).map_err(|error| refused(&error))?;
        self.key.open(nonce(at), &[], buffer).map_err(|_| {
            Error::new(
                ErrorKind::Unavailable,
                "A work file on the disk of the data directory does not hold what was written; the backup was stopped. What was stored before is safe.",
            )
            .with_hint("look at the kernel's log for the disk's errors before the next backup")
            .with_retry(Retry::Later)
        })?;
        buffer.truncate(plain);
        Ok(())
    }

    /// A full disk is bad for more than this backup: the catalog lies on it.
    fn look_for_room(&self) -> Result<()> {
        let stat = rustix::fs::fstatvfs(&self.file).map_err(|error| refused(&error.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free >= limits::WORK_FILE_ROOM_KEPT_BYTES + GUARD_STEP_BYTES {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::DiskFull,
            format!(
                "The disk of the data directory has {} left, and what changed while the source was read has to wait there. {} are kept free on it. The backup was stopped; what was stored before is safe.",
                ByteSize::new(free),
                ByteSize::new(limits::WORK_FILE_ROOM_KEPT_BYTES)
            ),
        )
        .with_hint(ROOM_HINT))
    }
}

const ROOM_HINT: &str = "free room in the data directory, then run the backup again";

fn nonce(at: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&at.to_le_bytes());
    nonce
}

fn refused(error: &io::Error) -> Error {
    let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    Error::new(
        if is_full { ErrorKind::DiskFull } else { ErrorKind::Unavailable },
        format!("A work file in the data directory cannot be used ({error}); the backup was stopped. What was stored before is safe."),
    )
    .with_hint(ROOM_HINT)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Zeroes;

    impl Randomness for Zeroes {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }

    #[test]
    fn pieces_come_back_and_a_changed_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = WorkFile::create(folder.path(), &Zeroes).unwrap();
        let pieces = [&b"secret page"[..], b"", &[7; 5000]];
        let places: Vec<u64> = pieces.iter().map(|piece| file.append(piece).unwrap()).collect();
        let mut buffer = Vec::new();
        for (piece, at) in pieces.iter().zip(&places).rev() {
            file.read(*at, piece.len(), &mut buffer).unwrap();
            assert_eq!(&buffer, piece);
        }
        let mut disk = vec![0; file.length as usize];
        file.file.read_exact_at(&mut disk, 0).unwrap();
        assert!(!disk.windows(6).any(|window| window == b"secret"), "nothing stands there in the clear");
        file.file.write_all_at(&[disk[places[2] as usize + 9] ^ 1], places[2] + 9).unwrap();
        let error = file.read(places[2], 5000, &mut buffer).unwrap_err();
        assert!(error.public().contains("does not hold what was written"), "{error}");
        assert!(
            file.read(places[0], pieces[1].len(), &mut buffer).is_err(),
            "another length is another piece"
        );
    }
}
