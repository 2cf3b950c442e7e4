//! The `BASE_BACKUP` command: its options, and its answer cut into pieces.

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;

use std::collections::VecDeque;
use std::time::Duration;

use strongroom_core::{Error, ErrorKind, Retry};

use crate::connection::{Asides, Connection, Row, Watch};
use crate::fault::{Fault, Result};
use crate::lsn::Lsn;
use crate::remedy::quote_literal;
use crate::server::Version;

/// A forced checkpoint of a large, busy server takes minutes; one that takes longer than this
/// will not end.
pub(super) const CHECKPOINT_TIMEOUT: Duration = Duration::from_mins(30);

/// Tablespaces of one cluster; far beyond what anybody has.
const TABLESPACES_MAX: usize = 100_000;

/// How far a stream may go beyond twice its announced size. A cluster may grow while it is
/// copied, and a small one by many times its size.
const SURPLUS_SIZE_BYTES_MAX: u64 = 64 << 30;

/// A position with its timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) position: Lsn,
    pub(super) timeline: u32,
}

/// How the server sends its archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// 15 and later: one copy, in which each message says what it holds.
    Typed,
    /// 13 and 14: one copy for each archive, in the order of the second result, then one for the
    /// manifest; the messages hold nothing but bytes.
    Plain,
}

impl Framing {
    pub(super) fn of(version: Version) -> Self {
        if version.major() >= 15 { Self::Typed } else { Self::Plain }
    }
}

/// A row of the second result: a tablespace with its place at the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TablespaceRow {
    pub(super) id: u32,
    pub(super) location: Vec<u8>,
}

/// What will be sent.
#[derive(Debug)]
pub(super) struct Announcement {
    pub(super) start: Point,
    pub(super) tablespaces: Vec<TablespaceRow>,
    /// What each copy will be, in their order; empty where the messages say it.
    copies: VecDeque<Vec<u8>>,
    /// The server's estimate of all bytes.
    pub(super) size_bytes: u64,
}

impl Announcement {
    /// Where a stream that does not end is given up.
    pub(super) fn size_bytes_max(&self) -> u64 {
        self.size_bytes.saturating_mul(2).saturating_add(SURPLUS_SIZE_BYTES_MAX)
    }
}

/// One piece of the copy stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A new archive begins, with this name.
    Archive(&'a [u8]),
    /// The manifest begins.
    Manifest,
    /// Bytes of the current archive or of the manifest.
    Data(&'a [u8]),
    /// The server tells how far it is.
    Progress,
    /// All was sent.
    End,
}

/// Asks for everything but the log, which comes over a connection of its own. The server's own
/// check of the pages is off: it would end the whole backup at the first bad page, and ours
/// lists them.
pub(super) fn command(label: &str, framing: Framing) -> String {
    if framing == Framing::Plain {
        return format!(
            "BASE_BACKUP LABEL {} PROGRESS FAST NOWAIT TABLESPACE_MAP NOVERIFY_CHECKSUMS \
             MANIFEST 'yes' MANIFEST_CHECKSUMS 'CRC32C'",
            quote_literal(label)
        );
    }
    format!(
        "BASE_BACKUP (LABEL {}, PROGRESS true, CHECKPOINT 'fast', WAIT false, WAL false, TABLESPACE_MAP true, \
         MANIFEST 'yes', MANIFEST_CHECKSUMS 'CRC32C', VERIFY_CHECKSUMS false)",
        quote_literal(label)
    )
}

/// As [`command`], for the changes since the backup whose manifest was uploaded before.
pub(super) fn incremental_command(label: &str) -> String {
    let whole = command(label, Framing::Typed);
    let options = whole.strip_suffix(')').unwrap_or(&whole);
    format!("{options}, INCREMENTAL true)")
}

/// Reads the first two results: where the backup starts, and what it consists of.
pub(super) fn read_announcement(
    connection: &mut Connection,
    framing: Framing,
    watch: &Watch<'_>,
) -> Result<Announcement> {
    let start = read_point(&read_result(connection, watch)?)?;
    let (mut tablespaces, mut copies) = (Vec::new(), VecDeque::new());
    let mut size_bytes = 0_u64;
    for row in read_result(connection, watch)? {
        if row.bytes(2)?.is_some() {
            size_bytes = size_bytes.saturating_add(row.parse::<u64>(2)?.saturating_mul(1024));
        }
        // The data directory itself is the row without an id.
        if row.bytes(0)?.is_some() {
            let location = row.bytes(1)?.unwrap_or_default().to_vec();
            let id = row.parse(0)?;
            copies.push_back(format!("{id}.tar").into_bytes());
            tablespaces.push(TablespaceRow { id, location });
        } else {
            copies.push_back(b"base.tar".to_vec());
        }
    }
    if framing == Framing::Typed {
        copies.clear();
        expect_copy(connection, watch)?;
    }
    Ok(Announcement { start, tablespaces, copies, size_bytes })
}

fn expect_copy(connection: &mut Connection, watch: &Watch<'_>) -> Result<()> {
    match connection.receive(watch)?.tag {
        b'H' => Ok(()),
        tag => Err(Fault::hostile(format!("a message of type 0x{tag:02x} where a copy begins"))),
    }
}

/// The archives and the manifest, cut into pieces alike whatever the framing.
pub(super) struct CopyStream {
    framing: Framing,
    archives: VecDeque<Vec<u8>>,
    /// The name of the archive that has begun.
    current: Vec<u8>,
    place: Place,
}

/// Where a stream of several copies is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Before,
    Archive,
    Manifest,
}

