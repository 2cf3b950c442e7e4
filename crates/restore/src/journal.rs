//! The journal of a restore: which segments are durable in the target. Lies in the target as
//! `.strongroom-restore` while the restore runs, so that the same command goes on after a kill.
//! `docs/formats/restore-journal.md` describes it.

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use strongroom_core::{Error, ErrorKind, Result};

use super::plan::unusable;

pub const NAME: &str = ".strongroom-restore";
const SCHEMA: u32 = 1;
/// What a header may have at most; a tablespace map is a few lines.
const HEADER_BYTES_MAX: u64 = 1 << 20;
/// The line that says that every member is in its place.
const FINISHING: &str = "finishing";

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    schema: u32,
    manifest_digest: String,
    /// Tablespace id and directory, as decided at the first run.
    tablespaces: Vec<(String, String)>,
}

/// What an earlier run left durable.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) segments: HashSet<(u64, u32)>,
    /// Every member was in its place; the engine may have begun to finish the directory.
    pub(crate) finishing: bool,
}

pub(crate) struct Journal {
    file: File,
    manifest_digest: String,
}

fn open(options: &mut OpenOptions, path: &Path) -> std::io::Result<File> {
    // A link in the place of the journal leads out of the target.
    options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()).open(path)
}

fn read_header(reader: &mut impl BufRead) -> Option<Header> {
    let mut line = String::new();
    reader.take(HEADER_BYTES_MAX).read_line(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}

/// What the lines after the header tell.
fn read_done(manifest_digest: &str, reader: impl BufRead) -> std::io::Result<Done> {
    let mut done = Done::default();
    for line in reader.split(b'\n') {
        match proven(manifest_digest, &line?) {
            Some(FINISHING) => done.finishing = true,
            Some(what) => done.segments.extend(segment(what)),
            None => {}
        }
    }
    Ok(done)
}

/// Whether the directory holds the journal of a restore of this very backup.
pub(crate) fn belongs_to(target: &Path, manifest_digest: &str) -> bool {
    let Ok(file) = open(OpenOptions::new().read(true), &target.join(NAME)) else { return false };
    read_header(&mut BufReader::new(file))
        .is_some_and(|header| header.schema == SCHEMA && header.manifest_digest == manifest_digest)
}

/// Whether the directory holds nothing but a journal whose first line was cut by a kill: such a
/// restore has written nothing yet.
pub(crate) fn is_stillborn(target: &Path) -> bool {
    let only = fs::read_dir(target).is_ok_and(|entries| {
        let names: Vec<_> = entries.flatten().take(2).map(|entry| entry.file_name()).collect();
        names == [OsStr::new(NAME)]
    });
    let mut content = Vec::new();
    only && open(OpenOptions::new().read(true), &target.join(NAME))
        .and_then(|file| file.take(HEADER_BYTES_MAX).read_to_end(&mut content))
        .is_ok_and(|_| !content.contains(&b'\n') && read_header(&mut &content[..]).is_none())
}

impl Journal {
    /// Begins a journal, durable before anything else is written.
    pub(crate) fn begin(
        target: &Path,
        manifest_digest: &str,
        tablespaces: Vec<(String, String)>,
    ) -> Result<Self> {
        let path = target.join(NAME);
        if is_stillborn(target) {
            fs::remove_file(&path).map_err(|error| unusable(&path, &error))?;
        }
        let mut file = open(OpenOptions::new().create_new(true).append(true).mode(0o600), &path)
            .map_err(|error| unusable(&path, &error))?;
        let header = Header { schema: SCHEMA, manifest_digest: manifest_digest.to_owned(), tablespaces };
        let line = serde_json::to_string(&header).map_err(Error::internal)? + "\n";
        file.write_all(line.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| File::open(target)?.sync_all())
            .map_err(|error| unusable(&path, &error))?;
        Ok(Self { file, manifest_digest: header.manifest_digest })
    }

    /// Goes on with a journal. A line that was cut by a kill, or is not as it was written, counts
    /// as not there: what it told of is restored again.
    pub(crate) fn resume(target: &Path, tablespaces: &[(String, String)]) -> Result<(Self, Done)> {
        let path = target.join(NAME);
        let read = open(OpenOptions::new().read(true), &path).map_err(|error| unusable(&path, &error))?;
        let mut reader = BufReader::new(read);
        let header = read_header(&mut reader)
            .ok_or_else(|| Error::new(ErrorKind::Damage, "The journal in the target cannot be read."))?;
        if header.tablespaces != tablespaces {
            return Err(Error::new(
                ErrorKind::TargetNotEmpty,
                "The restore in this directory was begun with another tablespace map; nothing was written.",
            )
            .with_hint("give the same --tablespace-map as before, or another target"));
        }
        let done = read_done(&header.manifest_digest, reader).map_err(|error| unusable(&path, &error))?;
        let mut file =
            open(OpenOptions::new().append(true), &path).map_err(|error| unusable(&path, &error))?;
        // Ends a line that was cut, so that the next one stands alone.
        file.write_all(b"\n").map_err(|error| unusable(&path, &error))?;
        Ok((Self { file, manifest_digest: header.manifest_digest }, done))
    }

    /// Notes segments whose bytes are durable.
    pub(crate) fn done(&mut self, segments: &[(u64, u32)]) -> Result<()> {
        let lines = segments.iter().map(|(member, segment)| self.line(&format!("{member}.{segment}")));
        let lines: String = lines.collect();
        self.append(&lines)
    }

    /// Notes that every member is in its place: from here on the engine may change them.
    pub(crate) fn finishing(&mut self) -> Result<()> {
        let line = self.line(FINISHING);
        self.append(&line)
    }

    fn line(&self, what: &str) -> String {
        format!("{what} {}\n", proof(&self.manifest_digest, what))
    }

    fn append(&mut self, lines: &str) -> Result<()> {
        self.file
            .write_all(lines.as_bytes())
            .and_then(|()| self.file.sync_data())
            .map_err(|error| unusable(Path::new(NAME), &error))
    }
}

/// Distinguishes a line that was written from one that was not: a segment taken for restored would
/// stay empty.
fn proof(manifest_digest: &str, what: &str) -> String {
    blake3::hash(format!("{manifest_digest} {what}").as_bytes()).to_hex()[..16].to_owned()
}

/// What a line tells, when it is as it was written.
fn proven<'a>(manifest_digest: &str, line: &'a [u8]) -> Option<&'a str> {
    let (what, found) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    (proof(manifest_digest, what) == found).then_some(what)
}

