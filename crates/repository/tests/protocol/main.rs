//! The protocol between writers, readers, forget, undo, holds and sweeps as a model, searched
//! whole: every order of every step of every process, with a crash anywhere (decision 0031). Each
//! rule that keeps data is taken away in turn, and the search must then find how data is lost.

#![allow(clippy::unwrap_used, reason = "a test ends with the first thing that is not as it should be")]

mod explore;
mod model;
mod processes;
mod rebaser;
mod sweeper;

use explore::{Found, explore};
use model::{Setting, Without};

/// A search that must end, having seen everything, without a loss.
fn holds(name: &str, setting: &Setting) {
    match explore(setting) {
        Found::Nothing { states } => {
            assert!(states > 500, "{name}: only {states} states, so little can happen that nothing is shown");
        }
        Found::Loss { what, story } => panic!("{name}: {what}\n{}", story.join("\n")),
    }
}

/// A search that must find how the protocol loses something without one of its rules.
fn is_needed(without: Without, what: &str, setting: &Setting) {
    let setting = Setting { without: Some(without), ..setting.clone() };
    match explore(&setting) {
        Found::Loss { what: found, story } => {
            assert!(found.contains(what), "without {without:?}: {found}, not {what}\n{}", story.join("\n"));
        }
        Found::Nothing { states } => panic!("without {without:?} nothing is lost in {states} states"),
    }
}

/// A writer on the backup that is forgotten, and one sweep.
fn one_writer() -> Setting {
    Setting { writers: 1, forgets: 0b001, sweeps: [1, 0], ..Setting::default() }
}

#[test]
fn f01_a_writer_forget_undo_and_a_sweep() {
    holds("a writer", &Setting { undoes: true, ..one_writer() });
}

#[test]
fn f01_a_chain_of_writers_and_a_sweep() {
    holds("a chain", &Setting { writers: 2, forgets: 0b011, crashes: 1, ..one_writer() });
}

#[test]
fn f01_siblings_and_two_sweeps_one_after_the_other() {
    let siblings = Setting { writers: 2, are_siblings: true, sweeps: [2, 0], ..one_writer() };
    holds("siblings", &siblings);
}

#[test]
fn f01_a_reader_and_two_sweepers() {
    let setting = Setting { writers: 0, reads: true, sweeps: [1, 1], ..one_writer() };
    holds("a reader", &setting);
}

#[test]
fn f01_two_sweepers_beside_a_writer() {
    holds("two sweepers", &Setting { sweeps: [1, 1], crashes: 1, ..one_writer() });
}

#[test]
fn f01_three_sweeps_by_two_sweepers() {
    holds("three sweeps", &Setting { sweeps: [2, 1], ..one_writer() });
}

#[test]
fn f01_holds_and_undo() {
    holds("holds", &Setting { writers: 0, undoes: true, is_held: true, sweeps: [2, 1], ..one_writer() });
}

#[test]
fn f01_listings_that_are_late_are_covered_by_the_grace() {
    holds("late listings", &Setting { is_late: true, ..one_writer() });
}

/// A backup that is stored anew upon another one, which somebody may forget, as somebody may delete the
/// backup itself; and a sweep.
fn stored_anew() -> Setting {
    Setting { rebases: true, deletes: true, forgets: 0b001, sweeps: [1, 0], ..Setting::default() }
}

#[test]
fn f01_a_backup_stored_anew_a_delete_and_a_sweep() {
    holds("stored anew", &stored_anew());
}

#[test]
fn f01_a_backup_stored_anew_by_a_worker_that_crashes() {
    holds("a crash", &Setting { crashes: 1, ..stored_anew() });
}

#[test]
fn f01_a_backup_stored_anew_beside_two_sweepers() {
    holds("two sweepers", &Setting { sweeps: [1, 1], deletes: false, forgets: 0, ..stored_anew() });
    holds("a sweep after another", &Setting { sweeps: [2, 0], forgets: 0, ..stored_anew() });
}

#[test]
fn f01_without_the_intent_that_keeps_what_is_stored_anew() {
    is_needed(Without::Guard, "needs", &stored_anew());
}

#[test]
fn f01_without_a_look_at_what_is_stored_anew() {
    is_needed(Without::LookAtOld, "needs", &stored_anew());
}

