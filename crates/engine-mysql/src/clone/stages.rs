//! The order of a clone: phases that begin and end, files, data. What does not fit is not believed.

use super::descriptor::{DataDescriptor, Descriptor, FileDescriptor, Phase, StateDescriptor, StateMark};
use super::message::Response;
use super::progress::{CHUNKS_MAX, Progress};
use crate::fault::{Fault, Result};

/// The most bytes of one block.
const BLOCK_BYTES_MAX: u32 = 4 << 20;
/// Answers that bring neither a file nor a byte nor another phase, one after another. A donor that waits
/// says so once a minute.
const IDLE_ANSWERS_MAX: u32 = 10_000;
/// Files that are told in one clone: each of a million once, and what becomes of them.
const FILES_TOLD_MAX: u32 = 2_000_000;

/// Who takes what a clone brings.
pub(crate) trait Receiver {
    /// A phase begins; those that came between it and the one before are told already.
    fn begin(&mut self, state: &StateDescriptor) -> Result<()>;

    /// A file is there, or something became of it; `during` is the phase that the clone is in.
    fn file(&mut self, during: Phase, file: &FileDescriptor<'_>) -> Result<()>;

    fn data(&mut self, data: &DataDescriptor, bytes: &[u8]) -> Result<()>;

    /// Everything of this phase was told. Once, before it is acknowledged.
    fn end(&mut self, phase: Phase) -> Result<()>;
}

/// What follows from an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    More,
    /// The donor waits until this is acknowledged.
    Acknowledge(StateDescriptor),
    Complete,
}

/// Where a clone is.
#[derive(Debug)]
pub(crate) struct Stages {
    phase: Phase,
    has_ended: bool,
    /// The bytes that this describes come next.
    awaited: Option<DataDescriptor>,
    progress: Progress,
    last_state: Option<StateDescriptor>,
    has_task: bool,
    /// The clone was taken up again in this phase: what was told may be told once more.
    is_resumed: bool,
    idle_answers: u32,
    files_told: u32,
    /// Grows with everything that brings the clone on.
    steps: u64,
}

impl Stages {
    pub(crate) fn new() -> Self {
        Self {
            phase: Phase::Init,
            has_ended: false,
            awaited: None,
            progress: Progress::default(),
            last_state: None,
            has_task: false,
            is_resumed: false,
            idle_answers: 0,
            files_told: 0,
            steps: 0,
        }
    }

    /// A number that is another one when the clone came on.
    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    /// The donor has said that there is nothing more.
    pub(crate) fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// The state that was told last, for calling the clone off.
    pub(crate) fn last_state(&self) -> Option<StateDescriptor> {
        self.last_state
    }

    /// The connection broke: another one will go on here. `None` when the clone has to begin anew.
    pub(super) fn resume(&mut self) -> Option<(Phase, &Progress)> {
        if !matches!(self.phase, Phase::File | Phase::Page | Phase::Redo) {
            return None;
        }
        (self.awaited, self.has_task, self.is_resumed) = (None, false, true);
        Some((self.phase, &self.progress))
    }

    /// Takes one answer to the request that runs the clone.
    pub(crate) fn take(&mut self, response: Response<'_>, receiver: &mut dyn Receiver) -> Result<Outcome> {
        let steps = self.steps;
        let outcome = match (response, self.awaited.take()) {
            (Response::Error(error), _) => Err(Fault::Server(Box::new(error))),
            (Response::Data(bytes), Some(data)) => self.data(&data, bytes, receiver),
            (Response::Data(_), None) => Err(Fault::hostile("bytes of a clone that were not announced")),
            (_, Some(_)) => Err(Fault::hostile("something else than the bytes that were announced")),
            (Response::Descriptor(bytes), None) => self.descriptor(&Descriptor::parse(bytes)?, receiver),
            (Response::Complete, None) if self.is_done() => Ok(Outcome::Complete),
            (Response::Complete, None) => Err(Fault::hostile("a clone that ends in its middle")),
            (_, None) => Err(Fault::hostile("an answer of a clone that nobody asked for")),
        }?;
        self.idle_answers = if self.steps == steps { self.idle_answers + 1 } else { 0 };
        if self.idle_answers > IDLE_ANSWERS_MAX {
            return Err(Fault::hostile("a clone that says much and does not come on"));
        }
        Ok(outcome)
    }

