//! What the threads of an attempt share: the queue, the buffers, the first failure.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender};
use strongroom_core::engine::CancelToken;
use strongroom_core::member::MemberPath;
use strongroom_core::overwrite::ContentJudge;
use strongroom_core::progress::Progress;
use strongroom_core::{Error, ErrorKind, Result, Retry};

use super::decide::Decided;
use super::overwriting::Overwriting;
use super::parent::Distrust;
use super::patch::Overlay;
use crate::CHUNK_SIZE_BYTES;
use crate::reader::Tree;
use crate::tree::{Leaf, NodeRef};

/// A chunk on its way to a worker.
pub(crate) struct Chunk {
    pub(crate) ticket: u64,
    pub(crate) member: u32,
    pub(crate) bytes: Vec<u8>,
    pub(crate) parent: Parent,
    pub(crate) work: Work,
}

/// What is known of a chunk beside its bytes.
pub(crate) enum Work {
    /// All of it came, for good.
    Whole,
    /// All of it came, and something may come over it.
    First {
        offset: u64,
        judge: Option<Arc<dyn ContentJudge>>,
    },
    /// Only these bytes came; the others are the parent's.
    Patched(Overlay),
    Settled(Box<Settled>),
}

/// A chunk that was stored before something came over it.
pub(crate) struct Settled {
    /// How it was stored, unless it lies behind what was read.
    pub(crate) own: Option<Leaf>,
    /// The bytes that came over it.
    pub(crate) overlay: Overlay,
    pub(crate) path: Arc<MemberPath>,
    pub(crate) offset: u64,
    pub(crate) judge: Option<Arc<dyn ContentJudge>>,
    /// Whether it may be stored as a delta.
    pub(crate) has_deltas: bool,
}

/// Chunks that are taken over as they are in the parent; nothing of them is read.
pub(crate) struct Copied {
    pub(crate) leaves: Vec<Leaf>,
    /// They are all of this segment of the parent.
    pub(crate) whole: Option<NodeRef>,
    /// They are a part of this one.
    pub(crate) within: Option<NodeRef>,
}

/// More leaves than this wait for their turn under a permit.
const FREE_LEAVES_MAX: usize = 8;
/// Runs of leaves on their way at once, each of a segment at most.
const RUNS_IN_FLIGHT: usize = 16;

/// What the parent backup has at the same place.
#[derive(Default)]
pub(crate) struct Parent {
    pub(crate) leaf: Option<Leaf>,
    /// The segment that holds the leaf, to be shared when nothing in it changed.
    pub(crate) segment: Option<NodeRef>,
}

/// A member as its writer saw it.
pub(crate) struct MemberEnd {
    pub(crate) path: MemberPath,
    pub(crate) directory: bool,
    pub(crate) mode: u32,
    pub(crate) mtime_s: i64,
    pub(crate) size: u64,
    pub(crate) page_size: u32,
}

/// What reaches the packer; processed in the order of tickets.
pub(crate) enum Event {
    Chunk {
        member: u32,
        bytes: Vec<u8>,
        decided: Decided,
        parent_segment: Option<NodeRef>,
    },
    /// A chunk that something may come over: stored, and not part of the backup yet.
    Held {
        member: u32,
        bytes: Vec<u8>,
        decided: Decided,
        is_suspect: bool,
    },
    /// The first reading of an overwritable file is over.
    HeldEnd {
        member: u32,
    },
    /// Somebody waits until this has its turn, and with `durable` for the packs before it.
    Barrier {
        durable: bool,
        done: Sender<()>,
    },
    Copied {
        member: u32,
        copied: Copied,
    },
    End {
        member: u32,
        end: Box<MemberEnd>,
    },
}

/// The queue's entrance: a ticket and its place are taken together.
pub(crate) struct Entrance {
    pub(crate) next_ticket: u64,
    pub(crate) chunks: Sender<Chunk>,
    pub(crate) events: Sender<(u64, Event)>,
}

/// Sealed backups to which an attempt may refer.
#[derive(Default)]
pub(crate) struct KnownTrees {
    /// What chunks are compared with.
    pub(crate) parent: Option<Arc<Tree>>,
    /// The backup that is stored anew by this attempt.
    pub(crate) old: Option<Arc<Tree>>,
}

pub(crate) struct Shared {
    pub(crate) parent: Option<Arc<Tree>>,
    pub(crate) old: Option<Arc<Tree>>,
    pub(crate) cancel: CancelToken,
    pub(crate) progress: Arc<Progress>,
    pub(crate) entrance: Mutex<Option<Entrance>>,
    pub(crate) buffers: (Sender<Vec<u8>>, Receiver<Vec<u8>>),
    permits: (Sender<()>, Receiver<()>),
    next_member: AtomicU32,
    failed: AtomicBool,
    failure: Mutex<Option<Error>>,
    /// Sentences about the parent's damage, found on the way.
    pub(crate) notes: Mutex<Vec<String>>,
    /// Why this attempt cannot be built on its parent, and the next one must not try.
    pub(crate) distrust: Distrust,
    pub(super) overwriting: Overwriting,
}

