//! The v1 error table: one exhaustive match, so that a new kind does not compile until it is here.

use axum::response::{IntoResponse, Response};
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use strongroom_core::{Error, ErrorKind, Field};

use super::wire::ErrorBody;

/// An error on its way out in this dialect.
pub(crate) struct Refusal(Error);

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        refuse(&self.0)
    }
}

/// Status, code and standard sentence (contract section 2).
fn row(kind: ErrorKind) -> (u16, &'static str, &'static str) {
    match kind {
        ErrorKind::Parameter(field) => parameter(field),
        ErrorKind::BodyMissing => (400, "RDS.0006", "The request body is empty."),
        ErrorKind::BodyTooLarge => (413, "RDS.0042", "The request body is too large."),
        ErrorKind::TooManyRequests => (429, "RDS.0030", "Too many requests."),
        ErrorKind::NotAuthenticated => (401, "RDS.0010", "Authentication failed."),
        ErrorKind::WrongProject => (403, "RDS.0015", "The token does not match the project."),
        ErrorKind::NotAllowed => (403, "RDS.5045", "No permission for this action."),
        ErrorKind::RouteUnknown => (404, "RDS.0016", "The requested path does not exist."),
        ErrorKind::MethodNotAllowed => (405, "RDS.0042", "The method is not allowed."),
        ErrorKind::InstanceNotFound => (404, "RDS.0002", "The instance does not exist."),
        ErrorKind::BackupNotFound => (404, "RDS.3026", "The backup does not exist."),
        ErrorKind::JobNotFound => (404, "RDS.5041", "The job does not exist."),
        ErrorKind::InstanceNotPrimary => (400, "RDS.5043", "The instance is a standby or a read replica."),
        ErrorKind::EngineUnsupported | ErrorKind::NotSupported => {
            (400, "RDS.5005", "The operation is not supported for this instance.")
        }
        ErrorKind::BackupNameTaken => (409, "RDS.0031", "The backup name exists already."),
        ErrorKind::InstanceNameTaken => (409, "RDS.1102", "The instance name exists already."),
        ErrorKind::BackupInProgress => (409, "RDS.3004", "A backup of this instance is running."),
        // A sweep is never asked for in this dialect.
        ErrorKind::InstanceBusy | ErrorKind::SweepInProgress => {
            (409, "RDS.0011", "Another operation is running.")
        }
        ErrorKind::InstanceState | ErrorKind::SourceRefused | ErrorKind::SourceUnreachable => {
            (409, "RDS.0056", "The status of the instance does not allow this operation.")
        }
        ErrorKind::BackupState | ErrorKind::BackupHeld => {
            (409, "RDS.0056", "The status of the backup does not allow this operation.")
        }
        ErrorKind::BackupBeingDeleted => (400, "RDS.3016", "The backup is being deleted."),
        ErrorKind::BackupNotManual => (409, "RDS.0004", "Only manual backups can be deleted."),
        ErrorKind::QuotaExceeded => (413, "RDS.3003", "The quota of manual backups is reached."),
        ErrorKind::RestoreInProgress => (409, "RDS.1002", "A restore is running."),
        ErrorKind::NoRestorePoint => (400, "RDS.3029", "No backup can be used for that time."),
        ErrorKind::TargetTooSmall => (400, "RDS.3030", "The target is smaller than the source."),
        ErrorKind::ActionUnknown => (400, "RDS.0042", "The action is not supported."),
        ErrorKind::DiskFull | ErrorKind::Unavailable => {
            (503, "RDS.0005", "The service cannot take this now.")
        }
        ErrorKind::SourceHostile
        | ErrorKind::Damage
        | ErrorKind::WrongKey
        | ErrorKind::TargetNotEmpty
        | ErrorKind::Fenced
        | ErrorKind::Cancelled
        | ErrorKind::Internal => (500, "RDS.9999", "Internal error."),
    }
}

fn parameter(field: Field) -> (u16, &'static str, &'static str) {
    match field {
        Field::BackupName => (400, "RDS.5044", "Invalid backup name."),
        Field::Password => (400, "RDS.5013", "Invalid password."),
        Field::KeepDays => (400, "RDS.3011", "Invalid number of retention days."),
        Field::Period => (400, "RDS.3012", "Invalid backup cycle."),
        Field::StartTime => (400, "RDS.3013", "Invalid backup start time."),
        Field::Body
        | Field::Description
        | Field::InstanceRef
        | Field::BackupId
        | Field::JobId
        | Field::InstanceName
        | Field::Engine
        | Field::Host
        | Field::Port
        | Field::User
        | Field::Tls
        | Field::Token
        | Field::Databases
        | Field::NewDatabaseName
        | Field::Tags
        | Field::Other => (400, "RDS.0001", "Parameter error."),
    }
}

/// Which errors add their own words to the standard sentence. Authentication does not: every way
/// of being wrong answers the same bytes; faults of ours say nothing of their cause.
fn tells_more(kind: ErrorKind) -> bool {
    !matches!(
        kind,
        ErrorKind::NotAuthenticated | ErrorKind::WrongProject | ErrorKind::Internal | ErrorKind::RouteUnknown
    )
}

/// The answer to a failed call.
pub(crate) fn refuse(error: &Error) -> Response {
    let (status, code, sentence) = row(error.kind());
    let external_message = match (tells_more(error.kind()), error.hint()) {
        (false, _) => sentence.to_owned(),
        (true, None) => format!("{sentence} {}", error.public()),
        (true, Some(hint)) => format!("{sentence} {} Hint: {hint}.", error.public()),
    };
    let body = ErrorBody { err_code: code.to_owned(), external_message };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, axum::Json(body)).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/wire/v1/errors.txt");
    const HEAD: &str = "\
# The v1 error table: every kind of error, its status, its code, its sentence (contract section 2).
# Written by STRONGROOM_WRITE_GOLDEN=1 cargo nextest run -p strongroom-api the_v1_error_table
";

    /// The whole table, as people read it; a change shows here.
    #[test]
    fn the_v1_error_table() {
        crate::rds::table::check(TABLE, HEAD, row);
    }
}
