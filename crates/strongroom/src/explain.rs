//! `strongroom explain CODE`: what a code means and what to do, without a network.

use serde_json::json;

use crate::exit::{Exit, Outcome, Stop};
use crate::output::{self, Format, Table};

/// Code, what happened, what to do next; one row for each kind of error.
const WORDS: [(&str, &str, &str); 41] = [
    (
        "parameter",
        "A value breaks its rule; the message names the field. Nothing was stored.",
        "Correct the value and send the same again.",
    ),
    ("body_missing", "The call needs a body and none came.", "Send a JSON object."),
    ("body_too_large", "The body is larger than any valid one.", "Send a smaller body."),
    ("too_many_requests", "Too many attempts in a short time.", "Wait as long as Retry-After says."),
    (
        "not_authenticated",
        "The token is missing, wrong, expired or revoked.",
        "See that STRONGROOM_TOKEN is the whole token; make another with `strongroom token create`.",
    ),
    (
        "wrong_project",
        "The token is valid, but for another project than the one of the call.",
        "Use the project id that belongs to the token (bootstrap.json has both).",
    ),
    (
        "not_allowed",
        "The token's role does not include this action.",
        "Use a token of a wider role: viewer < operator < restorer < admin.",
    ),
    ("route_unknown", "There is nothing at this path.", "Compare command and server release."),
    ("method_not_allowed", "The path does not take this method.", "Compare command and server release."),
    ("instance_not_found", "No such instance in this project.", "`strongroom instance list`"),
    ("backup_not_found", "No such backup in this project.", "`strongroom backup list`"),
    ("job_not_found", "No such job in this project.", "`strongroom job list`"),
    (
        "instance_not_primary",
        "The id names a standby or replica where the primary is needed.",
        "Give the node id that `strongroom instance list` shows.",
    ),
    (
        "engine_unsupported",
        "This release does not support the engine or its version.",
        "PostgreSQL 13 to 18 and MySQL from 8.0.27 on are supported today.",
    ),
    (
        "backup_name_taken",
        "A manual backup of the project has this name already, perhaps from an earlier try.",
        "Look at it with `strongroom backup list`; choose another name, or delete that one.",
    ),
    ("instance_name_taken", "An instance has this name already.", "Choose another name."),
    (
        "backup_in_progress",
        "A backup of this instance runs; one at a time is allowed.",
        "Wait for it (`strongroom job list --state leased`) or cancel it.",
    ),
    (
        "instance_busy",
        "Another operation runs on the instance or the backup.",
        "Wait for it: `strongroom job list --state leased`",
    ),
    (
        "instance_state",
        "The instance cannot be used now.",
        "`strongroom instance check NAME` says what is missing and how to mend it.",
    ),
    (
        "backup_state",
        "The backup is not in a state that allows this, such as BUILDING or FAILED.",
        "`strongroom backup show` tells its state and why.",
    ),
    ("backup_being_deleted", "The backup is being deleted.", "Choose another backup."),
    (
        "backup_not_manual",
        "Automated backups are not deleted by hand.",
        "They go by the retention of their policy.",
    ),
    ("backup_held", "A legal hold stands on the backup.", "Have the hold lifted first."),
    (
        "quota_exceeded",
        "The project has as many manual backups as it may have.",
        "Delete some, or have the quota raised.",
    ),
    ("restore_in_progress", "A restore runs already.", "Wait for it."),
    (
        "no_restore_point",
        "No backup of the instance reaches the moment that was asked for.",
        "`strongroom backup list` shows which moments there are.",
    ),
    (
        "target_too_small",
        "The target of the restore has less room than the source takes. Nothing was written.",
        "Choose a larger target.",
    ),
    (
        "sweep_in_progress",
        "A sweep of the repository runs already; one at a time is allowed. Nothing was started.",
        "Wait for it (`strongroom job list --state leased`). What is deleted meanwhile is swept after it, by itself.",
    ),
    (
        "action_unknown",
        "The call names an action that there is not.",
        "The message names those that there are.",
    ),
    ("not_supported", "This is not offered, or not yet.", "The hint says what there is instead."),
    (
        "source_refused",
        "The database lacks a right or a setting that a backup needs. Nothing was saved.",
        "Run the statement that the message shows, then the same command again.",
    ),
    (
        "source_unreachable",
        "The database could not be reached, or the connection broke. What was stored before is untouched.",
        "Check host, port, pg_hba.conf and the network; `strongroom instance check NAME`.",
    ),
    (
        "source_hostile",
        "The database sent something that must not be believed, such as a file name that leaves its directory.",
        "Nothing was written outside the backup. Find out what answers at that address.",
    ),
    (
        "damage",
        "A stored byte is not what was written. Nothing wrong was given out as right.",
        "Take the backup before it; run `strongroom repository check`; take a new backup; look at the disk.",
    ),
    (
        "wrong_key",
        "The recovery key does not belong to this repository or catalog. The data is untouched.",
        "Use the key from this repository's recovery kit (the line that begins with SR1-).",
    ),
    (
        "disk_full",
        "There was no room to write to. What was finished before is kept.",
        "Make room and try again; a restore goes on where it stopped.",
    ),
    (
        "target_not_empty",
        "The directory has files in it. Nothing was written and nothing was overwritten.",
        "Give a directory that is absent or empty. Do not delete anything in a hurry.",
    ),
    (
        "fenced",
        "Another worker took the job over; this one touched nothing more.",
        "Nothing to do: the other one finishes it.",
    ),
    ("cancelled", "Somebody asked for the end of it.", "Start it again when it is wanted."),
    (
        "unavailable",
        "The server, its catalog or its repository cannot be used now. What was answered before is durable.",
        "`strongroom doctor` says what is wrong; then try again.",
    ),
    (
        "internal",
        "A fault of ours. Nothing that was acknowledged is lost.",
        "Look at the server's log for the request id, and report it.",
    ),
];

pub(crate) fn run(code: Option<&str>, format: Format) -> Outcome<Exit> {
    let Some(code) = code else {
        list(format);
        return Ok(Exit::Done);
    };
    let (_, what, next) = WORDS.into_iter().find(|(known, _, _)| *known == code).ok_or_else(|| {
        Stop::new(Exit::NotFound, format!("there is no code {code}"))
            .with_hint("`strongroom explain` lists them")
    })?;
    if format == Format::Json {
        output::json(&json!({ "schema": 1, "code": code, "what": what, "next": next }));
    } else {
        output::data(format_args!("{code}\n  {what}\n  next: {next}"));
    }
    Ok(Exit::Done)
}

fn list(format: Format) {
    if format == Format::Json {
        let codes = WORDS.map(|(code, what, next)| json!({ "code": code, "what": what, "next": next }));
        return output::json(&json!({ "schema": 1, "codes": codes.to_vec() }));
    }
    let mut table = Table::new(&["CODE", "WHAT IT MEANS"]);
    for (code, what, _) in WORDS {
        table.row([code.to_owned(), what.to_owned()]);
    }
    table.print("");
}

#[cfg(test)]
mod tests {
    use strongroom_service::{KINDS, code_of};

    use super::WORDS;

    #[test]
    fn each_kind_of_error_has_its_words() {
        assert_eq!(WORDS.map(|(code, _, _)| code), KINDS.map(code_of));
    }
}
