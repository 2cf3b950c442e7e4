//! What a failed procedure means for its job.

use jiff::SignedDuration;
use strongroom_core::engine::StopReason;
use strongroom_core::job::JobState;
use strongroom_core::{Error, ErrorKind, Result, Retry, limits};

use super::JobContext;
use crate::failure::failure_of;

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

/// Settles a job whose procedure failed. The failure is logged here, once.
pub(crate) async fn settle(context: &JobContext, error: &Error) -> Result<()> {
    let next = next(error, context.cancel.reason(), context.job.attempts);
    tracing::warn!(
        job.id = %context.job.id, job.kind = context.job.kind.word(), job.attempt = context.job.attempts,
        "The job did not succeed ({next:?}): {}", error.chain()
    );
    let (catalog, fence) = (context.service.catalog(), &context.fence);
    let now = context.service.now();
    match next {
        Next::Leave => Ok(()),
        Next::Release => catalog.job_release(fence, now).await,
        Next::TryAgain => {
            let doubled = context.service.parts().settings.backoff_base_ms << context.job.attempts.min(16);
            let run_at =
                now.saturating_add(SignedDuration::from_millis(doubled / 2)).map_err(Error::internal)?;
            catalog.job_retry(fence, run_at, &failure_of(error), true).await
        }
        Next::End(state) => {
            let audit =
                context.audit("job.end", context.job.id.as_str(), serde_json::json!({ "state": state }));
            catalog.job_fail(fence, &failure_of(error), state, now, &audit).await
        }
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
}
