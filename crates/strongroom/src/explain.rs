//! `strongroom explain CODE`: what a code means and what to do, without a network.

use serde_json::json;
use strongroom_core::ErrorKind;
use strongroom_service::{KINDS, code_of, kind_of};

use crate::exit::{Exit, Outcome, Stop};
use crate::output::{self, Format, Table};

/// What happened, and what to do next. A new kind does not compile until it has its words.
fn words(kind: ErrorKind) -> (&'static str, &'static str) {
    match kind {
        ErrorKind::Parameter(_) => (
            "A value breaks its rule; the message names the field. Nothing was stored.",
            "Correct the value and send the same again.",
        ),
        ErrorKind::BodyMissing => ("The call needs a body and none came.", "Send a JSON object."),
        ErrorKind::BodyTooLarge => ("The body is larger than any valid one.", "Send a smaller body."),
        ErrorKind::TooManyRequests => {
            ("Too many attempts in a short time.", "Wait as long as Retry-After says.")
        }
        ErrorKind::NotAuthenticated => (
            "The token is missing, wrong, expired or revoked.",
            "See that STRONGROOM_TOKEN is the whole token; make another with `strongroom token create`.",
        ),
        ErrorKind::WrongProject => (
            "The token is valid, but for another project than the one of the call.",
            "Use the project id that belongs to the token (bootstrap.json has both).",
        ),
        ErrorKind::NotAllowed => (
            "The token's role does not include this action.",
            "Use a token of a wider role: viewer < operator < restorer < admin.",
        ),
        ErrorKind::RouteUnknown => ("There is nothing at this path.", "Compare command and server release."),
        ErrorKind::MethodNotAllowed => {
            ("The path does not take this method.", "Compare command and server release.")
        }
        ErrorKind::InstanceNotFound => ("No such instance in this project.", "`strongroom instance list`"),
        ErrorKind::BackupNotFound => ("No such backup in this project.", "`strongroom backup list`"),
        ErrorKind::JobNotFound => ("No such job in this project.", "`strongroom job list`"),
        ErrorKind::InstanceNotPrimary => (
            "The id names a standby or replica where the primary is needed.",
            "Give the node id that `strongroom instance list` shows.",
        ),
        ErrorKind::EngineUnsupported => (
            "This release does not support the engine or its version.",
            "PostgreSQL 15 to 18 are supported today.",
        ),
        ErrorKind::BackupNameTaken => (
            "A manual backup of the project has this name already, perhaps from an earlier try.",
            "Look at it with `strongroom backup list`; choose another name, or delete that one.",
        ),
        ErrorKind::InstanceNameTaken => ("An instance has this name already.", "Choose another name."),
        ErrorKind::BackupInProgress => (
            "A backup of this instance runs; one at a time is allowed.",
            "Wait for it (`strongroom job list --state leased`) or cancel it.",
        ),
        ErrorKind::InstanceBusy => (
            "Another operation runs on the instance or the backup.",
            "Wait for it: `strongroom job list --state leased`",
        ),
        ErrorKind::InstanceState => (
            "The instance cannot be used now.",
            "`strongroom instance check NAME` says what is missing and how to mend it.",
        ),
        ErrorKind::BackupState => (
            "The backup is not in a state that allows this, such as BUILDING or FAILED.",
            "`strongroom backup show` tells its state and why.",
        ),
        ErrorKind::BackupBeingDeleted => ("The backup is being deleted.", "Choose another backup."),
        ErrorKind::BackupNotManual => {
            ("Automated backups are not deleted by hand.", "They go by the retention of their policy.")
        }
        ErrorKind::BackupHeld => ("A legal hold stands on the backup.", "Have the hold lifted first."),
        ErrorKind::QuotaExceeded => (
            "The project has as many manual backups as it may have.",
            "Delete some, or have the quota raised.",
        ),
        ErrorKind::RestoreInProgress => ("A restore runs already.", "Wait for it."),
        ErrorKind::NotSupported => {
            ("This is not offered, or not yet.", "The hint says what there is instead.")
        }
        ErrorKind::SourceRefused => (
            "The database lacks a right or a setting that a backup needs. Nothing was saved.",
            "Run the statement that the message shows, then the same command again.",
        ),
        ErrorKind::SourceUnreachable => (
            "The database could not be reached, or the connection broke. What was stored before is untouched.",
            "Check host, port, pg_hba.conf and the network; `strongroom instance check NAME`.",
        ),
        ErrorKind::SourceHostile => (
            "The database sent something that must not be believed, such as a file name that leaves its directory.",
            "Nothing was written outside the backup. Find out what answers at that address.",
        ),
        ErrorKind::Damage => (
            "A stored byte is not what was written. Nothing wrong was given out as right.",
            "Take the backup before it; run `strongroom repository check`; take a new backup; look at the disk.",
        ),
        ErrorKind::WrongKey => (
            "The recovery key does not belong to this repository or catalog. The data is untouched.",
            "Use the key from this repository's recovery kit (the line that begins with SR1-).",
        ),
        ErrorKind::DiskFull => (
            "There was no room to write to. What was finished before is kept.",
            "Make room and try again; a restore goes on where it stopped.",
        ),
        ErrorKind::TargetNotEmpty => (
            "The directory has files in it. Nothing was written and nothing was overwritten.",
            "Give a directory that is absent or empty. Do not delete anything in a hurry.",
        ),
        ErrorKind::Fenced => (
            "Another worker took the job over; this one touched nothing more.",
            "Nothing to do: the other one finishes it.",
        ),
        ErrorKind::Cancelled => ("Somebody asked for the end of it.", "Start it again when it is wanted."),
        ErrorKind::Unavailable => (
            "The server, its catalog or its repository cannot be used now. What was answered before is durable.",
            "`strongroom doctor` says what is wrong; then try again.",
        ),
        ErrorKind::Internal => (
            "A fault of ours. Nothing that was acknowledged is lost.",
            "Look at the server's log for the request id, and report it.",
        ),
    }
}

pub(crate) fn run(code: Option<&str>, format: Format) -> Outcome<Exit> {
    let Some(code) = code else {
        list(format);
        return Ok(Exit::Done);
    };
    let kind = kind_of(code).ok_or_else(|| {
        Stop::new(Exit::NotFound, format!("there is no code {code}"))
            .with_hint("`strongroom explain` lists them")
    })?;
    let (what, next) = words(kind);
    if format == Format::Json {
        output::json(&json!({ "schema": 1, "code": code, "what": what, "next": next }));
    } else {
        output::data(format_args!("{code}\n  {what}\n  next: {next}"));
    }
    Ok(Exit::Done)
}

fn list(format: Format) {
    if format == Format::Json {
        let codes =
            KINDS.map(|kind| json!({ "code": code_of(kind), "what": words(kind).0, "next": words(kind).1 }));
        return output::json(&json!({ "schema": 1, "codes": codes.to_vec() }));
    }
    let mut table = Table::new(&["CODE", "WHAT IT MEANS"]);
    for kind in KINDS {
        table.row([code_of(kind).to_owned(), words(kind).0.to_owned()]);
    }
    table.print("");
}
