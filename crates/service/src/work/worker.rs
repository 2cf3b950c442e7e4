//! The worker: claims what is due, runs several jobs at once, drains when it is told to stop.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use jiff::SignedDuration;
use strongroom_catalog::Claim;
use strongroom_core::engine::{CancelToken, StopReason};
use strongroom_core::id::WorkerId;
use strongroom_core::job::{Fence, JobKind};
use strongroom_core::progress::Progress;
use strongroom_core::{Error, ErrorKind, Result};
use tokio::runtime::Handle;
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};

use super::captures::Captures;
use super::gate::Open;
use super::lease_keeper::LeaseKeeper;
use super::{JobContext, StepGate, outcome};
use crate::parts::{LiveJob, Service};
use crate::{procedures, sandbox};

/// One worker of this process.
pub struct Worker {
    service: Service,
    id: WorkerId,
    gate: Arc<dyn StepGate>,
    running: JoinSet<()>,
    held: HashMap<Id, Held>,
    captures: Captures,
}

/// A claimed job whose task has not ended.
struct Held {
    kind: JobKind,
    fence: Fence,
    cancel: CancelToken,
}

impl Worker {
    pub fn new(service: Service) -> Self {
        Self::gated(service, Arc::new(Open))
    }

    /// A worker whose every step is asked for at `gate`.
    pub fn gated(service: Service, gate: Arc<dyn StepGate>) -> Self {
        let id = WorkerId::issue(service.uuid());
        let captures = Captures::new(service.clone(), id.clone());
        Self { service, id, gate, running: JoinSet::new(), held: HashMap::new(), captures }
    }

    /// Its name in leases and in the log.
    pub fn id(&self) -> &WorkerId {
        &self.id
    }

    /// Works until `shutdown`, then drains: what cannot end in time is abandoned and ready again.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let _hints = Hearing::start(self.service.clone());
        tokio::pin!(shutdown);
        self.clear_sandbox().await;
        loop {
            self.claim_all().await;
            self.claim_captures().await;
            let poll = self.service.parts().settings.poll_interval;
            tokio::select! {
                () = &mut shutdown => break,
                () = self.service.inner.wake.notified() => {}
                () = tokio::time::sleep(poll) => {}
                Some(ended) = self.running.join_next_with_id() => self.ended(ended),
            }
        }
        self.drain().await;
    }

    /// Ends and removes what drills of killed workers have left on this machine.
    async fn clear_sandbox(&self) {
        let cleared = self.service.blocking(|service| {
            sandbox::sweep(&service.sandbox_dir());
            Ok(())
        });
        if let Err(error) = cleared.await {
            tracing::warn!("The sandbox could not be looked through: {}", error.chain());
        }
    }

    /// Claims and does everything that is due now, and answers how many claims that were. For
    /// callers that own the time, such as tests; [`Worker::run`] is the same with a clock of its own.
    pub async fn run_due(&mut self) -> usize {
        let mut claims = 0;
        loop {
            claims += self.claim_all().await;
            match self.running.join_next_with_id().await {
                Some(ended) => self.ended(ended),
                None => return claims,
            }
        }
    }

    /// Claims as long as there is room and work. A catalog that does not answer is asked again later.
    async fn claim_all(&mut self) -> usize {
        while let Some(ended) = self.running.try_join_next_with_id() {
            self.ended(ended);
        }
        if let Err(error) = self.service.time_refresh().await {
            tracing::warn!("The catalog's clock cannot be read, no work is taken: {}", error.chain());
            return 0;
        }
        if self.service.clock_trouble().is_some() {
            return 0;
        }
        let mut claims = 0;
        loop {
            match self.claim().await {
                Ok(Some(claim)) => self.start(claim),
                Ok(None) => return claims,
                Err(error) => {
                    tracing::warn!("The catalog gave no work: {}", error.chain());
                    return claims;
                }
            }
            claims += 1;
        }
    }

    /// Beside the jobs, and only by [`Worker::run`]: a capture never comes to an end.
    async fn claim_captures(&mut self) {
        if self.service.clock_trouble().is_none() {
            self.captures.claim_all().await;
        }
    }

    async fn claim(&self) -> Result<Option<Claim>> {
        let settings = &self.service.parts().settings;
        let backups = self.held.values().filter(|held| held.kind == JobKind::Backup).count();
        let mut kinds = Vec::new();
        if backups < settings.backups_at_once {
            kinds.push(JobKind::Backup);
        }
        let deletes = self.held.values().filter(|held| held.kind == JobKind::Delete).count();
        let long = self.held.len() - backups - deletes;
        if long < settings.others_at_once {
            kinds.extend([JobKind::Verify, JobKind::CheckRepository, JobKind::Sweep, JobKind::PlanSweep]);
        }
        if deletes < settings.others_at_once {
            kinds.push(JobKind::Delete);
        }
        if kinds.is_empty() {
            return Ok(None);
        }
        let now = self.service.now();
        let lease = SignedDuration::from_millis(settings.lease_duration_ms);
        let until = now.saturating_add(lease).map_err(Error::internal)?;
        self.service.catalog().job_claim(&self.id, &kinds, now, until).await
    }

    fn start(&mut self, claim: Claim) {
        let kind = claim.job.kind;
        tracing::info!(
            job.id = %claim.job.id, job.kind = kind.word(), job.attempt = claim.job.attempts,
            lease.epoch = claim.fence.epoch.value(), taken_over = claim.taken_over, "Job claimed."
        );
        let context = JobContext {
            service: self.service.clone(),
            job: claim.job,
            fence: claim.fence,
            cancel: CancelToken::new(),
            progress: Arc::new(Progress::new()),
            runtime: Handle::current(),
            gate: self.gate.clone(),
        };
        // Somebody asked for the job's end while no worker held it.
        if context.job.cancel_asked {
            context.cancel.stop(StopReason::Cancelled);
        }
        let held = Held { kind, fence: context.fence.clone(), cancel: context.cancel.clone() };
        let task = self.running.spawn(run_job(context));
        self.held.insert(task.id(), held);
    }

    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                tracing::error!("A job's task ended early, its lease runs out by itself: {error}");
                error.id()
            }
        };
        self.held.remove(&id);
    }

    async fn drain(mut self) {
        for held in self.held.values() {
            held.cancel.stop(StopReason::Draining);
        }
        self.captures.stop();
        let deadline = tokio::time::Instant::now() + self.service.parts().settings.drain_timeout;
        while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, self.running.join_next_with_id()).await
        {
            self.ended(ended);
        }
        // What did not stop in time is given back under its eyes: the fence stops it from now on,
        // and the next claim abandons its attempt.
        let now = self.service.now();
        for held in self.held.values() {
            let released = self.service.catalog().job_release(&held.fence, now).await;
            let told = released.err().map_or("it is ready again".to_owned(), |error| error.chain());
            tracing::warn!(job.id = %held.fence.job_id, "The job did not stop in time: {told}");
        }
        self.captures.drain(deadline).await;
    }
}

