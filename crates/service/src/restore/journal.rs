//! The journal of a restore: which segments are durable in the target. Lies in the target as
//! `.strongroom-restore` while the restore runs, so that the same command goes on after a kill.
//! `docs/formats/restore-journal.md` describes it.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use strongroom_core::{Error, ErrorKind, Result};

use super::plan::unusable;

pub(super) const NAME: &str = ".strongroom-restore";
const SCHEMA: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    schema: u32,
    manifest_digest: String,
    /// Tablespace id and directory, as decided at the first run.
    tablespaces: Vec<(String, String)>,
}

pub(super) struct Journal {
    file: File,
}

fn read_header(line: Option<std::io::Result<String>>) -> Option<Header> {
    serde_json::from_str(&line?.ok()?).ok()
}

/// Whether the directory holds the journal of a restore of this very backup.
pub(super) fn belongs_to(target: &Path, manifest_digest: &str) -> bool {
    let Ok(file) = File::open(target.join(NAME)) else { return false };
    read_header(BufReader::new(file).lines().next())
        .is_some_and(|header| header.schema == SCHEMA && header.manifest_digest == manifest_digest)
}

impl Journal {
    /// Begins a journal, durable before anything else is written.
    pub(super) fn begin(
        target: &Path,
        manifest_digest: &str,
        tablespaces: Vec<(String, String)>,
    ) -> Result<Self> {
        let path = target.join(NAME);
        let mut file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| unusable(&path, &error))?;
        let header = Header { schema: SCHEMA, manifest_digest: manifest_digest.to_owned(), tablespaces };
        let line = serde_json::to_string(&header).map_err(Error::internal)? + "\n";
        file.write_all(line.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| File::open(target)?.sync_all())
            .map_err(|error| unusable(&path, &error))?;
        Ok(Self { file })
    }

    /// Goes on with a journal; answers the segments that are durable. A last line that was cut by
    /// a kill counts as not written.
    pub(super) fn resume(
        target: &Path,
        tablespaces: &[(String, String)],
    ) -> Result<(Self, HashSet<(u64, u32)>)> {
        let path = target.join(NAME);
        let read = File::open(&path).map_err(|error| unusable(&path, &error))?;
        let mut lines = BufReader::new(read).lines();
        let header = read_header(lines.next())
            .ok_or_else(|| Error::new(ErrorKind::Damage, "The journal in the target cannot be read."))?;
        if header.tablespaces != tablespaces {
            return Err(Error::new(
                ErrorKind::TargetNotEmpty,
                "The restore in this directory was begun with another tablespace map; nothing was written.",
            )
            .with_hint("give the same --tablespace-map as before, or another target"));
        }
        let done = lines.map_while(|line| serde_json::from_str(&line.ok()?).ok()).collect();
        let mut file =
            OpenOptions::new().append(true).open(&path).map_err(|error| unusable(&path, &error))?;
        // Ends a line that was cut, so that the next one stands alone.
        file.write_all(b"\n").map_err(|error| unusable(&path, &error))?;
        Ok((Self { file }, done))
    }

    /// Notes segments whose bytes are durable.
    pub(super) fn done(&mut self, segments: &[(u64, u32)]) -> Result<()> {
        let mut lines = String::new();
        for segment in segments {
            lines.push_str(&serde_json::to_string(segment).map_err(Error::internal)?);
            lines.push('\n');
        }
        self.file
            .write_all(lines.as_bytes())
            .and_then(|()| self.file.sync_data())
            .map_err(|error| unusable(Path::new(NAME), &error))
    }
}

/// The restore is whole: the journal goes.
pub(super) fn remove(target: &Path) -> Result<()> {
    let path = target.join(NAME);
    std::fs::remove_file(&path)
        .and_then(|()| File::open(target)?.sync_all())
        .map_err(|error| unusable(&path, &error))
}
