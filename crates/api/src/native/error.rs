//! The native error table: one exhaustive match.

use axum::response::{IntoResponse, Response};
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use strongroom_core::id::RequestId;
use strongroom_core::{Error, ErrorKind, Field};
use strongroom_service::code_of;

use super::wire::ErrorBody;

/// An error and the request it belongs to.
pub(crate) struct Refusal(Error, RequestId);

impl Refusal {
    pub(crate) fn of(request_id: &RequestId) -> impl FnOnce(Error) -> Self + '_ {
        |error| Self(error, request_id.clone())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        refuse(&self.0, &self.1)
    }
}

fn status(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::Parameter(_)
        | ErrorKind::BodyMissing
        | ErrorKind::InstanceNotPrimary
        | ErrorKind::NoRestorePoint
        | ErrorKind::TargetTooSmall
        | ErrorKind::ActionUnknown
        | ErrorKind::EngineUnsupported => 400,
        ErrorKind::NotAuthenticated => 401,
        ErrorKind::WrongProject | ErrorKind::NotAllowed => 403,
        ErrorKind::RouteUnknown
        | ErrorKind::InstanceNotFound
        | ErrorKind::BackupNotFound
        | ErrorKind::JobNotFound => 404,
        ErrorKind::MethodNotAllowed => 405,
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
        | ErrorKind::TargetNotEmpty => 409,
        ErrorKind::BodyTooLarge | ErrorKind::QuotaExceeded => 413,
        ErrorKind::TooManyRequests => 429,
        ErrorKind::Damage
        | ErrorKind::WrongKey
        | ErrorKind::Fenced
        | ErrorKind::Cancelled
        | ErrorKind::Internal => 500,
        ErrorKind::DiskFull | ErrorKind::Unavailable => 503,
    }
}

/// The field, in the words of the native documents.
fn field(kind: ErrorKind) -> Option<&'static str> {
    let ErrorKind::Parameter(field) = kind else { return None };
    match field {
        Field::Body => Some("body"),
        Field::BackupName | Field::InstanceName => Some("name"),
        Field::Description => Some("description"),
        Field::InstanceRef => Some("instance"),
        Field::BackupId => Some("backup"),
        Field::JobId => Some("job"),
        Field::Engine => Some("engine"),
        Field::Host => Some("host"),
        Field::Port => Some("port"),
        Field::User => Some("user"),
        Field::Password => Some("password"),
        Field::Tls => Some("tls"),
        Field::Token => Some("token"),
        Field::Databases | Field::NewDatabaseName => Some("databases"),
        Field::KeepDays => Some("keep_days"),
        Field::Period => Some("period"),
        Field::StartTime => Some("start_time"),
        Field::Tags => Some("tags"),
        Field::Other => None,
    }
}

/// The document of an error.
pub(crate) fn error_body(error: &Error, request_id: &RequestId) -> ErrorBody {
    ErrorBody {
        code: code_of(error.kind()).to_owned(),
        message: error.public().to_owned(),
        hint: error.hint().unwrap_or_default().to_owned(),
        field: field(error.kind()).map(str::to_owned),
        request_id: request_id.as_str().to_owned(),
    }
}

pub(crate) fn refuse(error: &Error, request_id: &RequestId) -> Response {
    let kind = error.kind();
    let body = error_body(error, request_id);
    let status = StatusCode::from_u16(status(kind)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, axum::Json(body)).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}
