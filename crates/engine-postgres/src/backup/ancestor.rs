//! The earlier backup that a new one is built on: whether it may be, and how the server is told
//! of it. Each reason against it is a clause for the backup's record; none of them fails a backup.

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use strongroom_core::ErrorKind;
use strongroom_core::engine::PageDamage;
use strongroom_core::foreign_text::for_people;
use strongroom_core::member::MemberPath;
use strongroom_core::parent::{ParentBackup, ParentOffer};

use super::history;
use super::manifest::{self, ManifestFacts};
use crate::connection::{Asides, Connection, Watch};
use crate::facts::PostgresFacts;
use crate::fault::{Fault, Result, ServerError};
use crate::server::{SUMMARIES_MAJOR, Settings, System};

/// The largest label file that is compared.
pub(super) const LABEL_SIZE_BYTES_MAX: u64 = 64 * 1024;
/// The largest history file that is compared.
const HISTORY_SIZE_BYTES_MAX: u64 = 1024 * 1024;
/// What a manifest may have for each file is limited where it comes in; this is the limit for one
/// that was stored.
const MANIFEST_SIZE_BYTES_MAX: u64 = 64 << 30;
/// A manifest goes to the server in pieces of this size.
const UPLOAD_PIECE_SIZE_BYTES: usize = 64 * 1024;

const MANIFEST_PATH: &[u8] = b"meta/backup_manifest";
const LABEL_PATH: &[u8] = b"data/backup_label";
const OLD_LABEL_PATH: &[u8] = b"data/backup_label.old";

/// An earlier backup that passed our own examination.
pub(super) struct Ancestor<'a> {
    pub(super) parent: &'a dyn ParentBackup,
    pub(super) facts: PostgresFacts,
    /// Its own label, and that of the backup its source was restored from, if it was.
    label: Option<Vec<u8>>,
    old_label: Option<Vec<u8>>,
}

/// Outcome of an examination: the ancestor, or why everything is read.
pub(super) type Examined<'a> = std::result::Result<Ancestor<'a>, String>;

/// Looks for reasons against building on the parent that can be known before the server is asked.
pub(super) fn examine<'a>(
    offer: ParentOffer<'a>,
    connection: &mut Connection,
    system: System,
    settings: &Settings,
    watch: &Watch<'_>,
) -> Result<Examined<'a>> {
    let version = settings.version()?;
    if version.major() < SUMMARIES_MAJOR {
        return Ok(Err(format!("PostgreSQL {} keeps no lists of changed blocks", version.major())));
    }
    if !settings.is_on("summarize_wal") {
        return Ok(Err("summarize_wal is off at the source".to_owned()));
    }
    let parent = match offer {
        ParentOffer::Offered(parent) => parent,
        ParentOffer::Withheld(reason) => return Ok(Err(reason.to_owned())),
    };
    let Ok(facts) = PostgresFacts::of(parent.facts()) else {
        return Ok(Err("the facts of the earlier backup cannot be read".to_owned()));
    };
    if let Some(reason) = mismatch(&facts, parent, system, settings)? {
        return Ok(Err(reason));
    }
    match read_ancestor(parent, facts, connection, system, watch) {
        Ok(examined) => Ok(examined),
        // Damage is not for us to judge: whoever keeps the parent knows what to do without it.
        Err(Fault::Domain(error)) if error.kind() == ErrorKind::SourceHostile => {
            Ok(Err(format!("the earlier backup cannot be read: {}", error.public().trim_end_matches('.'))))
        }
        Err(fault) => Err(fault),
    }
}

/// What the facts alone speak against.
fn mismatch(
    facts: &PostgresFacts,
    parent: &dyn ParentBackup,
    system: System,
    settings: &Settings,
) -> Result<Option<String>> {
    if parent.facts().identity.system_identifier != system.identifier.to_string() {
        return Ok(Some("the earlier backup is of another database".to_owned()));
    }
    if facts.major_version() != settings.version()?.major() {
        return Ok(Some("the earlier backup is of another major version".to_owned()));
    }
    // Switching them while the server is down rewrites pages without a word in the log.
    if facts.data_checksums != settings.is_on("data_checksums") {
        return Ok(Some("page checksums were switched since the earlier backup".to_owned()));
    }
    if facts.timeline > system.timeline || facts.stop_lsn > system.position {
        return Ok(Some(format!(
            "the source stands at {} of timeline {}, before the end of the earlier backup ({} of timeline {})",
            system.position, system.timeline, facts.stop_lsn, facts.timeline
        )));
    }
    Ok(None)
}

