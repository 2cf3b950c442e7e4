//! Keystone's documents, as far as clients look at them: every field name of this dialect.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// `POST /v3/auth/tokens`. Fields that are not here are other clouds' and are passed over.
#[derive(Deserialize, ToSchema)]
pub(crate) struct AuthRequest {
    pub(crate) auth: Auth,
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct Auth {
    pub(crate) identity: IdentityWish,
    /// `"unscoped"`, or an object with `project`, `domain` or `unscoped`; absent = the only project
    #[serde(default)]
    #[schema(value_type = Object)]
    pub(crate) scope: Option<Value>,
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct IdentityWish {
    /// `password` or `token`
    pub(crate) methods: Vec<String>,
    #[serde(default)]
    pub(crate) password: Option<PasswordMethod>,
    #[serde(default)]
    pub(crate) token: Option<TokenMethod>,
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct PasswordMethod {
    pub(crate) user: UserWish,
}

/// By id, or by name and domain
#[derive(Deserialize, ToSchema)]
pub(crate) struct UserWish {
    #[serde(default)]
    pub(crate) id: Option<String>,
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) domain: Option<NameOrId>,
    pub(crate) password: String,
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct TokenMethod {
    pub(crate) id: String,
}

/// The object of `scope`.
#[derive(Deserialize)]
pub(crate) struct ScopeObject {
    #[serde(default)]
    pub(crate) project: Option<ProjectWish>,
    #[serde(default)]
    pub(crate) domain: Option<NameOrId>,
    #[serde(default)]
    pub(crate) unscoped: Option<Value>,
}

#[derive(Deserialize)]
pub(crate) struct ProjectWish {
    #[serde(default)]
    pub(crate) id: Option<String>,
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) domain: Option<NameOrId>,
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct NameOrId {
    #[serde(default)]
    pub(crate) id: Option<String>,
    #[serde(default)]
    pub(crate) name: Option<String>,
}

/// What a token is good for; the token itself is in the header `X-Subject-Token`
#[derive(Serialize, ToSchema)]
pub(crate) struct TokenAnswer {
    pub(crate) token: Token,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Token {
    pub(crate) methods: Vec<String>,
    pub(crate) issued_at: String,
    pub(crate) expires_at: String,
    pub(crate) user: InDomain,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) project: Option<InDomain>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) domain: Option<Named>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) roles: Vec<Named>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) catalog: Vec<CatalogService>,
}

/// A user or a project, and its domain
#[derive(Serialize, ToSchema)]
pub(crate) struct InDomain {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) domain: Named,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Named {
    pub(crate) id: String,
    pub(crate) name: String,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct CatalogService {
    pub(crate) id: &'static str,
    /// What clients look for
    pub(crate) r#type: &'static str,
    pub(crate) name: &'static str,
    pub(crate) endpoints: Vec<Endpoint>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Endpoint {
    pub(crate) id: String,
    pub(crate) interface: &'static str,
    pub(crate) region: String,
    pub(crate) region_id: String,
    /// Holds the id of the project: some clients do not add it
    pub(crate) url: String,
}

/// `GET /v3/auth/catalog`
#[derive(Serialize, ToSchema)]
pub(crate) struct CatalogAnswer {
    pub(crate) catalog: Vec<CatalogService>,
    pub(crate) links: NoPages,
}

/// `GET /v3/projects`
#[derive(Serialize, ToSchema)]
pub(crate) struct ProjectsAnswer {
    pub(crate) projects: Vec<ProjectRow>,
    pub(crate) links: NoPages,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ProjectRow {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) domain_id: String,
    pub(crate) parent_id: String,
    pub(crate) is_domain: bool,
    pub(crate) enabled: bool,
    pub(crate) description: &'static str,
    pub(crate) links: SelfLink,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct SelfLink {
    #[serde(rename = "self")]
    pub(crate) itself: String,
}

/// `GET /v3/auth/domains`
#[derive(Serialize, ToSchema)]
pub(crate) struct DomainsAnswer {
    pub(crate) domains: Vec<DomainRow>,
    pub(crate) links: NoPages,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct DomainRow {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) enabled: bool,
    #[schema(value_type = Object)]
    pub(crate) links: Value,
}

/// A list is one page
#[derive(Default, Serialize, ToSchema)]
pub(crate) struct NoPages {
    #[serde(rename = "self")]
    pub(crate) itself: Option<String>,
    pub(crate) next: Option<String>,
    pub(crate) previous: Option<String>,
}

/// `GET /v3`
#[derive(Serialize, ToSchema)]
pub(crate) struct VersionAnswer {
    pub(crate) version: Version,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Version {
    pub(crate) id: &'static str,
    pub(crate) status: &'static str,
    pub(crate) updated: &'static str,
    pub(crate) links: Vec<Link>,
    #[serde(rename = "media-types")]
    #[schema(value_type = Vec<String>)]
    pub(crate) media_types: Vec<String>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Link {
    pub(crate) rel: &'static str,
    pub(crate) href: String,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ErrorAnswer {
    pub(crate) error: ErrorBody,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    pub(crate) code: u16,
    pub(crate) title: String,
    pub(crate) message: String,
}
