//! Leaf entries: the id of a chunk and the whole chain of records it is decoded from, so that a
//! reader plans all reads at once.

use crate::binary::{Cursor, Malformed, Parsed, Put};
use crate::pack::PackId;
use strongroom_core::id::AttemptId;

/// A full record and at most four deltas on top of it.
pub(crate) const CHAIN_MAX: usize = 5;

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) pack: PackId,
    /// Offsets hold for this generation; a later one is found through its slot table.
    pub(crate) generation: u32,
    pub(crate) salt: [u8; 16],
    pub(crate) slot: u16,
    pub(crate) encoding: u8,
    pub(crate) plain_length: u32,
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LeafBody {
    /// All bytes equal; nothing is stored.
    Fill(u8),
    /// Full record first, newest delta last.
    Stored { id: [u8; 32], chain: Vec<Location> },
}

/// One chunk of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) plain_length: u32,
    pub(crate) body: LeafBody,
}

/// The packs that a node's locations name by index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PackTable {
    packs: Vec<(PackId, u32, [u8; 16])>,
}

impl PackTable {
    const ENTRY_BYTES: usize = 40;

    fn index_of(&mut self, at: &Location) -> u16 {
        let wanted = (at.pack, at.generation, at.salt);
        // Newest first: neighbours mostly lie in the same pack.
        let index = self.packs.iter().rposition(|pack| *pack == wanted).unwrap_or_else(|| {
            self.packs.push(wanted);
            self.packs.len() - 1
        });
        u16::try_from(index).expect("a node has fewer locations than a pack table holds")
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.put_u16(self.packs.len() as u16);
        for (pack, generation, salt) in &self.packs {
            out.extend_from_slice(pack.attempt.as_bytes());
            out.put_u32(pack.n);
            out.put_u32(*generation);
            out.extend_from_slice(salt);
        }
    }

    pub(crate) fn parse(cursor: &mut Cursor<'_>) -> Parsed<Self> {
        let count = usize::from(cursor.u16()?);
        let mut packs = Vec::with_capacity(cursor.capacity(count, Self::ENTRY_BYTES));
        for _ in 0..count {
            let attempt = AttemptId::from_bytes(cursor.array()?);
            packs.push((PackId { attempt, n: cursor.u32()? }, cursor.u32()?, cursor.array()?));
        }
        Ok(Self { packs })
    }

    pub(crate) fn write_location(&mut self, at: &Location, out: &mut Vec<u8>) {
        out.put_u16(self.index_of(at));
        out.put_u16(at.slot);
        out.push(at.encoding);
        out.put_u24(at.plain_length);
        out.put_u32(at.offset);
        out.put_u24(at.length);
    }

    pub(crate) fn parse_location(&self, cursor: &mut Cursor<'_>) -> Parsed<Location> {
        let index = usize::from(cursor.u16()?);
        let (pack, generation, salt) =
            *self.packs.get(index).ok_or(Malformed("names a pack that its table lacks"))?;
        Ok(Location {
            pack,
            generation,
            salt,
            slot: cursor.u16()?,
            encoding: cursor.u8()?,
            plain_length: cursor.u24()?,
            offset: cursor.u32()?,
            length: cursor.u24()?,
        })
    }
}

impl Leaf {
    pub(crate) fn write(&self, table: &mut PackTable, out: &mut Vec<u8>) {
        match &self.body {
            LeafBody::Fill(byte) => {
                out.push(0);
                out.put_u24(self.plain_length);
                out.push(*byte);
            }
            LeafBody::Stored { id, chain } => {
                out.push(chain.len() as u8);
                out.put_u24(self.plain_length);
                out.extend_from_slice(id);
                for location in chain {
                    table.write_location(location, out);
                }
            }
        }
    }

    pub(crate) fn parse(table: &PackTable, cursor: &mut Cursor<'_>) -> Parsed<Self> {
        let depth = usize::from(cursor.u8()?);
        let plain_length = cursor.u24()?;
        if depth == 0 {
            return Ok(Self { plain_length, body: LeafBody::Fill(cursor.u8()?) });
        }
        if depth > CHAIN_MAX {
            return Err(Malformed("has a chain of more than five records"));
        }
        let id = cursor.array()?;
        let chain = (0..depth).map(|_| table.parse_location(cursor)).collect::<Parsed<Vec<_>>>()?;
        if chain[depth - 1].plain_length != plain_length {
            return Err(Malformed("has a chain that ends in another length"));
        }
        Ok(Self { plain_length, body: LeafBody::Stored { id, chain } })
    }

    /// The locations a reader needs, base first; none for fill.
    pub(crate) fn chain(&self) -> &[Location] {
        match &self.body {
            LeafBody::Fill(_) => &[],
            LeafBody::Stored { chain, .. } => chain,
        }
    }
}
