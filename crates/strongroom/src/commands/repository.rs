//! `strongroom repository …`

use clap::Subcommand;
use strongroom_api::native::wire::{Accepted, CheckRequest, ForgetRequest, RepositoryView, SweepRequest};

use super::backup::LevelWord;
use super::{Desk, Nothing, follow, sweep};
use crate::exit::{Exit, Outcome, Stop};
use crate::output::{self, ProgressMode, moment, or_dash, size};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Check every object of every backup
    Check {
        #[arg(long, value_enum, default_value = "digest")]
        level: LevelWord,
        #[arg(long, value_enum, default_value = "auto")]
        progress: ProgressMode,
    },
    /// What it holds, what it costs, and what is still to go
    Stat,
    /// Take away what no backup needs any more; deletes ask for it by themselves
    Sweep {
        /// Only say what would go, and why; waits for the answer
        #[arg(long)]
        dry_run: bool,
        /// Write a pack anew when at least this share of its bytes is dead, 1 (least space) to 100
        #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
        threshold: Option<u8>,
        /// First store backups anew whose changes stand on deleted ones: reads what they stand on, and
        /// needs room for it once more until it has ended
        #[arg(long, conflicts_with = "dry_run")]
        rebase: bool,
        /// Wait until it has ended
        #[arg(long)]
        wait: bool,
        #[arg(long, value_enum, default_value = "auto")]
        progress: ProgressMode,
    },
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
        Verb::Sweep { dry_run, threshold, rebase, wait, progress } => {
            let request = SweepRequest { dry_run: *dry_run, threshold_percent: *threshold, rebase: *rebase };
            sweep::run(&request, *wait || *dry_run, *progress, desk)
        }
        Verb::Forget { backup } => {
            let request = ForgetRequest { backup: backup.clone() };
            let _: Nothing = desk.runtime.block_on(desk.client.post(&["repository", "forget"], &request))?;
            output::note(format_args!("forgot {backup}; its space comes back with the next sweep"));
            output::next("strongroom repository sweep --wait");
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
    let packs = |packs: u64, bytes: u64| format!("{} in {packs} packs", size(bytes));
    let next = stat.next_sweep.as_ref().map(|next| {
        let what = if next.state == "leased" { "runs since" } else { "begins" };
        format!("{what} {} (job {})", moment(&next.at), next.job_id)
    });
    for (name, value) in [
        ("repository", stat.repository_id.clone()),
        ("where", stat.location.clone()),
        ("format", stat.format.to_string()),
        ("backups", stat.backups.to_string()),
        ("packs", stat.packs.to_string()),
        ("bytes", size(stat.bytes)),
        ("live", size(stat.live_bytes)),
        ("dead", packs(stat.dead_packs, stat.dead_pack_bytes)),
        ("dead records", packs(stat.partly_dead_packs, stat.dead_record_bytes)),
        ("unfinished", size(stat.unfinished_bytes)),
        ("to be swept", format!("{} deleted backups", stat.pending_backups)),
        ("last sweep", or_dash(stat.last_sweep.as_deref().map(moment))),
        ("next sweep", or_dash(next)),
        ("free", or_dash(stat.free_bytes.map(size))),
    ] {
        output::data(format_args!("{name:<12} {value}"));
    }
    for note in &stat.notes {
        output::note(format_args!("! {note}"));
    }
}
