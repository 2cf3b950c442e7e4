//! A clone that keeps to its order, and those that do not.

use super::descriptor::made;
use super::*;
use crate::clone::message::Response;
use crate::fault::{Fault, Result};

/// Counts what it is handed.
#[derive(Default)]
struct Counting {
    begun: Vec<Phase>,
    ended: Vec<Phase>,
    files: usize,
    bytes: usize,
}

impl Receiver for Counting {
    fn begin(&mut self, state: &StateDescriptor) -> Result<()> {
        self.begun.push(state.phase);
        Ok(())
    }

    fn file(&mut self, _during: Phase, _file: &FileDescriptor<'_>) -> Result<()> {
        self.files += 1;
        Ok(())
    }

    fn data(&mut self, _data: &DataDescriptor, bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len();
        Ok(())
    }

    fn end(&mut self, phase: Phase) -> Result<()> {
        self.ended.push(phase);
        Ok(())
    }
}

enum Said {
    Descriptor(Vec<u8>),
    Data(usize),
    Complete,
}

fn begins(phase: Phase) -> Said {
    Said::Descriptor(made::state(phase, 1, 2, 1, 100))
}

fn ends(phase: Phase) -> Said {
    Said::Descriptor(made::state(phase, 0, 2, 1, 100))
}

fn file(phase: Phase) -> Said {
    Said::Descriptor(made::file(made::File {
        phase,
        size: 100,
        space_flags: 0,
        flags: 0,
        space_id: 7,
        index: 0,
        chunks: (1, 1),
        name: "./a/b.ibd",
    }))
}

fn announces(phase: Phase, chunk: (u32, u32), length: u32) -> Said {
    Said::Descriptor(made::data(phase, chunk, 0, length, 0, 100))
}

fn whole() -> Vec<Said> {
    vec![
        Said::Descriptor(made::task(0)),
        ends(Phase::Init),
        begins(Phase::File),
        file(Phase::File),
        announces(Phase::File, (1, 1), 60),
        Said::Data(60),
        announces(Phase::File, (1, 2), 0),
        Said::Descriptor(made::state(Phase::File, 2, 0, 0, 0)),
        announces(Phase::File, (2, 1), 40),
        Said::Data(40),
        ends(Phase::File),
        file(Phase::Page),
        begins(Phase::Page),
        ends(Phase::Page),
        begins(Phase::Redo),
        file(Phase::Redo),
        announces(Phase::Redo, (1, 1), 8),
        Said::Data(8),
        ends(Phase::Redo),
        begins(Phase::Done),
        Said::Complete,
    ]
}

/// How many answers were taken, and what was made of the last one.
fn play(stages: &mut Stages, receiver: &mut Counting, said: &[Said]) -> (usize, Result<Outcome>) {
    let mut last = Ok(Outcome::More);
    for (taken, said) in said.iter().enumerate() {
        last = match said {
            Said::Descriptor(bytes) => stages.take(Response::Descriptor(bytes), receiver),
            Said::Data(count) => stages.take(Response::Data(&vec![1; *count]), receiver),
            Said::Complete => stages.take(Response::Complete, receiver),
        };
        if last.is_err() {
            return (taken, last);
        }
    }
    (said.len(), last)
}

#[test]
fn a_clone_comes_to_its_end() {
    let (mut stages, mut receiver) = (Stages::new(), Counting::default());
    let (_, outcome) = play(&mut stages, &mut receiver, &whole());
    assert_eq!(outcome.unwrap(), Outcome::Complete);
    assert_eq!(receiver.begun, [Phase::File, Phase::Page, Phase::Redo, Phase::Done]);
    assert_eq!(receiver.ended, [Phase::Init, Phase::File, Phase::Page, Phase::Redo]);
    assert_eq!((receiver.files, receiver.bytes), (3, 108));
}

