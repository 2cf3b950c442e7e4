//! How a command ends: the exit codes of `strongroom`, as far as they can occur here.

use std::process::ExitCode;

use strongroom_core::ErrorKind;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    /// A target that is not empty, a deleted backup.
    Refused = 4,
    DamageFound = 5,
    Unusable = 6,
    WrongKey = 7,
}

impl Exit {
    pub(crate) fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Parameter(_) => Self::Usage,
            ErrorKind::BackupNotFound => Self::NotFound,
            ErrorKind::TargetNotEmpty | ErrorKind::BackupState | ErrorKind::NotSupported => Self::Refused,
            ErrorKind::Damage => Self::DamageFound,
            ErrorKind::Unavailable => Self::Unusable,
            ErrorKind::WrongKey => Self::WrongKey,
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
