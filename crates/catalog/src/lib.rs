//! The metadata database; the only crate that knows SQL.
//!
//! # What is stored, and why
//!
//! | Stored | Why | Can be rebuilt from the repository |
//! |---|---|---|
//! | projects, users and their roles, tokens and sessions (digests), access keys (sealed) | who may do what | no: they are issued anew |
//! | instances, their passwords sealed | where the sources are | partly: manifests name them, passwords are typed again |
//! | tags of instances | what people file them under | no: they are set anew |
//! | backups that are COMPLETED | what callers see and ask for | yes, all of them |
//! | backups BUILDING, FAILED or DELETING, and jobs | durable wishes and work in progress | no: work in progress ends with the catalog |
//! | policies, and what was begun by them | when backups begin by themselves, how long they stay | no: they are set anew |
//! | captures of logs, and the ranges that are held | whose log is captured, and what time it leads to | ranges yes, times no |
//! | verifications | when a backup was last proved good | no: a backup is verified again |
//! | quotas | how many manual backups a project may have | the count yes, the limit is configuration |
//! | audit events, each with the digest of the one before | who did what | no |
//!
//! Losing the catalog is an inconvenience, losing the repository is the disaster. A copy of the
//! catalog alone opens no database: every secret in it is sealed with a key that is not in it.
//!
//! # Rules
//!
//! * One public function is one transaction, on a file its turn in one that is shared (`turns`); what
//!   it answers is on the disk. No transaction type leaves this crate, so no row stays locked while
//!   bytes of a backup move.
//! * Whatever a worker changes about a job carries the job's [`Fence`](strongroom_core::job::Fence)
//!   and changes exactly one row, or the answer is `Fenced` and nothing was changed.
//! * States move by compare-and-set; partial unique indexes and checks hold the same rules again.
//! * Times are bound from the caller's clock; no statement on a row asks the database for one. The
//!   caller may ask what time a shared database has, and count from there.
//! * Hints between processes are never needed: whoever misses one finds the work by polling.
//! * Transactions lock rows in one order, so that they cannot wait for one another in a circle:
//!   instance, tags, policy, capture, job, backup, quota, audit head.
//!
//! It must never know HTTP, an engine, or a byte of a backup.

mod access_key;
mod audit;
mod backup;
mod bearers;
mod dialect;
mod fault;
mod first_start;
mod hints;
mod identity;
mod instance;
mod instance_facts;
mod invariants;
mod job;
mod logs;
mod migration;
mod policy;
mod quota;
mod reading;
mod row;
mod seal;
mod server;
mod session;
mod setting;
mod tag;
mod token;
mod transaction;
mod turns;
mod user;
mod verification;

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use secrecy::SecretString;
use sqlx::AnyPool;
use strongroom_core::Result;
use strongroom_core::time::Randomness;

pub use audit::{AuditEvent, AuditRecord};
pub use backup::{BackupFilter, BackupSlice, Cursor, Deletable, DeleteAdmitted, Published};
pub use first_start::{FirstRows, FirstStartTurn};
pub use hints::Hints;
pub use identity::{AccessKey, AccessKeyOwner, Assignment, Project, Role, User};
pub use instance_facts::InstanceFacts;
pub use job::{CancelAsked, Claim, JobFilter, JobSlice, JobSliceFilter, Move, Moved, Renewal, SweepStanding};
pub use logs::{LogBegun, LogClaim, LogStanding};
pub use policy::{DueStart, Expired, PolicyRow, RetentionRow, StartRow, Started};
pub use reading::{InstanceReading, MetricsReading};
pub use session::{Bearer, BearerProject, Credential, SessionRow};
pub use token::TokenRow;

use bearers::Bearers;
use dialect::Dialect;
use seal::Sealer;
use transaction::Tx;
use turns::Turns;

/// The metadata database. Cheap to clone; all clones share their connections.
#[derive(Clone)]
pub struct Catalog {
    inner: Arc<Inner>,
}

struct Inner {
    dialect: Dialect,
    /// With its password: only for a connection outside the pools.
    url: SecretString,
    /// SQLite has one writer at a time: its pool holds one connection, which makes a fair queue.
    writers: AnyPool,
    readers: AnyPool,
    /// On a file.
    turns: Option<Turns>,
    bearers: Bearers,
    sealer: Sealer,
    /// Keys the audit chain, so that it cannot be forged with the database alone.
    audit_key: [u8; 32],
    link_key: [u8; 32],
    random: Arc<dyn Randomness>,
}

impl Catalog {
    /// Opens (and creates or migrates) the database at `url`: `sqlite:///path`, `sqlite::memory:`
    /// or `postgres://…`. `key` seals the secrets; another key than the one that was used before
    /// is refused with `WrongKey` and nothing is changed.
    pub async fn open(url: &str, key: [u8; 32], random: Arc<dyn Randomness>, now: Timestamp) -> Result<Self> {
        let dialect = Dialect::of(url)?;
        let (writers, readers) = dialect.connect(url).await?;
        migration::run(&writers).await?;
        let inner = Inner {
            dialect,
            url: SecretString::from(url),
            writers,
            readers,
            turns: (dialect == Dialect::Sqlite).then(Turns::default),
            bearers: Bearers::new(dialect == Dialect::Sqlite),
            sealer: Sealer::new(&key),
            audit_key: blake3::derive_key("strongroom v1 catalog audit chain", &key),
            link_key: blake3::derive_key("strongroom v1 download links", &key),
            random,
        };
        let catalog = Self { inner: Arc::new(inner) };
        catalog.key_check(now).await?;
        Ok(catalog)
    }

    /// Signs download links: the same in every process on this catalog, and not in the database.
    pub fn link_key(&self) -> [u8; 32] {
        self.inner.link_key
    }

    /// Closes every connection; work that is under way ends first.
    pub async fn close(&self) {
        self.inner.readers.close().await;
        self.inner.writers.close().await;
    }
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalog").field("dialect", &self.inner.dialect).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send<T: Send>(_: T) {}

    /// Handlers run on any thread: what this crate answers with must be able to move.
    #[tokio::test]
    async fn futures_can_move_between_threads() {
        struct Zero;
        impl Randomness for Zero {
            fn fill(&self, bytes: &mut [u8]) {
                bytes.fill(0);
            }
        }
        let catalog =
            Catalog::open("sqlite::memory:", [0; 32], Arc::new(Zero), Timestamp::UNIX_EPOCH).await.unwrap();
        send(catalog.ping());
        send(catalog.metrics_reading(Timestamp::UNIX_EPOCH));
        catalog.ping().await.unwrap();
    }
}
