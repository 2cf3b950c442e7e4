//! Keys: recovery key → project key → lineage key → one key per pack, manifest and slot table.
//!
//! `derive` is BLAKE3's derive-key mode over length-prefixed parts. Holding the lineage's meta key
//! opens trees, rosters and slot tables, but no page of data.

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;

use std::fmt;

use strongroom_core::id::{AttemptId, LineageId, ProjectId};
use strongroom_core::time::Randomness;
use strongroom_core::{Error, ErrorKind, Result};
use zeroize::Zeroizing;

use crate::aead::{SealingKey, TAG_BYTES};
use crate::frame::{self, Kind};
use crate::layout;
use crate::pack::PackId;
use crate::store::{Put, Store};

type Secret = Zeroizing<[u8; 32]>;

fn derive(context: &str, parts: &[&[u8]]) -> Secret {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    Zeroizing::new(*hasher.finalize().as_bytes())
}

/// The key that opens everything: kept in the data directory and on the recovery kit.
#[derive(Clone)]
pub struct RecoveryKey(Secret);

impl RecoveryKey {
    pub fn generate(random: &dyn Randomness) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        random.fill(&mut *key);
        Self(key)
    }

    /// `SR1-` and nine groups of eight hex digits, the last one a checksum of the others.
    pub fn to_text(&self) -> String {
        let checksum = blake3::hash(&*self.0);
        let digits = hex::encode(*self.0) + &hex::encode(&checksum.as_bytes()[..4]);
        let groups: Vec<&str> = (0..9).map(|group| &digits[group * 8..group * 8 + 8]).collect();
        format!("SR1-{}", groups.join("-"))
    }

    /// Takes the text of [`RecoveryKey::to_text`]; case and white space do not matter.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |what: &str| {
            Error::new(
                ErrorKind::WrongKey,
                format!("This is not a recovery key: {what}. Nothing was touched."),
            )
            .with_hint("copy the line that begins with SR1- from the recovery kit")
        };
        let compact: String = text.split_whitespace().collect::<String>().to_ascii_lowercase();
        let groups = compact.strip_prefix("sr1-").ok_or_else(|| wrong("it does not begin with SR1-"))?;
        let bytes =
            hex::decode(groups.replace('-', "")).map_err(|_| wrong("it holds other than hex digits"))?;
        if bytes.len() != 36 {
            return Err(wrong("it has not nine groups of eight digits"));
        }
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(&bytes[..32]);
        if blake3::hash(&*key).as_bytes()[..4] != bytes[32..] {
            return Err(wrong("a digit is mistyped, its checksum does not match"));
        }
        Ok(Self(key))
    }

    /// Takes a file that holds the key somewhere: the key alone, or the recovery kit's whole page.
    pub fn find(text: &str) -> Result<Self> {
        // Upper and lower case have the same length in ASCII, so that positions stay.
        let begin = text.to_ascii_uppercase().find("SR1-").map_or("", |at| &text[at..]);
        let line = begin.lines().next().unwrap_or_default();
        // A key that somebody typed over several lines is still a key.
        Self::parse(line).or_else(|error| Self::parse(begin).map_err(|_| error))
    }

    /// The key that seals secrets in the catalog.
    pub fn catalog_key(&self) -> [u8; 32] {
        *derive("strongroom v1 catalog", &[&*self.0])
    }

    /// A public fingerprint: tells a wrong key from damage at once.
    pub(crate) fn check_value(&self) -> String {
        let value = derive("strongroom v1 key check", &[&*self.0]);
        hex::encode(value.split_at(16).0)
    }

    fn wrapping_key(&self) -> SealingKey {
        SealingKey::new(&derive("strongroom v1 wrap project key", &[&*self.0]))
    }
}

impl fmt::Debug for RecoveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryKey(redacted)")
    }
}

/// The first key epoch; rotation adds others (repository.md section 3).
pub(crate) const FIRST_KEY_EPOCH: u32 = 1;

/// The keys of one lineage, and the names they are bound to.
#[derive(Clone)]
pub(crate) struct LineageKeys {
    pub(crate) project: ProjectId,
    pub(crate) lineage: LineageId,
    pub(crate) key_epoch: u32,
    project_raw: [u8; 16],
    lineage_raw: [u8; 16],
    data: Secret,
    meta: Secret,
    chunk_id: Secret,
}

