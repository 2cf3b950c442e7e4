//! Turns the archives of a base backup into members: names are judged, contents handed on as
//! they come, and everything is counted, summed and checked on the way.

use strongroom_core::engine::{BackupSink, MemberWriter};
use strongroom_core::member::{Dedupe, Member, MemberKind, MemberPath};
use strongroom_core::{Error, ErrorKind, Result};

use super::ancestor::{self, Ancestor, LABEL_SIZE_BYTES_MAX};
use super::base::TablespaceRow;
use super::block_list::{self, BlockList};
use super::ledger::Ledger;
use super::pages::{PageFindings, PageScan};
use super::patching::{InheritedDamage, PatchedFile};
use super::small;
use crate::fault::hostile;
use crate::relation::{PAGE_SIZE_BYTES, RelationFile};
use crate::tar::{TarEntry, TarEvent, TarReader};

/// Small files whose content is needed for the facts, and the most of it that is kept.
const KEPT_SIZE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What the intake must know of the cluster.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClusterShape {
    pub(super) blocks_per_segment: u32,
    pub(super) has_checksums: bool,
    /// Beyond this, a stream is taken for one without an end.
    pub(super) size_bytes_max: u64,
}

/// Contents of files the facts speak of.
#[derive(Debug, Default)]
pub(super) struct KeptFiles {
    pub(super) backup_label: Option<Vec<u8>>,
    pub(super) tablespace_map: Option<Vec<u8>>,
    pub(super) pg_control: Option<Vec<u8>>,
    pub(super) pg_version: Option<Vec<u8>>,
    /// The label a restored server was started from.
    backup_label_old: Option<Vec<u8>>,
}

impl KeptFiles {
    fn slot(&mut self, path: &[u8]) -> Option<&mut Option<Vec<u8>>> {
        match path {
            LABEL => Some(&mut self.backup_label),
            OLD_LABEL => Some(&mut self.backup_label_old),
            b"tablespace_map" => Some(&mut self.tablespace_map),
            b"global/pg_control" => Some(&mut self.pg_control),
            b"PG_VERSION" => Some(&mut self.pg_version),
            _ => None,
        }
    }
}

/// Where the entries of an archive belong.
enum Root {
    DataDirectory,
    Tablespace(u32),
}

struct OpenFile<'s> {
    content: Content<'s>,
    /// Relative to the data directory, as the manifest names it.
    cluster_path: Vec<u8>,
    size: u64,
    crc32c: u32,
    is_kept: bool,
}

/// Where the bytes of a file go.
enum Content<'s> {
    Whole(Box<dyn MemberWriter + 's>, Option<PageScan>),
    /// Only the changed blocks come; the path is that of the whole file.
    Patched(Box<PatchedFile<'s>>, Vec<u8>),
    /// It is kept, and stored when it is known as a whole.
    Later,
}

/// What came in block lists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PatchCounts {
    pub(super) files: u64,
    pub(super) blocks: u64,
    /// Bytes of patched files that did not have to come.
    pub(super) spared_bytes: u64,
}

pub(super) struct Intake<'s> {
    sink: &'s dyn BackupSink,
    shape: ClusterShape,
    tablespaces: Vec<u32>,
    archive: Option<(Root, TarReader)>,
    /// Something of the current archive has come.
    has_entries: bool,
    /// The data directory has begun.
    has_base: bool,
    open: Option<OpenFile<'s>>,
    /// The backup this one is built on, when the server sends changes of it.
    ancestor: Option<&'s Ancestor<'s>>,
    received: u64,
    pub(super) patches: PatchCounts,
    pub(super) inherited: InheritedDamage,
    pub(super) ledger: Ledger,
    pub(super) findings: PageFindings,
    pub(super) kept: KeptFiles,
}

/// A server leaves out, silently, what it cannot find: a tablespace whose directory is gone, and
/// PostgreSQL 13 one with a line end in its path. Every tablespace has at least its own directory.
fn left_out(tablespace: u32) -> Error {
    Error::new(
        ErrorKind::SourceRefused,
        format!("The source sent nothing of tablespace {tablespace}. Nothing was stored as complete."),
    )
    .with_hint(
        "Look whether its directory is there, and whether its path holds a line end, which PostgreSQL 13 cannot \
         back up: SELECT oid, spcname, pg_tablespace_location(oid) FROM pg_tablespace;",
    )
}

