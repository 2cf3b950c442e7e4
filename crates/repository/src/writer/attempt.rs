//! An attempt from its first byte to its verdict.

use std::sync::Arc;
use std::thread::JoinHandle;

use strongroom_core::engine::BackupFacts;
use strongroom_core::{Error, ErrorKind, Result, Retry};

use super::Counters;
use super::decide::Worker;
use super::overwriting::Overwriting;
use super::packer::{Packed, Packer};
use super::parent::{Distrust, ParentReader};
use super::pipeline::{Entrance, KnownTrees, Shared};
use crate::frame;
use crate::layout;
use crate::lineage::{AttemptStart, Lineage};
use crate::reader::{ChunkReader, ReadAhead, Tree};
use crate::tree::{Root, RootDocument};
use crate::verdict::{self, CatalogRecord, PlainHeader, SealedSummary, Totals, Verdict};

/// An attempt that takes members. Dropped without a seal it leaves only what nobody refers to.
pub struct Attempt {
    pub(super) lineage: Lineage,
    start: Begin,
    pub(crate) pipeline: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    packer: Option<JoinHandle<Result<Packed>>>,
}

/// What the seal repeats of the beginning.
struct Begin {
    attempt: strongroom_core::id::AttemptId,
    parent: Option<strongroom_core::id::AttemptId>,
    lease_epoch: i64,
}

/// An attempt whose every object is durable and was looked at again.
pub struct Proven {
    lineage: Lineage,
    start: Begin,
    packed: Packed,
    notes: Vec<String>,
}

/// What came of sealing.
#[derive(Debug)]
pub enum SealOutcome {
    Sealed(Box<SealedSummary>),
    /// Somebody abandoned this attempt before: we were fenced, stop.
    Abandoned,
}

impl Attempt {
    pub(crate) fn start(lineage: &Lineage, start: AttemptStart, known: KnownTrees) -> Result<Self> {
        let options = start.options;
        let (chunks, chunk_queue) = crossbeam_channel::bounded(options.chunks_in_flight);
        let (events, event_queue) = crossbeam_channel::bounded(options.chunks_in_flight);
        let entrance = Entrance { next_ticket: 0, chunks, events: events.clone() };
        let overwriting = Overwriting::new(start.scratch_dir.clone(), lineage.shared.random.clone());
        let pipeline = Arc::new(Shared::new(
            known,
            start.cancel,
            start.progress,
            entrance,
            options.chunks_in_flight,
            overwriting,
        ));
        let packer = Packer::new(
            pipeline.clone(),
            lineage.shared.store.clone(),
            lineage.keys.clone(),
            lineage.shared.random.clone(),
            start.attempt,
            &start.scratch_dir,
        )?;
        let packer = std::thread::spawn(move || packer.run(&event_queue));
        let workers = (0..options.threads.max(1))
            .map(|_| {
                let worker = Worker::new(
                    pipeline.clone(),
                    lineage.shared.store.clone(),
                    lineage.keys.clone(),
                    start.attempt,
                    &options,
                );
                let (chunks, events) = (chunk_queue.clone(), events.clone());
                std::thread::spawn(move || worker.run(&chunks, &events))
            })
            .collect();
        let begin = Begin { attempt: start.attempt, parent: start.parent, lease_epoch: start.lease_epoch };
        Ok(Self { lineage: lineage.clone(), start: begin, pipeline, workers, packer: Some(packer) })
    }

    /// The parent named in the intent, for the engine.
    pub fn parent(&self) -> Option<ParentReader> {
        let tree = self.pipeline.parent.clone()?;
        let (store, keys) = (self.lineage.shared.store.clone(), self.lineage.keys.clone());
        Some(ParentReader::new(self.pipeline.clone(), tree, store, keys))
    }

    /// Tells, also after the attempt is gone, whether it failed because of its parent.
    pub fn distrust(&self) -> Distrust {
        self.pipeline.distrust.clone()
    }

    /// Ends the pipeline, makes everything durable, looks at every pack and reads a sample back.
    pub fn prove(mut self) -> Result<Proven> {
        if self.pipeline.overwriting.is_unsettled() {
            self.pipeline.fail(Error::internal("overwritable files were not settled"));
        }
        let packed = self.join()?;
        let store = &self.lineage.shared.store;
        for pack in &packed.packs {
            let key = layout::pack(self.lineage.id(), pack.id, 0);
            if store.head(&key)? != Some(pack.size) {
                return Err(frame::damage(&key, "it is not there as it was written"));
            }
        }
        let mut reader = ChunkReader::new(store.clone(), self.lineage.keys.clone());
        for leaf in &packed.sample {
            self.pipeline.cancel.check()?;
            reader.chunk(leaf, &mut ReadAhead::new())?;
        }
        for node in packed.pages.iter().map(|page| &page.node).chain(&packed.rosters) {
            reader.node(node)?;
        }
        let notes = self.pipeline.notes.lock().map(|notes| notes.clone()).unwrap_or_default();
        Ok(Proven {
            lineage: self.lineage.clone(),
            start: Begin {
                attempt: self.start.attempt,
                parent: self.start.parent,
                lease_epoch: self.start.lease_epoch,
            },
            packed,
            notes,
        })
    }

