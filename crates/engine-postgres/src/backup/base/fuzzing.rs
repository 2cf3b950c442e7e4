//! The whole answer to `BASE_BACKUP`, in both framings, as the fuzzer calls it.

use strongroom_core::engine::CancelToken;

use super::{Connection, CopyStream, Fault, Framing, Lsn, Piece, Result, Watch, read_announcement, read_end};
use crate::connection::fuzzing::scripted;

/// What an answer consisted of.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    archives: Vec<(Vec<u8>, Vec<u8>)>,
    manifest: Vec<u8>,
    end: Lsn,
}

/// The framing, and all messages of the server. What is read to its end is no more than came, and in
/// the framing of older servers it is the archives that were announced.
pub(crate) fn base_backup(bytes: &[u8]) -> bool {
    let Some((framing, script)) = bytes.split_first() else { return false };
    let framing = if framing.is_multiple_of(2) { Framing::Plain } else { Framing::Typed };
    let Some((mut connection, _server)) = scripted(script) else { return false };
    let Ok((answer, announced)) = read(&mut connection, framing) else { return false };
    let size: usize = answer.archives.iter().map(|(name, bytes)| name.len() + bytes.len()).sum();
    // A name that was announced is an id in decimal, and a few letters.
    assert!(size + answer.manifest.len() <= script.len() + announced.len() * 16);
    if framing == Framing::Plain {
        let names: Vec<&Vec<u8>> = answer.archives.iter().map(|(name, _)| name).collect();
        assert_eq!(names, announced.iter().collect::<Vec<_>>());
    }
    true
}

fn read(connection: &mut Connection, framing: Framing) -> Result<(Answer, Vec<Vec<u8>>)> {
    let cancel = CancelToken::new();
    let watch = Watch::new(&cancel);
    let mut announcement = read_announcement(connection, framing, &watch)?;
    let announced: Vec<Vec<u8>> = announcement.copies.iter().cloned().collect();
    let start = announcement.start;
    assert!(announcement.size_bytes_max() >= announcement.size_bytes);
    let mut stream = CopyStream::new(framing, &mut announcement);
    let (mut archives, mut manifest) = (Vec::new(), None::<Vec<u8>>);
    loop {
        match stream.next(connection, &watch)? {
            Piece::Archive(name) => archives.push((name.to_vec(), Vec::new())),
            Piece::Manifest => manifest = Some(Vec::new()),
            Piece::Data(data) => match (&mut manifest, archives.last_mut()) {
                (Some(manifest), _) => manifest.extend_from_slice(data),
                (None, Some((_, archive))) => archive.extend_from_slice(data),
                (None, None) => return Err(Fault::hostile("data of nothing")),
            },
            Piece::Progress => {}
            Piece::End => break,
        }
    }
    let end = read_end(connection, start, &watch)?;
    Ok((Answer { archives, manifest: manifest.unwrap_or_default(), end }, announced))
}

fn message(tag: u8, body: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(body);
}

fn row(fields: &[Option<&str>], out: &mut Vec<u8>) {
    let mut body = (fields.len() as u16).to_be_bytes().to_vec();
    for field in fields {
        let length = field.map_or(u32::MAX, |text| text.len() as u32);
        body.extend_from_slice(&length.to_be_bytes());
        body.extend_from_slice(field.unwrap_or_default().as_bytes());
    }
    message(b'D', &body, out);
}

fn point(position: &str, out: &mut Vec<u8>) {
    message(b'T', b"", out);
    row(&[Some(position), Some("1")], out);
    message(b'C', b"SELECT\0", out);
}

fn announce(out: &mut Vec<u8>) {
    point("0/2000028", out);
    message(b'T', b"", out);
    row(&[Some("16384"), Some("/t"), Some("1")], out);
    row(&[None, None, Some("8")], out);
    message(b'C', b"SELECT\0", out);
}

fn close(out: &mut Vec<u8>) {
    point("0/2000100", out);
    message(b'C', b"SELECT\0", out);
    message(b'Z', b"I", out);
}

pub(crate) fn typed_copy() -> Vec<u8> {
    let mut out = vec![1];
    announce(&mut out);
    message(b'H', b"", &mut out);
    for body in
        [&b"n16384.tar\0/t\0"[..], b"done", b"nbase.tar\0\0", b"dtwo", b"p\0\0\0\0\0\0\0\x08", b"m", b"d{}"]
    {
        message(b'd', body, &mut out);
    }
    message(b'c', b"", &mut out);
    close(&mut out);
    out
}

pub(crate) fn plain_copies() -> Vec<u8> {
    let mut out = vec![0];
    announce(&mut out);
    for content in ["one", "two", "{}"] {
        message(b'H', b"", &mut out);
        message(b'd', content.as_bytes(), &mut out);
        message(b'c', b"", &mut out);
    }
    close(&mut out);
    out
}
