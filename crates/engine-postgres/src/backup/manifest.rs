//! The server's manifest: read as it streams by, compared with what came.

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;

use std::io::{self, BufReader, Read};

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use sha2::{Digest, Sha256};

use super::ledger::Ledger;
use crate::fault::{Fault, Result, hostile};
use crate::lsn::Lsn;

/// Room in a manifest for everything but its files, and for each file: a path has at most 1024
/// bytes and may be written in hex.
const FIXED_SIZE_BYTES_MAX: u64 = 1024 * 1024;
const FILE_SIZE_BYTES_MAX: u64 = 4096;

/// More than the last line has.
const TAIL_SIZE_BYTES: usize = 256;

/// What a manifest says besides its files.
#[derive(Debug, Default)]
pub(super) struct ManifestFacts {
    pub(super) system_identifier: Option<u64>,
    pub(super) wal_ranges: Vec<WalRange>,
    version: u64,
    checksum: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WalRange {
    pub(super) timeline: u32,
    #[serde(rename = "Start-LSN")]
    pub(super) start: Lsn,
    #[serde(rename = "End-LSN")]
    pub(super) end: Lsn,
}

/// Reads a manifest to its end, ticking every file off the ledger. `pull` appends the next bytes
/// to the buffer it is given, or answers `false` at the end.
pub(super) fn compare(
    ledger: &mut Ledger,
    pull: impl FnMut(&mut Vec<u8>) -> Result<bool>,
) -> Result<ManifestFacts> {
    let size_max = FIXED_SIZE_BYTES_MAX + FILE_SIZE_BYTES_MAX * ledger.file_count();
    let facts = read(Some(ledger), size_max, pull)?;
    ledger.check_all_ticked_off()?;
    Ok(facts)
}

/// Reads a manifest to its end for what it says besides its files, and checks its own checksum.
pub(super) fn outline(
    size_max: u64,
    pull: impl FnMut(&mut Vec<u8>) -> Result<bool>,
) -> Result<ManifestFacts> {
    read(None, size_max, pull)
}

fn read(
    ledger: Option<&mut Ledger>,
    size_max: u64,
    pull: impl FnMut(&mut Vec<u8>) -> Result<bool>,
) -> Result<ManifestFacts> {
    let mut stream = ManifestStream::new(pull, size_max);
    let mut refused = None;
    let facts = {
        let mut json = serde_json::Deserializer::from_reader(BufReader::new(&mut stream));
        let seed = ManifestSeed { ledger, refused: &mut refused };
        seed.deserialize(&mut json).and_then(|facts| json.end().map(|()| facts))
    };
    if let Some(fault) = stream.fault.take().or(refused) {
        return Err(fault);
    }
    let facts =
        facts.map_err(|error| hostile(format!("a manifest that cannot be read ({})", kind_of(&error))))?;
    if !matches!(facts.version, 1 | 2) {
        return Err(Fault::hostile(format!("a manifest of the unknown version {}", facts.version)));
    }
    if stream.digest()? != facts.checksum.to_ascii_lowercase() {
        return Err(Fault::hostile("a manifest whose own checksum is wrong"));
    }
    Ok(facts)
}

fn kind_of(error: &serde_json::Error) -> String {
    format!("line {}, {:?}", error.line(), error.classify())
}

/// The bytes of a manifest: limited, hashed, and read as JSON on the way.
struct ManifestStream<F> {
    pull: F,
    piece: Vec<u8>,
    used: usize,
    size: u64,
    size_max: u64,
    sha256: Sha256,
    /// The last bytes so far; the hash ends before the last line.
    tail: Vec<u8>,
    fault: Option<Fault>,
}

impl<F: FnMut(&mut Vec<u8>) -> Result<bool>> ManifestStream<F> {
    fn new(pull: F, size_max: u64) -> Self {
        let (piece, tail) = (Vec::new(), Vec::new());
        Self { pull, piece, used: 0, size: 0, size_max, sha256: Sha256::new(), tail, fault: None }
    }