impl<'s> Intake<'s> {
    pub(super) fn new(sink: &'s dyn BackupSink, shape: ClusterShape, tablespaces: &[TablespaceRow]) -> Self {
        Self {
            sink,
            shape,
            tablespaces: tablespaces.iter().map(|row| row.id).collect(),
            archive: None,
            has_entries: false,
            has_base: false,
            open: None,
            ancestor: None,
            received: 0,
            patches: PatchCounts::default(),
            inherited: InheritedDamage::default(),
            ledger: Ledger::default(),
            findings: PageFindings::default(),
            kept: KeptFiles::default(),
        }
    }

    /// The server sends changes of this backup.
    pub(super) fn with_ancestor(mut self, ancestor: Option<&'s Ancestor<'s>>) -> Self {
        self.ancestor = ancestor;
        self.inherited = InheritedDamage::new(ancestor.map(Ancestor::damage).unwrap_or_default());
        self
    }

    /// A new archive begins: `base.tar`, or `<id>.tar` of an announced tablespace, each once.
    pub(super) fn begin_archive(&mut self, name: &[u8]) -> Result<()> {
        self.end_archive()?;
        let id = name.strip_suffix(b".tar").and_then(|stem| std::str::from_utf8(stem).ok()?.parse().ok());
        let announced = self.tablespaces.iter().position(|known| Some(*known) == id);
        let root = match (name, announced) {
            (b"base.tar", _) if !std::mem::replace(&mut self.has_base, true) => Root::DataDirectory,
            (b"base.tar", _) => return Err(hostile("the data directory twice")),
            (_, Some(position)) => Root::Tablespace(self.tablespaces.swap_remove(position)),
            (_, None) => return Err(hostile(format!("the unannounced archive \"{}\"", name.escape_ascii()))),
        };
        self.archive = Some((root, TarReader::new()));
        self.has_entries = false;
        Ok(())
    }

