//! The sweep, step by step.

use super::model::{
    ATTEMPTS, GENERATIONS, INTENTS, Records, Setting, State, Sweeper, Tombstone, Verdict, Without, of_pack,
};

const LIST_PACKS: u8 = 0;
const LIST_TOMBSTONES: u8 = 1;
const LIST_HOLDS: u8 = 2;
const DECIDE: u8 = 3;
const LIST_INTENTS: u8 = 4;
const LIST_VERDICTS: u8 = 5;
const ACT: u8 = 6;
const CLEAR_INTENTS: u8 = 7;

/// The order of the listings, which a setting may turn round.
fn order(setting: &Setting) -> [u8; 8] {
    let mut order =
        [LIST_PACKS, LIST_TOMBSTONES, LIST_HOLDS, DECIDE, LIST_INTENTS, LIST_VERDICTS, ACT, CLEAR_INTENTS];
    match setting.without {
        Some(Without::DecisionBeforeIntents) => order[1..5].rotate_right(1),
        Some(Without::IntentsBeforeVerdicts) => order.swap(4, 5),
        Some(Without::TombstonesBeforeHolds) => order.swap(1, 2),
        _ => {}
    }
    order
}

/// One step of a sweeper; answers its name.
pub(crate) fn step(setting: &Setting, state: &mut State, number: usize) -> &'static str {
    let mut sweeper = state.sweepers[number];
    let step = order(setting)[usize::from(sweeper.at)];
    let (name, is_done) = match step {
        LIST_PACKS => {
            sweeper.packs = state.packs.map(|generations| {
                (0..GENERATIONS).filter(|at| generations[*at].is_some()).fold(0, |seen, at| seen | 1 << at)
            });
            ("sweep: lists packs", true)
        }
        LIST_TOMBSTONES => {
            list_tombstones(setting, state, &mut sweeper);
            ("sweep: lists tombstones", true)
        }
        LIST_HOLDS => {
            sweeper.inner = u8::from(state.hold);
            ("sweep: lists holds", true)
        }
        DECIDE => ("sweep: decides a tombstone", decide(state, &mut sweeper)),
        LIST_INTENTS => ("sweep: lists an intent", list_intent(setting, state, &mut sweeper)),
        LIST_VERDICTS => ("sweep: lists a verdict", list_verdict(state, &mut sweeper)),
        ACT => ("sweep: acts on a pack", act(setting, state, &mut sweeper)),
        _ => ("sweep: clears intents", clear(setting, state, &mut sweeper)),
    };
    if is_done {
        (sweeper.cursor, sweeper.at) = (0, sweeper.at + 1);
        if step >= DECIDE {
            sweeper.inner = 0;
        }
    }
    if usize::from(sweeper.at) == order(setting).len() {
        sweeper = Sweeper::new(sweeper.left - 1);
    }
    state.sweepers[number] = sweeper;
    name
}

fn list_tombstones(setting: &Setting, state: &State, sweeper: &mut Sweeper) {
    for attempt in 0..ATTEMPTS {
        let is_young =
            setting.is_late && state.fresh_tombstones & (1 << attempt) != 0 && !setting.lacks(Without::Grace);
        match state.tombstones[attempt] {
            Tombstone::Put if !is_young => sweeper.undecided |= 1 << attempt,
            Tombstone::Swept => sweeper.dead |= 1 << attempt,
            _ => {}
        }
    }
}

/// One tombstone after the other: its end is created if absent, and read back.
fn decide(state: &mut State, sweeper: &mut Sweeper) -> bool {
    let attempt = usize::from(sweeper.cursor);
    let is_held = attempt == 0 && sweeper.inner == 1;
    if sweeper.undecided & (1 << attempt) != 0 && !is_held {
        if state.tombstones[attempt] == Tombstone::Put {
            state.tombstones[attempt] = Tombstone::Swept;
        }
        if state.tombstones[attempt] == Tombstone::Swept {
            sweeper.dead |= 1 << attempt;
        }
    }
    sweeper.undecided &= !(1 << attempt);
    sweeper.cursor += 1;
    usize::from(sweeper.cursor) == ATTEMPTS
}

/// A listing is no moment: what comes and goes meanwhile is in it or not. The reader's comes last.
fn list_intent(setting: &Setting, state: &State, sweeper: &mut Sweeper) -> bool {
    let attempt = sweeper.cursor;
    let is_shown = !(setting.is_late && state.fresh_intents & (1 << attempt) != 0);
    if is_shown {
        sweeper.intents |= state.intents & (1 << attempt);
    }
    sweeper.cursor += 1;
    let is_done = usize::from(sweeper.cursor) == INTENTS;
    if is_done {
        sweeper.is_read = state.reader_intent;
    }
    is_done
}

