//! Reads backups: the tree, single chunks, and whole segments in file order.

mod backup;
mod chunks;
mod salvage;
mod shape;
mod tree;

pub(crate) use backup::read_leaves;
pub use backup::{BackupReader, Frame, FrameBody, MemberEntry};
pub(crate) use chunks::{ChunkReader, ReadAhead};
pub use salvage::{Lost, LostPage};
pub use shape::{ChunkShape, Shape, ShapedChunk};
pub(crate) use tree::Tree;
