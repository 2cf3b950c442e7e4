//! Writers of a file take turns, and share the wait for the disk.
//!
//! One transaction at a time writes to a file, and its end is a wait for the disk. So those who came
//! meanwhile work in the next transaction one after another, each in a savepoint of their own: what
//! one of them undoes does not touch what the others did. It ends once for all of them, and only then
//! is anybody answered.
//!
//! Whoever begins a transaction leaves its end to a task that waits for its own turn: turns are taken
//! in the order of coming, so all who waited at that moment are in, and nobody who goes away in the
//! middle can keep the others waiting.

use std::sync::Arc;
use std::time::Duration;

use sqlx::query;
use tokio::sync::{Mutex, OwnedMutexGuard, watch};

use crate::Tx;
use crate::fault::Fault;

/// As it is answered to each who shared the transaction.
type Ended = Result<(), Arc<sqlx::Error>>;

#[derive(Clone, Default)]
pub(crate) struct Turns {
    shared: Arc<Mutex<Option<Shared>>>,
}

/// A transaction that has begun and not ended.
struct Shared {
    tx: Tx,
    ended: watch::Sender<Option<Ended>>,
    /// Somebody works in it, or went away in the middle.
    is_in_savepoint: bool,
    /// The database took it back by itself, as it does when its disk is full: nothing of it stands.
    is_lost: bool,
}

/// The right to write until it is given back.
pub(crate) struct Turn {
    place: OwnedMutexGuard<Option<Shared>>,
}

impl Turns {
    /// Waits for the turn and begins a savepoint, in a transaction of `begin` when there is none.
    pub(crate) async fn take(
        &self,
        timeout: Duration,
        begin: impl Future<Output = Result<Tx, sqlx::Error>>,
    ) -> Result<Turn, Fault> {
        let mut place = tokio::time::timeout(timeout, self.shared.clone().lock_owned())
            .await
            .map_err(|_elapsed| sqlx::Error::PoolTimedOut)?;
        if let Some(shared) = place.as_mut() {
            shared.settle().await;
        }
        if let Some(lost) = place.take_if(|shared| shared.is_lost) {
            lost.end().await;
        }
        if place.is_none() {
            *place = Some(Shared::new(begin.await?));
            let turns = self.clone();
            tokio::spawn(async move {
                let shared = turns.shared.lock().await.take();
                if let Some(shared) = shared {
                    shared.end().await;
                }
            });
        }
        let mut turn = Turn { place };
        let shared = turn.shared()?;
        shared.is_in_savepoint = true;
        query("SAVEPOINT turn").execute(&mut *shared.tx).await?;
        Ok(turn)
    }
}

impl Shared {
    fn new(tx: Tx) -> Self {
        Self { tx, ended: watch::Sender::new(None), is_in_savepoint: false, is_lost: false }
    }

    /// Undoes what somebody left in the middle.
    async fn settle(&mut self) {
        if self.is_in_savepoint && !self.is_lost {
            let undone = async {
                query("ROLLBACK TO turn").execute(&mut *self.tx).await?;
                query("RELEASE turn").execute(&mut *self.tx).await
            };
            self.is_lost = undone.await.is_err();
        }
        self.is_in_savepoint = false;
    }

    async fn end(mut self) {
        self.settle().await;
        let ended = if self.is_lost {
            // What cannot be undone now is undone by the drop; there is nothing left to lose.
            let _ = self.tx.rollback().await;
            Err(sqlx::Error::BeginFailed)
        } else {
            self.tx.commit().await
        };
        self.ended.send_replace(Some(ended.map_err(Arc::new)));
    }
}

impl Turn {
    fn shared(&mut self) -> Result<&mut Shared, Fault> {
        // It is taken out of its place by nobody else while the turn lasts.
        self.place.as_mut().ok_or_else(|| sqlx::Error::WorkerCrashed.into())
    }

    pub(crate) fn tx(&mut self) -> Result<&mut Tx, Fault> {
        Ok(&mut self.shared()?.tx)
    }

    /// Gives the turn back, and answers what worked when it is on the disk.
    pub(crate) async fn conclude<T>(mut self, worked: Result<T, Fault>) -> Result<T, Fault> {
        let shared = self.shared()?;
        let value = match worked {
            Ok(value) => value,
            Err(fault) => {
                shared.settle().await;
                return Err(fault);
            }
        };
        if let Err(error) = query("RELEASE turn").execute(&mut *shared.tx).await {
            shared.is_lost = true;
            return Err(error.into());
        }
        shared.is_in_savepoint = false;
        let mut ended = shared.ended.subscribe();
        drop(self);
        let ended = ended.wait_for(Option::is_some).await.map_err(|_gone| sqlx::Error::WorkerCrashed)?;
        match &*ended {
            Some(Err(error)) => Err(Fault::Shared(error.clone())),
            _ => Ok(value),
        }
    }
}
