//! Policies as people see and set them, and why each backup is still here.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use strongroom_catalog::{PolicyRow, RetentionRow, StartRow};
use strongroom_core::backup::InstanceRef;
use strongroom_core::id::InstanceId;
use strongroom_core::instance::Instance;
use strongroom_core::policy::{BackupPolicy, Keep, PolicyChange};
use strongroom_core::time::to_micros;
use strongroom_core::{Error, Result};

use crate::identity::{Action, Scope};
use crate::parts::Service;

/// What holds for an instance, and what comes of it.
#[derive(Debug, Clone)]
pub struct PolicyDetail {
    pub instance: Instance,
    pub policy: BackupPolicy,
    /// When the next automated backup begins; in the past while it waits for its turn.
    pub next_start: Option<Timestamp>,
    pub last_start: Option<StartRow>,
    /// Nothing goes by a rule meanwhile.
    pub hold: Option<RetentionHold>,
}

/// The clock moved: nothing goes by a rule until somebody says that it is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionHold {
    pub at: Timestamp,
    /// How far the clock was from where it should have been.
    pub moved_ms: i64,
}

const HOLD: &str = "retention.held";

impl Service {
    pub async fn policy_show(&self, scope: &Scope, wanted: &InstanceRef) -> Result<PolicyDetail> {
        let instance = self.instance_find(scope, wanted).await?;
        let row = self.catalog().policy_find(scope.project(), &instance.id).await?;
        self.policy_detail(instance, row).await
    }

    /// Changes what holds. What becomes of existing backups is decided by the next look at them.
    pub async fn policy_set(
        &self,
        scope: &Scope,
        wanted: &InstanceRef,
        change: &PolicyChange,
    ) -> Result<PolicyDetail> {
        scope.require(Action::Operate)?;
        let instance = self.instance_find(scope, wanted).await?;
        if matches!(change.keep, Keep::Days(_)) {
            self.parts().engines.get(instance.engine)?;
        }
        let audit = self.audit(scope, "policy.set", instance.id.as_str(), json!({}));
        let set = self.catalog().policy_change(scope.project(), &instance.id, change, &audit, self.now());
        let row = set.await?;
        self.policy_detail(instance, Some(row)).await
    }

    async fn policy_detail(&self, instance: Instance, row: Option<PolicyRow>) -> Result<PolicyDetail> {
        Ok(PolicyDetail {
            policy: row.as_ref().map_or(BackupPolicy::UNSET, |row| row.policy),
            next_start: row.and_then(|row| row.next_due),
            last_start: self.catalog().policy_last_start(&instance.id).await?,
            hold: self.retention_hold().await?,
            instance,
        })
    }

    /// What holds for each instance of the project of which anything was said.
    pub async fn policy_list(&self, scope: &Scope) -> Result<HashMap<InstanceId, BackupPolicy>> {
        scope.require(Action::Read)?;
        let rows = self.catalog().policy_list(scope.project()).await?;
        Ok(rows.into_iter().map(|row| (row.instance_id, row.policy)).collect())
    }

    /// For each backup of the instance, newest first, why it is still here and when it goes; as if
    /// `keep` held, when one is given.
    pub async fn policy_explain(
        &self,
        scope: &Scope,
        instance: &Instance,
        keep: Option<Keep>,
    ) -> Result<Vec<RetentionRow>> {
        scope.require(Action::Read)?;
        self.catalog().retention_rows(scope.project(), &instance.id, keep, self.now()).await
    }

    pub(crate) async fn retention_hold(&self) -> Result<Option<RetentionHold>> {
        let text = self.catalog().setting(HOLD).await?.filter(|text| !text.is_empty());
        text.map(|text| serde_json::from_str(&text).map_err(Error::internal)).transpose()
    }

    /// The first move of the clock is the one to tell; later ones are part of it.
    pub(crate) async fn retention_hold_put(&self, moved_ms: i64) -> Result<()> {
        if self.retention_hold().await?.is_some() {
            return Ok(());
        }
        let hold = RetentionHold { at: self.now(), moved_ms };
        let text = serde_json::to_string(&hold).map_err(Error::internal)?;
        self.catalog().setting_put(HOLD, &text, self.now()).await
    }

    /// Somebody says that the clock is right: rules act again.
    pub async fn retention_resume(&self, scope: &Scope) -> Result<()> {
        scope.require(Action::Govern)?;
        let held = self.retention_hold().await?;
        let detail = json!({ "moved_ms": held.map(|held| held.moved_ms), "now": to_micros(self.now()) });
        let audit = self.audit(scope, "retention.resume", self.repository().id(), detail);
        self.catalog().audit_note(&audit).await?;
        self.catalog().setting_put(HOLD, "", self.now()).await
    }
}
