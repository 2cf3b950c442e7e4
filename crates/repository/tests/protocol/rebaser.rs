//! Storing a backup anew: attempt 1 is a backup, and becomes attempt 2, which is written upon attempt 0.
//! Its row tells which of the two it is.

use super::model::{At, CRASHED, ENDED, GUARD, Row, Setting, State, Verdict, Without};
use super::processes::{Steps, to};

const OLD: usize = 1;
const NEW: usize = 2;

/// The steps of the worker. What is forgotten after the verdict is told by the row.
const INTENT: At = 0;
const GUARD_INTENT: At = 1;
const LOOK: At = 2;
const PACK: At = 3;
const SEAL: At = 4;
const MOVE: At = 5;
const FORGET_OLD: At = 6;
const GUARD_GOES: At = 7;
const INTENT_GOES: At = 8;
const ABANDON: At = 10;
const FORGET_NEW: At = 20;
const FORGET_BOTH: At = 21;

/// The worker that stores it anew, and whoever takes the job over from it.
pub(crate) fn steps(setting: &Setting, state: &State, steps: &mut Steps) {
    if !setting.rebases {
        return;
    }
    work(setting, state, steps);
    take_over(setting, state, steps);
    delete(state, steps);
    if state.crashes_left > 0 && (1..ENDED).contains(&state.rebaser) {
        to(steps, "rebase: crashes", state, |next| {
            next.rebaser = CRASHED;
            next.crashes_left -= 1;
        });
    }
}

fn work(setting: &Setting, state: &State, steps: &mut Steps) {
    let go = |next: &mut State, at| next.rebaser = at;
    match state.rebaser {
        INTENT => to(steps, "rebase: intent", state, |next| {
            next.intents |= 1 << NEW;
            go(next, GUARD_INTENT);
        }),
        GUARD_INTENT => to(steps, "rebase: guard", state, |next| {
            if !setting.lacks(Without::Guard) {
                next.intents |= 1 << GUARD;
            }
            go(next, LOOK);
        }),
        LOOK => {
            let is_old_there = state.is_visible(OLD) || setting.lacks(Without::LookAtOld);
            let is_usable = is_old_there && (state.is_visible(0) || setting.lacks(Without::SecondLook));
            to(steps, "rebase: second look", state, |next| go(next, if is_usable { PACK } else { ABANDON }));
        }
        PACK => to(steps, "rebase: pack", state, |next| {
            next.packs[NEW][0] = Some(super::model::of_pack(NEW));
            let is_early = setting.lacks(Without::MoveAfterVerdict);
            go(next, if is_early { MOVE } else { SEAL });
        }),
        SEAL => to(steps, "rebase: verdict", state, |next| {
            if next.verdicts[NEW] == Verdict::None {
                next.verdicts[NEW] = Verdict::Sealed;
            }
            // Read back: given up by others, it takes away what is its own, and no more.
            let is_ours = next.verdicts[NEW] == Verdict::Sealed;
            let at = if setting.lacks(Without::ForgetAfterMove) { FORGET_OLD } else { MOVE };
            go(next, if is_ours { at } else { GUARD_GOES });
        }),
        MOVE => to(steps, "rebase: row", state, |next| {
            // The fence of the job is no part of the argument: this may come late, too.
            let at = take(setting, next);
            go(next, if setting.lacks(Without::MoveAfterVerdict) { SEAL } else { at });
        }),
        FORGET_OLD | FORGET_NEW | FORGET_BOTH => to(steps, "rebase: forgets", state, |next| {
            let at = next.rebaser;
            forget(next, at);
            go(
                next,
                if setting.lacks(Without::ForgetAfterMove) && at == FORGET_OLD { MOVE } else { GUARD_GOES },
            );
        }),
        GUARD_GOES => to(steps, "rebase: guard goes", state, |next| {
            next.intents &= !(1 << GUARD);
            go(next, INTENT_GOES);
        }),
        INTENT_GOES => to(steps, "rebase: intent goes", state, |next| {
            next.intents &= !(1 << NEW);
            go(next, ENDED);
        }),
        ABANDON => to(steps, "rebase: abandons", state, |next| {
            if next.verdicts[NEW] == Verdict::None {
                next.verdicts[NEW] = Verdict::Abandoned;
            }
            go(next, GUARD_GOES);
        }),
        _ => {}
    }
}

