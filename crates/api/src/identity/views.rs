//! Callers and projects in Keystone's words.

use jiff::Timestamp;
use strongroom_service::{Bearer, Project};

use super::wire::{CatalogService, Endpoint, InDomain, Named, ProjectRow, SelfLink, Token};

/// What stands for "never": every client wants a moment.
const NEVER: &str = "9999-12-31T23:59:59.000000Z";

/// With a fraction and a Z, which is what every client reads.
fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

pub(super) fn token(bearer: &Bearer, address: &str, region: &str) -> Token {
    let domain = || Named { id: bearer.domain_id.clone(), name: bearer.domain_name.clone() };
    let project = bearer.project.as_ref();
    Token {
        methods: bearer.methods.split(',').map(str::to_owned).collect(),
        issued_at: moment(bearer.issued),
        expires_at: bearer.expires.map_or_else(|| NEVER.to_owned(), moment),
        user: InDomain {
            id: bearer.user_id.as_str().to_owned(),
            name: bearer.user_name.clone(),
            domain: domain(),
        },
        project: project.map(|project| InDomain {
            id: project.id.to_string(),
            name: project.name.clone(),
            domain: domain(),
        }),
        domain: bearer.domain_scoped.then(domain),
        roles: project
            .map(|project| project.role.word())
            .map(|role| Named { id: role.to_owned(), name: role.to_owned() })
            .into_iter()
            .collect(),
        catalog: catalog(bearer, address, region),
    }
}

/// The services by the types that clients look for. One that is good for nothing gets none.
pub(super) fn catalog(bearer: &Bearer, address: &str, region: &str) -> Vec<CatalogService> {
    let service = |id, r#type, name, path: String| {
        let endpoint = Endpoint {
            id: format!("{id}-public"),
            interface: "public",
            region: region.to_owned(),
            region_id: region.to_owned(),
            url: format!("{address}{path}"),
        };
        CatalogService { id, r#type, name, endpoints: vec![endpoint] }
    };
    let mut services = Vec::new();
    if bearer.project.is_some() || bearer.domain_scoped {
        services.push(service("identity", "identity", "keystone", "/v3".to_owned()));
    }
    if let Some(project) = &bearer.project {
        let id = &project.id;
        services.push(service("rdsv3", "rdsv3", "rdsv3", format!("/v3/{id}")));
        services.push(service("rdsv1", "rdsv1", "rdsv1", format!("/rds/v1/{id}")));
        services.push(service("rds", "rds", "rds", format!("/rds/v1/{id}")));
    }
    services
}

pub(super) fn project(project: &Project, address: &str) -> ProjectRow {
    ProjectRow {
        id: project.id.to_string(),
        name: project.name.clone(),
        domain_id: project.domain_id.clone(),
        parent_id: project.domain_id.clone(),
        is_domain: false,
        enabled: true,
        description: "",
        links: SelfLink { itself: format!("{address}/v3/projects/{}", project.id) },
    }
}
