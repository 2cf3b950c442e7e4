//! The v3 error table: one exhaustive match, so that a new kind does not compile until it is here.

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

/// Status, code and standard sentence (contract section 2). Whatever runs already is 201202 with 409:
/// clients try such a call again, as they do not with the documented 201205.
fn row(kind: ErrorKind) -> (u16, &'static str, &'static str) {
    match kind {
        ErrorKind::Parameter(field) => parameter(field),
        ErrorKind::BodyMissing => (400, "DBS.200006", "The request body is empty."),
        ErrorKind::BodyTooLarge => (413, "DBS.280001", "The request body is too large."),
        ErrorKind::TooManyRequests => (429, "DBS.280001", "Too many requests."),
        ErrorKind::NotAuthenticated => (401, "DBS.280056", "Authentication failed."),
        ErrorKind::WrongProject => (403, "DBS.280015", "The token does not match the project."),
        ErrorKind::NotAllowed => (403, "DBS.200010", "No permission for this action."),
        ErrorKind::RouteUnknown => (404, "DBS.290013", "The requested path does not exist."),
        ErrorKind::MethodNotAllowed => (405, "DBS.290000", "The method is not allowed."),
        ErrorKind::InstanceNotFound => (404, "DBS.200002", "The instance does not exist."),
        ErrorKind::BackupNotFound => (404, "DBS.201010", "The backup information does not exist."),
        ErrorKind::JobNotFound => (404, "DBS.200543", "The job does not exist."),
        ErrorKind::InstanceNotPrimary => (409, "DBS.200402", "The instance is a standby or a read replica."),
        ErrorKind::EngineUnsupported | ErrorKind::NotSupported => {
            (400, "DBS.201207", "The operation is not supported for this instance.")
        }
        ErrorKind::BackupNameTaken => (409, "DBS.201201", "The backup name exists already."),
        ErrorKind::InstanceNameTaken => (409, "DBS.200022", "The instance name exists already."),
        ErrorKind::BackupInProgress
        | ErrorKind::InstanceBusy
        | ErrorKind::RestoreInProgress
        | ErrorKind::SweepInProgress => (409, "DBS.201202", "Another operation is running."),
        ErrorKind::InstanceState | ErrorKind::SourceRefused | ErrorKind::SourceUnreachable => {
            (400, "DBS.201014", "The status of the instance does not allow this operation.")
        }
        ErrorKind::BackupState | ErrorKind::BackupHeld => {
            (409, "DBS.201014", "The status of the backup does not allow this operation.")
        }
        ErrorKind::BackupBeingDeleted => (400, "DBS.201014", "The backup is being deleted."),
        ErrorKind::BackupNotManual => (409, "DBS.200402", "Only manual backups can be deleted."),
        ErrorKind::QuotaExceeded => (413, "DBS.216028", "The quota of manual backups is reached."),
        ErrorKind::NoRestorePoint => (400, "DBS.201203", "No backup can be used for that time."),
        ErrorKind::TargetTooSmall => (400, "DBS.200306", "The target is smaller than the source."),
        ErrorKind::ActionUnknown => (400, "DBS.280001", "Parameter error."),
        ErrorKind::DiskFull | ErrorKind::Unavailable => {
            (503, "DBS.200005", "The service cannot take this now.")
        }
        ErrorKind::SourceHostile
        | ErrorKind::Damage
        | ErrorKind::WrongKey
        | ErrorKind::TargetNotEmpty
        | ErrorKind::Fenced
        | ErrorKind::Cancelled
        | ErrorKind::Internal => (500, "DBS.200005", "Internal error."),
    }
}

fn parameter(field: Field) -> (u16, &'static str, &'static str) {
    match field {
        Field::BackupName => (400, "DBS.280277", "Invalid backup name."),
        Field::Description => (400, "DBS.280127", "Invalid description."),
        Field::InstanceRef | Field::BackupId | Field::JobId => (400, "DBS.280404", "Invalid id."),
        Field::Engine => (400, "DBS.280235", "Invalid engine."),
        Field::Password => (400, "DBS.280246", "Invalid password."),
        Field::Databases => (400, "DBS.280128", "Invalid databases."),
        Field::NewDatabaseName => (400, "DBS.201035", "Invalid name of a restored database."),
        Field::KeepDays => (400, "DBS.280250", "Invalid number of retention days."),
        Field::Period => (400, "DBS.280251", "Invalid backup cycle."),
        Field::StartTime => (400, "DBS.280253", "Invalid backup start time."),
        Field::Body
        | Field::InstanceName
        | Field::Host
        | Field::Port
        | Field::User
        | Field::Tls
        | Field::Token
        | Field::Tags
        | Field::Other => (400, "DBS.280001", "Parameter error."),
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

/// Code and message of an error: of an answer, or of a row in one.
pub(super) fn words(error: &Error) -> ErrorBody {
    let (_, code, sentence) = row(error.kind());
    let error_msg = match (tells_more(error.kind()), error.hint()) {
        (false, _) => sentence.to_owned(),
        (true, None) => format!("{sentence} {}", error.public()),
        (true, Some(hint)) => format!("{sentence} {} Hint: {hint}.", error.public()),
    };
    ErrorBody { error_code: code.to_owned(), error_msg }
}

/// The answer to a failed call.
pub(crate) fn refuse(error: &Error) -> Response {
    let status = StatusCode::from_u16(row(error.kind()).0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, axum::Json(words(error))).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/wire/v3/errors.txt");
    const HEAD: &str = "\
# The v3 error table: every kind of error, its status, its code, its sentence (contract section 2).
# Written by STRONGROOM_WRITE_GOLDEN=1 cargo nextest run -p strongroom-api the_v3_error_table
";

    /// The whole table, as people read it; a change shows here.
    #[test]
    fn the_v3_error_table() {
        crate::rds::table::check(TABLE, HEAD, row);
    }
}
