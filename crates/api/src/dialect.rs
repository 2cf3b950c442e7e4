//! Which dialect a path belongs to: errors are answered in the dialect of the call, whoever finds them.

use axum::response::Response;
use strongroom_core::Error;
use strongroom_core::id::RequestId;

use crate::{health, native, v1};

/// The wire formats that share the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `/rds…`
    V1,
    /// `/strongroom…`
    Native,
    /// Health, metrics, and whatever is nobody's.
    Open,
}

impl Dialect {
    pub(crate) fn of(path: &str) -> Self {
        match path.split('/').nth(1) {
            Some("rds") => Self::V1,
            Some("strongroom") => Self::Native,
            _ => Self::Open,
        }
    }

    /// Version discovery, the native document and what belongs to no dialect are for everybody.
    pub(crate) fn needs_token(self, path: &str) -> bool {
        match self {
            Self::V1 => path.split('/').count() > 3,
            Self::Native => path != "/strongroom/v1/openapi.json",
            Self::Open => false,
        }
    }

    /// The project in the path, where the dialect carries one there.
    pub(crate) fn project(self, path: &str) -> Option<&str> {
        match self {
            Self::V1 => path.split('/').nth(3),
            Self::Native | Self::Open => None,
        }
    }

    pub(crate) fn refuse(self, error: &Error, request_id: &RequestId) -> Response {
        match self {
            Self::V1 => v1::refuse(error),
            Self::Native => native::refuse(error, request_id),
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
            ("/strongroom", Dialect::Native, true),
            ("/strongroom/v1/openapi.json", Dialect::Native, false),
            ("/strongroom/v1/openapi.json/x", Dialect::Native, true),
            ("/strongroom/v2/backups", Dialect::Native, true),
        ] {
            assert_eq!(Dialect::of(path), dialect, "{path}");
            assert_eq!(dialect.needs_token(path), token, "{path}");
        }
    }
}
