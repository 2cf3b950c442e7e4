//! From an error to what is recorded and shown: stable codes and public sentences.

use strongroom_core::backup::Failure;
use strongroom_core::{Error, ErrorKind, Field};

/// The stable code of a kind, as the native API, jobs and `explain` show it.
pub fn code_of(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Parameter(_) => "parameter",
        ErrorKind::BodyMissing => "body_missing",
        ErrorKind::BodyTooLarge => "body_too_large",
        ErrorKind::TooManyRequests => "too_many_requests",
        ErrorKind::NotAuthenticated => "not_authenticated",
        ErrorKind::WrongProject => "wrong_project",
        ErrorKind::NotAllowed => "not_allowed",
        ErrorKind::RouteUnknown => "route_unknown",
        ErrorKind::MethodNotAllowed => "method_not_allowed",
        ErrorKind::InstanceNotFound => "instance_not_found",
        ErrorKind::BackupNotFound => "backup_not_found",
        ErrorKind::JobNotFound => "job_not_found",
        ErrorKind::InstanceNotPrimary => "instance_not_primary",
        ErrorKind::EngineUnsupported => "engine_unsupported",
        ErrorKind::BackupNameTaken => "backup_name_taken",
        ErrorKind::InstanceNameTaken => "instance_name_taken",
        ErrorKind::BackupInProgress => "backup_in_progress",
        ErrorKind::InstanceBusy => "instance_busy",
        ErrorKind::InstanceState => "instance_state",
        ErrorKind::BackupState => "backup_state",
        ErrorKind::BackupBeingDeleted => "backup_being_deleted",
        ErrorKind::BackupNotManual => "backup_not_manual",
        ErrorKind::BackupHeld => "backup_held",
        ErrorKind::QuotaExceeded => "quota_exceeded",
        ErrorKind::RestoreInProgress => "restore_in_progress",
        ErrorKind::NoRestorePoint => "no_restore_point",
        ErrorKind::TargetTooSmall => "target_too_small",
        ErrorKind::SweepInProgress => "sweep_in_progress",
        ErrorKind::ActionUnknown => "action_unknown",
        ErrorKind::NotSupported => "not_supported",
        ErrorKind::SourceRefused => "source_refused",
        ErrorKind::SourceUnreachable => "source_unreachable",
        ErrorKind::SourceHostile => "source_hostile",
        ErrorKind::Damage => "damage",
        ErrorKind::WrongKey => "wrong_key",
        ErrorKind::DiskFull => "disk_full",
        ErrorKind::TargetNotEmpty => "target_not_empty",
        ErrorKind::Fenced => "fenced",
        ErrorKind::Cancelled => "cancelled",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Internal => "internal",
    }
}

/// What a job records of an error. The cause goes to the log only.
pub(crate) fn failure_of(error: &Error) -> Failure {
    Failure {
        code: code_of(error.kind()).to_owned(),
        message: error.public().to_owned(),
        hint: error.hint().map(str::to_owned),
    }
}

/// Every kind, for tables that must be complete.
pub const KINDS: [ErrorKind; 41] = [
    ErrorKind::Parameter(Field::Other),
    ErrorKind::BodyMissing,
    ErrorKind::BodyTooLarge,
    ErrorKind::TooManyRequests,
    ErrorKind::NotAuthenticated,
    ErrorKind::WrongProject,
    ErrorKind::NotAllowed,
    ErrorKind::RouteUnknown,
    ErrorKind::MethodNotAllowed,
    ErrorKind::InstanceNotFound,
    ErrorKind::BackupNotFound,
    ErrorKind::JobNotFound,
    ErrorKind::InstanceNotPrimary,
    ErrorKind::EngineUnsupported,
    ErrorKind::BackupNameTaken,
    ErrorKind::InstanceNameTaken,
    ErrorKind::BackupInProgress,
    ErrorKind::InstanceBusy,
    ErrorKind::InstanceState,
    ErrorKind::BackupState,
    ErrorKind::BackupBeingDeleted,
    ErrorKind::BackupNotManual,
    ErrorKind::BackupHeld,
    ErrorKind::QuotaExceeded,
    ErrorKind::RestoreInProgress,
    ErrorKind::NoRestorePoint,
    ErrorKind::TargetTooSmall,
    ErrorKind::SweepInProgress,
    ErrorKind::ActionUnknown,
    ErrorKind::NotSupported,
    ErrorKind::SourceRefused,
    ErrorKind::SourceUnreachable,
    ErrorKind::SourceHostile,
    ErrorKind::Damage,
    ErrorKind::WrongKey,
    ErrorKind::DiskFull,
    ErrorKind::TargetNotEmpty,
    ErrorKind::Fenced,
    ErrorKind::Cancelled,
    ErrorKind::Unavailable,
    ErrorKind::Internal,
];

/// The kind of a code that came over the wire.
pub fn kind_of(code: &str) -> Option<ErrorKind> {
    KINDS.into_iter().find(|kind| code_of(*kind) == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_found_again() {
        for kind in KINDS {
            assert_eq!(kind_of(code_of(kind)), Some(kind));
        }
    }
}
