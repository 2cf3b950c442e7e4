//! Tags of instances: what people file them under.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use strongroom_core::Result;
use strongroom_core::backup::InstanceRef;
use strongroom_core::id::InstanceId;
use strongroom_core::instance::Instance;
use strongroom_core::tag::{TagChange, TagKey, TagValue, Tags};

use crate::identity::{Action, Scope};
use crate::parts::Service;

impl Service {
    pub async fn tags_of_instance(&self, scope: &Scope, wanted: &InstanceRef) -> Result<(Instance, Tags)> {
        let instance = self.instance_find(scope, wanted).await?;
        let tags = self.catalog().tags_of_instance(scope.project(), &instance.id).await?;
        Ok((instance, tags))
    }

    /// Every key that an instance of the project has, with all its values.
    pub async fn tags_of_project(&self, scope: &Scope) -> Result<BTreeMap<TagKey, BTreeSet<TagValue>>> {
        scope.require(Action::Read)?;
        let mut found: BTreeMap<TagKey, BTreeSet<TagValue>> = BTreeMap::new();
        let all = self.catalog().tags_of_project(scope.project()).await?;
        for (key, value) in all.into_values().flatten() {
            found.entry(key).or_default().insert(value);
        }
        Ok(found)
    }

    /// Changes the tags of an instance, and answers what they are now.
    pub async fn tags_change(
        &self,
        scope: &Scope,
        wanted: &InstanceRef,
        change: &TagChange,
    ) -> Result<(Instance, Tags)> {
        scope.require(Action::Operate)?;
        let instance = self.instance_find(scope, wanted).await?;
        let audit = self.audit(scope, "instance.tag", instance.id.as_str(), json!({}));
        let tags = self.catalog().tags_change(scope.project(), &instance.id, change, &audit).await?;
        Ok((instance, tags))
    }

    /// The tags of the instances of a list: of the only one, where one was asked for by its id.
    pub(crate) async fn tags_of_list(
        &self,
        scope: &Scope,
        only: Option<&InstanceId>,
    ) -> Result<BTreeMap<InstanceId, Tags>> {
        match only {
            Some(id) => {
                let tags = self.catalog().tags_of_instance(scope.project(), id).await?;
                Ok(BTreeMap::from([(id.clone(), tags)]))
            }
            None => self.catalog().tags_of_project(scope.project()).await,
        }
    }
}
