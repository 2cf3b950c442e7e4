//! Page-compressed files: the server gives the rest of each page back to the file system, and a copy
//! that does not takes the full size.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};
use strongroom_core::member::MemberPath;
use strongroom_core::{Error, ErrorKind, Result};
use strongroom_host::io_failed;

use crate::facts::MySqlFacts;
use crate::page::compressed_length;

/// Pages that are read at once.
const READ_BYTES: usize = 1 << 20;
/// No disk has smaller blocks; the file system frees those that are whole.
const BLOCK_BYTES: usize = 512;

/// Gives back what the pages do not need. Answers with a note where the file system has no holes.
pub(super) fn punch(target: &Path, facts: &MySqlFacts) -> Result<Option<String>> {
    for compressed in &facts.page_compressed_files {
        // The name is the backup's word; it must not lead out of the directory.
        let name = format!("data/{}", compressed.name);
        let name = MemberPath::parse(name.as_bytes())?;
        let path = target.join(String::from_utf8_lossy(name.below_root()).as_ref());
        let page_size = facts.page_size_bytes as usize;
        match punch_file(&path, page_size) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                return Ok(Some(format!(
                    "The file system of {} knows no holes: page-compressed tables take their full size there.",
                    target.display()
                )));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::new(
                    ErrorKind::Damage,
                    format!("The restored directory is not complete: {name} is missing. The backup itself was not touched."),
                )
                .with_hint("Restore again into an empty directory."));
            }
            Err(error) => return Err(io_failed(&path, &error)),
        }
    }
    Ok(None)
}

fn punch_file(path: &Path, page_size: usize) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let size = file.metadata()?.len();
    if page_size == 0 || page_size > READ_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut buffer = vec![0; READ_BYTES - READ_BYTES % page_size];
    let mut at = 0;
    while at < size {
        let count = buffer.len().min((size - at) as usize);
        let piece = &mut buffer[..count];
        file.read_exact_at(piece, at)?;
        for (page, start) in piece.chunks_exact(page_size).zip((at..).step_by(page_size)) {
            if let Some(needed) = needed_length(page) {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                fallocate(&file, flags, start + needed as u64, (page_size - needed) as u64)?;
            }
        }
        at += count as u64;
    }
    file.sync_all()
}

/// Bytes of a page that hold something, when the rest is a hole worth making: nothing but zeroes,
/// whatever the page says of itself.
fn needed_length(page: &[u8]) -> Option<usize> {
    let needed = compressed_length(page)?.next_multiple_of(BLOCK_BYTES);
    let rest = page.get(needed..).filter(|rest| !rest.is_empty())?;
    rest.iter().all(|byte| *byte == 0).then_some(needed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::page::COMPRESSED;

    fn compressed(length: u16) -> Vec<u8> {
        let mut page = vec![0; 16_384];
        page[24..26].copy_from_slice(&COMPRESSED.to_be_bytes());
        page[32..34].copy_from_slice(&length.to_be_bytes());
        page[38..38 + usize::from(length)].fill(7);
        page
    }

    #[test]
    fn holes_are_made_where_nothing_is_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.ibd");
        let mut lying = compressed(100);
        lying[16_000] = 1;
        let pages: Vec<u8> =
            [vec![9; 16_384], compressed(3_000), lying, compressed(12_000), vec![5; 16_384]].concat();
        std::fs::write(&path, &pages).unwrap();
        File::open(&path).unwrap().sync_all().unwrap();
        let before = std::fs::metadata(&path).unwrap().blocks();
        for _ in 0..2 {
            punch_file(&path, 16_384).unwrap();
            assert!(std::fs::read(&path).unwrap() == pages, "no byte is another one");
        }
        let after = std::fs::metadata(&path).unwrap().blocks();
        assert_eq!(before - after, 16_384 / 512, "{before} {after}");
        assert_eq!(needed_length(&compressed(3_000)), Some(3_072));
        assert_eq!(needed_length(&compressed(16_340)), None, "nothing is left over");
    }
}