    /// Takes bytes of the current archive.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        self.received = self.received.saturating_add(bytes.len() as u64);
        if self.received > self.shape.size_bytes_max {
            let limit = self.shape.size_bytes_max;
            return Err(hostile(format!("more than {limit} bytes, far beyond what was announced")));
        }
        let Some((root, mut tar)) = self.archive.take() else {
            return Err(hostile("data outside of any archive"));
        };
        let mut input = bytes;
        while let Some(event) = tar.next(&mut input)? {
            match event {
                TarEvent::Entry(entry) => self.begin_entry(&root, &entry)?,
                TarEvent::Content(content) => self.take_content(content)?,
                TarEvent::EntryEnd => self.end_entry()?,
                TarEvent::End => {}
            }
        }
        self.archive = Some((root, tar));
        Ok(())
    }

    /// All archives are there; the manifest is next.
    pub(super) fn end_archives(&mut self) -> Result<()> {
        self.end_archive()?;
        if !self.tablespaces.is_empty() {
            return Err(hostile("a backup in which an announced tablespace is missing"));
        }
        if self.kept.backup_label.is_none()
            || self.kept.pg_control.is_none()
            || self.kept.pg_version.is_none()
        {
            return Err(hostile("a backup without backup_label, PG_VERSION or pg_control"));
        }
        match self.ancestor {
            Some(ancestor) if !ancestor.is_same_life(self.kept.backup_label_old.as_deref()) => {
                Err(ancestor.parent.distrust("the source was restored since the earlier backup"))
            }
            _ => Ok(()),
        }
    }

    fn end_archive(&mut self) -> Result<()> {
        match self.archive.take() {
            Some((_, tar)) if !tar.is_between_entries() => Err(hostile("an archive that ends inside a file")),
            Some((Root::Tablespace(id), _)) if !self.has_entries => Err(left_out(id)),
            _ => Ok(()),
        }
    }

    fn begin_entry(&mut self, root: &Root, entry: &TarEntry) -> Result<()> {
        let (member_path, cluster_path) = match root {
            Root::DataDirectory => ([b"data/", entry.name.as_slice()].concat(), entry.name.clone()),
            Root::Tablespace(id) => (
                [format!("tablespace/{id}/").as_bytes(), &entry.name].concat(),
                [format!("pg_tblspc/{id}/").as_bytes(), &entry.name].concat(),
            ),
        };
        let is_data_directory = matches!(root, Root::DataDirectory);
        Self::judge_entry(is_data_directory, entry)?;
        self.has_entries = true;
        self.ledger.enter(&cluster_path, entry.is_directory)?;
        if let Some((ancestor, whole_path)) = self.listed_file(entry, &cluster_path)? {
            let member_path = block_list::listed_file(&member_path).unwrap_or(member_path);
            return self.begin_patched(ancestor, entry, cluster_path, whole_path, &member_path);
        }
        let relation = if entry.is_directory { None } else { RelationFile::of_path(&cluster_path) };
        let scan = match relation {
            Some(file) => self.page_scan(file, entry.size, &cluster_path)?,
            None => None,
        };
        let is_kept = self.begin_kept(&cluster_path, entry)?;
        // The label of a copy in block lists is stored without the lines that say so.
        let content = if self.ancestor.is_some() && is_kept && cluster_path == LABEL {
            Content::Later
        } else {
            Content::Whole(self.sink.open(member(&member_path, entry, relation.is_some())?)?, scan)
        };
        if !entry.is_directory {
            self.open = Some(OpenFile { content, cluster_path, size: entry.size, crc32c: 0, is_kept });
        }
        Ok(())
    }

    /// Whether the content of this file is needed for the facts or for a comparison.
    fn begin_kept(&mut self, cluster_path: &[u8], entry: &TarEntry) -> Result<bool> {
        if entry.is_directory {
            return Ok(false);
        }
        if cluster_path == OLD_LABEL {
            let is_kept = self.ancestor.is_some() && entry.size <= LABEL_SIZE_BYTES_MAX;
            self.kept.backup_label_old = Some(Vec::new());
            return Ok(is_kept);
        }
        let Some(content) = self.kept.slot(cluster_path) else { return Ok(false) };
        if entry.size > KEPT_SIZE_BYTES_MAX {
            return Err(hostile(format!("a {} of {} bytes", cluster_path.escape_ascii(), entry.size)));
        }
        *content = Some(Vec::new());
        Ok(true)
    }

    /// The relation file that this entry lists changed blocks of. It must not come whole as well.
    fn listed_file(&self, entry: &TarEntry, path: &[u8]) -> Result<Option<(&'s Ancestor<'s>, Vec<u8>)>> {
        let Some(ancestor) = self.ancestor.filter(|_| !entry.is_directory) else { return Ok(None) };
        let whole = block_list::listed_file(path).filter(|whole| RelationFile::of_path(whole).is_some());
        let twin = match &whole {
            Some(whole) => self.ledger.holds(whole),
            None => RelationFile::of_path(path).is_some() && self.ledger.holds(&block_list::list_of(path)),
        };
        if twin {
            return Err(hostile(format!("the file {} whole and in changed blocks", path.escape_ascii())));
        }
        Ok(whole.map(|whole| (ancestor, whole)))
    }

    fn begin_patched(
        &mut self,
        ancestor: &'s Ancestor<'s>,
        entry: &TarEntry,
        cluster_path: Vec<u8>,
        whole_path: Vec<u8>,
        member_path: &[u8],
    ) -> Result<()> {
        let blocks = self.shape.blocks_per_segment;
        let Some(file) = RelationFile::of_path(&whole_path) else { return Err(hostile("a list of blocks")) };
        let first_block = self.first_block(file, &whole_path)?;
        let scan = self.page_scan(file, 0, &whole_path)?;
        let list = BlockList::new(entry.size, blocks);
        let member = Member { size: None, ..member(member_path, entry, true)? };
        let patched = PatchedFile::new(self.sink, ancestor.parent, member, list, scan, first_block);
        let content = Content::Patched(Box::new(patched), whole_path);
        let (size, is_kept) = (entry.size, false);
        self.open = Some(OpenFile { content, cluster_path, size, crc32c: 0, is_kept });
        Ok(())
    }

    /// Log segments and tablespaces come on their own ways; a file of theirs inside the data
    /// directory would later collide with them.
    fn judge_entry(is_data_directory: bool, entry: &TarEntry) -> Result<()> {
        let is_foreign = |place: &[u8]| entry.name.starts_with(place);
        if is_data_directory && !entry.is_directory && (is_foreign(b"pg_wal/") || is_foreign(b"pg_tblspc/")) {
            return Err(hostile(format!("the file {} inside the base archive", entry.name.escape_ascii())));
        }
        Ok(())
    }

    /// A file's first block, counted from the beginning of its relation.
    fn first_block(&self, file: RelationFile, path: &[u8]) -> Result<u32> {
        let block = u64::from(file.segment) * u64::from(self.shape.blocks_per_segment);
        u32::try_from(block)
            .map_err(|_| hostile(format!("the file {}, which no relation has", path.escape_ascii())))
    }

    fn page_scan(&self, file: RelationFile, size: u64, path: &[u8]) -> Result<Option<PageScan>> {
        let first_block = self.first_block(file, path)?;
        if size > u64::from(self.shape.blocks_per_segment) * PAGE_SIZE_BYTES as u64 {
            let path = path.escape_ascii();
            return Err(hostile(format!("{path} with {size} bytes, which no relation has")));
        }
        Ok(self.shape.has_checksums.then(|| PageScan::new(path.escape_ascii().to_string(), first_block)))
    }

    fn take_content(&mut self, content: &[u8]) -> Result<()> {
        let Some(file) = &mut self.open else { return Err(hostile("a directory with content")) };
        file.crc32c = crc32c::crc32c_append(file.crc32c, content);
        if file.is_kept
            && let Some(Some(kept)) = self.kept.slot(&file.cluster_path)
        {
            kept.extend_from_slice(content);
        }
        match &mut file.content {
            Content::Whole(writer, scan) => {
                if let Some(scan) = scan {
                    scan.feed(content, &mut self.findings);
                }
                writer.write(content)
            }
            Content::Patched(patched, _) => patched.feed(content, &mut self.findings),
            Content::Later => Ok(()),
        }
    }

    fn end_entry(&mut self) -> Result<()> {
        // Directories were complete when they began.
        let Some(file) = self.open.take() else { return Ok(()) };
        self.ledger.complete(&file.cluster_path, file.size, file.crc32c);
        match file.content {
            Content::Whole(writer, _) => writer.finish(),
            Content::Patched(patched, path) => {
                let patched = patched.finish(&path, &mut self.inherited)?;
                self.patches.files += 1;
                self.patches.blocks += patched.blocks;
                self.patches.spared_bytes += patched.size_bytes.saturating_sub(file.size);
                Ok(())
            }
            Content::Later => self.store_label(),
        }
    }

    /// What is stored is a whole copy, and its label must say nothing else.
    fn store_label(&mut self) -> Result<()> {
        let (Some(ancestor), Some(label)) = (self.ancestor, self.kept.backup_label.take()) else {
            return Ok(());
        };
        let (label, lines) = ancestor::split_label(&label);
        if !ancestor.is_named_by(&lines) {
            return Err(hostile("changes of another backup than the one it was told of"));
        }
        small::store(self.sink, "data/backup_label", &label, Dedupe::Parent)?;
        self.kept.backup_label = Some(label);
        Ok(())
    }
}

