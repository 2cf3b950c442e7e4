//! `strongroom repository …`

use clap::Subcommand;
use strongroom_api::native::wire::{Accepted, CheckRequest, ForgetRequest, RepositoryView};

use super::backup::LevelWord;
use super::{Desk, Nothing, follow};
use crate::exit::{Exit, Outcome, Stop};
use crate::output::{self, ProgressMode, or_dash, size};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Check every object of every backup
    Check {
        #[arg(long, value_enum, default_value = "digest")]
        level: LevelWord,
        #[arg(long, value_enum, default_value = "auto")]
        progress: ProgressMode,
    },
    /// What it holds and what it costs
    Stat,
    /// Delete a backup by what the repository itself knows of it
    Forget {
        /// Id or unique name
        backup: String,
    },
}

pub(crate) fn run(verb: &Verb, desk: &Desk) -> Outcome<Exit> {
    match verb {
        Verb::Check { level, progress } => check(*level, *progress, desk),
        Verb::Stat => {
            stat(&desk.runtime.block_on(desk.client.get(&["repository"]))?, desk);
            Ok(Exit::Done)
        }
        Verb::Forget { backup } => {
            let request = ForgetRequest { backup: backup.clone() };
            let _: Nothing = desk.runtime.block_on(desk.client.post(&["repository", "forget"], &request))?;
            output::note(format_args!(
                "forgot {backup}; its space comes back with the sweep, which this release does not have"
            ));
            Ok(Exit::Done)
        }
    }
}

fn check(level: LevelWord, mode: ProgressMode, desk: &Desk) -> Outcome<Exit> {
    let request = CheckRequest { level: level.word().to_owned() };
    let accepted: Accepted = desk.runtime.block_on(desk.client.post(&["repository", "check"], &request))?;
    let job = follow::wait_for(desk, &accepted, "the check", mode)?;
    let result = job.result.unwrap_or_default();
    let findings = result["findings"].as_array().cloned().unwrap_or_default();
    if desk.is_json() {
        let mut document = result.clone();
        document["schema"] = 1.into();
        document["job_id"] = accepted.job_id.into();
        output::json(&document);
    } else {
        output::data(format_args!(
            "{} ({}): {} objects, {}, {} findings",
            result["result"].as_str().unwrap_or("failed"),
            level.word(),
            result["objects_checked"],
            size(result["bytes_checked"].as_u64().unwrap_or(0)),
            findings.len()
        ));
        for finding in &findings {
            let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
            let backups =
                finding["backups"].as_array().into_iter().flatten().filter_map(|name| name.as_str());
            let backups = backups.collect::<Vec<_>>().join(", ");
            output::data(format_args!("  {}: {} (backups: {backups})", text("object"), text("problem")));
        }
    }
    if result["result"] == "passed" {
        return Ok(Exit::Done);
    }
    Err(Stop::new(Exit::VerificationFailed, "the repository is damaged; the backups named cannot be trusted")
        .with_hint("take new backups of the instances named, now; bring the objects named back from a copy"))
}

fn stat(stat: &RepositoryView, desk: &Desk) {
    if desk.is_json() {
        return output::json(stat);
    }
    for (name, value) in [
        ("repository", stat.repository_id.clone()),
        ("where", stat.location.clone()),
        ("format", stat.format.to_string()),
        ("backups", stat.backups.to_string()),
        ("forgotten", stat.forgotten_backups.to_string()),
        ("packs", stat.packs.to_string()),
        ("bytes", size(stat.bytes)),
        ("reclaimable", size(stat.reclaimable_bytes)),
        ("free", or_dash(stat.free_bytes.map(size))),
    ] {
        output::data(format_args!("{name:<12} {value}"));
    }
    for note in &stat.notes {
        output::note(format_args!("! {note}"));
    }
}
