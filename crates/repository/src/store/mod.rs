//! Where objects lie: the port, and its local and in-memory adapters.
//!
//! The port offers no overwrite, no rename and no copy, because the format needs none. All calls
//! block; an adapter for a remote store bridges by itself.

mod local;
mod memory;

use strongroom_core::Result;

pub use local::LocalStore;
pub use memory::MemoryStore;

/// What came of a create-if-absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    Created,
    /// The name is taken. Read it back to know by whom.
    AlreadyThere,
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub key: String,
    pub size: u64,
}

/// Object storage, reduced to what the format needs.
pub trait Store: Send + Sync {
    /// Durable when it returns. Never overwrites.
    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<Put>;

    /// Begins a large object, written front to back.
    fn begin_put(&self, key: &str) -> Result<Box<dyn PutStream>>;

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>>;

    /// `length` bytes at `offset`, fewer at the object's end, `None` when there is no object.
    fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>>;

    /// As [`Store::get_range`], into a buffer that is used again; `false` when there is no object.
    fn get_range_into(&self, key: &str, offset: u64, length: usize, bytes: &mut Vec<u8>) -> Result<bool> {
        let found = self.get_range(key, offset, length)?;
        let is_there = found.is_some();
        *bytes = found.unwrap_or_default();
        Ok(is_there)
    }

    /// Size in bytes.
    fn head(&self, key: &str) -> Result<Option<u64>>;

    /// Everything below a prefix, sorted by key.
    fn list(&self, prefix: &str) -> Result<Vec<Listed>>;

    /// Absent is fine.
    fn delete(&self, key: &str) -> Result<()>;

    /// Room left, where that can be known.
    fn free_bytes(&self) -> Result<Option<u64>>;

    /// Whether nobody can write here at present, a sweep included; or, for one that was opened so,
    /// whether nothing may be written.
    fn is_read_only(&self) -> bool {
        false
    }
}

/// A large object on its way. Dropped without `commit`, it leaves nothing under its name.
pub trait PutStream: Send {
    fn append(&mut self, bytes: &[u8]) -> Result<()>;

    /// Durable, under its name, when this returns. Never overwrites.
    fn commit(self: Box<Self>) -> Result<Put>;
}
