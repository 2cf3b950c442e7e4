//! The root: what a backup is, and where its directory pages and rosters are.

use serde::{Deserialize, Serialize};
use strongroom_core::engine::BackupFacts;

use super::{NodeRef, PackTable};
use crate::binary::{Cursor, Malformed, Parsed, Put};
use crate::verdict::{CatalogRecord, Totals};

/// The root's readable part, JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RootDocument {
    /// Lease epoch of the job that sealed it.
    pub(crate) lease_epoch: i64,
    /// Program and version that wrote it.
    pub(crate) writer: String,
    pub(crate) facts: BackupFacts,
    pub(crate) catalog: CatalogRecord,
    pub(crate) totals: Totals,
    /// The packs that hold the rosters, as (n, size in bytes): they stand in no roster themselves.
    pub(crate) roster_packs: Vec<(u32, u64)>,
    /// Digest of the manifest under which these members were first sealed, when they were stored anew
    /// since: the same members, in the same order, byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content_of: Option<String>,
}

/// A directory page and the range it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PageRef {
    pub(crate) first_path: Vec<u8>,
    pub(crate) members: u32,
    pub(crate) node: NodeRef,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) document: RootDocument,
    pub(crate) pages: Vec<PageRef>,
    pub(crate) rosters: Vec<NodeRef>,
}

impl Root {
    /// The digest of the whole tree: the ids of all pages and rosters, in order. Ids are keyed
    /// digests of content, so this one value stands for every byte of the backup.
    pub(crate) fn tree_digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for node in self.pages.iter().map(|page| &page.node).chain(&self.rosters) {
            hasher.update(&node.id);
        }
        *hasher.finalize().as_bytes()
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let document = serde_json::to_vec(&self.document).expect("the document has string keys only");
        let (mut table, mut nodes) = (PackTable::default(), Vec::new());
        nodes.put_u32(self.pages.len() as u32);
        for page in &self.pages {
            nodes.put_u16(page.first_path.len() as u16);
            nodes.extend_from_slice(&page.first_path);
            nodes.put_u32(page.members);
            page.node.write(&mut table, &mut nodes);
        }
        nodes.put_u32(self.rosters.len() as u32);
        for roster in &self.rosters {
            roster.write(&mut table, &mut nodes);
        }
        let mut out = Vec::with_capacity(document.len() + nodes.len() + 512);
        out.put_u32(document.len() as u32);
        out.extend_from_slice(&document);
        out.extend_from_slice(&self.tree_digest());
        table.write(&mut out);
        out.append(&mut nodes);
        out
    }

    pub(crate) fn parse(bytes: &[u8]) -> Parsed<Self> {
        let mut cursor = Cursor::new(bytes);
        let length = cursor.u32()? as usize;
        let document = serde_json::from_slice(cursor.take(length)?)
            .map_err(|_| Malformed("has a document that is not the JSON it should be"))?;
        let digest: [u8; 32] = cursor.array()?;
        let table = PackTable::parse(&mut cursor)?;
        let page_count = cursor.u32()? as usize;
        let mut pages = Vec::with_capacity(cursor.capacity(page_count, 53));
        for _ in 0..page_count {
            let length = usize::from(cursor.u16()?);
            let first_path = cursor.take(length)?.to_vec();
            pages.push(PageRef {
                first_path,
                members: cursor.u32()?,
                node: NodeRef::parse(&table, &mut cursor)?,
            });
        }
        let roster_count = cursor.u32()? as usize;
        let mut rosters = Vec::with_capacity(cursor.capacity(roster_count, 47));
        for _ in 0..roster_count {
            rosters.push(NodeRef::parse(&table, &mut cursor)?);
        }
        cursor.end()?;
        let root = Self { document, pages, rosters };
        if root.tree_digest() != digest {
            return Err(Malformed("has a tree digest that does not match its nodes"));
        }
        Ok(root)
    }
}
