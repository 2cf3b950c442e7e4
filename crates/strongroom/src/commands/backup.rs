//! `strongroom backup …`

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use strongroom_api::native::wire::{
    Accepted, BackupList, BackupRequest, BackupView, CheckRequest, DownloadLinkView, DrillView, JobView,
};

use super::{Desk, follow};
use crate::exit::{Exit, Outcome, Stop};
use crate::output::{self, ProgressMode, Table, moment, or_dash, size};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Take a backup now
    Create(CreateOptions),
    /// All backups, newest first
    List {
        /// Only those of this instance: id, node id or name
        #[arg(long)]
        instance: Option<String>,
    },
    /// One, with all that is known of it: id, unique name, the beginning of an id, @latest
    Show { backup: String },
    /// A link to one as a tar.zst file, good for an hour and for whoever has it
    Link { backup: String },
    /// Delete one; it leaves the list at once
    Delete {
        backup: String,
        #[arg(long, value_enum, default_value = "auto")]
        progress: ProgressMode,
    },
    /// Check one now
    Verify {
        backup: String,
        #[arg(long, value_enum, default_value = "decode")]
        level: LevelWord,
        #[arg(long, value_enum, default_value = "auto")]
        progress: ProgressMode,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateOptions {
    /// Id, node id or name
    instance: String,
    /// 4 to 64 letters, digits, - and _, a letter first
    #[arg(long)]
    name: String,
    #[arg(long)]
    description: Option<String>,
    /// Wait until it is COMPLETED or FAILED
    #[arg(long)]
    wait: bool,
    #[arg(long, value_enum, default_value = "auto")]
    progress: ProgressMode,
}

/// How deep a check goes; each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LevelWord {
    /// Every object is there
    Presence,
    /// Every object is what was written
    Digest,
    /// Everything is decrypted, decoded and compared with its id
    Decode,
    /// Restored in a sandbox, the database starts and finds itself whole
    Engine,
}

impl LevelWord {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Presence => "presence",
            Self::Digest => "digest",
            Self::Decode => "decode",
            Self::Engine => "engine",
        }
    }
}

pub(crate) fn run(verb: &Verb, desk: &Desk) -> Outcome<Exit> {
    match verb {
        Verb::Create(options) => create(options, desk),
        Verb::List { instance } => list(instance.as_deref(), desk),
        Verb::Show { backup } => {
            show(&find(desk, backup)?, desk);
            Ok(Exit::Done)
        }
        Verb::Link { backup } => link(backup, desk),
        Verb::Delete { backup, progress } => delete(backup, *progress, desk),
        Verb::Verify { backup, level, progress } => verify(backup, *level, *progress, desk),
    }
}

fn create(options: &CreateOptions, desk: &Desk) -> Outcome<Exit> {
    let request = BackupRequest {
        name: options.name.clone(),
        instance: options.instance.clone(),
        description: options.description.clone(),
    };
    let accepted: BackupView = desk.runtime.block_on(desk.client.post(&["backups"], &request))?;
    if !options.wait {
        show(&accepted, desk);
        output::next(format_args!("strongroom job watch {}", accepted.job_id));
        return Ok(Exit::Done);
    }
    let job = follow::follow(desk, &accepted.job_id, options.progress)?;
    let backup: BackupView = desk.runtime.block_on(desk.client.get(&["backups", &accepted.id]))?;
    show(&backup, desk);
    if backup.status != "COMPLETED" {
        return Err(follow::failure(&job, "the backup"));
    }
    output::note(format_args!(
        "  {}  {}  {} stored of {}",
        backup.status,
        backup.name,
        or_dash(backup.stored_bytes.map(size)),
        or_dash(backup.source_bytes.map(size))
    ));
    for warning in &backup.warnings {
        output::note(format_args!("  ! {warning}"));
    }
    output::next(format_args!("strongroom backup verify {} --level engine", backup.name));
    Ok(Exit::Done)
}