fn list_verdict(state: &State, sweeper: &mut Sweeper) -> bool {
    let attempt = usize::from(sweeper.cursor);
    sweeper.verdicts[attempt] = state.verdicts[attempt];
    sweeper.cursor += 1;
    usize::from(sweeper.cursor) == ATTEMPTS
}

/// What some backup, open attempt or reader needs, as far as this sweep has seen.
fn live(setting: &Setting, state: &State, sweeper: &Sweeper) -> Records {
    let needs = |attempt: usize| {
        let all = state.needs(attempt);
        if setting.lacks(Without::Bases) { all & of_pack(attempt) } else { all }
    };
    let mut live = 0;
    for attempt in 0..ATTEMPTS {
        if sweeper.verdicts[attempt] == Verdict::Sealed && sweeper.dead & (1 << attempt) == 0 {
            live |= needs(attempt);
        }
    }
    for intent in 0..INTENTS {
        let has_verdict = sweeper.verdicts.get(intent).is_some_and(|verdict| *verdict != Verdict::None);
        let is_open = sweeper.intents & (1 << intent) != 0 && !has_verdict;
        if is_open && !setting.lacks(Without::Intents) {
            live |= needs(setting.parent(intent));
        }
    }
    if sweeper.is_read { live | needs(0) } else { live }
}

/// One call on one pack. `inner` 1: the new generation is there, the old ones go.
fn act(setting: &Setting, state: &mut State, sweeper: &mut Sweeper) -> bool {
    let pack = usize::from(sweeper.cursor);
    let live = live(setting, state, sweeper) & of_pack(pack);
    let expires = setting.lacks(Without::VerdictForOpenIntents) && sweeper.intents & (1 << pack) != 0;
    let is_decided = sweeper.verdicts[pack] != Verdict::None || expires;
    let newest = (0..GENERATIONS).rev().find(|at| sweeper.packs[pack] & (1 << at) != 0);
    let is_done = match newest {
        Some(newest) if is_decided => act_on(setting, state, sweeper, (pack, newest), live),
        _ => true,
    };
    if is_done {
        (sweeper.cursor, sweeper.inner) = (sweeper.cursor + 1, 0);
    }
    usize::from(sweeper.cursor) == ATTEMPTS
}

/// Answers whether nothing more is to be done with the pack.
fn act_on(
    setting: &Setting,
    state: &mut State,
    sweeper: &mut Sweeper,
    (pack, newest): (usize, usize),
    live: Records,
) -> bool {
    let seen = sweeper.packs[pack];
    let generations = &mut state.packs[pack];
    if live == 0 {
        // The oldest first, one call each.
        let oldest = (0..GENERATIONS).find(|at| seen & (1 << at) != 0).unwrap_or(0);
        generations[oldest] = None;
        sweeper.packs[pack] &= !(1 << oldest);
        return sweeper.packs[pack] == 0;
    }
    let Some(held) = generations[newest] else { return true };
    if sweeper.inner == 0 && held != live && newest + 1 < GENERATIONS {
        sweeper.inner = 1;
        let new = Some(live & held);
        if setting.lacks(Without::RewriteBeforeDelete) {
            generations[newest] = None;
            return false;
        }
        // Create-if-absent: another sweeper's is left as it is.
        generations[newest + 1] = generations[newest + 1].or(new);
        return false;
    }
    // An old generation goes when a newer one holds every record that is live.
    let newer = (0..GENERATIONS).rev().find(|at| generations[*at].is_some_and(|held| live & !held == 0));
    let old = (0..newer.unwrap_or(0)).find(|at| generations[*at].is_some());
    if let Some(old) = old {
        generations[old] = None;
        return false;
    }
    true
}

/// Intents of attempts whose verdict was seen.
fn clear(setting: &Setting, state: &mut State, sweeper: &mut Sweeper) -> bool {
    for attempt in 0..ATTEMPTS {
        let is_seen = sweeper.intents & (1 << attempt) != 0;
        let is_decided = sweeper.verdicts[attempt] != Verdict::None;
        let goes =
            if setting.lacks(Without::VerdictForOpenIntents) { is_seen } else { is_seen && is_decided };
        if goes && !setting.lacks(Without::IntentsOfSealed) {
            state.intents &= !(1 << attempt);
        }
        if setting.lacks(Without::LastingVerdicts) && state.verdicts[attempt] == Verdict::Abandoned {
            state.verdicts[attempt] = Verdict::None;
        }
    }
    true
}