impl Shared {
    pub(super) fn new(
        known: KnownTrees,
        cancel: CancelToken,
        progress: Arc<Progress>,
        entrance: Entrance,
        chunks_in_flight: usize,
        overwriting: Overwriting,
    ) -> Self {
        let buffers = crossbeam_channel::bounded(chunks_in_flight);
        for _ in 0..chunks_in_flight {
            // Empty: a buffer takes its memory when it is used for the first time.
            buffers.0.send(Vec::new()).expect("the channel holds them all");
        }
        let permits = crossbeam_channel::bounded(RUNS_IN_FLIGHT);
        for _ in 0..RUNS_IN_FLIGHT {
            permits.0.send(()).expect("the channel holds them all");
        }
        Self {
            parent: known.parent,
            old: known.old,
            cancel,
            progress,
            entrance: Mutex::new(Some(entrance)),
            buffers,
            permits,
            next_member: AtomicU32::new(0),
            failed: AtomicBool::new(false),
            failure: Mutex::new(None),
            notes: Mutex::new(Vec::new()),
            distrust: Distrust::default(),
            overwriting,
        }
    }

    /// The sealed backups to which this attempt may refer.
    pub(crate) fn known(&self) -> impl Iterator<Item = &Arc<Tree>> {
        self.parent.iter().chain(&self.old)
    }

    pub(crate) fn number_member(&self) -> u32 {
        self.next_member.fetch_add(1, Ordering::Relaxed)
    }

    /// The first failure stands; everybody else stops at the next look.
    pub(crate) fn fail(&self, error: Error) {
        let mut failure = self.failure.lock().expect("no thread panics while it fails");
        if failure.is_none() {
            *failure = Some(error);
        }
        self.failed.store(true, Ordering::Release);
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.failed.load(Ordering::Acquire) {
            return Err(self.failure());
        }
        self.cancel.check()
    }

    /// The failure that ended the attempt, in public words.
    pub(crate) fn failure(&self) -> Error {
        let failure = self.failure.lock().expect("no thread panics while it fails");
        match &*failure {
            Some(error) => error.again(),
            None => Error::new(ErrorKind::Internal, "The attempt ended early.").with_retry(Retry::Later),
        }
    }

    /// An empty buffer of one chunk. Waits while all are on their way.
    pub(crate) fn buffer(&self) -> Result<Vec<u8>> {
        loop {
            self.check()?;
            if let Ok(mut buffer) = self.buffers.1.recv_timeout(std::time::Duration::from_millis(200)) {
                buffer.clear();
                buffer.reserve_exact(CHUNK_SIZE_BYTES);
                return Ok(buffer);
            }
        }
    }

    pub(crate) fn give_back(&self, buffer: Vec<u8>) {
        // Never full: no more buffers exist than the channel holds.
        let _ = self.buffers.0.try_send(buffer);
    }

    pub(crate) fn submit_chunk(&self, member: u32, bytes: Vec<u8>, parent: Parent, work: Work) -> Result<()> {
        let mut entrance = self.entrance.lock().expect("no thread panics at the entrance");
        let Some(entrance) = entrance.as_mut() else { return Err(self.failure()) };
        let ticket = entrance.next_ticket;
        entrance.next_ticket += 1;
        entrance.chunks.send(Chunk { ticket, member, bytes, parent, work }).map_err(|_| self.failure())
    }

    /// Long runs wait until earlier ones are stored, so that a large file costs no memory.
    pub(crate) fn submit_copied(&self, member: u32, copied: Copied) -> Result<()> {
        while copied.leaves.len() > FREE_LEAVES_MAX {
            self.check()?;
            if self.permits.1.recv_timeout(std::time::Duration::from_millis(200)).is_ok() {
                break;
            }
        }
        self.submit_event(Event::Copied { member, copied })
    }

    /// A run has reached its place.
    pub(crate) fn give_permit_back(&self, leaves: usize) {
        if leaves > FREE_LEAVES_MAX {
            // Never full: no more permits exist than the channel holds.
            let _ = self.permits.0.try_send(());
        }
    }

    pub(crate) fn submit_end(&self, member: u32, end: MemberEnd) -> Result<()> {
        self.submit_event(Event::End { member, end: Box::new(end) })
    }

    pub(crate) fn submit_held_end(&self, member: u32) -> Result<()> {
        self.submit_event(Event::HeldEnd { member })
    }

    pub(crate) fn submit_barrier(&self, durable: bool, done: Sender<()>) -> Result<()> {
        self.submit_event(Event::Barrier { durable, done })
    }

    fn submit_event(&self, event: Event) -> Result<()> {
        let mut entrance = self.entrance.lock().expect("no thread panics at the entrance");
        let Some(entrance) = entrance.as_mut() else { return Err(self.failure()) };
        let ticket = entrance.next_ticket;
        entrance.next_ticket += 1;
        entrance.events.send((ticket, event)).map_err(|_| self.failure())
    }
}
