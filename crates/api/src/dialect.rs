//! Which dialect a path belongs to: errors are answered in the dialect of the call, whoever finds them.

use axum::response::Response;
use http::Method;
use strongroom_core::Error;
use strongroom_core::id::RequestId;

use crate::{health, identity, native, trove, v1, v3};

/// The wire formats that share the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `/rds…`
    V1,
    /// `/v3/{project_id}…` and `/v3.1…`
    V3,
    /// `/v3`, `/v3/auth…`, `/v3/projects…`: Keystone's. No project is called so.
    Identity,
    /// `/v1.0…`
    Trove,
    /// `/strongroom…`
    Native,
    /// `/downloads…`: files by signed links, with the errors of the native API.
    Downloads,
    /// Health, metrics, and whatever is nobody's.
    Open,
}

impl Dialect {
    pub(crate) fn of(path: &str) -> Self {
        let mut segments = path.split('/').skip(1);
        match (segments.next(), segments.next()) {
            (Some("rds"), _) => Self::V1,
            (Some("strongroom"), _) => Self::Native,
            (Some("v1.0"), _) => Self::Trove,
            (Some("v3"), None | Some("" | "auth" | "domains" | "projects" | "users")) => Self::Identity,
            (Some("v3" | "v3.1"), _) => Self::V3,
            (Some("downloads"), Some(_)) => Self::Downloads,
            _ => Self::Open,
        }
    }

    /// Version discovery, logging in, the native document and what belongs to no dialect are for everybody.
    pub(crate) fn needs_token(self, path: &str, method: &Method) -> bool {
        match self {
            Self::V1 => path.split('/').count() > 3,
            Self::Identity => {
                path.len() > "/v3/".len() && !(path == "/v3/auth/tokens" && method == Method::POST)
            }
            Self::Native => path != "/strongroom/v1/openapi.json",
            Self::V3 => true,
            Self::Trove | Self::Downloads | Self::Open => false,
        }
    }

    /// The project in the path, where the dialect carries one there.
    pub(crate) fn project(self, path: &str) -> Option<&str> {
        match self {
            Self::V1 => path.split('/').nth(3),
            Self::V3 => path.split('/').nth(2),
            Self::Identity | Self::Native | Self::Trove | Self::Downloads | Self::Open => None,
        }
    }

    pub(crate) fn refuse(self, error: &Error, request_id: &RequestId) -> Response {
        match self {
            Self::V1 => v1::refuse(error),
            Self::V3 => v3::refuse(error),
            Self::Identity => identity::refuse(error),
            Self::Trove => trove::refuse(error),
            Self::Native | Self::Downloads => native::refuse(error, request_id),
            Self::Open => health::refuse(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_needs_a_token() {
        for (path, dialect, token) in [
            ("/", Dialect::Open, false),
            ("/healthz", Dialect::Open, false),
            ("/rds", Dialect::V1, false),
            ("/rds/v1", Dialect::V1, false),
            ("/rds/v1/p", Dialect::V1, true),
            ("/rds/v9/p/backups", Dialect::V1, true),
            ("/rdsv1/p/backups", Dialect::Open, false),
            ("/v3", Dialect::Identity, false),
            ("/v3/projects", Dialect::Identity, true),
            ("/v3/auth/tokens", Dialect::Identity, true),
            ("/v3/auth/tokens/x", Dialect::Identity, true),
            ("/v3/users/x/projects", Dialect::Identity, true),
            ("/v3/p", Dialect::V3, true),
            ("/v3/p/backups", Dialect::V3, true),
            ("/v3/authx/backups", Dialect::V3, true),
            ("/v3.1", Dialect::V3, true),
            ("/v3.1/auth", Dialect::V3, true),
            ("/v3.1/p/instances/recovery", Dialect::V3, true),
            ("/v3x/p/backups", Dialect::Open, false),
            ("/v1.0/p/instances", Dialect::Trove, false),
            ("/strongroom", Dialect::Native, true),
            ("/strongroom/v1/openapi.json", Dialect::Native, false),
            ("/strongroom/v1/openapi.json/x", Dialect::Native, true),
            ("/strongroom/v2/backups", Dialect::Native, true),
            ("/downloads", Dialect::Open, false),
            ("/downloads/x.tar.zst", Dialect::Downloads, false),
        ] {
            assert_eq!(Dialect::of(path), dialect, "{path}");
            assert_eq!(dialect.needs_token(path, &Method::GET), token, "{path}");
        }
        assert!(!Dialect::Identity.needs_token("/v3/auth/tokens", &Method::POST), "logging in");
        assert!(Dialect::Identity.needs_token("/v3/auth/projects", &Method::POST));
    }
}