const LABEL: &[u8] = b"backup_label";
const OLD_LABEL: &[u8] = b"backup_label.old";

fn member(path: &[u8], entry: &TarEntry, has_pages: bool) -> Result<Member> {
    Ok(Member {
        path: MemberPath::parse(path)?,
        kind: if entry.is_directory { MemberKind::Directory } else { MemberKind::File },
        size: (!entry.is_directory).then_some(entry.size),
        mode: entry.mode,
        mtime_s: entry.mtime_s,
        page_size: if has_pages { PAGE_SIZE_BYTES as u32 } else { 0 },
        dedupe: Dedupe::Parent,
    })
}

/// What the first bytes of `global/pg_control` say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ControlFile {
    pub(super) system_identifier: u64,
    pub(super) control_version: u32,
    pub(super) catalog_version: u32,
}

impl ControlFile {
    /// Integers stand in the order of the server's processor; we understand little-endian.
    pub(super) fn parse(bytes: &[u8], system_identifier: u64) -> Result<Self> {
        let too_short = || hostile("a pg_control that is too short");
        let (identifier, rest) = bytes.split_first_chunk::<8>().ok_or_else(too_short)?;
        let (control_version, rest) = rest.split_first_chunk().ok_or_else(too_short)?;
        let (catalog_version, _) = rest.split_first_chunk().ok_or_else(too_short)?;
        let identifier = *identifier;
        if u64::from_be_bytes(identifier) == system_identifier {
            return Err(Error::new(
                ErrorKind::NotSupported,
                "The source runs on a big-endian processor, which is not supported.",
            ));
        }
        let control = Self {
            system_identifier: u64::from_le_bytes(identifier),
            control_version: u32::from_le_bytes(*control_version),
            catalog_version: u32::from_le_bytes(*catalog_version),
        };
        if control.system_identifier != system_identifier {
            return Err(hostile("a pg_control of another database"));
        }
        Ok(control)
    }
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;