#[test]
fn f01_without_a_look_at_what_it_is_stored_upon() {
    is_needed(Without::SecondLook, "needs", &stored_anew());
}

#[test]
fn f01_with_a_row_that_moves_before_the_verdict() {
    is_needed(Without::MoveAfterVerdict, "no backup", &stored_anew());
}

#[test]
fn f01_with_a_row_that_moves_whatever_it_says() {
    is_needed(Without::MoveOnlyTheOld, "came back", &stored_anew());
}

#[test]
fn f01_with_the_old_attempt_forgotten_before_the_row_moves() {
    is_needed(Without::ForgetAfterMove, "no backup", &stored_anew());
}

#[test]
fn f01_without_forgetting_what_a_deleted_backup_was_to_become() {
    is_needed(Without::ForgetWhatIsNotMovedTo, "no row leads to it", &stored_anew());
}

#[test]
fn f01_without_settling_what_a_crash_left() {
    is_needed(Without::Settling, "left", &Setting { crashes: 1, ..stored_anew() });
}

#[test]
fn f01_with_settling_that_does_not_ask_the_row() {
    is_needed(Without::SettlingByTheRow, "no backup", &stored_anew());
}

#[test]
fn f01_without_the_second_look_at_the_parent() {
    is_needed(Without::SecondLook, "needs", &one_writer());
}

#[test]
fn f01_without_the_look_at_intents() {
    is_needed(Without::Intents, "needs", &one_writer());
}

#[test]
fn f01_with_intents_listed_before_the_decision() {
    is_needed(Without::DecisionBeforeIntents, "needs", &one_writer());
}

#[test]
fn f01_with_verdicts_listed_before_intents() {
    is_needed(Without::IntentsBeforeVerdicts, "needs", &one_writer());
}

#[test]
fn f01_with_the_old_generation_gone_before_the_new_one_is_durable() {
    is_needed(Without::RewriteBeforeDelete, "needs", &one_writer());
}

#[test]
fn f01_without_the_bases_of_deltas() {
    is_needed(Without::Bases, "needs", &one_writer());
}

#[test]
fn f01_with_the_intent_gone_before_the_verdict() {
    is_needed(Without::VerdictBeforeIntentGoes, "needs", &one_writer());
}

#[test]
fn f01_with_open_intents_that_expire_without_a_verdict() {
    is_needed(Without::VerdictForOpenIntents, "needs", &one_writer());
}

#[test]
fn f01_with_verdicts_that_are_removed() {
    is_needed(Without::LastingVerdicts, "needs", &Setting { sweeps: [1, 0], forgets: 0, ..one_writer() });
}

#[test]
fn f01_with_an_undo_that_does_not_ask_whether_it_is_too_late() {
    is_needed(Without::OneDecision, "needs", &Setting { undoes: true, ..one_writer() });
}

#[test]
fn f01_without_the_reader_s_intent() {
    is_needed(Without::ReaderIntent, "reads", &Setting { reads: true, writers: 0, ..one_writer() });
}

#[test]
fn f01_without_the_reader_s_second_look() {
    is_needed(Without::ReaderLook, "reads", &Setting { reads: true, writers: 0, ..one_writer() });
}

#[test]
fn f01_with_holds_listed_before_tombstones() {
    let setting = Setting { writers: 0, undoes: true, is_held: true, sweeps: [2, 0], ..one_writer() };
    is_needed(Without::TombstonesBeforeHolds, "held", &setting);
}

#[test]
fn f01_with_a_hold_that_does_not_look_again() {
    let setting = Setting { writers: 0, is_held: true, ..one_writer() };
    is_needed(Without::HoldLook, "held", &setting);
}

#[test]
fn f01_without_the_grace_where_listings_are_late() {
    is_needed(Without::Grace, "needs", &Setting { is_late: true, ..one_writer() });
}

#[test]
fn f01_without_the_removal_of_intents_that_crashes_left() {
    is_needed(Without::IntentsOfSealed, "left", &Setting { crashes: 1, ..one_writer() });
}

#[test]
fn f01_without_the_abandoning_of_dead_attempts() {
    is_needed(Without::Abandoning, "left", &Setting { crashes: 1, ..one_writer() });
}