/// One transaction of the catalog; answers what goes.
fn take(setting: &Setting, next: &mut State) -> At {
    let is_free = next.row == Row::Is(OLD) || setting.lacks(Without::MoveOnlyTheOld);
    if is_free {
        next.row = Row::Is(NEW);
    }
    let at = match next.row {
        Row::Is(NEW) | Row::Leaving(NEW) => FORGET_OLD,
        Row::Is(_) | Row::Leaving(_) => FORGET_NEW,
        Row::Gone => FORGET_BOTH,
    };
    if at != FORGET_OLD && setting.lacks(Without::ForgetWhatIsNotMovedTo) { GUARD_GOES } else { at }
}

fn forget(next: &mut State, at: At) {
    for attempt in [OLD, NEW] {
        let goes = match at {
            FORGET_OLD => attempt == OLD,
            FORGET_NEW => attempt == NEW,
            _ => true,
        };
        if goes {
            next.put_tombstone(attempt);
        }
    }
}

/// The lease ran out, whether or not the worker lives: the try that was noted is settled.
fn take_over(setting: &Setting, state: &State, steps: &mut Steps) {
    let go = |next: &mut State, at| next.heir = at;
    match state.heir {
        INTENT if (1..ENDED).contains(&state.rebaser) || state.rebaser == CRASHED => {
            if setting.lacks(Without::Settling) {
                return;
            }
            to(steps, "heir: abandons", state, |next| {
                if next.verdicts[NEW] == Verdict::None {
                    next.verdicts[NEW] = Verdict::Abandoned;
                }
                let is_sealed = next.verdicts[NEW] == Verdict::Sealed;
                go(next, if is_sealed { MOVE } else { GUARD_GOES });
            });
        }
        MOVE => to(steps, "heir: row", state, |next| {
            let at = if setting.lacks(Without::SettlingByTheRow) { FORGET_NEW } else { take(setting, next) };
            go(next, at);
        }),
        at @ (FORGET_OLD | FORGET_NEW | FORGET_BOTH) => to(steps, "heir: forgets", state, |next| {
            forget(next, at);
            go(next, GUARD_GOES);
        }),
        GUARD_GOES => to(steps, "heir: guard goes", state, |next| {
            next.intents &= !(1 << GUARD);
            go(next, INTENT_GOES);
        }),
        INTENT_GOES => to(steps, "heir: intent goes", state, |next| {
            next.intents &= !(1 << NEW);
            go(next, ENDED);
        }),
        _ => {}
    }
}

/// A delete of the backup: its row says so, what it is at that moment is forgotten, the row goes.
fn delete(state: &State, steps: &mut Steps) {
    match (state.deleter, state.row) {
        (0, Row::Is(attempt)) => to(steps, "delete: accepted", state, |next| {
            next.row = Row::Leaving(attempt);
            next.deleter = 1;
        }),
        (1, Row::Leaving(attempt)) => to(steps, "delete: tombstone", state, |next| {
            next.put_tombstone(attempt);
            next.deleter = 2;
        }),
        (2, _) => to(steps, "delete: the row goes", state, |next| {
            next.row = Row::Gone;
            next.deleter = ENDED;
        }),
        _ => {}
    }
}

/// What must never be so.
pub(crate) fn loss(state: &State) -> Option<String> {
    match state.row {
        Row::Is(attempt) if !state.is_visible(attempt) => {
            Some(format!("the row leads to attempt {attempt}, which is no backup"))
        }
        Row::Is(_) if (1..=ENDED).contains(&state.deleter) => Some("what was deleted came back".to_owned()),
        _ => None,
    }
}

/// When nobody does anything any more: one backup is one attempt, and none when it was deleted.
pub(crate) fn leftover(setting: &Setting, state: &State) -> Option<String> {
    if !setting.rebases {
        return None;
    }
    for attempt in [OLD, NEW] {
        let is_backup = matches!(state.row, Row::Is(now) | Row::Leaving(now) if now == attempt);
        if state.is_visible(attempt) && !is_backup {
            return Some(format!("attempt {attempt} is left, and no row leads to it"));
        }
    }
    None
}