impl CopyStream {
    pub(super) fn new(framing: Framing, announcement: &mut Announcement) -> Self {
        let archives = std::mem::take(&mut announcement.copies);
        Self { framing, archives, current: Vec::new(), place: Place::Before }
    }

    pub(super) fn next<'s>(
        &'s mut self,
        connection: &'s mut Connection,
        watch: &Watch<'_>,
    ) -> Result<Piece<'s>> {
        match self.framing {
            Framing::Typed => typed_piece(connection, watch),
            Framing::Plain => self.plain_piece(connection, watch),
        }
    }

    fn plain_piece<'s>(&'s mut self, connection: &'s mut Connection, watch: &Watch<'_>) -> Result<Piece<'s>> {
        if self.place != Place::Before {
            // Looked at first: the body of a message that is taken stays borrowed.
            match connection.peek(watch)? {
                b'd' => return Ok(Piece::Data(connection.receive(watch)?.body)),
                b'c' => {
                    connection.receive(watch)?;
                }
                tag => return Err(unexpected(tag)),
            }
        }
        match (self.place, self.archives.is_empty()) {
            (Place::Manifest, _) => Ok(Piece::End),
            (Place::Before | Place::Archive, true) => {
                expect_copy(connection, watch)?;
                self.place = Place::Manifest;
                Ok(Piece::Manifest)
            }
            (Place::Before | Place::Archive, false) => {
                expect_copy(connection, watch)?;
                self.place = Place::Archive;
                self.current = self.archives.pop_front().unwrap_or_default();
                Ok(Piece::Archive(&self.current))
            }
        }
    }
}

fn unexpected(tag: u8) -> Fault {
    Fault::hostile(format!("a message of type 0x{tag:02x} inside the copy"))
}

fn typed_piece<'c>(connection: &'c mut Connection, watch: &Watch<'_>) -> Result<Piece<'c>> {
    let message = connection.receive(watch)?;
    match (message.tag, message.body) {
        (b'd', [b'd', data @ ..]) => Ok(Piece::Data(data)),
        (b'd', [b'n', names @ ..]) => Ok(Piece::Archive(names.split(|b| *b == 0).next().unwrap_or_default())),
        (b'd', [b'm']) => Ok(Piece::Manifest),
        (b'd', [b'p', ..]) => Ok(Piece::Progress),
        (b'c', _) => Ok(Piece::End),
        (tag, _) => Err(unexpected(tag)),
    }
}

/// Reads the third result, without which the backup is void, and the end of the command.
pub(super) fn read_end(connection: &mut Connection, start: Point, watch: &Watch<'_>) -> Result<Lsn> {
    let end = read_point(&read_result(connection, watch)?)?;
    let mut asides = Asides::default();
    loop {
        match connection.receive(watch)?.tag {
            b'Z' => break,
            b'C' => asides.count()?,
            tag => return Err(Fault::hostile(format!("a message of type 0x{tag:02x} behind the copy"))),
        }
    }
    if end.timeline != start.timeline {
        return Err(Fault::Domain(
            Error::new(
                ErrorKind::SourceUnreachable,
                "The source changed its timeline during the backup (it was promoted). This copy is void.",
            )
            .with_retry(Retry::Later),
        ));
    }
    if end.position < start.position {
        return Err(Fault::hostile("a backup that ends before it starts"));
    }
    Ok(end.position)
}

fn read_point(rows: &[Row]) -> Result<Point> {
    let [row] = rows else { return Err(Fault::hostile("a position that is not one row")) };
    Ok(Point {
        position: Lsn::parse(row.text(0)?).ok_or_else(|| Fault::hostile("a malformed log position"))?,
        timeline: row.parse(1)?,
    })
}

/// Reads one result set up to its CommandComplete.
fn read_result(connection: &mut Connection, watch: &Watch<'_>) -> Result<Vec<Row>> {
    let (mut rows, mut asides) = (Vec::new(), Asides::default());
    loop {
        let message = connection.receive(watch)?;
        match message.tag {
            b'T' => asides.count()?,
            b'D' if rows.len() <= TABLESPACES_MAX => rows.push(Row::decode(message.body)?),
            b'C' => return Ok(rows),
            tag => return Err(Fault::hostile(format!("a message of type 0x{tag:02x} in a result"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Framing, command};

    #[test]
    fn h08_a_label_cannot_end_its_quotes() {
        assert!(
            command("a', WAL true, LABEL 'b", Framing::Typed)
                .starts_with("BASE_BACKUP (LABEL 'a'', WAL true, LABEL ''b', PROGRESS")
        );
        assert!(
            command("a' WAL LABEL 'b", Framing::Plain)
                .starts_with("BASE_BACKUP LABEL 'a'' WAL LABEL ''b' PROGRESS")
        );
    }
}
