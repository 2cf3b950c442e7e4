//! Walks the tree of one sealed backup, keeping the directory pages it met last.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use strongroom_core::Result;
use strongroom_core::member::MemberPath;

use super::ChunkReader;
use crate::frame;
use crate::keys::LineageKeys;
use crate::roster::Roster;
use crate::store::Store;
use crate::tree::{DirectoryPage, Entry, NodeRef, Root, Segment};

/// Directory pages kept in memory, about 1 MiB each at most.
const PAGES_KEPT: usize = 16;

/// The tree of one backup. Shared by threads.
pub(crate) struct Tree {
    pub(crate) root: Root,
    state: Mutex<State>,
}

struct State {
    reader: ChunkReader,
    pages: VecDeque<(usize, Arc<DirectoryPage>)>,
}

impl Tree {
    pub(crate) fn new(store: Arc<dyn Store>, keys: Arc<LineageKeys>, root: Root) -> Self {
        let state = State { reader: ChunkReader::new(store, keys), pages: VecDeque::new() };
        Self { root, state: Mutex::new(state) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it reads the tree")
    }

    /// The n-th directory page.
    pub(crate) fn page(&self, number: usize) -> Result<Arc<DirectoryPage>> {
        let mut state = self.state();
        if let Some((_, page)) = state.pages.iter().find(|(kept, _)| *kept == number) {
            return Ok(page.clone());
        }
        let node = &self.root.pages[number].node;
        let bytes = state.reader.node(node)?;
        let page = Arc::new(DirectoryPage::parse(&bytes).map_err(frame::malformed("directory page"))?);
        if state.pages.len() >= PAGES_KEPT {
            state.pages.pop_front();
        }
        state.pages.push_back((number, page.clone()));
        Ok(page)
    }

    /// The member at a path.
    pub(crate) fn find(&self, path: &MemberPath) -> Result<Option<Entry>> {
        Ok(self.find_at(path)?.map(|(_, entry)| entry))
    }

    /// The member at a path, after its page and its place there.
    pub(crate) fn find_at(&self, path: &MemberPath) -> Result<Option<((usize, usize), Entry)>> {
        let after = self.root.pages.partition_point(|page| page.first_path.as_slice() <= path.as_bytes());
        let Some(number) = after.checked_sub(1) else { return Ok(None) };
        let page = self.page(number)?;
        let found = page.entries.binary_search_by(|entry| entry.path.cmp(path));
        Ok(found.ok().map(|at| ((number, at), page.entries[at].clone())))
    }

    pub(crate) fn segment(&self, node: &NodeRef) -> Result<Segment> {
        let bytes = self.state().reader.node(node)?;
        Segment::parse(&bytes).map_err(frame::malformed("segment"))
    }

    /// The packs and slots this backup needs.
    pub(crate) fn roster(&self) -> Result<Roster> {
        let mut roster = Roster::default();
        for node in &self.root.rosters {
            let bytes = self.state().reader.node(node)?;
            roster.read(&bytes).map_err(frame::malformed("roster"))?;
        }
        Ok(roster)
    }
}
