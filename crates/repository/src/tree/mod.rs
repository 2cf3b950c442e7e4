//! The manifest as a tree: root → directory pages → segments → chunks. Every backup has a complete
//! one; what did not change is shared with its parent by reference.

mod directory;
mod leaf;
mod root;
mod segment;

pub(crate) use directory::{Content, DirectoryPage, Entry, ends_page, page_overflows};
pub(crate) use leaf::{CHAIN_MAX, Leaf, LeafBody, Location, PackTable};
pub(crate) use root::{PageRef, Root, RootDocument};
pub(crate) use segment::{NodeRef, Segment};
