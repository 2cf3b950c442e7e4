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
    is_worked_in: bool,
    /// What was noted for the audit chain before the savepoint.
    noted: usize,
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
            shared.open().await;
        }
        if let Some(lost) = place.take_if(|shared| shared.is_lost) {
            lost.end().await;
        }
        if place.is_none() {
            let mut shared = Shared::new(begin.await?);
            query("SAVEPOINT turn").execute(&mut *shared.tx).await?;
            *place = Some(shared);
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
        shared.is_worked_in = true;
        shared.noted = shared.tx.noted();
        Ok(turn)
    }
}

impl Shared {
    fn new(tx: Tx) -> Self {
        Self { tx, ended: watch::Sender::new(None), is_worked_in: false, noted: 0, is_lost: false }
    }

    /// Undoes what somebody left in the middle.
    async fn settle(&mut self) {
        if self.is_worked_in && !self.is_lost {
            self.is_lost = query("ROLLBACK TO turn").execute(&mut *self.tx).await.is_err();
            self.tx.forget_from(self.noted);
        }
        self.is_worked_in = false;
    }

    /// A savepoint for the next one. There is none to give up when the database took all of it back.
    async fn open(&mut self) {
        if !self.is_lost {
            self.is_lost = query("RELEASE turn; SAVEPOINT turn").execute(&mut *self.tx).await.is_err();
        }
    }

