//! Keeps one job's lease while it runs, carries its progress, hears the wish to cancel.

use std::time::{Duration, Instant};

use jiff::SignedDuration;
use strongroom_catalog::Renewal;
use strongroom_core::engine::{CancelToken, StopReason};
use strongroom_core::job::Fence;
use strongroom_core::{Error, ErrorKind, Result, limits};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::parts::{LiveJob, Service};

/// A lease that is kept. Dropped, it is kept no longer and runs out by itself, also when the task
/// that held it panicked: a lease without work must not live.
pub(super) struct LeaseKeeper(JoinHandle<()>);

impl LeaseKeeper {
    pub(super) fn start(service: Service, fence: Fence, live: LiveJob) -> Self {
        Self(tokio::spawn(keep(service, fence, live)))
    }
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How often the catalog hears of a job: others look at it there when they share it.
fn interval(service: &Service, lease: Duration) -> Duration {
    let heartbeat = Duration::from_millis(limits::HEARTBEAT_INTERVAL_MS);
    if service.catalog().is_shared() { heartbeat.min(lease / 3) } else { lease / 3 }
}

/// Renews at a third of the lease at the latest; stops the work when the lease is lost, or can no
/// longer be renewed in time.
async fn keep(service: Service, fence: Fence, live: LiveJob) {
    let cancel: &CancelToken = &live.cancel;
    let lease_ms = service.parts().settings.lease_duration_ms;
    let lease = Duration::from_millis(u64::try_from(lease_ms).unwrap_or(0)).max(Duration::from_millis(3));
    let mut renewed = Instant::now();
    let mut ticks = tokio::time::interval(interval(&service, lease));
    // After a renewal that took long, the next one is not due at once.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let asked = Instant::now();
        match renew(&service, &fence, &live, lease).await {
            Ok(renewal) => {
                renewed = asked;
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

/// One renewal. An answer that takes longer than a third of the lease is none: the work must stop
/// before the lease ends, not when the catalog answers.
async fn renew(service: &Service, fence: &Fence, live: &LiveJob, lease: Duration) -> Result<Renewal> {
    let heartbeat = async {
        service.time_refresh().await?;
        let length = SignedDuration::from_millis(service.parts().settings.lease_duration_ms);
        let until = service.now().saturating_add(length).unwrap_or(jiff::Timestamp::MAX);
        service.catalog().job_renew(fence, until, &live.reading()).await
    };
    tokio::time::timeout(lease / 3, heartbeat)
        .await
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Unavailable, "The catalog did not answer in time.")))
}
