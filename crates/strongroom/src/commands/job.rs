//! `strongroom job …`

use clap::Subcommand;
use serde_json::json;
use strongroom_api::native::wire::{Accepted, JobList, JobView};

use super::{Desk, follow};
use crate::exit::{Exit, Outcome};
use crate::output::{self, ProgressMode, Table, moment, or_dash, size};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Jobs, newest first
    List {
        /// Only those in this state: ready, leased, succeeded, failed or cancelled
        #[arg(long)]
        state: Option<String>,
    },
    /// One, with its steps
    Show { job: String },
    /// Follow one to its end
    Watch {
        job: String,
        #[arg(long, value_enum, default_value = "auto")]
        progress: ProgressMode,
    },
    /// End one; a running backup ends as FAILED
    Cancel { job: String },
}

pub(crate) fn run(verb: &Verb, desk: &Desk) -> Outcome<Exit> {
    match verb {
        Verb::List { state } => list(state.as_deref(), desk),
        Verb::Show { job } => {
            let view: JobView = desk.runtime.block_on(desk.client.get(&["jobs", job]))?;
            show(&view, desk);
            Ok(Exit::Done)
        }
        Verb::Watch { job, progress } => {
            let view = follow::follow(desk, job, *progress)?;
            show(&view, desk);
            if view.state == "succeeded" { Ok(Exit::Done) } else { Err(follow::failure(&view, "the job")) }
        }
        Verb::Cancel { job } => {
            let asked: Accepted =
                desk.runtime.block_on(desk.client.post(&["jobs", job, "cancel"], &json!({})))?;
            let view = follow::follow(desk, &asked.job_id, ProgressMode::None)?;
            show(&view, desk);
            Ok(Exit::Done)
        }
    }
}

fn list(state: Option<&str>, desk: &Desk) -> Outcome<Exit> {
    let query: Vec<(&str, &str)> = state.map(|state| ("state", state)).into_iter().collect();
    let list: JobList = desk.runtime.block_on(desk.client.get_with(&["jobs"], &query))?;
    if desk.is_json() {
        output::json(&list);
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["ID", "KIND", "STATE", "CREATED", "FINISHED", "ATTEMPTS", "BACKUP"]);
    for job in &list.jobs {
        table.row([
            job.id.clone(),
            job.kind.clone(),
            job.state.clone(),
            moment(&job.created),
            or_dash(job.finished.as_deref().map(moment)),
            job.attempts.to_string(),
            or_dash(job.backup_id.clone()),
        ]);
    }
    table.print("No jobs.");
    Ok(Exit::Done)
}

fn show(job: &JobView, desk: &Desk) {
    if desk.is_json() {
        return output::json(job);
    }
    for (name, value) in [
        ("id", job.id.clone()),
        ("kind", job.kind.clone()),
        ("state", job.state.clone()),
        ("backup", or_dash(job.backup_id.clone())),
        ("instance", or_dash(job.instance_id.clone())),
        ("attempts", job.attempts.to_string()),
        ("created", moment(&job.created)),
        ("started", or_dash(job.started.as_deref().map(moment))),
        ("finished", or_dash(job.finished.as_deref().map(moment))),
        ("phase", job.progress.phase.clone()),
        ("bytes", format!("{} of {}", size(job.progress.done_bytes), size(job.progress.total_bytes))),
    ] {
        output::data(format_args!("{name:<10} {value}"));
    }
    for step in &job.steps {
        output::data(format_args!(
            "{:<10} {}  attempt {}  {:<8} {}",
            "step",
            moment(&step.at),
            step.attempt,
            step.name,
            step.output
        ));
    }
    if let Some(failure) = &job.failure {
        output::data(format_args!("{:<10} {} ({})", "failure", failure.message, failure.code));
    }
}
