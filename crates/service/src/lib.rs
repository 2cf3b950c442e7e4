//! Use cases and durable work: the only crate that decides.
//!
//! The adapters (HTTP, commands) call [`Service`]; workers run its jobs. It knows the catalog, the
//! repository and the engines by their ports, and must never know HTTP, SQL or a byte of an
//! engine's protocol.

mod accounts;
mod archive;
mod backups;
mod bootstrap;
pub mod content;
mod doctor;
mod downloads;
mod endpoint_policy;
mod engines;
mod failure;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod guesses;
mod identity;
mod instances;
mod jobs;
mod login;
mod logs;
mod measures;
mod parts;
mod passwords;
mod policies;
mod procedures;
mod reading;
mod recovery_kit;
mod refusals;
mod repository_state;
mod restores;
mod sandbox;
mod schedule;
mod shared_time;
mod signature;
mod tags;
mod tokens;
pub mod work;

pub use accounts::{IssuedKey, NewUser};
pub use backups::{BackupRef, BackupsWanted};
pub use bootstrap::{Bootstrap, FirstStart};
pub use downloads::{Download, DownloadClaim, DownloadLink};
pub use engines::Engines;
pub use failure::{KINDS, code_of, kind_of};
pub use identity::{Action, Caller, Scope};
pub use instances::{Added, InstanceSlice, InstancesWanted, ListedInstance, NameWanted, NewInstance};
pub use jobs::{JobDetail, JobRow, JobRows, JobsWanted};
pub use login::{DomainRef, LogIn, ProjectRef, Proof, ScopeWish, Turned, UserRef};
pub use logs::LogDetail;
pub use measures::Measurement;
pub use parts::{Parts, Service, Settings};
pub use policies::{PolicyDetail, RetentionHold};
pub use reading::RestoreFacts;
pub use recovery_kit::RecoveryKit;
pub use refusals::Refusal;
pub use repository_state::SweepWish;
pub use schedule::{Looked, Scheduler};
pub use shared_time::ClockTrouble;
pub use signature::{SignedClaim, sha256_hex, signature_of};
pub use tokens::{IssuedToken, NewToken};

/// What callers see of the catalog's own types.
pub use strongroom_catalog::{
    AccessKey, Assignment, BackupFilter, BackupSlice, Bearer, Cursor, InstanceFacts, LogStanding,
    MetricsReading, Project, RetentionRow, Role, StartRow, SweepStanding, TokenRow, User,
};
pub use strongroom_repository::{BackupReader, RepositoryStat, Share, SweepReport};
/// The one writer of restored files.
pub use strongroom_restore as restore;
