//! What a failed procedure means for its job.

use std::sync::Arc;

use jiff::SignedDuration;
use strongroom_core::backup::Failure;
use strongroom_core::engine::StopReason;
use strongroom_core::job::{JobKind, JobState};
use strongroom_core::{Error, ErrorKind, Result, Retry, limits};

use super::JobContext;
use crate::failure::{code_of, failure_of};
use crate::procedures::{self, GivenUp};

/// How a job goes on after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Another worker owns it: touch nothing.
    Leave,
    /// Ready at once, the try not counted.
    Release,
    /// Ready after a pause.
    TryAgain,
    End(JobState),
}

fn next(error: &Error, stopped: Option<StopReason>, attempts: u32) -> Next {
    match (stopped, error.kind(), error.retry()) {
        (Some(StopReason::Fenced), _, _) | (_, ErrorKind::Fenced, _) => Next::Leave,
        (Some(StopReason::Draining), _, _) => Next::Release,
        (Some(StopReason::Cancelled), _, _) => Next::End(JobState::Cancelled),
        (None, _, Retry::Later) if attempts < limits::JOB_ATTEMPTS_MAX => Next::TryAgain,
        (None, _, Retry::Later | Retry::Never) => Next::End(JobState::Failed),
    }
}

/// The pause after the given number of tries; it stops growing after six, because a job whose end
/// waits for a store that is away is tried without end.
fn pause_ms(base_ms: i64, attempts: u32) -> i64 {
    base_ms.saturating_mul(1 << attempts.saturating_sub(1).min(5))
}

/// Settles a job whose procedure failed. The failure is logged here, once.
pub(super) async fn settle(context: &Arc<JobContext>, error: &Error) -> Result<()> {
    let next = next(error, context.cancel.reason(), context.job.attempts);
    tracing::warn!(
        job.id = %context.job.id, job.kind = context.job.kind.word(), job.attempt = context.job.attempts,
        "The job did not succeed ({next:?}): {}", error.chain()
    );
    match next {
        Next::Leave => Ok(()),
        Next::Release => context.service.catalog().job_release(&context.fence, context.service.now()).await,
        Next::TryAgain => try_again(context, error).await,
        Next::End(state) => end(context, error, state).await,
    }
}

/// Ends a job, after nothing of it can come true any more. Where that cannot be made sure of now,
/// the job is tried again, however often it was: FAILED must never stand beside a sealed backup.
async fn end(context: &Arc<JobContext>, error: &Error, state: JobState) -> Result<()> {
    let working = context.clone();
    let given_up = tokio::task::spawn_blocking(move || procedures::give_up(&working)).await;
    match given_up.unwrap_or_else(|panicked| Err(Error::internal(panicked))) {
        Ok(GivenUp::Nothing) => {}
        Ok(GivenUp::Published) => return Ok(()),
        Err(fenced) if fenced.kind() == ErrorKind::Fenced => return Err(fenced),
        Err(not_now) => {
            tracing::warn!(
                job.id = %context.job.id, "The job cannot be ended yet: {}", not_now.chain()
            );
            return try_again(context, error).await;
        }
    }
    if context.job.kind == JobKind::Sweep
        && (state, error.retry()) == (JobState::Failed, Retry::Later)
        && let Some(again) = context.service.sweep_again()?
    {
        context.service.catalog().sweep_wish(&again).await?;
    }
    let audit = context.audit("job.end", context.job.id.as_str(), serde_json::json!({ "state": state }));
    let failure = if state == JobState::Cancelled { cancelled() } else { failure_of(error) };
    let now = context.service.now();
    context.service.catalog().job_fail(&context.fence, &failure, state, now, &audit).await
}

async fn try_again(context: &JobContext, error: &Error) -> Result<()> {
    let pause = pause_ms(context.service.parts().settings.backoff_base_ms, context.job.attempts);
    let run_at =
        context.service.now().saturating_add(SignedDuration::from_millis(pause)).map_err(Error::internal)?;
    context.service.catalog().job_retry(&context.fence, run_at, &failure_of(error), true).await
}

fn cancelled() -> Failure {
    Failure {
        code: code_of(ErrorKind::Cancelled).to_owned(),
        message: "The job was cancelled; nothing of it is used.".to_owned(),
        hint: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_way_on() {
        let later = Error::new(ErrorKind::SourceUnreachable, "x");
        let never = Error::new(ErrorKind::SourceHostile, "x");
        let fenced = Error::new(ErrorKind::Fenced, "x");
        assert_eq!(next(&later, None, 1), Next::TryAgain);
        assert_eq!(next(&later, None, limits::JOB_ATTEMPTS_MAX - 1), Next::TryAgain);
        assert_eq!(next(&later, None, limits::JOB_ATTEMPTS_MAX), Next::End(JobState::Failed));
        assert_eq!(next(&later, None, limits::JOB_ATTEMPTS_MAX + 1), Next::End(JobState::Failed));
        assert_eq!(next(&never, None, 1), Next::End(JobState::Failed));
        assert_eq!(next(&fenced, None, 1), Next::Leave);
        assert_eq!(next(&never, Some(StopReason::Fenced), 1), Next::Leave);
        assert_eq!(next(&never, Some(StopReason::Draining), 3), Next::Release);
        assert_eq!(next(&later, Some(StopReason::Cancelled), 1), Next::End(JobState::Cancelled));
    }

    #[test]
    fn pauses_double_and_stay_bearable() {
        let base = limits::JOB_BACKOFF_BASE_MS;
        assert_eq!(
            [1, 2, 3, 6, 7, u32::MAX].map(|attempts| pause_ms(base, attempts) / base),
            [1, 2, 4, 32, 32, 32]
        );
        assert!(pause_ms(i64::MAX, 9) > 0);
    }
}
