//! `files` and `cat`: what is in a backup, and one file of it.

use serde_json::{Value, json};
use strongroom_core::member::{MemberKind, MemberPath};
use strongroom_core::{Error, ErrorKind, Result};
use strongroom_repository::{FrameBody, MemberEntry};

use crate::archive::Archive;
use crate::cli::Format;
use crate::exit::Exit;
use crate::output;
use crate::salvage::PathPrefix;

/// A run of equal bytes is written in pieces of this size.
const FILL_BYTES: usize = 1 << 16;

pub(crate) fn list(archive: &Archive, backup: &str, path: Option<&str>, format: Format) -> Result<Exit> {
    let wanted = PathPrefix::parse(path)?;
    // Looking at names of a deleted backup harms nothing.
    let reader = archive.find(backup)?.reader(true)?;
    let mut is_damaged = false;
    reader.readable_members(
        &mut |entry| {
            if wanted.holds(entry.path.as_bytes()) {
                match format {
                    Format::Json => output::data(document(&entry)),
                    Format::Table => output::data(line(&entry)),
                }
            }
            Ok(())
        },
        &mut |page| {
            is_damaged = true;
            let first = page.first_path.escape_ascii();
            let error = page.error.public();
            output::note(format_args!(
                "damaged: {} names from {first} on cannot be read. {error}",
                page.members
            ));
        },
    )?;
    Ok(if is_damaged { Exit::DamageFound } else { Exit::Done })
}

fn document(entry: &MemberEntry) -> Value {
    let path = match std::str::from_utf8(entry.path.as_bytes()) {
        Ok(text) => json!(text),
        Err(_) => json!({ "hex": hex::encode(entry.path.as_bytes()) }),
    };
    json!({
        "path": path,
        "directory": entry.kind == MemberKind::Directory,
        "size": entry.size,
        "mode": format!("{:o}", entry.mode),
        "modified_s": entry.mtime_s,
    })
}

fn line(entry: &MemberEntry) -> String {
    let kind = if entry.kind == MemberKind::Directory { 'd' } else { '-' };
    format!("{kind}{:04o} {:>14}  {}", entry.mode, entry.size, entry.path)
}

pub(crate) fn cat(archive: &Archive, backup: &str, path: &str) -> Result<Exit> {
    let reader = archive.find(backup)?.reader(true)?;
    let wanted = MemberPath::parse(path.as_bytes()).ok();
    let mut found = None;
    reader.members(&mut |entry| {
        if entry.kind == MemberKind::File && Some(&entry.path) == wanted.as_ref() {
            found = Some(entry);
        }
        Ok(())
    })?;
    let Some(entry) = found else {
        return Err(Error::new(ErrorKind::BackupNotFound, format!("The backup holds no file {path}."))
            .with_hint("`strongroom-extract files` shows the paths"));
    };
    let segments: Vec<(u64, u32)> = (0..entry.segments).map(|segment| (entry.index, segment)).collect();
    reader.read_segments(&segments, &mut |frame| {
        let written = match frame.body {
            FrameBody::Data(data) => output::bytes(&data),
            FrameBody::Fill { byte, length } => fill(byte, length),
        };
        written.map_err(|error| {
            Error::new(ErrorKind::Unavailable, format!("stdout took only a part of {path}: {error}."))
        })
    })?;
    Ok(Exit::Done)
}

fn fill(byte: u8, mut length: u64) -> std::io::Result<()> {
    let block = vec![byte; FILL_BYTES];
    while length > 0 {
        let now = length.min(FILL_BYTES as u64);
        output::bytes(&block[..now as usize])?;
        length -= now;
    }
    Ok(())
}
