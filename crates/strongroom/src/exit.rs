//! How a command ends: the frozen exit codes, and the failure that is shown with them.

use std::process::ExitCode;

use strongroom_core::{Error, ErrorKind};
use strongroom_service::code_of;

/// The exit codes that scripts hold on to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    /// Policy, state, a target that is not empty.
    Refused = 4,
    VerificationFailed = 5,
    Unreachable = 6,
    WrongKey = 7,
}

impl Exit {
    pub(crate) fn from_clap(error: &clap::Error) -> Self {
        if error.use_stderr() { Self::Usage } else { Self::Done }
    }

    pub(crate) fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Parameter(_) | ErrorKind::BodyMissing | ErrorKind::BodyTooLarge => Self::Usage,
            ErrorKind::InstanceNotFound
            | ErrorKind::BackupNotFound
            | ErrorKind::JobNotFound
            | ErrorKind::RouteUnknown => Self::NotFound,
            ErrorKind::TooManyRequests
            | ErrorKind::NotAuthenticated
            | ErrorKind::WrongProject
            | ErrorKind::NotAllowed
            | ErrorKind::InstanceNotPrimary
            | ErrorKind::EngineUnsupported
            | ErrorKind::BackupNameTaken
            | ErrorKind::InstanceNameTaken
            | ErrorKind::BackupInProgress
            | ErrorKind::InstanceBusy
            | ErrorKind::InstanceState
            | ErrorKind::BackupState
            | ErrorKind::BackupBeingDeleted
            | ErrorKind::BackupNotManual
            | ErrorKind::BackupHeld
            | ErrorKind::QuotaExceeded
            | ErrorKind::RestoreInProgress
            | ErrorKind::NoRestorePoint
            | ErrorKind::TargetTooSmall
            | ErrorKind::SweepInProgress
            | ErrorKind::ActionUnknown
            | ErrorKind::NotSupported
            | ErrorKind::SourceRefused
            | ErrorKind::TargetNotEmpty => Self::Refused,
            ErrorKind::Damage => Self::VerificationFailed,
            ErrorKind::SourceUnreachable | ErrorKind::Unavailable => Self::Unreachable,
            ErrorKind::WrongKey => Self::WrongKey,
            ErrorKind::MethodNotAllowed
            | ErrorKind::SourceHostile
            | ErrorKind::DiskFull
            | ErrorKind::Fenced
            | ErrorKind::Cancelled
            | ErrorKind::Internal => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command stops, in the words a person gets.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) exit: Exit,
    /// A stable code for `strongroom explain`; none for mistakes on the command line.
    pub(crate) code: Option<String>,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) request_id: Option<String>,
}

/// What commands answer.
pub(crate) type Outcome<T> = Result<T, Stop>;

impl Stop {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, code: None, message: message.into(), hint: None, request_id: None }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    #[must_use]
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into()).filter(|hint: &String| !hint.is_empty());
        self
    }

    #[must_use]
    pub(crate) fn with_exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        if error.kind() == ErrorKind::Internal {
            // Nobody logs a command's cause for it; a person at the terminal may see it.
            let stop = Self::new(Exit::Failed, error.chain());
            return Self { code: Some(code_of(error.kind()).to_owned()), ..stop };
        }
        Self {
            exit: Exit::of(error.kind()),
            code: Some(code_of(error.kind()).to_owned()),
            message: error.public().to_owned(),
            hint: error.hint().map(str::to_owned),
            request_id: None,
        }
    }
}
