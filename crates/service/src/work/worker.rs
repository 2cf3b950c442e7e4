//! The worker: claims what is due, runs several jobs at once, drains when it is told to stop.

use std::sync::Arc;
use std::time::Instant;

use jiff::SignedDuration;
use strongroom_catalog::Claim;
use strongroom_core::engine::{CancelToken, StopReason};
use strongroom_core::id::WorkerId;
use strongroom_core::job::JobKind;
use strongroom_core::progress::Progress;
use strongroom_core::{Error, Result};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::{JobContext, lease_keeper, outcome};
use crate::parts::{LiveJob, Service};
use crate::procedures;

/// One worker of this process.
pub struct Worker {
    service: Service,
    id: WorkerId,
    running: JoinSet<JobKind>,
    tokens: Vec<CancelToken>,
    backups: usize,
    others: usize,
}

impl Worker {
    pub fn new(service: Service) -> Self {
        let id = WorkerId::issue(service.uuid());
        Self { service, id, running: JoinSet::new(), tokens: Vec::new(), backups: 0, others: 0 }
    }

    /// Works until `shutdown`, then drains: what cannot end in time is abandoned and ready again.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        loop {
            self.claim_all().await;
            let poll = self.service.parts().settings.poll_interval;
            tokio::select! {
                () = &mut shutdown => break,
                () = self.service.inner.wake.notified() => {}
                () = tokio::time::sleep(poll) => {}
                Some(ended) = self.running.join_next(), if !self.running.is_empty() => self.ended(ended),
            }
        }
        self.drain().await;
    }

    /// Claims as long as there is room and work. A catalog that does not answer is asked again later.
    async fn claim_all(&mut self) {
        while let Some(ended) = self.running.try_join_next() {
            self.ended(ended);
        }
        loop {
            match self.claim().await {
                Ok(Some(claim)) => self.start(claim),
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!("The catalog gave no work: {}", error.chain());
                    return;
                }
            }
        }
    }

    async fn claim(&self) -> Result<Option<Claim>> {
        let settings = &self.service.parts().settings;
        let mut kinds = Vec::new();
        if self.backups < settings.backups_at_once {
            kinds.push(JobKind::Backup);
        }
        if self.others < settings.others_at_once {
            kinds.extend([JobKind::Delete, JobKind::Verify, JobKind::CheckRepository]);
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
        match kind {
            JobKind::Backup => self.backups += 1,
            JobKind::Delete | JobKind::Verify | JobKind::CheckRepository => self.others += 1,
        }
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
        };
        self.tokens.retain(|token| token.reason().is_none());
        self.tokens.push(context.cancel.clone());
        self.running.spawn(async move {
            run_job(context).await;
            kind
        });
    }

    fn ended(&mut self, ended: Result<JobKind, tokio::task::JoinError>) {
        match ended {
            Ok(JobKind::Backup) => self.backups -= 1,
            Ok(JobKind::Delete | JobKind::Verify | JobKind::CheckRepository) => self.others -= 1,
            // Only an abort ends a job's own task early, and nobody aborts before the drain.
            Err(error) => tracing::error!("A job's task ended early: {error}"),
        }
    }

    async fn drain(mut self) {
        for token in &self.tokens {
            token.stop(StopReason::Draining);
        }
        let all = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(self.service.parts().settings.drain_timeout, all).await.is_err() {
            tracing::warn!("Some jobs did not stop in time; their leases run out by themselves.");
        }
    }
}

/// One job from claim to end. A panic in it ends this job only.
async fn run_job(context: JobContext) {
    let service = context.service.clone();
    let live =
        LiveJob { progress: context.progress.clone(), cancel: context.cancel.clone(), since: Instant::now() };
    service.live_begin(&context.job.id, live);
    let keeper = tokio::spawn(lease_keeper::keep(
        service.clone(),
        context.fence.clone(),
        context.cancel.clone(),
        context.progress.clone(),
    ));
    let context = Arc::new(context);
    let working = context.clone();
    let worked = tokio::task::spawn_blocking(move || procedures::run(&working)).await;
    let result = worked.unwrap_or_else(|panicked| Err(Error::internal(panicked)));
    if let Err(error) = result
        && let Err(unsettled) = outcome::settle(&context, &error).await
    {
        // The lease runs out and another claim settles the job.
        tracing::error!(job.id = %context.job.id, "The end of the job was not recorded: {}", unsettled.chain());
    }
    keeper.abort();
    service.live_end(&context.job.id);
}
