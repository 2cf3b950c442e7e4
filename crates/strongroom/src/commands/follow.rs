//! Following a job to its end, also over a restart of the server.

use std::time::{Duration, Instant};

use strongroom_api::native::wire::{Accepted, JobView};

use super::Desk;
use crate::exit::{Exit, Outcome, Stop};
use crate::output::{ProgressMode, Reporter, View};

const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// A server that restarts is back long before this.
const UNREACHABLE_MAX: Duration = Duration::from_mins(2);

/// Shows the job's progress until it ended; answers how.
pub(super) fn follow(desk: &Desk, job: &str, mode: ProgressMode) -> Outcome<JobView> {
    let mut reporter = Reporter::new(mode);
    let ended = desk.runtime.block_on(look(desk, job, &mut reporter));
    reporter.end();
    ended
}

async fn look(desk: &Desk, job: &str, reporter: &mut Reporter) -> Outcome<JobView> {
    let mut lost: Option<Instant> = None;
    loop {
        match desk.client.get::<JobView>(&["jobs", job]).await {
            Ok(view) if is_over(&view) => return Ok(view),
            Ok(view) => {
                lost = None;
                reporter.show(&progress(&view));
            }
            Err(stop) if stop.exit == Exit::Unreachable => {
                let since = *lost.get_or_insert_with(|| {
                    reporter.say(&format!("  {}; looking again", stop.message));
                    Instant::now()
                });
                if since.elapsed() >= UNREACHABLE_MAX {
                    return Err(stop.with_hint(format!(
                        "the job goes on without this command: strongroom job watch {job}"
                    )));
                }
            }
            Err(stop) => return Err(stop),
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

pub(super) fn is_over(view: &JobView) -> bool {
    matches!(view.state.as_str(), "succeeded" | "failed" | "cancelled")
}

fn progress(view: &JobView) -> View {
    let phase = if view.state == "ready" { "waiting" } else { view.progress.phase.as_str() };
    View {
        phase: phase.to_owned(),
        done_bytes: view.progress.done_bytes,
        total_bytes: view.progress.total_bytes,
        rate_bytes_per_s: view.progress.rate_bytes_per_s,
        eta_s: view.progress.eta_s,
    }
}

/// A job that did not succeed, as the end of the command that waited for it.
pub(super) fn failure(view: &JobView, what: &str) -> Stop {
    let stop = match &view.failure {
        Some(failure) => {
            let stop = Stop::new(Exit::Failed, format!("{what} failed: {}", failure.message));
            Stop { code: Some(failure.code.clone()), hint: failure.hint.clone(), ..stop }
        }
        None => Stop::new(Exit::Failed, format!("{what} ended {}", view.state)),
    };
    if stop.hint.is_some() {
        return stop;
    }
    stop.with_hint(format!("strongroom job show {}", view.id))
}

/// Waits for accepted work to succeed.
pub(super) fn wait_for(desk: &Desk, accepted: &Accepted, what: &str, mode: ProgressMode) -> Outcome<JobView> {
    let view = follow(desk, &accepted.job_id, mode)?;
    if view.state == "succeeded" { Ok(view) } else { Err(failure(&view, what)) }
}