fn segment(what: &str) -> Option<(u64, u32)> {
    let (member, segment) = what.split_once('.')?;
    Some((member.parse().ok()?, segment.parse().ok()?))
}

/// The restore is whole: the journal goes.
pub(crate) fn remove(target: &Path) -> Result<()> {
    let path = target.join(NAME);
    fs::remove_file(&path)
        .and_then(|()| File::open(target)?.sync_all())
        .map_err(|error| unusable(&path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(target: &Path) -> Journal {
        Journal::begin(target, "digest", Vec::new()).unwrap()
    }

    #[test]
    fn p06_lines_survive_any_number_of_runs() {
        let target = tempfile::tempdir().unwrap();
        begun(target.path()).done(&[(1, 0), (2, 0)]).unwrap();
        for run in 0..3 {
            let (mut journal, done) = Journal::resume(target.path(), &[]).unwrap();
            assert_eq!(done.segments.len(), 2 + run as usize);
            assert!(!done.finishing);
            journal.done(&[(10 + run, 3)]).unwrap();
        }
        Journal::resume(target.path(), &[]).unwrap().0.finishing().unwrap();
        assert!(Journal::resume(target.path(), &[]).unwrap().1.finishing);
    }

    #[test]
    fn p06_a_journal_cut_anywhere_tells_less_and_never_wrong() {
        let target = tempfile::tempdir().unwrap();
        let path = target.path().join(NAME);
        begun(target.path()).done(&[(1, 0), (12, 1)]).unwrap();
        let whole = fs::read(&path).unwrap();
        let header = whole.iter().position(|byte| *byte == b'\n').unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            if length < header {
                assert!(is_stillborn(target.path()), "{length}");
                assert!(!belongs_to(target.path(), "digest"), "{length}");
                continue;
            }
            assert!(belongs_to(target.path(), "digest") && !is_stillborn(target.path()), "{length}");
            let (mut journal, done) = Journal::resume(target.path(), &[]).unwrap();
            assert!(done.segments.is_subset(&HashSet::from([(1, 0), (12, 1)])), "{length}: {done:?}");
            journal.done(&[(7, 7)]).unwrap();
            let (_, again) = Journal::resume(target.path(), &[]).unwrap();
            assert!(again.segments.contains(&(7, 7)) && again.segments.is_superset(&done.segments));
        }
    }

    #[test]
    fn rot_restore_journal_a_flipped_bit_never_makes_a_segment_restored() {
        let target = tempfile::tempdir().unwrap();
        let path = target.path().join(NAME);
        begun(target.path()).done(&[(1, 0), (12, 1)]).unwrap();
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bad = whole.clone();
                bad[at] ^= 1 << bit;
                fs::write(&path, &bad).unwrap();
                if belongs_to(target.path(), "digest")
                    && let Ok((_, done)) = Journal::resume(target.path(), &[])
                {
                    assert!(done.segments.is_subset(&HashSet::from([(1, 0), (12, 1)])), "{at}.{bit}");
                    assert!(!done.finishing);
                }
            }
        }
    }

    #[test]
    fn h02_a_link_in_the_place_of_the_journal_is_not_followed() {
        let (target, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        begun(outside.path()).done(&[(1, 0)]).unwrap();
        std::os::unix::fs::symlink(outside.path().join(NAME), target.path().join(NAME)).unwrap();
        assert!(!belongs_to(target.path(), "digest") && !is_stillborn(target.path()));
        assert!(Journal::resume(target.path(), &[]).is_err());
    }
}
