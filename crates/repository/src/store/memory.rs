//! Objects in memory, for tests and simulations.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use strongroom_core::Result;

use super::{Listed, Put, PutStream, Store};

type Objects = Arc<Mutex<BTreeMap<String, Arc<Vec<u8>>>>>;

/// A store that forgets everything with the process.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    objects: Objects,
}

impl MemoryStore {
    pub fn new() -> Self {
        Self::default()
    }

    /// For tests that damage what is stored; a real store offers no such thing.
    pub fn overwrite(&self, key: &str, bytes: Vec<u8>) {
        lock(&self.objects).insert(key.to_owned(), Arc::new(bytes));
    }

    fn object(&self, key: &str) -> Option<Arc<Vec<u8>>> {
        lock(&self.objects).get(key).cloned()
    }
}

fn lock(objects: &Objects) -> MutexGuard<'_, BTreeMap<String, Arc<Vec<u8>>>> {
    objects.lock().expect("no thread panics while it holds the map")
}

fn insert(objects: &Objects, key: &str, bytes: Vec<u8>) -> Put {
    match lock(objects).entry(key.to_owned()) {
        std::collections::btree_map::Entry::Occupied(_) => Put::AlreadyThere,
        std::collections::btree_map::Entry::Vacant(place) => {
            place.insert(Arc::new(bytes));
            Put::Created
        }
    }
}

impl Store for MemoryStore {
    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<Put> {
        Ok(insert(&self.objects, key, bytes.to_vec()))
    }

    fn begin_put(&self, key: &str) -> Result<Box<dyn PutStream>> {
        Ok(Box::new(MemoryPut { objects: self.objects.clone(), key: key.to_owned(), bytes: Vec::new() }))
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.object(key).map(|bytes| bytes.to_vec()))
    }

    fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Option<Vec<u8>>> {
        let Some(bytes) = self.object(key) else { return Ok(None) };
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let end = start.saturating_add(length).min(bytes.len());
        Ok(Some(bytes[start..end].to_vec()))
    }

    fn head(&self, key: &str) -> Result<Option<u64>> {
        Ok(self.object(key).map(|bytes| bytes.len() as u64))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        Ok(lock(&self.objects)
            .range(prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, bytes)| Listed { key: key.clone(), size: bytes.len() as u64 })
            .collect())
    }

    fn delete(&self, key: &str) -> Result<()> {
        lock(&self.objects).remove(key);
        Ok(())
    }

    fn free_bytes(&self) -> Result<Option<u64>> {
        Ok(None)
    }
}

struct MemoryPut {
    objects: Objects,
    key: String,
    bytes: Vec<u8>,
}

impl PutStream for MemoryPut {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<Put> {
        Ok(insert(&self.objects, &self.key, self.bytes))
    }
}