fn read_ancestor<'a>(
    parent: &'a dyn ParentBackup,
    facts: PostgresFacts,
    connection: &mut Connection,
    system: System,
    watch: &Watch<'_>,
) -> Result<Examined<'a>> {
    let own_history = match facts.timeline {
        0 | 1 => Some(Vec::new()),
        timeline => {
            let path = format!("wal/{}", history::file_name(timeline));
            read_small(parent, path.as_bytes(), HISTORY_SIZE_BYTES_MAX)?
        }
    };
    let Some(own_history) = own_history else {
        return Ok(Err("the earlier backup has no history of its timeline".to_owned()));
    };
    let servers = match system.timeline {
        0 | 1 => Vec::new(),
        timeline => history::fetch(connection, timeline, watch)?,
    };
    if !history::descends(&servers, &own_history, (facts.timeline, facts.stop_lsn), system.timeline) {
        return Ok(Err("the earlier backup is of a timeline the source did not go through".to_owned()));
    }
    let Some(manifest) = read_manifest(parent)? else {
        return Ok(Err("the earlier backup has no manifest".to_owned()));
    };
    let is_its_own = manifest.wal_ranges.iter().any(|range| {
        (range.timeline, range.start, range.end) == (facts.timeline, facts.start_lsn, facts.stop_lsn)
    });
    if !is_its_own || manifest.system_identifier.is_some_and(|named| named != system.identifier) {
        return Ok(Err("the manifest of the earlier backup is not its own".to_owned()));
    }
    let label = read_small(parent, LABEL_PATH, LABEL_SIZE_BYTES_MAX)?;
    let old_label = read_small(parent, OLD_LABEL_PATH, LABEL_SIZE_BYTES_MAX)?;
    Ok(Ok(Ancestor { parent, facts, label, old_label }))
}

/// Reads a stored manifest to its end and checks its own checksum.
fn read_manifest(parent: &dyn ParentBackup) -> Result<Option<ManifestFacts>> {
    let Some(mut file) = parent.open(&MemberPath::parse(MANIFEST_PATH)?)? else { return Ok(None) };
    let facts = manifest::outline(MANIFEST_SIZE_BYTES_MAX, |buffer| match file.next_piece()? {
        Some(piece) => {
            buffer.extend_from_slice(&piece);
            Ok(true)
        }
        None => Ok(false),
    })?;
    Ok(Some(facts))
}

/// A small file of the parent, `None` when there is none or it is not small.
fn read_small(parent: &dyn ParentBackup, path: &[u8], size_max: u64) -> Result<Option<Vec<u8>>> {
    let Some(mut file) = parent.open(&MemberPath::parse(path)?)? else { return Ok(None) };
    let mut content = Vec::new();
    while let Some(piece) = file.next_piece()? {
        content.extend_from_slice(&piece);
        if content.len() as u64 > size_max {
            return Ok(None);
        }
    }
    Ok(Some(content))
}

impl Ancestor<'_> {
    /// Hands the parent's manifest to the server, as it came. A refusal is the server's fault.
    pub(super) fn upload(&self, connection: &mut Connection, watch: &Watch<'_>) -> Result<()> {
        connection.start_command("UPLOAD_MANIFEST", watch)?;
        match connection.receive(watch)?.tag {
            b'G' => {}
            tag => {
                return Err(Fault::hostile(format!("a message of type 0x{tag:02x} where a copy in begins")));
            }
        }
        let path = MemberPath::parse(MANIFEST_PATH)?;
        if let Some(mut file) = self.parent.open(&path)? {
            while let Some(content) = file.next_piece()? {
                for piece in content.chunks(UPLOAD_PIECE_SIZE_BYTES) {
                    connection.send(&copy_data(piece), watch)?;
                }
            }
        }
        let mut done = BytesMut::new();
        frontend::copy_done(&mut done);
        connection.send(&done, watch)?;
        let mut asides = Asides::default();
        loop {
            match connection.receive(watch)?.tag {
                b'Z' => return Ok(()),
                b'C' => asides.count()?,
                tag => {
                    return Err(Fault::hostile(format!("a message of type 0x{tag:02x} behind a copy in")));
                }
            }
        }
    }

    /// The server's label must name this parent, and no other one.
    pub(super) fn is_named_by(&self, lines: &IncrementalLines) -> bool {
        lines.position.as_deref() == Some(self.facts.start_lsn.to_string().as_str())
            && lines.timeline.as_deref() == Some(self.facts.timeline.to_string().as_str())
    }

    /// A restored server renames the label it was started from to `backup_label.old`, on the same
    /// timeline as before. Its log then says nothing of what the earlier backup saw, unless it
    /// was restored from that very backup, or before it was taken.
    pub(super) fn is_same_life(&self, old_label: Option<&[u8]>) -> bool {
        old_label == self.old_label.as_deref() || (old_label.is_some() && old_label == self.label.as_deref())
    }

    pub(super) fn damage(&self) -> &[PageDamage] {
        &self.parent.facts().damage
    }
}

