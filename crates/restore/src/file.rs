//! Writing the files of a target, each front to back.
//!
//! A big restore writes past the page cache. The cache could not hold all of it, would push out
//! what other programs keep there, and costs a second copy of every byte. A small one leaves its
//! bytes in the cache, where the server that starts next finds them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

use rustix::io::Errno;
use strongroom_core::{Error, Result};

use super::plan::unusable;

/// Restores up to this size stay in the page cache.
pub(crate) const CACHED_BYTES_MAX: u64 = 2 << 30;
/// Files below this size are written through the cache at any rate.
pub(crate) const DIRECT_FILE_BYTES_MIN: u64 = 1 << 20;
/// Address, offset and length of a direct write are multiples of this; no disk asks for more.
const ALIGNMENT: usize = 4096;
/// One direct write: large enough that the disk's latency does not count.
const STAGED_BYTES: usize = 1 << 20;
/// Buffers of one connection: one being filled, the others on their way to the disk.
const BUFFERS: usize = 3;
/// Cached bytes are handed to the disk in pieces of this size, so that no sync has much to do.
const WRITEBACK_BYTES: u64 = 8 << 20;

pub(crate) struct TargetFile {
    cached: File,
    /// The same file past the cache, where that is wanted and the file system can do it.
    direct: Option<File>,
    /// The file system took the flag and then refused a write.
    is_refused: AtomicBool,
    path: PathBuf,
    /// Where the cached bytes begin that were not handed to the disk yet.
    kept_from: AtomicU64,
}

impl TargetFile {
    pub(crate) const fn new(cached: File, direct: Option<File>, path: PathBuf) -> Self {
        let (is_refused, kept_from) = (AtomicBool::new(false), AtomicU64::new(u64::MAX));
        Self { cached, direct, is_refused, path, kept_from }
    }

    /// Whole blocks past the cache, the rest of a file's last block through it.
    fn write_out(&self, staging: &Staging) -> Result<()> {
        let (bytes, offset) = (staging.bytes(), staging.offset);
        let is_aligned = offset.is_multiple_of(ALIGNMENT as u64);
        let whole = if is_aligned { bytes.len() - bytes.len() % ALIGNMENT } else { 0 };
        let (blocks, rest) = bytes.split_at(whole);
        if !self.write_direct(blocks, offset)? {
            self.write_cached(blocks, offset)?;
        }
        self.write_cached(rest, offset + whole as u64)
    }

    /// `false` when the file system will not; then nothing counts as written.
    fn write_direct(&self, blocks: &[u8], offset: u64) -> Result<bool> {
        let Some(direct) = self.direct.as_ref().filter(|_| !self.is_refused.load(Ordering::Relaxed)) else {
            return Ok(false);
        };
        match direct.write_all_at(blocks, offset) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                self.is_refused.store(true, Ordering::Relaxed);
                Ok(false)
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn write_cached(&self, bytes: &[u8], offset: u64) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.cached.write_all_at(bytes, offset).map_err(|error| self.failed(&error))?;
        let end = offset + bytes.len() as u64;
        let from = self.kept_from.fetch_min(offset, Ordering::Relaxed).min(offset);
        if end.saturating_sub(from) >= WRITEBACK_BYTES {
            // A hint only: asks for writing now, waits for nothing. The sync at the end decides.
            let length = std::num::NonZeroU64::new(end.saturating_sub(from));
            let _ = rustix::fs::fadvise(&self.cached, from, length, rustix::fs::Advice::DontNeed);
            self.kept_from.store(end, Ordering::Relaxed);
        }
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> Error {
        unusable(&self.path, error)
    }
}

/// The bytes of one direct write, at an address that it may have.
struct Staging {
    /// Longer than needed, so that an aligned address is in it.
    memory: Vec<u8>,
    begin: usize,
    filled: usize,
    /// Where in the file the first byte goes.
    offset: u64,
}

impl Staging {
    fn new() -> Self {
        let memory = vec![0; STAGED_BYTES + ALIGNMENT];
        let begin = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Self { memory, begin, filled: 0, offset: 0 }
    }

    const fn end(&self) -> u64 {
        self.offset + self.filled as u64
    }

    /// Takes as many bytes as there is room for; answers how many.
    fn take(&mut self, bytes: &[u8], offset: u64) -> usize {
        if self.filled == 0 {
            self.offset = offset;
        }
        let length = bytes.len().min(STAGED_BYTES - self.filled);
        let begin = self.begin + self.filled;
        self.memory[begin..begin + length].copy_from_slice(&bytes[..length]);
        self.filled += length;
        length
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.begin..self.begin + self.filled]
    }
}

