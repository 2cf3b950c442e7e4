//! How a public function becomes one transaction: begin, work, commit, and again when the database
//! gave it up for the sake of another one.
//!
//! `writing!`, `reading!` and `asking!` are macros because a closure that borrows the transaction cannot yet be
//! shown to be `Send`, and every future of this crate has to be.

use std::time::Duration;

use sqlx::{Any, Transaction};
use strongroom_core::{Error, Result};

use crate::Catalog;
use crate::dialect::ACQUIRE_TIMEOUT;
use crate::fault::Fault;
use crate::turns::Turn;

/// A transaction; never leaves the crate. Dropping it undoes it.
pub(crate) type Tx = Transaction<'static, Any>;

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
        let begin = self.inner.writers.begin_with(self.inner.dialect.begin_write());
        match &self.inner.turns {
            Some(turns) => Ok(Writing::Turn(turns.take(ACQUIRE_TIMEOUT, begin).await?)),
            None => Ok(Writing::Alone(begin.await?)),
        }
    }

    pub(crate) async fn begin_read(&self) -> Result<Tx, Fault> {
        Ok(self.inner.readers.begin_with(self.inner.dialect.begin_read()).await?)
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
