//! How a public function becomes one transaction: begin, work, commit, and again when the database
//! gave it up for the sake of another one.
//!
//! `writing!` and `reading!` are macros because a closure that borrows the transaction cannot yet be
//! shown to be `Send`, and every future of this crate has to be.

use std::time::Duration;

use sqlx::{Any, Transaction};
use strongroom_core::{Error, Result};

use crate::Catalog;
use crate::fault::Fault;

/// A transaction; never leaves the crate. Dropping it undoes it.
pub(crate) type Tx = Transaction<'static, Any>;

/// How often a transaction that lost a race against another one is begun.
const TRIES_MAX: u32 = 3;
/// Pause before the second try, doubled for each one after.
const PAUSE_BASE_MS: u64 = 5;

/// Runs a body that answers `Result<_, Fault>` in one writing transaction and commits it. The body
/// may run more than once, so it must have no effect outside the transaction.
macro_rules! writing {
    ($catalog:expr, |$tx:ident| $body:expr) => {{
        let mut tries = 0;
        loop {
            let written: Result<_, $crate::fault::Fault> = async {
                let mut transaction = $catalog.begin_write().await?;
                let worked: Result<_, $crate::fault::Fault> = {
                    let $tx = &mut transaction;
                    async { $body }.await
                };
                $crate::transaction::conclude(transaction, worked).await
            }
            .await;
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

pub(crate) use {reading, writing};

impl Catalog {
    pub(crate) async fn begin_write(&self) -> Result<Tx, Fault> {
        Ok(self.inner.writers.begin_with(self.inner.dialect.begin_write()).await?)
    }

    pub(crate) async fn begin_read(&self) -> Result<Tx, Fault> {
        Ok(self.inner.readers.begin_with(self.inner.dialect.begin_read()).await?)
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
