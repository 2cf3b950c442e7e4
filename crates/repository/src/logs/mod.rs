//! The log archive of a lineage: streams of log, each the files of one history of one server.
//!
//! There is no index and no verdict: what a listing shows is what is held. An object holds a range of
//! one file, whole or in part, is created once, and holds what every other object holds of the same
//! range. So it does not matter who wrote it, or how often: parts that a bigger object covers are
//! taken away, and a writer that was cut off anywhere leaves nothing that has to be mended.

mod inventory;
mod object;
mod reader;
mod writer;

use strongroom_core::logs::{LogPosition, LogRange, LogStream, LogStreamId};
use strongroom_core::{ErrorKind, Result};

pub(crate) use inventory::Inventory;
pub(crate) use object::{Depth, Walked, walk};
pub use writer::LogWriter;

use crate::aead::ONLY_NONCE;
use crate::binary::{Cursor, Put as _};
use crate::frame::{self, Kind};
use crate::keys::{FIRST_KEY_EPOCH, LineageKeys};
use crate::layout::{self, LogName};
use crate::lineage::Lineage;

/// The cipher suite of what is written: AES-256-GCM and BLAKE3.
const SUITE: u8 = 1;

/// What is held of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldStream {
    pub id: LogStreamId,
    /// `None` when what says it is missing or damaged.
    pub about: Option<LogStream>,
    /// Without gaps each, oldest first.
    pub ranges: Vec<LogRange>,
    pub objects: u64,
    pub bytes: u64,
    /// Whether somebody captures it, or did so and was not told to end.
    pub is_open: bool,
}

impl Lineage {
    /// All streams of log, by name.
    pub fn log_streams(&self) -> Result<Vec<HeldStream>> {
        let mut streams = Vec::new();
        for (id, inventory) in Inventory::of_lineage(self)? {
            let about = match self.log_stream(&id) {
                Err(error) if error.kind() == ErrorKind::Damage => {
                    tracing::warn!(stream = %id, "It is not known what a stream of log is: {}", error.public());
                    None
                }
                other => other?,
            };
            streams.push(HeldStream {
                id,
                about,
                ranges: inventory.ranges(),
                objects: inventory.objects(),
                bytes: inventory.bytes(),
                is_open: inventory.is_open,
            });
        }
        Ok(streams)
    }

    /// What a stream is; `None` when nothing says it.
    pub fn log_stream(&self, id: &LogStreamId) -> Result<Option<LogStream>> {
        let key = layout::log(self.id(), id, LogName::About);
        match self.shared.store.get(&key)? {
            Some(object) => open_about(&self.keys, id, &key, &object).map(Some),
            None => Ok(None),
        }
    }

    /// What is held of one stream, without gaps each, oldest first.
    pub fn log_ranges(&self, id: &LogStreamId) -> Result<Vec<LogRange>> {
        Ok(Inventory::of_stream(self, id)?.ranges())
    }

    /// Begins to capture a stream, or goes on. Leftovers of an earlier writer go.
    pub fn open_log(&self, stream: &LogStream) -> Result<LogWriter> {
        self.shared.check_identity()?;
        LogWriter::open(self, stream)
    }

    /// Nobody captures the stream any more: once no backup stands on its log, all of it may go.
    pub fn close_log(&self, id: &LogStreamId) -> Result<()> {
        self.shared.store.delete(&layout::log(self.id(), id, LogName::Open))
    }

    /// Hands over log from one place to another, piece by piece, each with its place. Log that is not
    /// held is an error, and what was handed over before it is right.
    pub fn read_log(
        &self,
        id: &LogStreamId,
        range: LogRange,
        take: &mut dyn FnMut(LogPosition, &[u8]) -> Result<()>,
    ) -> Result<()> {
        reader::read(self, id, range, take)
    }

    /// Takes away what ends before this place. A file in which the place lies stays whole.
    pub fn expire_log(&self, id: &LogStreamId, before: LogPosition) -> Result<Expiry> {
        let mut expiry = Expiry::default();
        // Oldest first: what is left when this ends early has no hole.
        for (name, size) in Inventory::of_stream(self, id)?.names_before(before.file) {
            self.shared.store.delete(&layout::log(self.id(), id, name))?;
            expiry.objects += 1;
            expiry.bytes += size;
        }
        Ok(expiry)
    }
}

/// What was taken away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expiry {
    pub objects: u64,
    pub bytes: u64,
}

/// Seals what is told about a stream.
fn write_about(keys: &LineageKeys, salt: [u8; 16], key: &str, about: &LogStream) -> Vec<u8> {
    let mut payload = vec![SUITE];
    payload.put_u32(FIRST_KEY_EPOCH);
    payload.extend_from_slice(&salt);
    let mut sealed = serde_json::to_vec(about).expect("the document has string keys only");
    keys.log_stream_key(key, &salt).seal(ONLY_NONCE, &[], &mut sealed);
    payload.extend_from_slice(&sealed);
    frame::wrap(Kind::LogStream, key, &payload)
}

/// What an object says about its stream.
pub(crate) fn open_about(
    keys: &LineageKeys,
    id: &LogStreamId,
    key: &str,
    object: &[u8],
) -> Result<LogStream> {
    let mut fields = Cursor::new(frame::unwrap(key, Kind::LogStream, object)?);
    let salt = suite_and_salt(&mut fields).ok_or_else(|| frame::damage(key, "its suite is not known"))?;
    let mut sealed = fields.rest().to_vec();
    let plain = keys
        .log_stream_key(key, &salt)
        .open(ONLY_NONCE, &[], &mut sealed)
        .map_err(|_| frame::damage(key, "it is not authentic"))?;
    let about: LogStream =
        serde_json::from_slice(plain).map_err(|_| frame::damage(key, "its document cannot be read"))?;
    if about.id == *id { Ok(about) } else { Err(frame::damage(key, "it speaks of another stream")) }
}

/// Suite, key epoch and salt, as they stand in front of what is sealed.
fn suite_and_salt(fields: &mut Cursor<'_>) -> Option<[u8; 16]> {
    let (suite, epoch, salt) = (fields.u8().ok()?, fields.u32().ok()?, fields.array().ok()?);
    ((suite, epoch) == (SUITE, FIRST_KEY_EPOCH)).then_some(salt)
}

/// The mark of whoever captures a stream.
fn write_open(key: &str, time_us: i64) -> Vec<u8> {
    let mut payload = Vec::new();
    payload.put_i64(time_us);
    frame::wrap(Kind::LogOpen, key, &payload)
}

/// Whether a mark says what its name promises.
pub(crate) fn check_open(key: &str, object: &[u8]) -> Result<()> {
    let mut fields = Cursor::new(frame::unwrap(key, Kind::LogOpen, object)?);
    fields.i64().and_then(|_time| fields.end()).map_err(frame::malformed(key))
}