/// Hears the hints of other processes for as long as it lives. A hint only shortens the time until
/// the next look.
struct Hearing(JoinHandle<()>);

impl Hearing {
    fn start(service: Service) -> Option<Self> {
        let mut hints = service.catalog().hints()?;
        Some(Self(tokio::spawn(async move {
            loop {
                if let Err(error) = hints.next().await {
                    tracing::debug!("Hints of other processes are not heard: {}", error.chain());
                    tokio::time::sleep(service.parts().settings.poll_interval).await;
                }
                service.wake_worker();
            }
        })))
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Takes a job off the list of running ones, however its task ends.
struct Live<'a>(&'a JobContext);

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.0.service.live_end(&self.0.job.id, self.0.fence.epoch);
    }
}

/// One job from claim to end. A panic in it ends this job only.
async fn run_job(context: JobContext) {
    let context = Arc::new(context);
    let live = LiveJob {
        epoch: context.fence.epoch,
        progress: context.progress.clone(),
        cancel: context.cancel.clone(),
        since: Instant::now(),
    };
    context.service.live_begin(&context.job.id, live.clone());
    let _live = Live(&context);
    let _keeper = LeaseKeeper::start(context.service.clone(), context.fence.clone(), live);
    let working = context.clone();
    let worked = tokio::task::spawn_blocking(move || procedures::run(&working)).await;
    let result = worked.unwrap_or_else(|panicked| Err(Error::internal(panicked)));
    if let Err(error) = result
        && let Err(unsettled) = outcome::settle(&context, &error).await
    {
        if unsettled.kind() == ErrorKind::Fenced {
            tracing::warn!(job.id = %context.job.id, "The lease was lost; another worker owns the job.");
            return;
        }
        // The lease runs out and another claim settles the job.
        tracing::error!(job.id = %context.job.id, "The end of the job was not recorded: {}", unsettled.chain());
    }
}