fn copy_data(piece: &[u8]) -> BytesMut {
    let mut message = BytesMut::with_capacity(piece.len() + 5);
    frontend::CopyData::new(piece).expect("a piece fits a message").write(&mut message);
    message
}

/// What the server's refusal to build on the parent means: a reason to read everything, or the
/// end of the conversation.
pub(super) fn refusal(fault: Fault) -> Result<String> {
    match fault {
        Fault::Server(error) if !error.is_fatal() && !is_about_connections(&error) => {
            tracing::info!("the source refused to send block lists: {}", error.quoted());
            Ok(format!("the source refused: {}", error.quoted()))
        }
        fault => Err(fault),
    }
}

fn is_about_connections(error: &ServerError) -> bool {
    error.code.starts_with("57") || error.code.starts_with("08") || error.code.starts_with("53")
}

/// What a label of a copy in block lists says that one of a whole copy does not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct IncrementalLines {
    position: Option<String>,
    timeline: Option<String>,
}

/// Takes those lines off a label: what is stored is a whole copy, and a server would refuse to
/// start from one that says otherwise.
pub(super) fn split_label(label: &[u8]) -> (Vec<u8>, IncrementalLines) {
    let (mut rest, mut lines) = (Vec::with_capacity(label.len()), IncrementalLines::default());
    for line in label.split_inclusive(|byte| *byte == b'\n') {
        let value = |prefix: &[u8]| line.strip_prefix(prefix).map(|value| for_people(value.trim_ascii()));
        if let Some(position) = value(b"INCREMENTAL FROM LSN: ") {
            lines.position = Some(position);
        } else if let Some(timeline) = value(b"INCREMENTAL FROM TLI: ") {
            lines.timeline = Some(timeline);
        } else {
            rest.extend_from_slice(line);
        }
    }
    (rest, lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_label_is_that_of_a_whole_copy() {
        let label =
            b"START WAL LOCATION: 0/9000028 (file 000000010000000000000009)\nLABEL: x\nSTART TIMELINE: 1\n\
            INCREMENTAL FROM LSN: 0/7000028\nINCREMENTAL FROM TLI: 1\n";
        let (rest, lines) = split_label(label);
        assert!(rest.ends_with(b"LABEL: x\nSTART TIMELINE: 1\n"));
        assert_eq!(lines.position.as_deref(), Some("0/7000028"));
        assert_eq!(lines.timeline.as_deref(), Some("1"));
        assert_eq!(split_label(&rest), (rest.clone(), IncrementalLines::default()));
    }

    #[test]
    fn only_the_servers_own_refusals_lead_to_a_full_stream() {
        let server = |severity: &str, code: &str| {
            let error = ServerError {
                severity: severity.to_owned(),
                code: code.to_owned(),
                ..ServerError::default()
            };
            refusal(Fault::Server(Box::new(error)))
        };
        for code in ["55000", "XX000", "22023", "42601", "0A000"] {
            assert!(server("ERROR", code).is_ok(), "{code}");
        }
        for code in ["57P01", "57014", "08006", "53300"] {
            assert!(server("ERROR", code).is_err(), "{code}");
        }
        assert!(server("FATAL", "55000").is_err());
        assert!(refusal(Fault::unreachable("gone")).is_err());
    }
}