/// Every page of the list.
fn all(desk: &Desk, instance: Option<&str>) -> Outcome<BackupList> {
    let mut whole = BackupList { schema: 1, backups: Vec::new(), next: None };
    loop {
        let mut query = vec![("limit", "1000")];
        query.extend(instance.map(|instance| ("instance", instance)));
        query.extend(whole.next.as_deref().map(|after| ("after", after)));
        let page: BackupList = desk.runtime.block_on(desk.client.get_with(&["backups"], &query))?;
        whole.backups.extend(page.backups);
        whole.next = page.next;
        if whole.next.is_none() {
            return Ok(whole);
        }
    }
}

fn list(instance: Option<&str>, desk: &Desk) -> Outcome<Exit> {
    let list = all(desk, instance)?;
    if desk.is_json() {
        output::json(&list);
        return Ok(Exit::Done);
    }
    let mut table =
        Table::new(&["NAME", "STATUS", "CREATED", "TO RESTORE", "STORED", "VERIFIED", "INSTANCE", "ID"]);
    for backup in &list.backups {
        table.row([
            backup.name.clone(),
            backup.status.clone(),
            moment(&backup.created),
            or_dash(backup.source_bytes.map(size)),
            or_dash(backup.stored_bytes.map(size)),
            verified(backup),
            backup.instance_id.clone(),
            backup.id.clone(),
        ]);
    }
    table.print("No backups yet. Take one:\n  strongroom backup create INSTANCE --name first --wait");
    Ok(Exit::Done)
}

fn link(backup: &str, desk: &Desk) -> Outcome<Exit> {
    let found = find(desk, backup)?;
    let path = ["backups", &found.id, "download-link"];
    let link: DownloadLinkView = desk.runtime.block_on(desk.client.post(&path, &json!({})))?;
    if desk.is_json() {
        output::json(&link);
        return Ok(Exit::Done);
    }
    output::data(format_args!("{}", link.url));
    output::note(format_args!("  {}, until {}", size(link.bytes), moment(&link.expires)));
    output::next(format_args!("curl -fO '{}' && tar --zstd -xpf {}", link.url, link.file_name));
    Ok(Exit::Done)
}

fn verified(backup: &BackupView) -> String {
    match &backup.verification.level {
        Some(level) => format!("{} ({level})", backup.verification.result),
        None => "-".to_owned(),
    }
}

/// One backup by id, unique name, the beginning of an id, `@latest` or `@latest-verified`.
pub(super) fn find(desk: &Desk, wanted: &str) -> Outcome<BackupView> {
    if let Some(word) = wanted.strip_prefix('@') {
        return newest(desk, word);
    }
    let found = desk.runtime.block_on(desk.client.get(&["backups", wanted]));
    match found {
        Err(stop) if stop.exit == Exit::NotFound && wanted.len() >= 4 => {
            let mut begins = all(desk, None)?.backups.into_iter().filter(|one| one.id.starts_with(wanted));
            match (begins.next(), begins.next()) {
                (Some(only), None) => Ok(only),
                (Some(_), Some(_)) => Err(Stop::new(
                    Exit::NotFound,
                    format!("several backups have ids that begin with {wanted}"),
                )
                .with_hint("give more of the id")),
                (None, _) => Err(stop),
            }
        }
        other => other,
    }
}

fn newest(desk: &Desk, word: &str) -> Outcome<BackupView> {
    let wanted: fn(&BackupView) -> bool = match word {
        "latest" => |_| true,
        "latest-verified" => |backup| backup.verification.result == "passed",
        _ => {
            return Err(Stop::usage(format!("@{word} is not known"))
                .with_hint("give @latest, @latest-verified, an id or a name"));
        }
    };
    let mut all = all(desk, None)?.backups.into_iter();
    all.find(|backup| backup.status == "COMPLETED" && wanted(backup)).ok_or_else(|| {
        Stop::new(Exit::NotFound, format!("no COMPLETED backup is @{word}"))
            .with_hint("`strongroom backup list` shows what is there")
    })
}