    /// Makes the next bytes available; `false` at the end.
    fn advance(&mut self) -> Result<bool> {
        while self.used == self.piece.len() {
            self.piece.clear();
            self.used = 0;
            if !(self.pull)(&mut self.piece)? {
                return Ok(false);
            }
            self.size += self.piece.len() as u64;
            if self.size > self.size_max {
                return Err(Fault::hostile("a manifest that is longer than its files can explain"));
            }
            self.tail.extend_from_slice(&self.piece);
            let surplus = self.tail.len().saturating_sub(TAIL_SIZE_BYTES);
            self.sha256.update(&self.tail[..surplus]);
            self.tail.drain(..surplus);
        }
        Ok(true)
    }

    /// SHA-256, in hex, of everything up to and including the line break before the last line.
    fn digest(mut self) -> Result<String> {
        let last_line = b"\n\"Manifest-Checksum\"";
        let start = self
            .tail
            .windows(last_line.len())
            .rposition(|window| window == last_line)
            .ok_or_else(|| Fault::hostile("a manifest without a checksum in its last line"))?;
        self.sha256.update(&self.tail[..=start]);
        Ok(hex::encode(self.sha256.finalize()))
    }
}

impl<F: FnMut(&mut Vec<u8>) -> Result<bool>> Read for ManifestStream<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.advance() {
            Ok(false) => Ok(0),
            Ok(true) => {
                let count = (&self.piece[self.used..]).read(buffer)?;
                self.used += count;
                Ok(count)
            }
            Err(fault) => {
                self.fault = Some(fault);
                Err(io::Error::other("the stream of the manifest ended"))
            }
        }
    }
}

/// Reads the outermost object.
struct ManifestSeed<'l> {
    /// Where files are ticked off; without one they are passed over.
    ledger: Option<&'l mut Ledger>,
    /// Why a file was refused; the words of the JSON parser would hide it.
    refused: &'l mut Option<Fault>,
}

impl<'de> DeserializeSeed<'de> for ManifestSeed<'_> {
    type Value = ManifestFacts;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ManifestSeed<'_> {
    type Value = ManifestFacts;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a backup manifest")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut facts = ManifestFacts::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "PostgreSQL-Backup-Manifest-Version" => facts.version = map.next_value()?,
                "System-Identifier" => facts.system_identifier = Some(map.next_value()?),
                "Files" => match self.ledger.as_deref_mut() {
                    Some(ledger) => map.next_value_seed(FilesSeed { ledger, refused: self.refused })?,
                    None => {
                        map.next_value::<IgnoredAny>()?;
                    }
                },
                "WAL-Ranges" => facts.wal_ranges = map.next_value()?,
                "Manifest-Checksum" => facts.checksum = map.next_value()?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(facts)
    }
}

/// Reads the list of files, one at a time.
struct FilesSeed<'l> {
    ledger: &'l mut Ledger,
    refused: &'l mut Option<Fault>,
}

impl<'de> DeserializeSeed<'de> for FilesSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for FilesSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of files")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut files: A) -> Result<(), A::Error> {
        while let Some(file) = files.next_element::<ManifestFile>()? {
            if let Err(fault) = file.tick_off(self.ledger) {
                *self.refused = Some(fault);
                return Err(serde::de::Error::custom("a file was refused"));
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ManifestFile {
    path: Option<String>,
    #[serde(rename = "Encoded-Path")]
    encoded_path: Option<String>,
    size: u64,
    #[serde(rename = "Checksum-Algorithm")]
    algorithm: String,
    checksum: String,
}

impl ManifestFile {
    fn tick_off(self, ledger: &mut Ledger) -> Result<()> {
        let path = match (self.path, self.encoded_path) {
            (Some(path), None) => path.into_bytes(),
            (None, Some(hex_digits)) => hex::decode(hex_digits)
                .map_err(|_| Fault::hostile("a file name in the manifest that is not hex"))?,
            _ => return Err(Fault::hostile("a file in the manifest without exactly one name")),
        };
        let mut sum = [0; 4];
        if self.algorithm != "CRC32C" || hex::decode_to_slice(&self.checksum, &mut sum).is_err() {
            return Err(Fault::hostile("a file in the manifest without a CRC32C"));
        }
        // Printed in memory order.
        Ok(ledger.tick_off(&path, self.size, u32::from_le_bytes(sum))?)
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
