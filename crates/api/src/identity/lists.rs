//! What a caller can use: projects, the domain, the services.

use axum::extract::{Query, State};
use axum::{Extension, Json};
use http::HeaderMap;
use serde::Deserialize;

use super::wire::{CatalogAnswer, DomainRow, DomainsAnswer, NoPages, ProjectsAnswer};
use super::{Answer, Who, address, views};
use crate::app::App;

#[derive(Debug, Deserialize)]
pub(crate) struct ByName {
    #[serde(default)]
    name: Option<String>,
}

impl ByName {
    fn is(&self, name: &str) -> bool {
        self.name.as_ref().is_none_or(|wanted| wanted == name)
    }
}

/// `GET /v3/projects`, `GET /v3/auth/projects`
pub(crate) async fn projects(
    State(app): State<App>,
    Extension(caller): Who,
    Query(query): Query<ByName>,
    headers: HeaderMap,
) -> Answer<Json<ProjectsAnswer>> {
    let address = address(&app, &headers)?;
    let usable = app.service.projects_of(&caller).await?;
    let rows = usable.iter().filter(|project| query.is(&project.name));
    let projects = rows.map(|project| views::project(project, &address)).collect();
    Ok(Json(ProjectsAnswer { projects, links: NoPages::default() }))
}

/// `GET /v3/auth/domains`: the one of the caller's user.
pub(crate) async fn domains(
    Extension(caller): Who,
    Query(query): Query<ByName>,
) -> Answer<Json<DomainsAnswer>> {
    let bearer = caller.bearer();
    let own = DomainRow {
        id: bearer.domain_id.clone(),
        name: bearer.domain_name.clone(),
        enabled: true,
        links: serde_json::json!({}),
    };
    let domains = if query.is(&own.name) { vec![own] } else { Vec::new() };
    Ok(Json(DomainsAnswer { domains, links: NoPages::default() }))
}

/// `GET /v3/auth/catalog`
pub(crate) async fn catalog(
    State(app): State<App>,
    Extension(caller): Who,
    headers: HeaderMap,
) -> Answer<Json<CatalogAnswer>> {
    let address = address(&app, &headers)?;
    let catalog = views::catalog(caller.bearer(), &address, &app.settings.region);
    Ok(Json(CatalogAnswer { catalog, links: NoPages::default() }))
}
