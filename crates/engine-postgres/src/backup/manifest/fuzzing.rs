//! The comparison of a manifest with what came, as the fuzzer calls it.

use serde_json::Value;

use super::{Digest, Ledger, Sha256, compare};

/// A manifest without its last line, which is put behind it. When what came is what it lists it is
/// believed; when one file is missing, is one more, or has another size or sum, it is not.
pub(crate) fn manifest_compare(bytes: &[u8]) -> bool {
    let _ = against(bytes, &[]);
    let Some(body) = bytes.strip_suffix(b",\n") else { return false };
    let mut text = [body, b",\n"].concat();
    let sum = hex::encode(Sha256::digest(&text));
    text.extend_from_slice(format!("\"Manifest-Checksum\": \"{sum}\"}}\n").as_bytes());
    let Ok(document) = serde_json::from_slice::<Value>(&text) else { return false };
    let Some(files) = files(&document) else { return false };
    if !against(&text, &files) {
        return false;
    }
    for at in 0..files.len().min(8) {
        let mut other = files.clone();
        other[at].1 ^= 1;
        assert!(!against(&text, &other), "another size");
        other[at] = files[at].clone();
        other[at].2 ^= 1;
        assert!(!against(&text, &other), "another sum");
        other.remove(at);
        assert!(!against(&text, &other), "a file that did not come");
    }
    let mut more = files;
    more.push((b"one/that/nobody/lists".to_vec(), 0, 0));
    assert!(!against(&text, &more), "a file that is not listed");
    true
}

/// Path, size, and sum.
type Came = (Vec<u8>, u64, u32);

fn files(document: &Value) -> Option<Vec<Came>> {
    let Some(files) = document.get("Files") else { return Some(Vec::new()) };
    let text = |file: &Value, key: &str| Some(file.get(key)?.as_str()?.to_owned());
    let read = |file: &Value| {
        let path = match text(file, "Path") {
            Some(path) => path.into_bytes(),
            None => hex::decode(text(file, "Encoded-Path")?).ok()?,
        };
        let mut sum = [0; 4];
        hex::decode_to_slice(text(file, "Checksum")?, &mut sum).ok()?;
        Some((path, file.get("Size")?.as_u64()?, u32::from_le_bytes(sum)))
    };
    files.as_array()?.iter().map(read).collect()
}

fn against(manifest: &[u8], came: &[Came]) -> bool {
    let mut ledger = Ledger::default();
    for (path, size, crc32c) in came {
        if ledger.enter(path, false).is_err() {
            return false;
        }
        ledger.complete(path, *size, *crc32c);
    }
    let mut pieces = manifest.chunks(100);
    compare(&mut ledger, |buffer| {
        let piece = pieces.next();
        buffer.extend_from_slice(piece.unwrap_or_default());
        Ok(piece.is_some())
    })
    .is_ok()
}