    fn data(&mut self, data: &DataDescriptor, bytes: &[u8], receiver: &mut dyn Receiver) -> Result<Outcome> {
        if u32::try_from(bytes.len()).ok() != Some(data.length) {
            return Err(Fault::hostile(format!(
                "{} bytes of a clone where {} were announced",
                bytes.len(),
                data.length
            )));
        }
        receiver.data(data, bytes)?;
        self.progress.note(data.chunk, data.block)?;
        self.steps += 1;
        Ok(Outcome::More)
    }

    fn descriptor(&mut self, descriptor: &Descriptor<'_>, receiver: &mut dyn Receiver) -> Result<Outcome> {
        match descriptor {
            Descriptor::Task { index: 0 } if !self.has_task => self.has_task = true,
            Descriptor::Task { index } => {
                return Err(Fault::hostile(format!("task {index} of a clone that has one")));
            }
            Descriptor::State(state) => return self.state(state, receiver),
            Descriptor::File(file) => self.file(file, receiver)?,
            Descriptor::Data(data) => self.announce(data)?,
        }
        Ok(Outcome::More)
    }

    fn state(&mut self, state: &StateDescriptor, receiver: &mut dyn Receiver) -> Result<Outcome> {
        let is_known = state.phase == self.phase;
        match state.mark {
            StateMark::KeepAlive => {}
            StateMark::Begins if state.chunks > CHUNKS_MAX => {
                return Err(Fault::hostile(format!("a clone in {} pieces", state.chunks)));
            }
            StateMark::Begins if self.has_ended && Some(state.phase) == self.phase.next() => {
                receiver.begin(state)?;
                (self.phase, self.has_ended, self.is_resumed) = (state.phase, false, false);
                self.progress = Progress::default();
                self.steps += 1;
            }
            StateMark::Begins if self.is_resumed && is_known => {}
            StateMark::Ends if is_known && (!self.has_ended || self.is_resumed) && !self.is_done() => {
                if !self.has_ended {
                    receiver.end(state.phase)?;
                    self.has_ended = true;
                    self.steps += 1;
                }
                self.last_state = Some(*state);
                return Ok(Outcome::Acknowledge(*state));
            }
            StateMark::Begins | StateMark::Ends => {
                return Err(Fault::hostile(format!(
                    "the state {:?} of a clone that is in {:?}",
                    state.phase, self.phase
                )));
            }
        }
        self.last_state = Some(*state);
        Ok(Outcome::More)
    }

    /// Files of this phase; or, between two phases, files whose state is the one that will follow.
    fn file(&mut self, file: &FileDescriptor<'_>, receiver: &mut dyn Receiver) -> Result<()> {
        let is_of_this =
            file.phase == self.phase && matches!(self.phase, Phase::File | Phase::Page | Phase::Redo);
        let is_between =
            Some(file.phase) == self.phase.next() && matches!(self.phase, Phase::File | Phase::Page);
        if !is_of_this && !is_between {
            return Err(Fault::hostile(format!("a file of {:?} in {:?}", file.phase, self.phase)));
        }
        self.files_told += 1;
        if self.files_told > FILES_TOLD_MAX {
            return Err(Fault::hostile("files of a clone without an end"));
        }
        receiver.file(self.phase, file)?;
        self.steps += 1;
        Ok(())
    }

    fn announce(&mut self, data: &DataDescriptor) -> Result<()> {
        if data.phase != self.phase || self.has_ended || matches!(self.phase, Phase::Init | Phase::Done) {
            return Err(Fault::hostile(format!("data of {:?} in {:?}", data.phase, self.phase)));
        }
        if data.length > BLOCK_BYTES_MAX {
            return Err(Fault::hostile(format!("a block of a clone with {} bytes", data.length)));
        }
        self.awaited = (data.length > 0).then_some(*data);
        Ok(())
    }
}
