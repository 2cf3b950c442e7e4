//! A large object on its way through a store with a plan.

use strongroom_core::Result;
use strongroom_repository::{Put, PutStream};

use super::faulty::{FaultyStore, refused};
use super::plan::Operation;

pub(super) struct FaultyPut {
    store: FaultyStore,
    key: String,
    inner: Option<Box<dyn PutStream>>,
    /// All bytes so far: a commit that lies stores some of them.
    bytes: Vec<u8>,
    /// Lengths of the pieces, the pack's header first.
    pieces: u32,
}

impl FaultyPut {
    pub(super) fn new(store: FaultyStore, key: &str, inner: Box<dyn PutStream>) -> Self {
        Self { store, key: key.to_owned(), inner: Some(inner), bytes: Vec::new(), pieces: 0 }
    }
}

impl PutStream for FaultyPut {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.pieces > 0 {
            self.store.seals().note_piece(&self.bytes, self.pieces - 1, bytes);
        }
        self.pieces += 1;
        self.bytes.extend_from_slice(bytes);
        let Some(inner) = &mut self.inner else { return Err(refused("the put has failed before")) };
        let appended = self.store.call(Operation::Append, &self.key, || inner.append(bytes), |_| None);
        if appended.is_err() {
            self.inner = None;
        }
        appended
    }

    fn commit(mut self: Box<Self>) -> Result<Put> {
        let Some(inner) = self.inner.take() else { return Err(refused("the put has failed before")) };
        let (store, key, bytes) = (&self.store, &self.key, &self.bytes);
        store.call(Operation::Commit, key, || inner.commit(), |how| store.lying_put(key, bytes, how))
    }
}