fn show(backup: &BackupView, desk: &Desk) {
    if desk.is_json() {
        return output::json(backup);
    }
    for (name, value) in [
        ("id", backup.id.clone()),
        ("name", backup.name.clone()),
        ("description", or_dash(backup.description.clone())),
        ("status", backup.status.clone()),
        ("type", backup.kind.clone()),
        ("instance", backup.instance_id.clone()),
        ("engine", format!("{} {}", backup.engine, backup.engine_version)),
        ("created", moment(&backup.created)),
        ("finished", or_dash(backup.finished.as_deref().map(moment))),
        ("to restore", or_dash(backup.source_bytes.map(size))),
        ("stored", or_dash(backup.stored_bytes.map(size))),
        ("verified", verified(backup)),
        ("verified at", or_dash(backup.verification.at.as_deref().map(moment))),
        ("job", backup.job_id.clone()),
    ] {
        output::data(format_args!("{name:<12} {value}"));
    }
    if let Some(drill) = &backup.verification.drill {
        show_drill(drill);
    }
    for finding in &backup.verification.findings {
        output::data(format_args!("{:<12} {finding}", "finding"));
    }
    for warning in &backup.warnings {
        output::data(format_args!("{:<12} {warning}", "warning"));
    }
    if let Some(failure) = &backup.failure {
        output::data(format_args!("{:<12} {} ({})", "failure", failure.message, failure.code));
        output::data(format_args!("{:<12} {}", "hint", or_dash(failure.hint.clone())));
    }
}

fn delete(wanted: &str, mode: ProgressMode, desk: &Desk) -> Outcome<Exit> {
    let backup = find(desk, wanted)?;
    let accepted: Accepted = desk.runtime.block_on(desk.client.delete(&["backups", &backup.id]))?;
    follow::wait_for(desk, &accepted, "the delete", mode)?;
    if desk.is_json() {
        output::json(
            &json!({ "schema": 1, "id": backup.id, "job_id": accepted.job_id, "status": "DELETED" }),
        );
    } else {
        output::note(format_args!(
            "deleted {}; its space comes back with the sweep, which this release does not have",
            backup.name
        ));
    }
    Ok(Exit::Done)
}

fn verify(wanted: &str, level: LevelWord, mode: ProgressMode, desk: &Desk) -> Outcome<Exit> {
    let backup = find(desk, wanted)?;
    let request = CheckRequest { level: level.word().to_owned() };
    let accepted: Accepted =
        desk.runtime.block_on(desk.client.post(&["backups", &backup.id, "verify"], &request))?;
    let job = follow::wait_for(desk, &accepted, "the verification", mode)?;
    let backup: BackupView = desk.runtime.block_on(desk.client.get(&["backups", &backup.id]))?;
    let found = &backup.verification;
    if desk.is_json() {
        output::json(&backup);
    } else {
        if let Some(drill) = &found.drill {
            show_drill(drill);
        }
        output::data(format_args!("{} {} ({})", backup.name, found.result, level.word()));
        for finding in &found.findings {
            output::data(format_args!("  {finding}"));
        }
    }
    match found.result.as_str() {
        "passed" => Ok(Exit::Done),
        "not_run" => Err(not_run(&backup.name, &job)),
        _ if found.drill.is_some() => Err(Stop::new(
            Exit::VerificationFailed,
            format!("the server restored from {} found that its data is not whole", backup.name),
        )
        .with_hint("keep older backups, and see whether the source itself is damaged before you take a new one")),
        _ => Err(Stop::new(Exit::VerificationFailed, format!("the backup {} is damaged", backup.name))
            .with_hint(
                "do not delete it; take a new backup now, and see `strongroom repository check` for the others",
            )),
    }
}

/// Neither passed nor failed: refused by what the worker's machine has.
fn not_run(name: &str, job: &JobView) -> Stop {
    let reason = job.result.as_ref().and_then(|result| result.get("reason")?.as_str().map(str::to_owned));
    let stop =
        Stop::new(Exit::Refused, format!("the verification of {name} was not run; nothing is known by it"));
    Stop { code: reason, ..stop }.with_hint("the finding above names the reason and the way out")
}

fn show_drill(drill: &DrillView) {
    output::data(format_args!(
        "restored {} in {:.1} s   started {} in {:.1} s   checked in {:.1} s",
        size(drill.restored_bytes),
        drill.restore_seconds,
        drill.server_version,
        drill.start_seconds,
        drill.check_seconds
    ));
    for check in &drill.checks {
        output::data(format_args!("{:<12} {:<8} {}", check.what, check.result, check.detail));
    }
    output::data(format_args!(
        "measured time to restore {:.1} s",
        drill.restore_seconds + drill.start_seconds
    ));
}
