//! The verdict: `at/<attempt>` is created once, as a sealed manifest or as "abandoned". Creating
//! it is the one commit point of a backup; nobody overwrites or deletes it while the lineage lives.

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strongroom_core::backup::BackupType;
use strongroom_core::engine::{BackupFacts, EngineKind};
use strongroom_core::id::{AttemptId, BackupId, InstanceId, NodeId, ProjectId};
use strongroom_core::{Error, Result};

use crate::aead::{ONLY_NONCE, TAG_BYTES};
use crate::binary::{Cursor, Parsed, Put};
use crate::frame::{self, Kind};
use crate::keys::LineageKeys;
use crate::layout;
use crate::tree::Root;

/// What the catalog needs to be rebuilt from the repository. No password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogRecord {
    pub backup_id: BackupId,
    pub backup_name: String,
    pub description: Option<String>,
    pub backup_type: BackupType,
    /// When the backup was asked for, microseconds since the epoch.
    pub created_us: i64,
    pub project_id: ProjectId,
    pub project_name: String,
    pub instance_id: InstanceId,
    pub node_id: NodeId,
    pub instance_name: String,
    pub engine: EngineKind,
    pub host: String,
    pub port: u16,
    pub user: String,
}

/// What a backup holds and what it cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub members: u64,
    /// Bytes a restore writes.
    pub source_bytes: u64,
    /// Bytes of all objects this attempt added, its verdict not counted.
    pub stored_bytes: u64,
    pub chunks_equal: u64,
    pub chunks_delta: u64,
    pub chunks_full: u64,
    pub chunks_fill: u64,
    pub packs: u64,
}

/// A sealed backup, as its manifest tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSummary {
    pub attempt: AttemptId,
    pub parent: Option<AttemptId>,
    /// Digest of the verdict object, hex.
    pub manifest_digest: String,
    /// What two manifests share that hold the same members in the same order: the digest of the first
    /// one. A backup keeps it when it is stored anew.
    pub content_digest: String,
    pub sealed_at: Timestamp,
    pub facts: BackupFacts,
    pub catalog: CatalogRecord,
    pub totals: Totals,
    /// Bytes of all objects this attempt added, its verdict included.
    pub stored_bytes: u64,
    pub forgotten: bool,
}

/// What stands at `at/<attempt>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Sealed(Box<SealedSummary>),
    /// Nobody can commit this attempt any more.
    Abandoned,
}

const STATE_SEALED: u8 = 1;
const STATE_ABANDONED: u8 = 2;

/// The part of a sealed verdict that is readable without keys, and bound to the sealed part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlainHeader {
    pub(crate) project: [u8; 16],
    pub(crate) lineage: [u8; 16],
    pub(crate) key_epoch: u32,
    pub(crate) attempt: AttemptId,
    /// All zero: none.
    pub(crate) parent: [u8; 16],
    pub(crate) sealed_at_us: i64,
    pub(crate) source_bytes: u64,
    pub(crate) stored_bytes: u64,
    pub(crate) members: u64,
}

impl PlainHeader {
    fn write(&self) -> Vec<u8> {
        let mut out = vec![STATE_SEALED];
        out.extend_from_slice(&self.project);
        out.extend_from_slice(&self.lineage);
        out.put_u32(self.key_epoch);
        out.extend_from_slice(self.attempt.as_bytes());
        out.extend_from_slice(&self.parent);
        out.put_i64(self.sealed_at_us);
        out.put_u64(self.source_bytes);
        out.put_u64(self.stored_bytes);
        out.put_u64(self.members);
        out
    }

    fn parse(cursor: &mut Cursor<'_>) -> Parsed<Self> {
        Ok(Self {
            project: cursor.array()?,
            lineage: cursor.array()?,
            key_epoch: cursor.u32()?,
            attempt: AttemptId::from_bytes(cursor.array()?),
            parent: cursor.array()?,
            sealed_at_us: cursor.i64()?,
            source_bytes: cursor.u64()?,
            stored_bytes: cursor.u64()?,
            members: cursor.u64()?,
        })
    }

    fn parent(&self) -> Option<AttemptId> {
        (self.parent != [0; 16]).then(|| AttemptId::from_bytes(self.parent))
    }
}

/// The object that says "abandoned".
pub(crate) fn write_abandoned(key: &str) -> Vec<u8> {
    frame::wrap(Kind::Verdict, key, &[STATE_ABANDONED])
}

/// The object that seals a backup.
pub(crate) fn write_sealed(keys: &LineageKeys, header: &PlainHeader, root: &Root) -> Vec<u8> {
    seal(keys, header, root.write())
}

fn seal(keys: &LineageKeys, header: &PlainHeader, mut sealed: Vec<u8>) -> Vec<u8> {
    let mut payload = header.write();
    keys.manifest_key(header.attempt).seal(ONLY_NONCE, &payload, &mut sealed);
    payload.append(&mut sealed);
    frame::wrap(Kind::Verdict, &layout::verdict(&keys.lineage, header.attempt), &payload)
}

/// Whether the object surely says "abandoned"; that needs no key.
pub(crate) fn is_abandoned(key: &str, object: &[u8]) -> bool {
    matches!(frame::unwrap(key, Kind::Verdict, object), Ok([STATE_ABANDONED]))
}

/// A verdict object, opened.
pub(crate) enum Opened {
    Sealed { header: PlainHeader, root: Box<Root> },
    Abandoned,
}

/// Opens a verdict and checks that it is the one its name says.
pub(crate) fn open(keys: &LineageKeys, attempt: AttemptId, object: &[u8]) -> Result<Opened> {
    let key = layout::verdict(&keys.lineage, attempt);
    let payload = frame::unwrap(&key, Kind::Verdict, object)?;
    match payload.first() {
        Some(&STATE_ABANDONED) if payload.len() == 1 => return Ok(Opened::Abandoned),
        Some(&STATE_SEALED) => {}
        _ => return Err(frame::damage(&key, "it is neither sealed nor abandoned")),
    }
    let mut cursor = Cursor::new(&payload[1..]);
    let header = PlainHeader::parse(&mut cursor).map_err(frame::malformed(&key))?;
    let mut sealed = cursor.rest().to_vec();
    let aad = &payload[..payload.len() - sealed.len()];
    if header.attempt != attempt || sealed.len() < TAG_BYTES {
        return Err(frame::damage(&key, "it is another backup's manifest under this name"));
    }
    let plain = keys
        .manifest_key(attempt)
        .open(ONLY_NONCE, aad, &mut sealed)
        .map_err(|_| frame::damage(&key, "the manifest is not authentic"))?;
    let root = Root::parse(plain).map_err(frame::malformed(&key))?;
    Ok(Opened::Sealed { header, root: Box::new(root) })
}

/// The summary of a sealed verdict.
pub(crate) fn summarise(
    header: &PlainHeader,
    root: &Root,
    object: &[u8],
    forgotten: bool,
) -> Result<SealedSummary> {
    let manifest_digest = blake3::hash(object).to_hex().to_string();
    Ok(SealedSummary {
        attempt: header.attempt,
        parent: header.parent(),
        content_digest: root.document.content_of.clone().unwrap_or_else(|| manifest_digest.clone()),
        manifest_digest,
        sealed_at: Timestamp::from_microsecond(header.sealed_at_us).map_err(Error::internal)?,
        facts: root.document.facts.clone(),
        catalog: root.document.catalog.clone(),
        totals: root.document.totals,
        stored_bytes: header.stored_bytes.saturating_add(object.len() as u64),
        forgotten,
    })
}