    async fn end(mut self) {
        self.settle().await;
        if !self.is_lost {
            self.is_lost = query("RELEASE turn").execute(&mut *self.tx).await.is_err();
        }
        let ended = if self.is_lost {
            // What cannot be undone now is undone by the drop; there is nothing left to lose.
            let _ = self.tx.rollback().await;
            Err(Arc::new(sqlx::Error::BeginFailed))
        } else {
            self.tx.commit().await.map_err(Fault::shared)
        };
        self.ended.send_replace(Some(ended));
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
        shared.is_worked_in = false;
        let mut ended = shared.ended.subscribe();
        drop(self);
        let ended = ended.wait_for(Option::is_some).await.map_err(|_gone| sqlx::Error::WorkerCrashed)?;
        match &*ended {
            Some(Err(error)) => Err(Fault::Shared(error.clone())),
            _ => Ok(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use sqlx::AnyPool;

    use super::*;
    use crate::audit::AuditEvent;
    use crate::dialect::Dialect;

    const TIMEOUT: Duration = Duration::from_secs(30);

    struct File {
        writers: AnyPool,
        readers: AnyPool,
        turns: Turns,
        begun: AtomicU32,
        _folder: tempfile::TempDir,
    }

    impl File {
        async fn new() -> Arc<Self> {
            let folder = tempfile::tempdir().unwrap();
            let url = format!("sqlite://{}", folder.path().join("catalog.db").display());
            let (writers, readers) = Dialect::Sqlite.connect(&url).await.unwrap();
            crate::migration::run(&writers).await.unwrap();
            query("CREATE TABLE notes (note INTEGER PRIMARY KEY)").execute(&writers).await.unwrap();
            let begun = AtomicU32::new(0);
            Arc::new(Self { writers, readers, turns: Turns::default(), begun, _folder: folder })
        }

        async fn take(&self) -> Result<Turn, Fault> {
            let begin = async {
                self.begun.fetch_add(1, Ordering::Relaxed);
                Tx::begin_write(&self.writers, Dialect::Sqlite, [0; 32]).await
            };
            self.turns.take(TIMEOUT, begin).await
        }

        async fn write(self: Arc<Self>, note: i64) -> Result<(), Fault> {
            let mut turn = self.take().await?;
            let worked = insert(&mut turn, note).await;
            turn.conclude(worked).await
        }

        async fn notes(&self) -> Vec<i64> {
            sqlx::query_scalar("SELECT note FROM notes ORDER BY note").fetch_all(&self.readers).await.unwrap()
        }
    }

    async fn insert(turn: &mut Turn, note: i64) -> Result<(), Fault> {
        query("INSERT INTO notes VALUES ($1)").bind(note).execute(&mut **turn.tx()?).await?;
        Ok(())
    }

    /// Starts writers that have to wait for a turn that is held, in this order.
    async fn queue(file: &Arc<File>, notes: &[i64]) -> Vec<tokio::task::JoinHandle<Result<(), Fault>>> {
        let mut writers = Vec::new();
        for note in notes {
            writers.push(tokio::spawn(file.clone().write(*note)));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        writers
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_waited_together_ends_together_and_a_failure_is_ones_own() {
        let file = File::new().await;
        let mut first = file.take().await.unwrap();
        insert(&mut first, 0).await.unwrap();
        let writers = queue(&file, &[1, 0, 2]).await;
        assert_eq!(file.notes().await, [0; 0], "nobody sees what has not ended");
        first.conclude(Ok(())).await.unwrap();
        let mut ends = Vec::new();
        for writer in writers {
            ends.push(writer.await.unwrap().is_ok());
        }
        assert_eq!(ends, [true, false, true], "the second one's row exists already");
        assert_eq!(file.notes().await, [0, 1, 2]);
        assert!(file.begun.load(Ordering::Relaxed) <= 2, "four writers, and no transaction for each");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn i10_what_was_undone_is_not_in_the_audit_chain() {
        fn did(turn: &mut Turn, what: &str) -> Result<(), Fault> {
            let event = AuditEvent {
                at: jiff::Timestamp::UNIX_EPOCH,
                project_id: None,
                actor: "somebody".to_owned(),
                action: "note.write",
                object: what.to_owned(),
                request_id: None,
                detail: serde_json::Value::Null,
            };
            turn.tx()?.note(&event)
        }
        let file = File::new().await;
        let mut first = file.take().await.unwrap();
        insert(&mut first, 0).await.unwrap();
        did(&mut first, "first").unwrap();
        let others: Vec<_> = ["undone", "left", "last"]
            .into_iter()
            .map(|what| {
                let file = file.clone();
                tokio::spawn(async move {
                    let mut turn = file.take().await.unwrap();
                    did(&mut turn, what).unwrap();
                    match what {
                        "undone" => {
                            let twice = insert(&mut turn, 0).await;
                            assert!(turn.conclude(twice).await.is_err());
                        }
                        "left" => drop(turn),
                        _ => turn.conclude(Ok(())).await.unwrap(),
                    }
                })
            })
            .collect();
        first.conclude(Ok(())).await.unwrap();
        for other in others {
            other.await.unwrap();
        }
        let select = "SELECT object FROM audit_events ORDER BY sequence";
        let told: Vec<String> = sqlx::query_scalar(select).fetch_all(&file.readers).await.unwrap();
        assert_eq!(told, ["first", "last"]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_goes_away_in_the_middle_undoes_their_own_and_keeps_nobody_waiting() {
        let file = File::new().await;
        let mut first = file.take().await.unwrap();
        insert(&mut first, 0).await.unwrap();
        let writers = queue(&file, &[1]).await;
        drop(first);
        for writer in writers {
            tokio::time::timeout(TIMEOUT, writer).await.unwrap().unwrap().unwrap();
        }
        assert_eq!(file.notes().await, [1]);

        // The last one of all: nobody comes who could clear up.
        let mut alone = file.take().await.unwrap();
        insert(&mut alone, 5).await.unwrap();
        drop(alone);
        tokio::time::timeout(TIMEOUT, file.clone().write(2)).await.unwrap().unwrap();
        assert_eq!(file.notes().await, [1, 2]);
    }

    /// What SQLite does by itself when its disk is full.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn d02_what_the_database_took_back_is_answered_to_nobody_as_done() {
        let file = File::new().await;
        let mut first = file.take().await.unwrap();
        insert(&mut first, 0).await.unwrap();
        let before = queue(&file, &[1]).await;
        let spoiler = {
            let file = file.clone();
            tokio::spawn(async move {
                let mut turn = file.take().await.unwrap();
                query("ROLLBACK").execute(&mut **turn.tx().unwrap()).await.unwrap();
                turn.conclude::<()>(Err(sqlx::Error::PoolTimedOut.into())).await
            })
        };
        tokio::time::sleep(Duration::from_millis(20)).await;
        let after = queue(&file, &[2]).await;
        let first = first.conclude(Ok(())).await;
        assert!(spoiler.await.unwrap().is_err());
        let mut told = if first.is_ok() { vec![0] } else { Vec::new() };
        for (note, writer) in [1, 2].into_iter().zip(before.into_iter().chain(after)) {
            if writer.await.unwrap().is_ok() {
                told.push(note);
            }
        }
        assert_eq!(file.notes().await, told, "done is what was told as done");
        assert!(!told.contains(&1), "it shared the transaction that was taken back");
        file.clone().write(7).await.unwrap();
        assert!(file.notes().await.contains(&7));
    }
}