impl LineageKeys {
    fn new(project: &ProjectId, lineage: &LineageId, key: &Secret) -> Result<Self> {
        Ok(Self {
            project: project.clone(),
            lineage: lineage.clone(),
            key_epoch: FIRST_KEY_EPOCH,
            project_raw: raw_id(project.as_str())?,
            lineage_raw: raw_id(lineage.as_str())?,
            data: key.clone(),
            meta: derive("strongroom v1 meta", &[&**key]),
            chunk_id: derive("strongroom v1 chunk id", &[&**key]),
        })
    }

    /// What a collector holds: everything but the keys of data.
    #[cfg(test)]
    pub(crate) fn without_data_key(&self) -> Self {
        let nothing = || Zeroizing::new([0; 32]);
        Self { data: nothing(), chunk_id: nothing(), ..self.clone() }
    }

    pub(crate) fn project_raw(&self) -> &[u8; 16] {
        &self.project_raw
    }

    pub(crate) fn lineage_raw(&self) -> &[u8; 16] {
        &self.lineage_raw
    }

    /// Keyed id of a plaintext: nobody without the lineage key can test what we hold.
    pub(crate) fn chunk_id(&self, plaintext: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.chunk_id, plaintext).as_bytes()
    }

    pub(crate) fn pack_key(&self, kind: crate::pack::PackKind, pack: PackId, salt: &[u8; 16]) -> SealingKey {
        let (context, base) = match kind {
            crate::pack::PackKind::Data => ("strongroom v1 pack", &self.data),
            crate::pack::PackKind::Meta => ("strongroom v1 meta pack", &self.meta),
        };
        let n = pack.n.to_le_bytes();
        SealingKey::new(&derive(context, &[&**base, pack.attempt.as_bytes(), &n, salt]))
    }

    pub(crate) fn slot_table_key(&self, pack: PackId, generation: u32, table_salt: &[u8; 16]) -> SealingKey {
        let (n, generation) = (pack.n.to_le_bytes(), generation.to_le_bytes());
        let parts: [&[u8]; 5] = [&*self.meta, pack.attempt.as_bytes(), &n, &generation, table_salt];
        SealingKey::new(&derive("strongroom v1 slots", &parts))
    }

    /// The key of one object of log: its name and its salt are in it.
    pub(crate) fn log_key(&self, name: &str, salt: &[u8; 16]) -> SealingKey {
        SealingKey::new(&derive("strongroom v1 log", &[&*self.data, name.as_bytes(), salt]))
    }

    /// The key of what is told about a stream of log.
    pub(crate) fn log_stream_key(&self, name: &str, salt: &[u8; 16]) -> SealingKey {
        SealingKey::new(&derive("strongroom v1 log stream", &[&*self.meta, name.as_bytes(), salt]))
    }

    pub(crate) fn manifest_key(&self, attempt: AttemptId) -> SealingKey {
        SealingKey::new(&derive("strongroom v1 manifest", &[&*self.meta, attempt.as_bytes()]))
    }
}

/// The 16 bytes of an id written as 32 hex digits.
pub(crate) fn raw_id(text: &str) -> Result<[u8; 16]> {
    let mut raw = [0; 16];
    hex::decode_to_slice(text, &mut raw).map_err(Error::internal)?;
    Ok(raw)
}

/// Opens the lineage's keys, making project and lineage key when both they and everything they
/// would open are absent.
pub(crate) fn open_or_create(
    store: &dyn Store,
    recovery: &RecoveryKey,
    random: &dyn Randomness,
    project: &ProjectId,
    lineage: &LineageId,
) -> Result<LineageKeys> {
    let project_key = layout::project_key(project, FIRST_KEY_EPOCH);
    let owned = layout::lineage_keys_prefix(project);
    let pk = load_or_create(store, random, &project_key, &recovery.wrapping_key(), &owned)?;
    let lineage_key = layout::lineage_key(project, lineage, FIRST_KEY_EPOCH);
    let owned = layout::lineage_prefix(lineage);
    let lk = load_or_create(store, random, &lineage_key, &lineage_wrapping_key(&pk), &owned)?;
    LineageKeys::new(project, lineage, &lk)
}

