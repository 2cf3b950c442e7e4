//! Directory pages: members sorted by path, up to 4,096 on a page.

use strongroom_core::member::{MemberKind, MemberPath};

use super::{Leaf, NodeRef, PackTable};
use crate::binary::{Cursor, Malformed, Parsed, Put};

const MEMBERS_MAX: usize = 4096;
const PAGE_BYTES_MAX: usize = 1 << 20;
/// Pages end at paths whose digest says so, so that an inserted file moves no later page.
const PAGE_END_MASK: u8 = 0xff;
const PAGE_END_MEMBERS_MIN: usize = 64;

/// Where the bytes of a member are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    Directory,
    Empty,
    /// A member of one chunk: its leaf stands right here.
    Inline(Leaf),
    Segments(Vec<NodeRef>),
}

/// A member, as the tree holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: MemberPath,
    pub(crate) mode: u32,
    pub(crate) mtime_s: i64,
    pub(crate) size: u64,
    pub(crate) page_size: u32,
    pub(crate) content: Content,
}

impl Entry {
    pub(crate) fn kind(&self) -> MemberKind {
        match self.content {
            Content::Directory => MemberKind::Directory,
            Content::Empty | Content::Inline(_) | Content::Segments(_) => MemberKind::File,
        }
    }

    pub(crate) fn segment_count(&self) -> u32 {
        match &self.content {
            Content::Directory | Content::Empty => 0,
            Content::Inline(_) => 1,
            Content::Segments(refs) => refs.len() as u32,
        }
    }

    fn write(&self, table: &mut PackTable, out: &mut Vec<u8>) {
        out.put_u16(self.path.as_bytes().len() as u16);
        out.extend_from_slice(self.path.as_bytes());
        out.put_u32(self.mode);
        out.put_i64(self.mtime_s);
        out.put_u64(self.size);
        out.put_u32(self.page_size);
        match &self.content {
            Content::Directory => out.push(0),
            Content::Empty => out.push(1),
            Content::Inline(leaf) => {
                out.push(2);
                leaf.write(table, out);
            }
            Content::Segments(refs) => {
                out.push(3);
                out.put_u32(refs.len() as u32);
                for segment in refs {
                    segment.write(table, out);
                }
            }
        }
    }

    fn parse(table: &PackTable, cursor: &mut Cursor<'_>) -> Parsed<Self> {
        let length = usize::from(cursor.u16()?);
        let path = MemberPath::parse(cursor.take(length)?)
            .map_err(|_| Malformed("holds a member path that is not allowed"))?;
        let (mode, mtime_s, size, page_size) = (cursor.u32()?, cursor.i64()?, cursor.u64()?, cursor.u32()?);
        let content = match cursor.u8()? {
            0 => Content::Directory,
            1 => Content::Empty,
            2 => Content::Inline(Leaf::parse(table, cursor)?),
            3 => {
                let count = cursor.u32()? as usize;
                let mut refs = Vec::with_capacity(cursor.capacity(count, 47));
                for _ in 0..count {
                    refs.push(NodeRef::parse(table, cursor)?);
                }
                Content::Segments(refs)
            }
            _ => return Err(Malformed("has an unknown kind of member content")),
        };
        Ok(Self { path, mode, mtime_s, size, page_size, content })
    }
}

/// Whether a page should end after this member.
pub(crate) fn ends_page(path: &MemberPath, members: usize) -> bool {
    members >= MEMBERS_MAX
        || (members >= PAGE_END_MEMBERS_MIN
            && blake3::hash(path.as_bytes()).as_bytes()[0] & PAGE_END_MASK == 0)
}

/// Whether a page has grown to the size at which it must end.
pub(crate) fn page_overflows(encoded_bytes: usize) -> bool {
    encoded_bytes >= PAGE_BYTES_MAX
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DirectoryPage {
    pub(crate) entries: Vec<Entry>,
}

impl DirectoryPage {
    pub(crate) fn write(&self) -> Vec<u8> {
        let (mut table, mut entries) = (PackTable::default(), Vec::new());
        for entry in &self.entries {
            entry.write(&mut table, &mut entries);
        }
        let mut out = Vec::with_capacity(entries.len() + 256);
        out.put_u16(self.entries.len() as u16);
        table.write(&mut out);
        out.append(&mut entries);
        out
    }

    /// Refuses entries that are not in strictly ascending order of paths.
    pub(crate) fn parse(bytes: &[u8]) -> Parsed<Self> {
        let mut cursor = Cursor::new(bytes);
        let count = usize::from(cursor.u16()?);
        let table = PackTable::parse(&mut cursor)?;
        let mut entries: Vec<Entry> = Vec::with_capacity(cursor.capacity(count, 28));
        for _ in 0..count {
            let entry = Entry::parse(&table, &mut cursor)?;
            if entries.last().is_some_and(|last| last.path >= entry.path) {
                return Err(Malformed("has members out of order"));
            }
            entries.push(entry);
        }
        cursor.end()?;
        Ok(Self { entries })
    }
}
