//! The capture of an instance's log, as callers switch it and look at it.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use strongroom_catalog::LogStanding;
use strongroom_core::backup::InstanceRef;
use strongroom_core::engine::{CancelToken, CheckLine, CheckState};
use strongroom_core::id::JobId;
use strongroom_core::logs::HeldLog;
use strongroom_core::{Error, ErrorKind, Result};

use crate::endpoint_policy::check_endpoint;
use crate::identity::{Action, Scope};
use crate::parts::Service;

/// What is known of an instance's log.
#[derive(Debug, Clone)]
pub struct LogDetail {
    /// `None` where it is not captured.
    pub standing: Option<LogStanding>,
    /// Oldest first.
    pub held: Vec<HeldLog>,
    /// Since when log of the source may not be here.
    pub lag: Option<SignedDuration>,
    pub at: Timestamp,
}

impl Service {
    pub async fn log_detail(&self, scope: &Scope, wanted: &InstanceRef) -> Result<LogDetail> {
        scope.require(Action::Read)?;
        let instance = self.instance_find(scope, wanted).await?;
        let standing = self.catalog().log_standing(scope.project(), &instance.id).await?;
        let held = self.catalog().log_held(&instance.id).await?;
        let now = self.now();
        let lag = standing
            .as_ref()
            .map(|standing| now.duration_since(standing.confirmed.unwrap_or(standing.created)));
        Ok(LogDetail { standing, held, lag, at: now })
    }

    /// Switches the capture on or off. On is refused, with the statement that mends it, where the source
    /// is not made for it; off ends when a worker has taken away what is kept at the source.
    pub async fn log_switch(&self, scope: &Scope, wanted: &InstanceRef, on: bool) -> Result<LogDetail> {
        scope.require(Action::Operate)?;
        let instance = self.instance_find(scope, wanted).await?;
        let (catalog, now) = (self.catalog(), self.now());
        if on {
            self.refuse_unfit(scope, wanted).await?;
            let audit = self.audit(scope, "log.switch_on", instance.id.as_str(), json!({}));
            let job = JobId::issue(self.uuid());
            catalog.log_switch_on(scope.project(), &instance.id, &job, &audit, now).await?;
        } else {
            let audit = self.audit(scope, "log.switch_off", instance.id.as_str(), json!({}));
            catalog.log_switch_off(scope.project(), &instance.id, &audit, now).await?;
        }
        self.wake_worker();
        self.log_detail(scope, wanted).await
    }

    async fn refuse_unfit(&self, scope: &Scope, wanted: &InstanceRef) -> Result<()> {
        let instance = self.instance_find(scope, wanted).await?;
        let engine = self.parts().engines.get(instance.engine)?.clone();
        let source = self.source_of(&instance).await?;
        let lines = self.blocking(move |_| {
            check_endpoint(&source.host, source.port, &source.networks)?;
            engine.probe_logs(&source, &CancelToken::new())
        });
        match lines.await?.iter().find(|line| line.state == CheckState::Missing) {
            None => Ok(()),
            Some(line) => Err(unfit(line)),
        }
    }
}

fn unfit(line: &CheckLine) -> Error {
    let error = Error::new(
        ErrorKind::InstanceState,
        format!("The log cannot be captured: {} ({}). Nothing was changed.", line.what, line.found),
    );
    match &line.remedy {
        Some(remedy) => error.with_hint(format!("at the source: {remedy}")),
        None => error,
    }
}
