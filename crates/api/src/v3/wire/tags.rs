//! Tags of instances.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use strongroom_core::tag::{TagKey, TagValue, Tags};
use utoipa::ToSchema;

/// A tag as a row of an instance tells it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TagPair {
    key: String,
    value: String,
}

pub(crate) fn pairs(tags: &Tags) -> Vec<TagPair> {
    let pair = |(key, value): (&TagKey, &TagValue)| TagPair {
        key: key.as_str().to_owned(),
        value: value.as_str().to_owned(),
    };
    tags.iter().map(pair).collect()
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InstanceTags {
    tags: Vec<InstanceTag>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InstanceTag {
    key: String,
    value: String,
    /// `user`: nobody else tags here
    tag_type: String,
}

impl From<&Tags> for InstanceTags {
    fn from(tags: &Tags) -> Self {
        let row =
            |pair: TagPair| InstanceTag { key: pair.key, value: pair.value, tag_type: "user".to_owned() };
        Self { tags: pairs(tags).into_iter().map(row).collect() }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProjectTags {
    tags: Vec<ProjectTag>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProjectTag {
    key: String,
    values: Vec<String>,
}

impl From<&BTreeMap<TagKey, BTreeSet<TagValue>>> for ProjectTags {
    fn from(tags: &BTreeMap<TagKey, BTreeSet<TagValue>>) -> Self {
        let row = |(key, values): (&TagKey, &BTreeSet<TagValue>)| ProjectTag {
            key: key.as_str().to_owned(),
            values: values.iter().map(|value| value.as_str().to_owned()).collect(),
        };
        Self { tags: tags.iter().map(row).collect() }
    }
}

/// `POST /v3/{project_id}/instances/{instance_id}/tags/action`, for the document; the handler reads it
/// field by field.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the request in the document")]
pub(crate) struct TagActionBody {
    #[schema(pattern = "^(create|delete)$")]
    action: String,
    #[schema(min_items = 1, max_items = 20)]
    tags: Vec<TagWish>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the request in the document")]
pub(crate) struct TagWish {
    /// Letters and digits of any language, spaces inside, and any of `_ . : + - @`
    #[schema(min_length = 1, max_length = 128)]
    key: String,
    /// As a key, and `=`. Absent: empty for `create`, whatever it is for `delete`
    #[schema(max_length = 255)]
    value: Option<String>,
}
