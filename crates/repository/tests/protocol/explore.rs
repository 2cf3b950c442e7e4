//! Breadth first over all states, so that a story of a loss is a shortest one.

use std::collections::HashMap;

use super::model::{Setting, State};
use super::processes;

/// What a search found.
pub(crate) enum Found {
    Nothing {
        states: usize,
    },
    Loss {
        what: String,
        /// The steps that led there.
        story: Vec<String>,
    },
}

/// More states than any setting here has: a search that does not end shows nothing.
const STATES_MAX: usize = 6_000_000;

pub(crate) fn explore(setting: &Setting) -> Found {
    let mut seen: HashMap<State, u32> = HashMap::new();
    // Where each state came from, and by what step.
    let mut origins: Vec<(u32, &'static str)> = Vec::new();
    let first = State::begin(setting);
    seen.insert(first.clone(), 0);
    origins.push((0, "begin"));
    let mut level = vec![(0_u32, first)];
    while !level.is_empty() {
        let mut next_level = Vec::new();
        for (number, state) in level {
            let steps = processes::steps(setting, &state);
            if steps.is_empty()
                && let Some(what) = processes::leftover(setting, &state)
            {
                return Found::Loss { what, story: story(&origins, number) };
            }
            for (step, next) in steps {
                if seen.contains_key(&next) {
                    continue;
                }
                let reached = u32::try_from(origins.len()).unwrap();
                origins.push((number, step));
                if let Some(what) = next.loss() {
                    return Found::Loss { what, story: story(&origins, reached) };
                }
                seen.insert(next.clone(), reached);
                next_level.push((reached, next));
            }
            assert!(origins.len() < STATES_MAX, "the search does not end");
        }
        level = next_level;
    }
    Found::Nothing { states: origins.len() }
}

fn story(origins: &[(u32, &'static str)], mut at: u32) -> Vec<String> {
    let mut steps = Vec::new();
    while at != 0 {
        let (from, step) = origins[at as usize];
        steps.push(step.to_owned());
        at = from;
    }
    steps.reverse();
    steps
}
