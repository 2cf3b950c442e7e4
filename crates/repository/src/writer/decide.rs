//! Decides how one chunk is stored (repository.md section 4.2).

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use strongroom_core::id::AttemptId;
use strongroom_core::{Error, ErrorKind, Result, Retry};

use super::WriterOptions;
use super::parent::{distrust, note_damage};
use super::patch::Overlay;
use super::pipeline::{Chunk, Event, Parent, Settled, Shared, Work};
use crate::keys::LineageKeys;
use crate::reader::ChunkReader;
use crate::record::{Codec, Encoding, fill_byte};
use crate::store::Store;
use crate::tree::{CHAIN_MAX, Leaf, LeafBody, Location};

/// A delta must be at most this part of what a full record would take.
const DELTA_DIVISOR: u64 = 3;

/// How a chunk is stored.
pub(crate) enum Decided {
    Fill(u8),
    /// Equal to the parent's, or to what this attempt stored before: that leaf is taken over.
    Equal(Leaf),
    /// A new record on top of `below` (empty: a full one).
    New {
        id: [u8; 32],
        encoding: Encoding,
        payload: Vec<u8>,
        below: Vec<Location>,
    },
}

/// A chunk that another one may be equal to, or a delta against.
struct Base<'l> {
    leaf: &'l Leaf,
    /// Its plaintext, where it is at hand.
    plain: Option<Vec<u8>>,
}

/// One compressing thread.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    attempt: AttemptId,
    keys: Arc<LineageKeys>,
    reader: ChunkReader,
    codec: Codec,
    verify_every: u64,
    new_records: u64,
}

impl Worker {
    pub(crate) fn new(
        shared: Arc<Shared>,
        store: Arc<dyn Store>,
        keys: Arc<LineageKeys>,
        attempt: AttemptId,
        options: &WriterOptions,
    ) -> Self {
        Self {
            shared,
            attempt,
            reader: ChunkReader::new(store, keys.clone()),
            keys,
            codec: Codec::new(options.full_level),
            verify_every: options.verify_every.max(1),
            new_records: 0,
        }
    }

    /// Works until the queue ends. A failure is told once; the queue is emptied all the same, so
    /// that nobody waits for a buffer for ever.
    pub(crate) fn run(mut self, chunks: &Receiver<Chunk>, events: &Sender<(u64, Event)>) {
        for Chunk { ticket, member, mut bytes, parent, work } in chunks {
            if self.shared.check().is_err() {
                self.shared.give_back(bytes);
                continue;
            }
            match self.work(&mut bytes, &parent, &work) {
                Ok(decided) => {
                    let event = match work {
                        Work::First { offset, judge } => {
                            let is_suspect = judge.is_some_and(|judge| judge.suspects(offset, &bytes));
                            Event::Held { member, bytes, decided, is_suspect }
                        }
                        Work::Whole | Work::Patched(_) | Work::Settled(_) => {
                            Event::Chunk { member, bytes, decided, parent_segment: parent.segment }
                        }
                    };
                    let _ = events.send((ticket, event));
                }
                Err(error) => self.shared.fail(error),
            }
        }
    }

    /// Completes the chunk where only a part of it came, and decides how it is stored.
    fn work(&mut self, chunk: &mut [u8], parent: &Parent, work: &Work) -> Result<Decided> {
        let leaf = parent.leaf.as_ref();
        let plain = match work {
            Work::Whole | Work::First { .. } => None,
            Work::Patched(overlay) => self.complete(overlay, leaf, chunk)?,
            Work::Settled(settled) => return self.settle(chunk, leaf, settled),
        };
        let bases = leaf.map(|leaf| Base { leaf, plain });
        self.decide(chunk, bases.into_iter().collect(), true)
    }

    /// Puts what came over a chunk of this attempt into it, and decides it anew: the parent's chunk
    /// first, then what was stored before.
    fn settle(&mut self, chunk: &mut [u8], parent: Option<&Leaf>, settled: &Settled) -> Result<Decided> {
        let own = settled.own.as_ref();
        let mut plain = None;
        if let Some(own) = own.filter(|_| settled.overlay.needs_parent()) {
            let found = self.reader.chunk(own, &mut crate::reader::ReadAhead::new());
            let found = found.map_err(|error| self.cannot_read_back(own, error))?;
            settled.overlay.fill_from(&found, chunk);
            plain = Some(found);
        }
        if let Some(judge) = &settled.judge {
            judge.judge(&settled.path, settled.offset, chunk);
        }
        let mut bases = Vec::with_capacity(2);
        if let Some(leaf) = parent {
            let plain = plain.take_if(|_| own.is_some_and(|own| own.body == leaf.body));
            bases.push(Base { leaf, plain });
        }
        let own = own.filter(|own| parent.is_none_or(|leaf| leaf.body != own.body));
        bases.extend(own.map(|leaf| Base { leaf, plain }));
        self.decide(chunk, bases, settled.has_deltas)
    }

