//! Keeps one job's lease while it runs, carries its progress, hears the wish to cancel.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use strongroom_core::ErrorKind;
use strongroom_core::engine::{CancelToken, StopReason};
use strongroom_core::job::Fence;
use strongroom_core::progress::Progress;

use crate::parts::Service;

/// Renews at a third of the lease until it is dropped; stops the work when the lease is lost, or
/// can no longer be renewed in time.
pub(crate) async fn keep(service: Service, fence: Fence, cancel: CancelToken, progress: Arc<Progress>) {
    let lease_ms = service.parts().settings.lease_duration_ms;
    let lease = Duration::from_millis(u64::try_from(lease_ms).unwrap_or(0));
    let mut renewed = Instant::now();
    let mut ticks = tokio::time::interval(lease / 3);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let until = service
            .now()
            .saturating_add(SignedDuration::from_millis(lease_ms))
            .unwrap_or(jiff::Timestamp::MAX);
        match service.catalog().job_renew(&fence, until, &progress.read()).await {
            Ok(renewal) => {
                renewed = Instant::now();
                if renewal.cancel_asked {
                    cancel.stop(StopReason::Cancelled);
                }
            }
            Err(error) if error.kind() == ErrorKind::Fenced => {
                tracing::warn!(job.id = %fence.job_id, lease.epoch = fence.epoch.value(), "The lease was lost.");
                return cancel.stop(StopReason::Fenced);
            }
            Err(error) => {
                tracing::warn!(job.id = %fence.job_id, "The lease could not be renewed: {}", error.chain());
                if renewed.elapsed() + lease / 3 >= lease {
                    return cancel.stop(StopReason::Fenced);
                }
            }
        }
    }
}
