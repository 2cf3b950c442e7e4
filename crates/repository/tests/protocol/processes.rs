//! One step of each process. A step is one call of the store, or nothing that others can see.

use super::model::{ATTEMPTS, At, CRASHED, ENDED, Setting, State, Tombstone, Verdict, Without};
use super::{rebaser, sweeper};

pub(crate) type Steps = Vec<(&'static str, State)>;

/// All that can happen next.
pub(crate) fn steps(setting: &Setting, state: &State) -> Steps {
    let mut steps = Steps::new();
    for writer in 0..2 {
        write(setting, state, writer, &mut steps);
    }
    read(setting, state, &mut steps);
    hold(setting, state, &mut steps);
    for attempt in 0..ATTEMPTS {
        forget(state, attempt, &mut steps);
        take_over(state, attempt, &mut steps);
    }
    undo(setting, state, &mut steps);
    for number in 0..2 {
        if state.sweepers[number].at < ENDED {
            let mut next = state.clone();
            let step = sweeper::step(setting, &mut next, number);
            steps.push((step, next));
        }
    }
    crash(state, &mut steps);
    rebaser::steps(setting, state, &mut steps);
    if setting.is_late && (state.fresh_intents | state.fresh_tombstones) != 0 {
        let mut next = state.clone();
        (next.fresh_intents, next.fresh_tombstones) = (0, 0);
        steps.push(("time passes", next));
    }
    steps
}

pub(crate) fn to(steps: &mut Steps, step: &'static str, state: &State, change: impl FnOnce(&mut State)) {
    let mut next = state.clone();
    change(&mut next);
    steps.push((step, next));
}

/// 0 plan · 7 intent · 1 look at the parent · 2 pack · 3 verdict · 4 intent goes · 10 parent gone: abandon ·
/// 11 intent goes.
fn write(setting: &Setting, state: &State, writer: usize, steps: &mut Steps) {
    let attempt = writer + 1;
    let parent = setting.parent(attempt);
    let go = |next: &mut State, at: At| next.writers[writer] = at;
    match state.writers[writer] {
        // A plan names a parent that is visible when it is made.
        0 => to(steps, "writer: plan", state, |next| {
            let at = if next.is_visible(parent) { 7 } else { ENDED };
            go(next, at);
        }),
        7 => to(steps, "writer: intent", state, |next| {
            next.intents |= 1 << attempt;
            next.fresh_intents |= if setting.is_late { 1 << attempt } else { 0 };
            go(next, 1);
        }),
        1 => {
            let hidden = setting.is_late && state.fresh_tombstones & (1 << parent) != 0;
            let is_usable = state.is_visible(parent) || hidden || setting.lacks(Without::SecondLook);
            to(steps, "writer: second look", state, |next| go(next, if is_usable { 2 } else { 10 }));
        }
        2 => to(steps, "writer: pack", state, |next| {
            next.packs[attempt][0] = Some(super::model::of_pack(attempt));
            go(next, if setting.lacks(Without::VerdictBeforeIntentGoes) { 5 } else { 3 });
        }),
        at @ (3 | 6) => to(steps, "writer: verdict", state, |next| {
            if next.verdicts[attempt] == Verdict::None {
                next.verdicts[attempt] = Verdict::Sealed;
            }
            go(next, if at == 3 { 4 } else { ENDED });
        }),
        at @ (4 | 5 | 11) => to(steps, "writer: intent goes", state, |next| {
            next.intents &= !(1 << attempt);
            go(next, if at == 5 { 6 } else { ENDED });
        }),
        10 => to(steps, "writer: abandons", state, |next| {
            if next.verdicts[attempt] == Verdict::None {
                next.verdicts[attempt] = Verdict::Abandoned;
            }
            go(next, 11);
        }),
        _ => {}
    }
}

/// The lease ran out: another worker makes sure that this attempt cannot commit. The writer may
/// be alive and go on.
fn take_over(state: &State, attempt: usize, steps: &mut Steps) {
    if state.intents & (1 << attempt) != 0
        && state.verdicts[attempt] == Verdict::None
        && state.writers[attempt - 1] != CRASHED
    {
        to(steps, "take over: abandons", state, |next| next.verdicts[attempt] = Verdict::Abandoned);
    }
}

/// A reader of attempt 0. 0 intent · 1 look · 2 and 3 read a record each · 4 intent goes.
fn read(setting: &Setting, state: &State, steps: &mut Steps) {
    match state.reader {
        0 => to(steps, "reader: intent", state, |next| {
            next.reader_intent = !setting.lacks(Without::ReaderIntent);
            next.reader = 1;
        }),
        1 => {
            let may = state.is_visible(0) || setting.lacks(Without::ReaderLook);
            to(steps, "reader: look", state, |next| next.reader = if may { 2 } else { 4 });
        }
        at @ (2 | 3) => to(steps, "reader: reads", state, |next| {
            next.has_read_nothing |= next.readable() & (1 << (at - 2)) == 0;
            next.reader = at + 1;
        }),
        4 => to(steps, "reader: intent goes", state, |next| {
            next.reader_intent = false;
            next.reader = ENDED;
        }),
        _ => {}
    }
}

/// A hold on attempt 0. 0 put · 1 look for a tombstone · 2 too late, it goes.
fn hold(setting: &Setting, state: &State, steps: &mut Steps) {
    match state.holder {
        0 => to(steps, "hold: put", state, |next| {
            next.hold = true;
            next.holder = 1;
        }),
        1 => to(steps, "hold: look", state, |next| {
            let stands = !next.is_forgotten(0) || setting.lacks(Without::HoldLook);
            next.hold_stands = stands;
            next.holder = if stands { ENDED } else { 2 };
        }),
        2 => to(steps, "hold: goes", state, |next| {
            next.hold = false;
            next.holder = ENDED;
        }),
        _ => {}
    }
}

/// 0 look for holds and whether it is sealed · 1 tombstone.
fn forget(state: &State, attempt: usize, steps: &mut Steps) {
    match state.forgetting[attempt] {
        0 if state.verdicts[attempt] == Verdict::Sealed => to(steps, "forget: look", state, |next| {
            next.forgetting[attempt] = if attempt == 0 && next.hold { ENDED } else { 1 };
        }),
        1 => to(steps, "forget: tombstone", state, |next| {
            next.put_tombstone(attempt);
            next.forgetting[attempt] = ENDED;
        }),
        _ => {}
    }
}

/// Takes the tombstone of attempt 0 back: one object decides.
fn undo(setting: &Setting, state: &State, steps: &mut Steps) {
    if state.undo == 0 && state.is_forgotten(0) {
        to(steps, "undo", state, |next| {
            let is_in_time = next.tombstones[0] == Tombstone::Put || setting.lacks(Without::OneDecision);
            if is_in_time {
                next.tombstones[0] = Tombstone::Undone;
            }
            next.undo = ENDED;
        });
    }
}

/// A process ends for ever, between two of its steps.
fn crash(state: &State, steps: &mut Steps) {
    if state.crashes_left == 0 {
        return;
    }
    for writer in 0..2 {
        if (1..ENDED).contains(&state.writers[writer]) {
            to(steps, "writer: crashes", state, |next| {
                next.writers[writer] = CRASHED;
                next.crashes_left -= 1;
            });
        }
    }
    for number in 0..2 {
        if (1..ENDED).contains(&state.sweepers[number].at) {
            to(steps, "sweep: crashes", state, |next| {
                next.sweepers[number].at = CRASHED;
                next.crashes_left -= 1;
            });
        }
    }
}

/// When nobody does anything any more: what is still there after two more sweeps and should not.
pub(crate) fn leftover(setting: &Setting, state: &State) -> Option<String> {
    if let Some(what) = rebaser::leftover(setting, state) {
        return Some(what);
    }
    let mut state = state.clone();
    (state.fresh_intents, state.fresh_tombstones) = (0, 0);
    // A reader that ended without a word is forgotten after an hour.
    state.reader_intent = false;
    for _ in 0..2 {
        state.sweepers[0] = super::model::Sweeper::new(1);
        // Of an attempt that nobody goes on with, and of one that never was.
        if !setting.lacks(Without::Abandoning) {
            state.intents &= !(1 << super::model::GUARD);
        }
        for attempt in 1..ATTEMPTS {
            let is_open = state.intents & (1 << attempt) != 0 && state.verdicts[attempt] == Verdict::None;
            if is_open && !setting.lacks(Without::Abandoning) {
                state.verdicts[attempt] = Verdict::Abandoned;
            }
        }
        while state.sweepers[0].at < ENDED {
            sweeper::step(setting, &mut state, 0);
            if let Some(what) = state.loss() {
                return Some(what);
            }
        }
    }
    let live = (0..ATTEMPTS)
        .filter(|attempt| {
            let kept_by_hold = *attempt == 0 && state.hold && state.tombstones[0] == Tombstone::Put;
            state.is_visible(*attempt) || kept_by_hold
        })
        .fold(0, |live, attempt| live | state.needs(attempt));
    let held = state.packs.iter().flatten().flatten().fold(0, |all, held| all | held);
    if held & !live != 0 {
        return Some(format!("dead records are left: {:06b}", held & !live));
    }
    (state.intents != 0).then(|| "intents are left".to_owned())
}
