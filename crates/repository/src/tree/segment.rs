//! Segments: the leaves of up to 1,024 consecutive chunks of one member.

use super::{Leaf, Location, PackTable};
use crate::SEGMENT_CHUNKS;
use crate::binary::{Cursor, Malformed, Parsed, Put};

/// A reference to a stored node (segment, directory page, roster): its id and its one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeRef {
    pub(crate) id: [u8; 32],
    pub(crate) at: Location,
}

impl NodeRef {
    pub(crate) fn write(&self, table: &mut PackTable, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id);
        table.write_location(&self.at, out);
    }

    pub(crate) fn parse(table: &PackTable, cursor: &mut Cursor<'_>) -> Parsed<Self> {
        Ok(Self { id: cursor.array()?, at: table.parse_location(cursor)? })
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Position of this segment in its member.
    pub(crate) index: u32,
    pub(crate) leaves: Vec<Leaf>,
}

impl Segment {
    pub(crate) fn write(&self) -> Vec<u8> {
        let (mut table, mut leaves) = (PackTable::default(), Vec::with_capacity(self.leaves.len() * 64));
        for leaf in &self.leaves {
            leaf.write(&mut table, &mut leaves);
        }
        let mut out = Vec::with_capacity(leaves.len() + 256);
        out.put_u32(self.index);
        out.put_u16(self.leaves.len() as u16);
        table.write(&mut out);
        out.append(&mut leaves);
        out
    }

    pub(crate) fn parse(bytes: &[u8]) -> Parsed<Self> {
        let mut cursor = Cursor::new(bytes);
        let (index, count) = (cursor.u32()?, usize::from(cursor.u16()?));
        if count > SEGMENT_CHUNKS {
            return Err(Malformed("has more than 1024 chunks"));
        }
        let table = PackTable::parse(&mut cursor)?;
        let leaves = (0..count).map(|_| Leaf::parse(&table, &mut cursor)).collect::<Parsed<_>>()?;
        cursor.end()?;
        Ok(Self { index, leaves })
    }
}
