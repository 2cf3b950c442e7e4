//! Captures of logs: they never end by themselves, so they are held beside the jobs, and no backup
//! ever waits for one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use strongroom_catalog::LogClaim;
use strongroom_core::engine::{CancelToken, StopReason};
use strongroom_core::id::WorkerId;
use strongroom_core::job::Fence;
use strongroom_core::{Error, ErrorKind, Result, limits};
use tokio::runtime::Handle;
use tokio::task::{Id, JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use crate::failure::failure_of;
use crate::parts::Service;
use crate::procedures::capture;

/// What a capture works with.
pub(crate) struct CaptureContext {
    pub(crate) service: Service,
    pub(crate) claim: LogClaim,
    pub(crate) cancel: CancelToken,
    pub(crate) runtime: Handle,
    /// What the source keeps, for the next renewal.
    pub(crate) retained_bytes: Arc<AtomicU64>,
}

/// The captures of one worker.
pub(super) struct Captures {
    service: Service,
    worker: WorkerId,
    running: JoinSet<()>,
    held: HashMap<Id, (Fence, CancelToken)>,
}

impl Captures {
    pub(super) fn new(service: Service, worker: WorkerId) -> Self {
        Self { service, worker, running: JoinSet::new(), held: HashMap::new() }
    }

    /// Takes captures as long as there are some and there is room.
    pub(super) async fn claim_all(&mut self) {
        while let Some(ended) = self.running.try_join_next_with_id() {
            let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
            self.held.remove(&id);
        }
        while self.held.len() < limits::LOG_CAPTURES_MAX {
            match self.claim().await {
                Ok(Some(claim)) => self.start(claim),
                Ok(None) => return,
                Err(error) => return tracing::warn!("The catalog gave no capture: {}", error.chain()),
            }
        }
    }

    async fn claim(&self) -> Result<Option<LogClaim>> {
        let now = self.service.now();
        self.service.catalog().log_claim(&self.worker, now, lease_end(&self.service)?).await
    }

    fn start(&mut self, claim: LogClaim) {
        tracing::info!(
            instance.id = %claim.instance_id, job.id = %claim.fence.job_id,
            lease.epoch = claim.fence.epoch.value(), ending = claim.is_ending, "Capture of a log claimed."
        );
        let (fence, cancel) = (claim.fence.clone(), CancelToken::new());
        let context = CaptureContext {
            service: self.service.clone(),
            claim,
            cancel: cancel.clone(),
            runtime: Handle::current(),
            retained_bytes: Arc::default(),
        };
        let task = self.running.spawn(hold(context));
        self.held.insert(task.id(), (fence, cancel));
    }

    /// Asks them to make durable what came, and to end.
    pub(super) fn stop(&self) {
        for (_, cancel) in self.held.values() {
            cancel.stop(StopReason::Draining);
        }
    }

    /// Waits for their end, and gives them back.
    pub(super) async fn drain(mut self, deadline: tokio::time::Instant) {
        self.stop();
        while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, self.running.join_next_with_id()).await
        {
            let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
            self.held.remove(&id);
        }
        for (fence, _) in self.held.values() {
            // Their leases run out by themselves otherwise.
            let _ = self.service.catalog().log_release(fence, self.service.now(), None).await;
        }
    }
}

fn lease_end(service: &Service) -> Result<jiff::Timestamp> {
    let lease = SignedDuration::from_millis(service.parts().settings.lease_duration_ms);
    service.now().saturating_add(lease).map_err(Error::internal)
}

/// One capture from claim to end.
async fn hold(context: CaptureContext) {
    let context = Arc::new(context);
    let _keeper = Keeper::start(&context);
    let working = context.clone();
    let worked = tokio::task::spawn_blocking(move || capture::run(&working)).await;
    let result = worked.unwrap_or_else(|panicked| Err(Error::internal(panicked)));
    let Err(error) = result else { return };
    if let Err(unsettled) = settle(&context, &error).await {
        tracing::warn!(
            job.id = %context.claim.fence.job_id, "The end of a capture was not recorded: {}", unsettled.chain()
        );
    }
}