/// Whether the recovery key opens any project key of the repository.
pub(crate) fn opens_any(store: &dyn Store, recovery: &RecoveryKey) -> Result<bool> {
    for object in store.list(layout::KEYS_PREFIX)? {
        if layout::parse_lineage_key(&object.key).is_none()
            && let Some(bytes) = store.get(&object.key)?
            && unwrap_key(&object.key, &recovery.wrapping_key(), &bytes).is_ok()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Opens one wrapped key after the other, as they are stored now. The second one is looked at
/// only when the first one opens.
pub(crate) fn check(
    store: &dyn Store,
    recovery: &RecoveryKey,
    project: &ProjectId,
    lineage: &LineageId,
    mut judge: impl FnMut(&str, Result<()>) -> Result<()>,
) -> Result<()> {
    let project_key = layout::project_key(project, FIRST_KEY_EPOCH);
    let load = |key: &str, wrapping: &SealingKey| {
        let object = store.get(key)?.ok_or_else(|| frame::missing(key))?;
        unwrap_key(key, wrapping, &object)
    };
    let pk = match load(&project_key, &recovery.wrapping_key()) {
        Ok(pk) => pk,
        Err(error) => return judge(&project_key, Err(error)),
    };
    judge(&project_key, Ok(()))?;
    let lineage_key = layout::lineage_key(project, lineage, FIRST_KEY_EPOCH);
    judge(&lineage_key, load(&lineage_key, &lineage_wrapping_key(&pk)).map(|_| ()))
}

fn lineage_wrapping_key(project_key: &Secret) -> SealingKey {
    SealingKey::new(&derive("strongroom v1 wrap lineage key", &[&**project_key]))
}

/// `owned` is where everything lies that only this key opens.
fn load_or_create(
    store: &dyn Store,
    random: &dyn Randomness,
    key: &str,
    wrapping: &SealingKey,
    owned: &str,
) -> Result<Secret> {
    if let Some(object) = store.get(key)? {
        return unwrap_key(key, wrapping, &object);
    }
    // A new key in the place of a lost one would open nothing, and hide that it was lost. Another
    // process may have made key and objects since the first look.
    if store.is_read_only() || !store.list(owned)?.is_empty() {
        let object = store.get(key)?.ok_or_else(|| frame::missing(key))?;
        return unwrap_key(key, wrapping, &object);
    }
    let mut secret = Zeroizing::new([0; 32]);
    random.fill(&mut *secret);
    let mut nonce = [0; 12];
    random.fill(&mut nonce);
    let mut sealed = secret.to_vec();
    wrapping.seal(nonce, key.as_bytes(), &mut sealed);
    let payload = [&nonce[..], &sealed].concat();
    // Create-if-absent, then read back: of two racing processes both end with the winner's key.
    match store.put_new(key, &frame::wrap(Kind::WrappedKey, key, &payload))? {
        Put::Created | Put::AlreadyThere => {
            let object = store.get(key)?.ok_or_else(|| frame::missing(key))?;
            unwrap_key(key, wrapping, &object)
        }
    }
}

/// The repository was opened with this recovery key, so one that does not open is damaged.
fn unwrap_key(key: &str, wrapping: &SealingKey, object: &[u8]) -> Result<Secret> {
    let payload = frame::unwrap(key, Kind::WrappedKey, object)?;
    if payload.len() != 12 + 32 + TAG_BYTES {
        return Err(frame::damage(key, "a wrapped key has another length"));
    }
    let mut nonce = [0; 12];
    nonce.copy_from_slice(&payload[..12]);
    let mut sealed = Zeroizing::new(payload[12..].to_vec());
    let plain = wrapping
        .open(nonce, key.as_bytes(), &mut sealed)
        .map_err(|_| frame::damage(key, "the wrapped key is not authentic"))?;
    let mut secret = Zeroizing::new([0; 32]);
    secret.copy_from_slice(plain);
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting;

    impl Randomness for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            for (at, byte) in bytes.iter_mut().enumerate() {
                *byte = at as u8;
            }
        }
    }

    #[test]
    fn a_recovery_key_survives_paper() {
        let key = RecoveryKey::generate(&Counting);
        let text = key.to_text();
        assert_eq!(RecoveryKey::parse(&text).unwrap().to_text(), text);
        assert_eq!(RecoveryKey::parse(&format!("  {}\n", text.to_uppercase())).unwrap().to_text(), text);
        let mistyped = text.replacen("0001", "0002", 1);
        assert_eq!(RecoveryKey::parse(&mistyped).unwrap_err().kind(), ErrorKind::WrongKey);
        assert_eq!(format!("{key:?}"), "RecoveryKey(redacted)");
        let kit = format!("strongroom recovery kit\n\nRecovery key  {text}\n\nKeep it away from both\n");
        let typed = text.replace('-', "-\n");
        for file in [&kit, &text, &text.to_lowercase(), &typed, &format!("{text}\r\n")] {
            assert_eq!(RecoveryKey::find(file).unwrap().to_text(), text, "{file}");
        }
        for wrong in ["", "Recovery key", &text[..60], &kit.replace("0001", "0003")] {
            assert_eq!(RecoveryKey::find(wrong).unwrap_err().kind(), ErrorKind::WrongKey, "{wrong}");
        }
    }
}
