//! One error type for every layer below the adapters.
//!
//! An error is a pair: what may be shown to a caller (`public`, `hint`) and what only the log
//! sees (`source`). `ErrorKind` is closed and matched without wildcard by every dialect, so a
//! new kind does not compile until each dialect has decided on its code.

use std::borrow::Cow;
use std::fmt;

/// The result of anything that can fail with a domain error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The request field a rule was broken by; adapters name it in their own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// The body as a whole: absent, not JSON, not an object.
    Body,
    BackupName,
    Description,
    /// The instance, node or any other id given as a reference.
    InstanceRef,
    BackupId,
    JobId,
    InstanceName,
    Engine,
    Host,
    Port,
    User,
    Password,
    Tls,
    Token,
    /// The databases of a backup that is not of all of them.
    Databases,
    /// The name that a restored database is to get.
    NewDatabaseName,
    /// How many days a policy keeps automated backups.
    KeepDays,
    /// The weekdays of a policy.
    Period,
    /// The hour in which a policy begins its backups.
    StartTime,
    /// The tags of an instance.
    Tags,
    /// A query parameter or a native field without a type of its own.
    Other,
}

/// Everything that can go wrong, in words no dialect owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A field breaks its rule; nothing was stored.
    Parameter(Field),
    /// A body is needed and none came.
    BodyMissing,
    BodyTooLarge,
    TooManyRequests,
    NotAuthenticated,
    /// The token is valid, but not for the project in the path.
    WrongProject,
    /// The caller lacks the right for the action.
    NotAllowed,
    RouteUnknown,
    MethodNotAllowed,
    InstanceNotFound,
    BackupNotFound,
    JobNotFound,
    /// Standby or read replica where the primary is needed.
    InstanceNotPrimary,
    EngineUnsupported,
    BackupNameTaken,
    InstanceNameTaken,
    /// A backup is BUILDING on that instance.
    BackupInProgress,
    /// Another operation runs on the instance.
    InstanceBusy,
    /// The instance cannot be used now: unreachable, lacking a right, still registering.
    InstanceState,
    /// The backup is not in a state that allows the call.
    BackupState,
    BackupBeingDeleted,
    /// An automated backup cannot be deleted by hand.
    BackupNotManual,
    BackupHeld,
    QuotaExceeded,
    RestoreInProgress,
    /// No backup and no log reaches the moment that was asked for.
    NoRestorePoint,
    /// The target of a restore has less room than its source takes.
    TargetTooSmall,
    /// A sweep of the repository runs; one at a time.
    SweepInProgress,
    /// The call is known, what it is to do is not.
    ActionUnknown,
    /// Not offered for this instance or not yet offered at all.
    NotSupported,
    /// A check of the source failed before anything was saved (right, setting, version).
    SourceRefused,
    /// The source database could not be reached, or the connection broke.
    SourceUnreachable,
    /// The source sent something that must not be believed: a hostile name, a lying size.
    SourceHostile,
    /// A stored byte is not what was written.
    Damage,
    /// The key given does not open this repository.
    WrongKey,
    /// No room left where bytes had to be written.
    DiskFull,
    /// The restore target holds files already.
    TargetNotEmpty,
    /// The lease was lost: another worker owns the job, touch nothing.
    Fenced,
    /// Somebody asked for the end of it.
    Cancelled,
    /// The catalog, the disk or the repository cannot be used now; trying later is right.
    Unavailable,
    Internal,
}

/// Whether trying the same again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The same call may succeed later.
    Later,
    /// It will fail again until somebody changes something.
    Never,
}

/// A failure: kind, public sentence, hint, and the chain for the log.
pub struct Error {
    kind: ErrorKind,
    public: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
    retry: Retry,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// `public` is shown to callers: say what happened and whether data is safe; no secrets.
    pub fn new(kind: ErrorKind, public: impl Into<Cow<'static, str>>) -> Self {
        let retry = default_retry(kind);
        Self { kind, public: public.into(), hint: None, retry, source: None }
    }

    /// A field broke its rule.
    pub fn parameter(field: Field, public: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Parameter(field), public)
    }

    /// A fault of ours. The caller sees a constant sentence, the log sees `source`.
    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Internal, "An internal error occurred; nothing that was acknowledged is lost.")
            .with_source(source)
    }

    /// The next step for the person who reads this.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The cause, for the log only.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Overrides the kind's usual answer to "can it help to try again?".
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// The same failure for a second listener: everything but the cause, which the first one logs.
    #[must_use]
    pub fn again(&self) -> Self {
        Self {
            kind: self.kind,
            public: self.public.clone(),
            hint: self.hint.clone(),
            retry: self.retry,
            source: None,
        }
    }

    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub fn public(&self) -> &str {
        &self.public
    }

    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    pub fn retry(&self) -> Retry {
        self.retry
    }

    /// The whole chain in one line, for the log. Never part of an answer.
    pub fn chain(&self) -> String {
        let mut text = format!("{:?}: {}", self.kind, self.public);
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}

fn default_retry(kind: ErrorKind) -> Retry {
    match kind {
        ErrorKind::SourceUnreachable
        | ErrorKind::Unavailable
        | ErrorKind::TooManyRequests
        | ErrorKind::InstanceBusy
        | ErrorKind::BackupInProgress
        | ErrorKind::RestoreInProgress
        | ErrorKind::SweepInProgress
        | ErrorKind::DiskFull
        | ErrorKind::Internal => Retry::Later,
        _ => Retry::Never,
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.chain())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.public)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}