/// Each step left out, and each two exchanged.
#[test]
fn h03_a_clone_out_of_its_order_is_refused() {
    let is_harmless = |said: &Said| match said {
        // Tasks, files, empty blocks, keep-alives, and whole pieces of data may be missing.
        Said::Descriptor(bytes) => bytes[11] != 3 || bytes[45] == 2,
        Said::Data(_) | Said::Complete => false,
    };
    for left_out in 0..whole().len() - 1 {
        let mut said = whole();
        let gone = said.remove(left_out);
        let (_, outcome) = play(&mut Stages::new(), &mut Counting::default(), &said);
        let is_announced = matches!(&gone, Said::Descriptor(bytes) if bytes[11] == 5 && bytes[35] > 0);
        assert_eq!(outcome.is_ok(), is_harmless(&gone) && !is_announced, "{left_out}: {outcome:?}");
    }
    for (first, wrong) in [
        (whole().len(), begins(Phase::File)),
        (3, begins(Phase::Page)),
        (3, ends(Phase::Redo)),
        (2, ends(Phase::Init)),
        (3, file(Phase::Redo)),
        (1, file(Phase::File)),
        (3, announces(Phase::Page, (1, 1), 8)),
        (3, announces(Phase::File, (1, 1), u32::MAX)),
        (11, announces(Phase::File, (3, 1), 8)),
        (5, Said::Data(59)),
        (5, file(Phase::File)),
        (6, Said::Data(60)),
        (3, Said::Complete),
        (1, Said::Descriptor(made::task(0))),
        (0, Said::Descriptor(made::task(1))),
        (2, Said::Descriptor(made::state(Phase::File, 1, u32::MAX, 1, 100))),
    ] {
        let mut said = whole();
        said.truncate(first);
        said.push(wrong);
        let (taken, outcome) = play(&mut Stages::new(), &mut Counting::default(), &said);
        assert!(outcome.is_err() && taken == first, "{first} {taken}: {outcome:?}");
    }
}

#[test]
fn h03_pieces_that_come_twice_are_refused() {
    let mut said = whole();
    said.truncate(6);
    for (chunk, is_taken) in [((1, 2), true), ((1, 1), false), ((0, 1), false), ((2, 1), true)] {
        let (mut stages, mut receiver) = (Stages::new(), Counting::default());
        play(&mut stages, &mut receiver, &said).1.unwrap();
        let (_, outcome) =
            play(&mut stages, &mut receiver, &[announces(Phase::File, chunk, 8), Said::Data(8)]);
        assert_eq!(outcome.is_ok(), is_taken, "{chunk:?}");
    }
}

#[test]
fn b21_a_donor_that_only_says_that_it_lives_is_given_up() {
    let (mut stages, mut receiver) = (Stages::new(), Counting::default());
    let alive = || Said::Descriptor(made::state(Phase::Init, 2, 0, 0, 0));
    let said: Vec<Said> = std::iter::repeat_with(alive).take(20_000).collect();
    let (taken, outcome) = play(&mut stages, &mut receiver, &said);
    assert!(matches!(outcome, Err(Fault::Domain(_))) && taken < 20_000, "{taken}");
}

#[test]
fn a_clone_goes_on_where_it_was() {
    let (mut stages, mut receiver) = (Stages::new(), Counting::default());
    assert!(stages.resume().is_none(), "nothing was begun");
    let said = whole();
    play(&mut stages, &mut receiver, &said[..5]).1.unwrap();
    // Cut between the announcement of the first block and the block.
    let (phase, progress) = stages.resume().unwrap();
    assert_eq!((phase, progress.begun(), progress.incomplete()), (Phase::File, &[][..], vec![]));
    let again = [Said::Descriptor(made::task(0)), begins(Phase::File), file(Phase::File)];
    play(&mut stages, &mut receiver, &again).1.unwrap();
    play(&mut stages, &mut receiver, &said[4..11]).1.unwrap();
    // Cut while the end of the files was acknowledged: it is told again.
    let (_, progress) = stages.resume().unwrap();
    assert_eq!((progress.begun(), progress.incomplete()), (&[3][..], vec![(2, 1)]));
    play(&mut stages, &mut receiver, &[Said::Descriptor(made::task(0))]).1.unwrap();
    let (_, outcome) = play(&mut stages, &mut receiver, &said[10..]);
    assert_eq!(outcome.unwrap(), Outcome::Complete);
    assert_eq!(receiver.ended, [Phase::Init, Phase::File, Phase::Page, Phase::Redo]);
    assert_eq!(receiver.bytes, 108);
}
