//! Opening and creating a repository.

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;

use std::sync::Arc;

use strongroom_core::id::{LineageId, ProjectId};
use strongroom_core::time::{Clock, Randomness};
use strongroom_core::{Error, ErrorKind, Result, Retry};

use crate::frame;
use crate::keys::{self, RecoveryKey};
use crate::layout::{self, FORMAT_DOCUMENT_DIGEST_KEY, FORMAT_DOCUMENT_KEY, FORMAT_KEY};
use crate::lineage::Lineage;
use crate::store::{Put, Store};
use crate::{CHUNK_LOG2, FORMAT};

/// The format document travels in every repository, so that it can be read without us.
const FORMAT_DOCUMENT: &str = include_str!("../../../docs/formats/repository.md");

/// One prefix of one store, opened with its recovery key.
#[derive(Clone)]
pub struct Repository {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) id: String,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) recovery: RecoveryKey,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Randomness>,
    /// The `format` object as it was when opened: another one at the same place is another
    /// repository, or an empty mount point (faults.md D06, D07).
    format_object: Vec<u8>,
}

impl Shared {
    /// Refuses to go on when the path no longer holds the repository that was opened.
    pub(crate) fn check_identity(&self) -> Result<()> {
        if self.store.get(FORMAT_KEY)?.as_deref() == Some(&self.format_object) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            "The repository is not where it was: its identity is missing or another's. Nothing was written.",
        )
        .with_hint("mount the repository's disk again, then try once more"))
    }
}

/// What the `format` object says. It is text, so that a person can read and mend it.
struct FormatFile {
    format: u16,
    id: String,
    key_check: String,
}

const FORMAT_FIRST_LINE: &str = "strongroom repository\n";
/// Begins the last line: the digest of all lines before.
const FORMAT_DIGEST: &str = "blake3: ";

impl FormatFile {
    fn write(&self, created: jiff::Timestamp) -> String {
        let text = format!(
            "{FORMAT_FIRST_LINE}format: {}\nid: {}\nchunk_log2: {CHUNK_LOG2}\nsuite: aes-256-gcm blake3\n\
             created: {created}\nkey_check: {}\n\n\
             {FORMAT_DOCUMENT_KEY} beside this file describes every byte.\n",
            self.format, self.id, self.key_check
        );
        let digest = blake3::hash(text.as_bytes()).to_hex();
        format!("{text}{FORMAT_DIGEST}{digest}\n")
    }

    /// Whether every byte is as it was written.
    fn is_sound(bytes: &[u8]) -> bool {
        let Some(lines) = bytes.strip_suffix(b"\n") else { return false };
        let end = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let digest = lines[end..].strip_prefix(FORMAT_DIGEST.as_bytes());
        digest == Some(blake3::hash(&lines[..end]).to_hex().as_bytes())
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes).map_err(|_| format_is_damaged())?;
        if !text.starts_with(FORMAT_FIRST_LINE) || !Self::is_sound(bytes) {
            return Err(format_is_damaged());
        }
        let value = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                .ok_or_else(format_is_damaged)
        };
        Ok(Self {
            format: value("format")?.parse().map_err(|_| format_is_damaged())?,
            id: value("id")?.to_owned(),
            key_check: value("key_check")?.to_owned(),
        })
    }

    fn judge(&self, recovery: &RecoveryKey) -> Result<()> {
        if self.format != FORMAT {
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!("The repository has format {}; this program reads format {FORMAT}.", self.format),
            )
            .with_hint("use the strongroom release that wrote it, or a newer one; nothing was touched")
            .with_retry(Retry::Never));
        }
        if self.key_check != recovery.check_value() {
            return Err(Error::new(
                ErrorKind::WrongKey,
                "The recovery key does not belong to this repository. The data is untouched.",
            )
            .with_hint("use the recovery key from this repository's recovery kit"));
        }
        Ok(())
    }
}

fn format_is_damaged() -> Error {
    frame::damage(FORMAT_KEY, "it is not as it was written")
}

/// The id that is shown when the object that holds it is damaged.
const ID_IS_DAMAGED: &str = "00000000000000000000000000000000";

impl Repository {
    /// Whether a repository is there.
    pub fn exists(store: &dyn Store) -> Result<bool> {
        Ok(store.head(FORMAT_KEY)?.is_some())
    }