    /// What was taken over from the parent, or stands on it, was not read when it was stored.
    fn cannot_read_back(&self, own: &Leaf, error: Error) -> Error {
        if own.chain().iter().all(|at| at.pack.attempt == self.attempt) {
            return error.with_retry(Retry::Later);
        }
        distrust(&self.shared, error)
    }

    /// Puts the parent's bytes where none came. Answers the parent's plaintext, when it was read.
    /// What cannot be read here is missing from the backup, so damage ends the attempt.
    fn complete(
        &mut self,
        overlay: &Overlay,
        leaf: Option<&Leaf>,
        chunk: &mut [u8],
    ) -> Result<Option<Vec<u8>>> {
        let Some(leaf) = leaf.filter(|_| overlay.needs_parent()) else { return Ok(None) };
        let plain = self.reader.chunk(leaf, &mut crate::reader::ReadAhead::new());
        let plain = plain.map_err(|error| distrust(&self.shared, error))?;
        overlay.fill_from(&plain, chunk);
        Ok(Some(plain))
    }

    /// Compares with each base, then tries a delta against each, the best one first.
    fn decide(&mut self, chunk: &[u8], bases: Vec<Base<'_>>, has_deltas: bool) -> Result<Decided> {
        if let Some(byte) = fill_byte(chunk) {
            return Ok(Decided::Fill(byte));
        }
        let id = self.keys.chunk_id(chunk);
        let is_equal = |leaf: &Leaf| matches!(&leaf.body, LeafBody::Stored { id: other, .. } if *other == id);
        if let Some(base) = bases.iter().find(|base| is_equal(base.leaf)) {
            return Ok(Decided::Equal(base.leaf.clone()));
        }
        let mut payload = Vec::new();
        for base in bases.into_iter().filter(|_| has_deltas) {
            if let Some((below, base)) = self.try_delta(chunk, base.leaf, base.plain, &mut payload) {
                self.verify(chunk, Encoding::Delta, &payload, Some(&base))?;
                return Ok(Decided::New { id, encoding: Encoding::Delta, payload, below });
            }
        }
        let encoding = self.codec.encode_full(chunk, &mut payload);
        self.verify(chunk, encoding, &payload, None)?;
        Ok(Decided::New { id, encoding, payload, below: Vec::new() })
    }

    /// The parent's chunk as base while its chain is short enough, else the full record at its
    /// root. Answers the chain to stand on and the base's plaintext.
    fn try_delta(
        &mut self,
        chunk: &[u8],
        leaf: &Leaf,
        mut at_hand: Option<Vec<u8>>,
        payload: &mut Vec<u8>,
    ) -> Option<(Vec<Location>, Vec<u8>)> {
        let chain = leaf.chain();
        let root = chain.first()?;
        let full_estimate = u64::from(root.length) * chunk.len() as u64 / u64::from(root.plain_length.max(1));
        let candidates = if chain.len() < CHAIN_MAX {
            [Some(chain), Some(&chain[..1])]
        } else {
            [None, Some(&chain[..1])]
        };
        let mut tried = 0;
        for below in candidates.into_iter().flatten() {
            if below.len() == tried {
                continue;
            }
            tried = below.len();
            let base = match at_hand.take_if(|_| below.len() == chain.len()) {
                Some(base) => base,
                None => self.plaintext(leaf, below)?,
            };
            if Codec::encode_delta(chunk, &base, payload)
                && payload.len() as u64 <= full_estimate / DELTA_DIVISOR
            {
                return Some((below.to_vec(), base));
            }
        }
        None
    }

    /// The plaintext of a chain, or of its root alone. Damage costs a full record, not the backup.
    fn plaintext(&mut self, leaf: &Leaf, chain: &[Location]) -> Option<Vec<u8>> {
        let plain = if chain.len() == leaf.chain().len() {
            self.reader.chunk(leaf, &mut crate::reader::ReadAhead::new())
        } else {
            self.reader.root_of(chain)
        };
        match plain {
            Ok(plain) => Some(plain),
            Err(error) => {
                note_damage(&self.shared, &error);
                None
            }
        }
    }

    /// Decodes what was made of one chunk in `verify_every`: memory and processors err too.
    fn verify(
        &mut self,
        chunk: &[u8],
        encoding: Encoding,
        payload: &[u8],
        base: Option<&[u8]>,
    ) -> Result<()> {
        self.new_records += 1;
        if !self.new_records.is_multiple_of(self.verify_every) {
            return Ok(());
        }
        match self.codec.decode(encoding, payload, base, chunk.len()) {
            Some(plain) if plain == chunk => Ok(()),
            _ => Err(Error::new(
                ErrorKind::Internal,
                "A chunk did not decode to what was read; nothing of this attempt is used.",
            )
            .with_hint("look for memory faults on this machine (for example with memtest)")),
        }
    }
}
