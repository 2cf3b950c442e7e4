//! What the document of the Keystone subset tells of each route.

use super::wire;
use crate::openapi::{Collect, Operation, Param, collect, delete, get, post, text};

const BY_NAME: &[Param] = &[text("name", "Only the one of this name")];

pub(crate) const OPERATIONS: &[Operation] = &[
    get("/v3", "Which version of the identity API this is", "VersionAnswer").for_everybody(),
    post("/v3/auth/tokens", "Log in; the token is in the header X-Subject-Token", "TokenAnswer")
        .taking("AuthRequest")
        .with_status("201")
        .for_everybody(),
    get("/v3/auth/tokens", "Look at the token in X-Subject-Token", "TokenAnswer"),
    delete("/v3/auth/tokens", "End the token in X-Subject-Token; answers without a body", "Nothing")
        .with_status("204"),
    get("/v3/auth/catalog", "The services, as a log-in tells them", "CatalogAnswer"),
    get("/v3/auth/projects", "The projects that the caller can use", "ProjectsAnswer").with_query(BY_NAME),
    get("/v3/auth/domains", "The domain of the caller", "DomainsAnswer").with_query(BY_NAME),
    get("/v3/projects", "The projects that the caller can use", "ProjectsAnswer").with_query(BY_NAME),
];

pub(crate) const SCHEMAS: Collect = |out| {
    collect::<wire::VersionAnswer>(out);
    collect::<wire::AuthRequest>(out);
    collect::<wire::TokenAnswer>(out);
    collect::<wire::CatalogAnswer>(out);
    collect::<wire::ProjectsAnswer>(out);
    collect::<wire::DomainsAnswer>(out);
    collect::<wire::ErrorAnswer>(out);
};