    /// Makes a repository; refuses where one is, or where other things lie.
    pub fn create(
        store: Arc<dyn Store>,
        recovery: &RecoveryKey,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Randomness>,
    ) -> Result<Self> {
        let now = clock.now();
        store.put_new(FORMAT_DOCUMENT_KEY, FORMAT_DOCUMENT.as_bytes())?;
        let digest = blake3::hash(FORMAT_DOCUMENT.as_bytes()).to_hex();
        store.put_new(FORMAT_DOCUMENT_DIGEST_KEY, format!("{digest}\n").as_bytes())?;
        let format = FormatFile {
            format: FORMAT,
            id: random.uuid(now).simple().to_string(),
            key_check: recovery.check_value(),
        };
        // The identity comes last: a repository exists once this object does.
        match store.put_new(FORMAT_KEY, format.write(now).as_bytes())? {
            Put::Created => Self::open(store, recovery, clock, random),
            Put::AlreadyThere => Err(Error::new(
                ErrorKind::TargetNotEmpty,
                "There is a repository already; nothing was changed.",
            )),
        }
    }

    /// Opens a repository. A wrong key is told from damage at once.
    pub fn open(
        store: Arc<dyn Store>,
        recovery: &RecoveryKey,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Randomness>,
    ) -> Result<Self> {
        let format_object = store.get(FORMAT_KEY)?.ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, "There is no repository at this place. Nothing was written.")
                .with_hint("mount the repository's disk, or give its right place with --repository")
        })?;
        let id = match FormatFile::parse(&format_object) {
            Ok(format) => {
                format.judge(recovery)?;
                format.id
            }
            // One rotten byte of this file must not stand between a person and their backups: a
            // project key that opens shows that key and format are right.
            Err(error) if keys::opens_any(&*store, recovery)? => {
                tracing::warn!("The repository is opened all the same: {}", error.public());
                ID_IS_DAMAGED.to_owned()
            }
            Err(error) => return Err(error),
        };
        let shared = Shared { id, store, recovery: recovery.clone(), clock, random, format_object };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The repository's own id, 32 hex digits.
    pub fn id(&self) -> &str {
        &self.shared.id
    }

    /// Reads the identity again; fails when the path no longer holds this repository.
    pub fn check_identity(&self) -> Result<()> {
        self.shared.check_identity()
    }

    /// Room left at the store, where that can be known.
    pub fn free_bytes(&self) -> Result<Option<u64>> {
        self.shared.store.free_bytes()
    }

    /// Opens a lineage, making its keys when it is new.
    pub fn lineage(&self, project: &ProjectId, lineage: &LineageId) -> Result<Lineage> {
        self.shared.check_identity()?;
        self.open_lineage(project, lineage)
    }

    /// Opens a lineage for a check that has looked at the identity before: one rotten byte of it is
    /// a finding, and must not keep the check from the rest.
    pub fn lineage_under_check(&self, project: &ProjectId, lineage: &LineageId) -> Result<Lineage> {
        self.open_lineage(project, lineage)
    }

    pub(crate) fn open_lineage(&self, project: &ProjectId, lineage: &LineageId) -> Result<Lineage> {
        let keys = keys::open_or_create(
            &*self.shared.store,
            &self.shared.recovery,
            &*self.shared.random,
            project,
            lineage,
        )?;
        Ok(Lineage { shared: self.shared.clone(), keys: Arc::new(keys) })
    }

    /// All lineages that have keys here.
    pub fn lineages(&self) -> Result<Vec<(ProjectId, LineageId)>> {
        let listed = self.shared.store.list(layout::KEYS_PREFIX)?;
        Ok(listed.iter().filter_map(|object| layout::parse_lineage_key(&object.key)).collect())
    }

    /// Answers whether `format` is as it was written. Fails when nothing, or another repository,
    /// is at this place: then there is nothing to be checked.
    pub(crate) fn format_is_sound(&self) -> Result<bool> {
        match self.shared.store.get(FORMAT_KEY)? {
            Some(found) if FormatFile::is_sound(&found) => self.shared.check_identity().map(|()| true),
            Some(_) => Ok(false),
            None => self.shared.check_identity().map(|()| false),
        }
    }

    /// Answers which of the format document and its digest is not as it was written, if one is not.
    pub(crate) fn damaged_document(&self) -> Result<Option<&'static str>> {
        let store = &self.shared.store;
        let (document, digest) = (store.get(FORMAT_DOCUMENT_KEY)?, store.get(FORMAT_DOCUMENT_DIGEST_KEY)?);
        let Some(document) = document else { return Ok(Some(FORMAT_DOCUMENT_KEY)) };
        if digest.as_deref() == Some(format!("{}\n", blake3::hash(&document).to_hex()).as_bytes()) {
            return Ok(None);
        }
        // A document that this release would write itself is sound whatever its digest says.
        let is_ours = document == FORMAT_DOCUMENT.as_bytes();
        let is_digest = digest.is_some_and(|digest| {
            digest.strip_suffix(b"\n").is_some_and(|hex| {
                hex.len() == 64 && hex.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
            })
        });
        Ok(Some(if is_digest && !is_ours { FORMAT_DOCUMENT_KEY } else { FORMAT_DOCUMENT_DIGEST_KEY }))
    }
}