    fn join(&mut self) -> Result<Packed> {
        // Closing the entrance ends the workers, their ends of the queue end the packer.
        *self.pipeline.entrance.lock().expect("no thread panics at the entrance") = None;
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                self.pipeline.fail(Error::internal("a compressing thread panicked"));
            }
        }
        let packer = self.packer.take().ok_or_else(|| self.pipeline.failure())?;
        let packed = packer.join().unwrap_or_else(|_| Err(Error::internal("the packing thread panicked")));
        self.pipeline.check()?;
        packed
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.packer.is_some() {
            self.pipeline.fail(Error::new(ErrorKind::Cancelled, "The attempt was given up."));
            let _ = self.join();
        }
        self.pipeline.overwriting.close();
    }
}

impl Proven {
    pub fn counters(&self) -> Counters {
        self.packed.counters
    }

    /// Sentences a person should know: damage found in earlier backups.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Creates the verdict. The answer is what stands there when it is read back: a retried
    /// request finds its own bytes, a fenced writer finds "abandoned".
    pub fn seal(self, facts: &BackupFacts, catalog: &CatalogRecord) -> Result<SealOutcome> {
        let sealed_at_us = self.lineage.shared.clock.now().as_microsecond();
        let document = self.document(facts.clone(), catalog.clone());
        self.seal_as(document, sealed_at_us)
    }

    /// What the root says of this attempt.
    pub(crate) fn document(&self, facts: BackupFacts, catalog: CatalogRecord) -> RootDocument {
        let counters = self.packed.counters;
        let totals = Totals {
            members: counters.members,
            source_bytes: counters.source_bytes,
            stored_bytes: counters.stored_bytes,
            chunks_equal: counters.chunks_equal,
            chunks_delta: counters.chunks_delta,
            chunks_full: counters.chunks_full,
            chunks_fill: counters.chunks_fill,
            packs: counters.packs,
        };
        RootDocument {
            lease_epoch: self.start.lease_epoch,
            writer: concat!("strongroom ", env!("CARGO_PKG_VERSION")).to_owned(),
            facts,
            catalog,
            totals,
            roster_packs: self.packed.roster_packs.iter().map(|pack| (pack.id.n, pack.size)).collect(),
            content_of: None,
        }
    }

    /// The tree as it will be when it is sealed: every object of it is durable.
    pub(crate) fn tree(&self, document: RootDocument) -> Tree {
        let root = Root { document, pages: self.packed.pages.clone(), rosters: self.packed.rosters.clone() };
        Tree::new(self.lineage.shared.store.clone(), self.lineage.keys.clone(), root)
    }

    /// As [`Proven::seal`], with a document and a time of the seal that are given.
    pub(crate) fn seal_as(self, document: RootDocument, sealed_at_us: i64) -> Result<SealOutcome> {
        self.lineage.shared.check_identity()?;
        let keys = &self.lineage.keys;
        let totals = document.totals;
        let header = PlainHeader {
            project: *keys.project_raw(),
            lineage: *keys.lineage_raw(),
            key_epoch: keys.key_epoch,
            attempt: self.start.attempt,
            parent: self.start.parent.map_or([0; 16], |parent| *parent.as_bytes()),
            sealed_at_us,
            source_bytes: totals.source_bytes,
            stored_bytes: totals.stored_bytes,
            members: totals.members,
        };
        let root = Root { document, pages: self.packed.pages, rosters: self.packed.rosters };
        let object = verdict::write_sealed(keys, &header, &root);
        let key = layout::verdict(&keys.lineage, self.start.attempt);
        let put = self.lineage.shared.store.put_new(&key, &object);
        match self.lineage.verdict(self.start.attempt)? {
            Some(Verdict::Sealed(summary))
                if summary.manifest_digest == blake3::hash(&object).to_hex().as_str() =>
            {
                Ok(SealOutcome::Sealed(summary))
            }
            Some(Verdict::Abandoned | Verdict::Sealed(_)) => Ok(SealOutcome::Abandoned),
            // Nothing is there: the put's own error tells why, and trying again is right.
            None => Err(put.err().unwrap_or_else(|| frame::missing(&key)).with_retry(Retry::Later)),
        }
    }
}
