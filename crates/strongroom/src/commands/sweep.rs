//! `strongroom repository sweep`

use serde_json::Value;
use strongroom_api::native::wire::{Accepted, JobView, SweepRequest};

use super::{Desk, follow};
use crate::exit::{Exit, Outcome, Stop};
use crate::output::{self, ProgressMode, size};

/// Why bytes were of no use, by the names in a sweep's result.
const REASONS: [(&str, &str); 5] = [
    ("deleted", "of backups that were deleted"),
    ("abandoned", "of backups that never came to be"),
    ("unused", "needed not even by the backups that wrote them"),
    ("dead_records", "dead records, in packs that are written anew"),
    ("replaced", "replaced by packs that were written anew"),
];

pub(super) fn run(request: &SweepRequest, wait: bool, mode: ProgressMode, desk: &Desk) -> Outcome<Exit> {
    let accepted: Accepted = desk.runtime.block_on(desk.client.post(&["repository", "sweep"], request))?;
    if !wait {
        if desk.is_json() {
            output::json(&accepted);
        } else {
            output::data(format_args!("sweep accepted: job {}", accepted.job_id));
            output::next(format_args!("strongroom job watch {}", accepted.job_id));
        }
        return Ok(Exit::Done);
    }
    let what = if request.dry_run { "the look at what a sweep would do" } else { "the sweep" };
    let job = follow::wait_for(desk, &accepted, what, mode)?;
    let result = job.result.clone().unwrap_or_default();
    if desk.is_json() {
        output::json(&document(&job, &result));
    } else {
        show(&result, request.dry_run);
    }
    let kept = number(&result, "lineages_kept");
    if kept == 0 {
        return Ok(Exit::Done);
    }
    Err(Stop::new(
        Exit::Failed,
        format!("{kept} lineages were not swept: it is not certain what of them is needed; nothing of them was removed"),
    )
    .with_hint("the objects to blame are named above"))
}

fn document(job: &JobView, result: &Value) -> Value {
    let mut document = result.clone();
    document["schema"] = 1.into();
    document["job_id"] = job.id.clone().into();
    document
}

fn number(of: &Value, name: &str) -> u64 {
    of[name].as_u64().unwrap_or(0)
}

fn show(result: &Value, is_dry_run: bool) {
    let (frees, removes, rewrites) = if is_dry_run {
        ("would give back", "to remove", "to write anew")
    } else {
        ("gave back", "removed", "written anew")
    };
    output::data(format_args!(
        "{frees} {}: {} packs {removes}, {} {rewrites}",
        size(number(result, "bytes_freed")),
        number(result, "packs_removed"),
        number(result, "packs_rewritten"),
    ));
    for (name, why) in REASONS {
        let share = &result["reasons"][name];
        if number(share, "packs") > 0 {
            let bytes = size(number(share, "bytes"));
            output::data(format_args!("  {bytes:>10} in {} packs: {why}", number(share, "packs")));
        }
    }
    show_stored_anew(&result["rebase"]);
    output::data(format_args!("stays: {} that backups need", size(number(result, "bytes_live"))));
    let bases = &result["bases"];
    if number(bases, "records") > 0 {
        let bytes = size(number(bases, "bytes"));
        output::data(format_args!(
            "  {bytes:>10} in {} records: bases of deltas, of which no backup is left (--rebase)",
            number(bases, "records")
        ));
    }
    for (name, why) in [
        ("dead_kept", "dead records, too few in each pack to write it anew (--threshold)"),
        ("unfinished", "of backups that run, or whose end is not known yet"),
        ("in_use", "needed by what began to read before a delete"),
    ] {
        let share = &result[name];
        if number(share, "packs") > 0 {
            let bytes = size(number(share, "bytes"));
            output::data(format_args!("  {bytes:>10} in {} packs: {why}", number(share, "packs")));
        }
    }
    let waiting = number(result, "backups_waiting");
    if waiting > 0 {
        output::note(format_args!(
            "! {waiting} deleted backups stay for now: a hold or a grace stands on them"
        ));
    }
    for doubt in
        [&result["doubts"], &result["rebase"]["doubts"]].into_iter().filter_map(Value::as_array).flatten()
    {
        let text = |name: &str| doubt[name].as_str().unwrap_or_default().to_owned();
        output::note(format_args!("! {}: {}\n  {}", text("object"), text("problem"), text("advice")));
    }
}

/// What was asked for with `--rebase`.
fn show_stored_anew(rebase: &Value) {
    if rebase.is_null() {
        return;
    }
    output::data(format_args!(
        "stored anew: {} of {} backups, {} chunks, {} written",
        number(rebase, "stored_anew"),
        number(rebase, "backups"),
        number(rebase, "chunks"),
        size(number(rebase, "bytes")),
    ));
    let left = number(rebase, "left");
    if left > 0 {
        output::note(format_args!(
            "! {left} backups stay as they are: a hold stands on them, they are about to be deleted, or they are \
             another catalog's"
        ));
    }
}
