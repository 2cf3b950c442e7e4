//! Member entries wait on local disk until the end, when they are sorted by path: a database with
//! millions of files costs a few dozen bytes of memory for each.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use strongroom_core::{Error, ErrorKind, Result};

use crate::frame;
use crate::tree::{DirectoryPage, Entry};

pub(crate) struct Spool {
    file: BufWriter<File>,
    length: u64,
    index: Vec<(Box<[u8]>, u64, u32)>,
}

impl Spool {
    pub(crate) fn create(directory: &Path) -> Result<Self> {
        let file = tempfile::tempfile_in(directory).map_err(|error| refused(&error))?;
        Ok(Self { file: BufWriter::new(file), length: 0, index: Vec::new() })
    }

    pub(crate) fn push(&mut self, entry: Entry) -> Result<()> {
        let path = entry.path.as_bytes().into();
        let bytes = DirectoryPage { entries: vec![entry] }.write();
        self.file.write_all(&bytes).map_err(|error| refused(&error))?;
        self.index.push((path, self.length, bytes.len() as u32));
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// All entries in the order of paths. The same path twice is a lie of the source.
    pub(crate) fn sorted(mut self, out: &mut dyn FnMut(Entry, usize) -> Result<()>) -> Result<()> {
        self.file.flush().map_err(|error| refused(&error))?;
        let mut file = self.file.into_inner().map_err(|error| refused(error.error()))?;
        file.seek(SeekFrom::Start(0)).map_err(|error| refused(&error))?;
        self.index.sort_unstable();
        if let Some(pair) = self.index.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(Error::new(
                ErrorKind::SourceHostile,
                format!(
                    "The file {} came twice in one backup; the backup was stopped.",
                    pair[0].0.escape_ascii()
                ),
            ));
        }
        for (_, offset, length) in &self.index {
            let mut bytes = vec![0; *length as usize];
            file.read_exact_at(&mut bytes, *offset).map_err(|error| refused(&error))?;
            let page = DirectoryPage::parse(&bytes).map_err(frame::malformed("spool"))?;
            for entry in page.entries {
                out(entry, bytes.len())?;
            }
        }
        Ok(())
    }
}

fn refused(error: &std::io::Error) -> Error {
    let is_full = matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
    Error::new(
        if is_full { ErrorKind::DiskFull } else { ErrorKind::Unavailable },
        format!("The spool file in the scratch directory cannot be used ({error}); the backup was stopped. What was stored before is safe."),
    )
    .with_hint("free room in the data directory, then run the backup again")
}
