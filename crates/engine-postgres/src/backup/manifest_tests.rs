//! Manifests that agree with what came, and those that do not.

use sha2::{Digest, Sha256};

use super::*;

/// A manifest as a server writes it, around the given files.
fn manifest(files: &[&str]) -> Vec<u8> {
    let mut text = String::from(
        "{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": 7438910573451234567,\n\"Files\": [",
    );
    text.push('\n');
    text.push_str(&files.join(",\n"));
    text.push_str("\n],\n\"WAL-Ranges\": [\n{ \"Timeline\": 1, \"Start-LSN\": \"0/2000028\", \"End-LSN\": \"0/2000100\" }\n],\n");
    let sum = hex::encode(Sha256::digest(text.as_bytes()));
    text.push_str("\"Manifest-Checksum\": \"");
    text.push_str(&sum);
    text.push_str("\"}\n");
    text.into_bytes()
}

const PLAIN: &str = "{ \"Path\": \"base/1\", \"Size\": 3, \"Last-Modified\": \"2026-01-01 00:00:00 GMT\", \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"994e7be2\" }";
const ENCODED: &str = "{ \"Encoded-Path\": \"626173652fff\", \"Size\": 0, \"Last-Modified\": \"2026-01-01 00:00:00 GMT\", \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"00000000\" }";

fn ledger() -> Ledger {
    let mut ledger = Ledger::default();
    ledger.enter(b"base/1", false).unwrap();
    ledger.complete(b"base/1", 3, 0xe27b_4e99);
    ledger.enter(b"base/\xff", false).unwrap();
    ledger
}

fn read(bytes: &[u8], cut: usize) -> Result<ManifestFacts> {
    let mut pieces = bytes.chunks(cut);
    compare(&mut ledger(), |buffer| {
        let piece = pieces.next();
        buffer.extend_from_slice(piece.unwrap_or_default());
        Ok(piece.is_some())
    })
}

#[test]
fn b16_a_manifest_is_read_in_pieces_and_in_any_encoding() {
    let bytes = manifest(&[PLAIN, ENCODED]);
    for cut in [1, 7, 100, 10_000] {
        let facts = read(&bytes, cut).unwrap();
        assert_eq!(facts.system_identifier, Some(7_438_910_573_451_234_567));
        assert_eq!(
            facts.wal_ranges,
            [WalRange { timeline: 1, start: Lsn(0x200_0028), end: Lsn(0x200_0100) }]
        );
    }
}

#[test]
fn every_flipped_byte_is_noticed() {
    let bytes = manifest(&[PLAIN, ENCODED]);
    // The line break at the very end carries nothing.
    for at in 0..bytes.len() - 1 {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        assert!(read(&bad, 64).is_err(), "{at}");
    }
    for length in 0..bytes.len() - 1 {
        assert!(read(&bytes[..length], 64).is_err(), "{length}");
    }
}

#[test]
fn h11_what_came_and_what_is_listed_must_be_the_same() {
    let public = |files: &[&str]| {
        strongroom_core::Error::from(read(&manifest(files), 64).unwrap_err()).public().to_owned()
    };
    assert!(public(&[PLAIN]).contains("not in the manifest"));
    assert!(public(&[PLAIN, PLAIN, ENCODED]).contains("did not come"));
    assert!(
        public(&[&PLAIN.replace("\"Size\": 3", "\"Size\": 4"), ENCODED]).contains("4 bytes in the manifest")
    );
    assert!(public(&[&PLAIN.replace("994e7be2", "994e7be3"), ENCODED]).contains("another checksum"));
    assert!(public(&[&PLAIN.replace("CRC32C", "NONE"), ENCODED]).contains("CRC32C"));
    assert!(public(&[&PLAIN.replace("\"Path\"", "\"Other\""), ENCODED]).contains("exactly one name"));
}

#[test]
fn h03_an_endless_manifest_ends() {
    let mut count = 0_u64;
    let result = compare(&mut ledger(), |buffer| {
        count += 1;
        buffer.extend_from_slice(if count == 1 { b"{\"Files" } else { &[b' '; 4096] });
        Ok(true)
    });
    assert!(result.is_err());
    assert!(count < 1000);
}

#[test]
fn a_fault_of_the_stream_is_the_one_told() {
    let result = compare(&mut ledger(), |_| Err(Fault::Abandoned));
    assert!(matches!(result, Err(Fault::Abandoned)));
}
