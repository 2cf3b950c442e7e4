//! How a public function becomes one transaction: begin, work, commit, and again when the database
//! gave it up for the sake of another one.
//!
//! `writing!`, `reading!` and `asking!` are macros because a closure that borrows the transaction cannot yet be
//! shown to be `Send`, and every future of this crate has to be.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::{Any, AnyConnection, AnyPool, Transaction};
use strongroom_core::{Error, Result};

use crate::Catalog;
use crate::audit::{self, AuditEvent, Link};
use crate::dialect::{ACQUIRE_TIMEOUT, Dialect};
use crate::fault::Fault;
use crate::turns::Turn;

/// A transaction; never leaves the crate. Dropping it undoes it.
pub(crate) struct Tx {
    transaction: Transaction<'static, Any>,
    dialect: Dialect,
    audit_key: [u8; 32],
    /// Appended to the audit chain at the end, all at once.
    noted: Vec<Link>,
}

impl Tx {
    pub(crate) async fn begin_write(
        writers: &AnyPool,
        dialect: Dialect,
        audit_key: [u8; 32],
    ) -> Result<Self, sqlx::Error> {
        Ok(Self::new(writers.begin_with(dialect.begin_write()).await?, dialect, audit_key))
    }

    fn new(transaction: Transaction<'static, Any>, dialect: Dialect, audit_key: [u8; 32]) -> Self {
        Self { transaction, dialect, audit_key, noted: Vec::new() }
    }

    /// What is done here, for the audit chain.
    pub(crate) fn note(&mut self, event: &AuditEvent) -> Result<(), Fault> {
        self.noted.push(Link::noted(event)?);
        Ok(())
    }

    /// How much was noted until now.
    pub(crate) fn noted(&self) -> usize {
        self.noted.len()
    }

    /// For a savepoint that is undone: nothing of what was noted in it was done.
    pub(crate) fn forget_from(&mut self, noted: usize) {
        self.noted.truncate(noted);
    }

    pub(crate) async fn commit(mut self) -> Result<(), Fault> {
        audit::append(&mut self.transaction, self.dialect, &self.audit_key, &mut self.noted).await?;
        Ok(self.transaction.commit().await?)
    }

    pub(crate) async fn rollback(self) -> Result<(), sqlx::Error> {
        self.transaction.rollback().await
    }
}

impl Deref for Tx {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        &self.transaction
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }
}

/// How often a transaction that lost a race against another one is begun.
const TRIES_MAX: u32 = 3;
/// Pause before the second try, doubled for each one after.
const PAUSE_BASE_MS: u64 = 5;

/// Runs a body that answers `Result<_, Fault>` in one writing transaction and commits it. The body
/// may run more than once, so it must have no effect outside the transaction.
macro_rules! writing {
    ($catalog:expr, |$tx:ident| $body:expr) => {
        $crate::transaction::writing!(@ $catalog, $catalog.inner.bearers.note_write(), |$tx| $body)
    };
    (@ $catalog:expr, $note:expr, |$tx:ident| $body:expr) => {{
        let mut tries = 0;
        loop {
            let written: Result<_, $crate::fault::Fault> = async {
                let mut writing = $catalog.begin_write().await?;
                let worked: Result<_, $crate::fault::Fault> = async {
                    let $tx = writing.tx()?;
                    $body
                }
                .await;
                writing.conclude(worked).await
            }
            .await;
            $note;
            match written {
                Ok(value) => break Ok(value),
                Err(fault) => {
                    tries += 1;
                    $crate::transaction::pause_or_give_up(fault, tries).await?;
                }
            }
        }
    }};
}

/// As `writing!`, for bodies that write of backups and jobs alone: whom credentials speak for stays as
/// it is, so what is remembered of that stays remembered.
macro_rules! writing_work {
    ($catalog:expr, |$tx:ident| $body:expr) => {
        $crate::transaction::writing!(@ $catalog, (), |$tx| $body)
    };
}

/// Runs a body that answers `Result<_, Fault>` on one unchanging view of the database.
macro_rules! reading {
    ($catalog:expr, |$tx:ident| $body:expr) => {{
        let read: Result<_, $crate::fault::Fault> = async {
            let mut transaction = $catalog.begin_read().await?;
            let worked: Result<_, $crate::fault::Fault> = {
                let $tx = &mut transaction;
                async { $body }.await
            };
            $crate::transaction::conclude(transaction, worked).await
        }
        .await;
        read.map_err(strongroom_core::Error::from)
    }};
}

/// Runs a body of one statement that answers `Result<_, Fault>`. One statement is an unchanging view
/// by itself: a transaction around it would only cost the ways to the database to begin and to end it.
macro_rules! asking {
    ($catalog:expr, |$connection:ident| $body:expr) => {{
        let asked: Result<_, $crate::fault::Fault> = async {
            let mut pooled = $catalog.inner.readers.acquire().await?;
            let $connection = &mut pooled;
            async { $body }.await
        }
        .await;
        asked.map_err(strongroom_core::Error::from)
    }};
}

pub(crate) use {asking, reading, writing, writing_work};

impl Catalog {
    pub(crate) async fn begin_write(&self) -> Result<Writing, Fault> {
        let inner = &self.inner;
        let begin = Tx::begin_write(&inner.writers, inner.dialect, inner.audit_key);
        match &inner.turns {
            Some(turns) => Ok(Writing::Turn(turns.take(ACQUIRE_TIMEOUT, begin).await?)),
            None => Ok(Writing::Alone(begin.await?)),
        }
    }

    pub(crate) async fn begin_read(&self) -> Result<Tx, Fault> {
        let inner = &self.inner;
        let transaction = inner.readers.begin_with(inner.dialect.begin_read()).await?;
        Ok(Tx::new(transaction, inner.dialect, inner.audit_key))
    }
}

/// Where a body writes: in a transaction of its own, or in its turn of one that is shared.
pub(crate) enum Writing {
    Alone(Tx),
    Turn(Turn),
}

impl Writing {
    pub(crate) fn tx(&mut self) -> Result<&mut Tx, Fault> {
        match self {
            Self::Alone(tx) => Ok(tx),
            Self::Turn(turn) => turn.tx(),
        }
    }

    /// Answers what worked when it is committed, and undoes what did not.
    pub(crate) async fn conclude<T>(self, worked: Result<T, Fault>) -> Result<T, Fault> {
        match self {
            Self::Alone(tx) => conclude(tx, worked).await,
            Self::Turn(turn) => turn.conclude(worked).await,
        }
    }
}

/// Commits what worked and undoes what did not.
pub(crate) async fn conclude<T>(transaction: Tx, worked: Result<T, Fault>) -> Result<T, Fault> {
    match worked {
        Ok(value) => {
            transaction.commit().await?;
            Ok(value)
        }
        Err(fault) => {
            // The first failure is the one to tell; what cannot be undone now is undone by the drop.
            let _ = transaction.rollback().await;
            Err(fault)
        }
    }
}

/// Waits before another try, or answers with the failure when another try is of no use.
pub(crate) async fn pause_or_give_up(fault: Fault, tries: u32) -> Result<()> {
    if tries >= TRIES_MAX || !fault.lost_a_race() {
        return Err(Error::from(fault));
    }
    tracing::warn!(tries, "A transaction gave way to another one and is begun anew.");
    tokio::time::sleep(Duration::from_millis(PAUSE_BASE_MS << tries)).await;
    Ok(())
}