/// Gives back a capture that could not go on: at once when it is to go on elsewhere or to end, or else
/// after a pause that grows.
async fn settle(context: &CaptureContext, error: &Error) -> Result<()> {
    let (service, fence) = (&context.service, &context.claim.fence);
    let stopped = context.cancel.reason();
    if stopped == Some(StopReason::Fenced) || error.kind() == ErrorKind::Fenced {
        return Ok(());
    }
    let now = service.now();
    if stopped.is_some() {
        return service.catalog().log_release(fence, now, None).await;
    }
    tracing::warn!(
        instance.id = %context.claim.instance_id, job.id = %fence.job_id,
        "The capture of a log is interrupted: {}", error.chain()
    );
    let pause = pause_ms(service.parts().settings.backoff_base_ms, context.claim.failures);
    let run_at = now.saturating_add(SignedDuration::from_millis(pause)).map_err(Error::internal)?;
    service.catalog().log_release(fence, run_at, Some(&failure_of(error))).await
}

/// The pause after so many failures in a row.
fn pause_ms(base_ms: i64, failures: u32) -> i64 {
    base_ms.saturating_mul(1 << failures.min(16)).min(limits::LOG_PAUSE_MS_MAX)
}

/// Keeps the lease, and hears that the capture is switched off.
struct Keeper(JoinHandle<()>);

impl Keeper {
    fn start(context: &Arc<CaptureContext>) -> Self {
        Self(tokio::spawn(keep(context.clone())))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn keep(context: Arc<CaptureContext>) {
    let lease_ms = context.service.parts().settings.lease_duration_ms;
    let lease = Duration::from_millis(u64::try_from(lease_ms).unwrap_or(0)).max(Duration::from_millis(3));
    let heartbeat = Duration::from_millis(limits::HEARTBEAT_INTERVAL_MS);
    let mut renewed = Instant::now();
    let is_shared = context.service.catalog().is_shared();
    let mut ticks = tokio::time::interval(if is_shared { heartbeat.min(lease / 3) } else { lease / 3 });
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let asked = Instant::now();
        match renew(&context, lease).await {
            Ok(is_ending) => {
                renewed = asked;
                if is_ending && !context.claim.is_ending {
                    context.cancel.stop(StopReason::Cancelled);
                }
            }
            Err(error) if error.kind() == ErrorKind::Fenced => {
                return context.cancel.stop(StopReason::Fenced);
            }
            Err(error) => {
                tracing::warn!(
                    job.id = %context.claim.fence.job_id, "The lease of a capture could not be renewed: {}", error.chain()
                );
                if renewed.elapsed() + lease / 3 >= lease {
                    return context.cancel.stop(StopReason::Fenced);
                }
            }
        }
    }
}

/// Answers whether it was switched off.
async fn renew(context: &CaptureContext, lease: Duration) -> Result<bool> {
    let retained = context.retained_bytes.load(Ordering::Relaxed);
    let call = async {
        context.service.time_refresh().await?;
        let until = lease_end(&context.service)?;
        context.service.catalog().log_renew(&context.claim.fence, until, Some(retained)).await
    };
    match tokio::time::timeout(lease / 3, call).await {
        Ok(renewal) => Ok(renewal?.cancel_asked),
        Err(_) => Err(Error::new(ErrorKind::Unavailable, "The catalog did not answer in time.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound() {
        let base = limits::JOB_BACKOFF_BASE_MS;
        assert_eq!([0, 1, 3].map(|failures| pause_ms(base, failures) / base), [1, 2, 8]);
        assert_eq!(pause_ms(base, u32::MAX), limits::LOG_PAUSE_MS_MAX);
        assert_eq!(pause_ms(0, 5), 0);
    }
}