/// The writes of one connection. A thread beside it waits for the disk, so that the next bytes are
/// decoded meanwhile.
pub(crate) struct Writer {
    /// The one being filled.
    staging: Option<Staging>,
    spare: Vec<Staging>,
    made: usize,
    full: SyncSender<(Arc<TargetFile>, Staging)>,
    written: Receiver<(Staging, Result<()>)>,
    under_way: usize,
}

impl Writer {
    /// Its thread ends when the writer is dropped.
    pub(crate) fn beside<'scope>(scope: &'scope Scope<'scope, '_>) -> Self {
        let (full, waiting) = sync_channel::<(Arc<TargetFile>, Staging)>(BUFFERS);
        let (empty, written) = sync_channel(BUFFERS);
        scope.spawn(move || {
            while let Ok((file, staging)) = waiting.recv() {
                let outcome = file.write_out(&staging);
                if empty.send((staging, outcome)).is_err() {
                    return;
                }
            }
        });
        Self { staging: None, spare: Vec::new(), made: 0, full, written, under_way: 0 }
    }

    /// Bytes may be on their way until [`Writer::flush`]; a failure may come with a later call.
    pub(crate) fn write_at(
        &mut self,
        file: &Arc<TargetFile>,
        mut bytes: &[u8],
        mut offset: u64,
    ) -> Result<()> {
        if file.direct.is_none() {
            return file.write_cached(bytes, offset);
        }
        while !bytes.is_empty() {
            let is_next = |staging: &Staging| staging.filled < STAGED_BYTES && staging.end() == offset;
            if self.staging.as_ref().is_some_and(|staging| staging.filled > 0 && !is_next(staging)) {
                self.hand_over(file)?;
            }
            let mut staging = match self.staging.take() {
                Some(staging) => staging,
                None => self.empty()?,
            };
            let taken = staging.take(bytes, offset);
            self.staging = Some(staging);
            bytes = &bytes[taken..];
            offset += taken as u64;
        }
        Ok(())
    }

    /// Zeroes are holes already: the file was made with its full length.
    pub(crate) fn fill_at(
        &mut self,
        file: &Arc<TargetFile>,
        byte: u8,
        length: u64,
        offset: u64,
    ) -> Result<()> {
        if byte == 0 {
            return Ok(());
        }
        let block = vec![byte; length.min(1 << 20) as usize];
        let mut written = 0;
        while written < length {
            let now = (length - written).min(block.len() as u64);
            self.write_at(file, &block[..now as usize], offset + written)?;
            written += now;
        }
        Ok(())
    }

    /// After it, everything of this file is written (and not yet durable).
    pub(crate) fn flush(&mut self, file: &Arc<TargetFile>) -> Result<()> {
        self.hand_over(file)?;
        while self.under_way > 0 {
            self.wait()?;
        }
        Ok(())
    }

    /// Forgets what was not flushed. Some of it may be written: it comes once more.
    pub(crate) fn abandon(&mut self) {
        while self.under_way > 0 {
            // Whoever asks for the bytes again hears of the disk again.
            let _ = self.wait();
        }
        if let Some(staging) = &mut self.staging {
            staging.filled = 0;
        }
    }

    fn hand_over(&mut self, file: &Arc<TargetFile>) -> Result<()> {
        match self.staging.take() {
            Some(staging) if staging.filled > 0 => {
                self.full.send((file.clone(), staging)).map_err(Error::internal)?;
                self.under_way += 1;
            }
            unused => self.staging = unused,
        }
        Ok(())
    }

    fn empty(&mut self) -> Result<Staging> {
        while self.spare.is_empty() && self.made == BUFFERS {
            self.wait()?;
        }
        Ok(self.spare.pop().unwrap_or_else(|| {
            self.made += 1;
            Staging::new()
        }))
    }

    /// Until the oldest write under way is over.
    fn wait(&mut self) -> Result<()> {
        self.under_way -= 1;
        let (mut staging, outcome) = self.written.recv().map_err(Error::internal)?;
        staging.filled = 0;
        self.spare.push(staging);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;
    use std::thread;

    use rustix::fs::OFlags;

    use super::*;

    /// A file of `size` bytes, all holes, in a fresh folder; and its path.
    fn holes(folder: &tempfile::TempDir, size: usize, is_direct: bool) -> (Arc<TargetFile>, PathBuf) {
        let path = folder.path().join("file");
        let cached = File::create(&path).unwrap();
        cached.set_len(size as u64).unwrap();
        let flags = OFlags::DIRECT.bits().cast_signed();
        let direct = File::options().write(true).custom_flags(flags).open(&path);
        let direct = is_direct.then(|| direct.expect("the tests' file system writes past the cache"));
        (Arc::new(TargetFile::new(cached, direct, path.clone())), path)
    }

    fn content(length: usize) -> Vec<u8> {
        let mut content = vec![0; length];
        blake3::Hasher::new().update(b"content").finalize_xof().fill(&mut content);
        content
    }

    /// What a file of `size` bytes holds after `act`.
    fn written(size: usize, is_direct: bool, act: impl FnOnce(&mut Writer, &Arc<TargetFile>)) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let (file, path) = holes(&folder, size, is_direct);
        thread::scope(|scope| act(&mut Writer::beside(scope), &file));
        std::fs::read(path).unwrap()
    }

    #[test]
    fn however_it_is_cut_the_file_is_what_was_given() {
        let whole = content((BUFFERS + 2) * STAGED_BYTES + 5 * ALIGNMENT + 77);
        for piece in [1000, ALIGNMENT, 128 << 10, STAGED_BYTES - 1, STAGED_BYTES, whole.len()] {
            for is_direct in [false, true] {
                let found = written(whole.len(), is_direct, |writer, file| {
                    let mut offset = 0;
                    for part in whole.chunks(piece) {
                        writer.write_at(file, part, offset).unwrap();
                        offset += part.len() as u64;
                    }
                    writer.flush(file).unwrap();
                });
                assert!(found == whole, "pieces of {piece}, direct: {is_direct}");
            }
        }
    }

    #[test]
    fn gaps_stay_holes_and_nothing_moves_into_them() {
        let size = 4 * STAGED_BYTES;
        let mut wanted = vec![0; size];
        let places = [(0, 8192), (3 * 8192, 100), (STAGED_BYTES + 5, 70_000), (size - 9, 9)];
        for (offset, length) in places {
            wanted[offset..offset + length].copy_from_slice(&content(length));
        }
        wanted[2 << 20..(2 << 20) + 3000].fill(7);
        let found = written(size, true, |writer, file| {
            for (offset, length) in places {
                writer.write_at(file, &content(length), offset as u64).unwrap();
            }
            writer.fill_at(file, 7, 3000, 2 << 20).unwrap();
            writer.fill_at(file, 0, 3000, 3 << 20).unwrap();
            writer.flush(file).unwrap();
        });
        assert!(found == wanted);
    }

    #[test]
    fn what_was_given_up_is_not_written_later() {
        let mut wanted = content(4096);
        wanted.resize(8192, 0);
        let found = written(8192, true, |writer, file| {
            writer.write_at(file, &content(4096), 4096).unwrap();
            writer.abandon();
            writer.write_at(file, &content(4096), 0).unwrap();
            writer.flush(file).unwrap();
        });
        assert!(found == wanted);
    }

    /// Some file systems take the flag and refuse the write.
    #[test]
    fn a_refused_direct_write_goes_through_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let whole = content(STAGED_BYTES);
        let (file, path) = holes(&folder, whole.len(), true);
        // An odd address makes this one refuse.
        let mut staging = Staging::new();
        staging.memory.reserve_exact(2 * ALIGNMENT);
        staging.begin = staging.memory.as_ptr().align_offset(ALIGNMENT) % ALIGNMENT + 1;
        staging.memory.resize(STAGED_BYTES + 2 * ALIGNMENT, 0);
        assert_eq!(staging.take(&whole, 0), whole.len());
        file.write_out(&staging).unwrap();
        assert!(file.is_refused.load(Ordering::Relaxed), "an odd address is refused");
        assert!(std::fs::read(path).unwrap() == whole);
    }

    /// A disk that fails is told before anything counts as written, and the next file is written.
    #[test]
    fn d01_a_failing_write_is_told_at_the_latest_by_the_flush() {
        let folder = tempfile::tempdir().unwrap();
        let (good, path) = holes(&folder, 4 * STAGED_BYTES, true);
        let full = || File::options().write(true).open("/dev/full").unwrap();
        let bad = Arc::new(TargetFile::new(full(), Some(full()), "/dev/full".into()));
        let whole = content(4 * STAGED_BYTES);
        thread::scope(|scope| {
            let mut writer = Writer::beside(scope);
            for _ in 0..3 {
                let told = writer.write_at(&bad, &whole, 0).and_then(|()| writer.flush(&bad));
                assert_eq!(told.unwrap_err().kind(), strongroom_core::ErrorKind::DiskFull);
                writer.abandon();
            }
            writer.write_at(&good, &whole, 0).unwrap();
            writer.flush(&good).unwrap();
        });
        assert!(std::fs::read(path).unwrap() == whole);
    }
}
