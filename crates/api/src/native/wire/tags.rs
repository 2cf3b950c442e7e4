//! Tags of instances.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What an instance is filed under.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TagEntry {
    /// Letters and digits of any language, spaces inside, and any of `_ . : + - @`
    #[schema(min_length = 1, max_length = 128)]
    pub key: String,
    /// As a key, and `=`; may be empty
    #[schema(max_length = 255)]
    #[serde(default)]
    pub value: String,
}

/// `PUT /instances/{instance}/tags`: these, and no others.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TagsRequest {
    #[schema(max_items = 20)]
    pub tags: Vec<TagEntry>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TagsView {
    pub schema: u32,
    pub instance_id: String,
    pub instance_name: String,
    /// By their keys
    pub tags: Vec<TagEntry>,
}
