//! Keystone's form of errors: one exhaustive match.

use axum::response::{IntoResponse, Response};
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use strongroom_core::{Error, ErrorKind};

use super::wire::{ErrorAnswer, ErrorBody};

/// An error on its way out in this dialect.
#[derive(Debug)]
pub(crate) struct Refusal(Error, Option<i64>);

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self(error, None)
    }
}

impl Refusal {
    /// One that says when to try again, in seconds.
    pub(super) fn later(error: Error, retry_after_s: Option<i64>) -> Self {
        Self(error, retry_after_s)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = refuse(&self.0);
        if let Some(seconds) = self.1 {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Parameter(_)
        | ErrorKind::BodyMissing
        | ErrorKind::InstanceNotPrimary
        | ErrorKind::NoRestorePoint
        | ErrorKind::TargetTooSmall
        | ErrorKind::ActionUnknown
        | ErrorKind::EngineUnsupported => StatusCode::BAD_REQUEST,
        ErrorKind::NotAuthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::WrongProject | ErrorKind::NotAllowed => StatusCode::FORBIDDEN,
        ErrorKind::RouteUnknown
        | ErrorKind::InstanceNotFound
        | ErrorKind::BackupNotFound
        | ErrorKind::JobNotFound => StatusCode::NOT_FOUND,
        ErrorKind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorKind::BodyTooLarge | ErrorKind::QuotaExceeded => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::BackupNameTaken
        | ErrorKind::InstanceNameTaken
        | ErrorKind::BackupInProgress
        | ErrorKind::InstanceBusy
        | ErrorKind::InstanceState
        | ErrorKind::BackupState
        | ErrorKind::BackupBeingDeleted
        | ErrorKind::BackupNotManual
        | ErrorKind::BackupHeld
        | ErrorKind::RestoreInProgress
        | ErrorKind::SweepInProgress
        | ErrorKind::NotSupported
        | ErrorKind::SourceRefused
        | ErrorKind::SourceUnreachable
        | ErrorKind::SourceHostile
        | ErrorKind::TargetNotEmpty => StatusCode::CONFLICT,
        ErrorKind::DiskFull | ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Damage
        | ErrorKind::WrongKey
        | ErrorKind::Fenced
        | ErrorKind::Cancelled
        | ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The answer to a failed call.
pub(crate) fn refuse(error: &Error) -> Response {
    let status = status(error.kind());
    let title = status.canonical_reason().unwrap_or("Error").to_owned();
    let body = ErrorBody { code: status.as_u16(), title, message: error.public().to_owned() };
    let mut response = (status, axum::Json(ErrorAnswer { error: body })).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}
