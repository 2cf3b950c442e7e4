//! Hints between processes: that there may be work. A hint may be lost or come for nothing; polling
//! is the truth. SQLite has none: there, one process does all.

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgListener;
use sqlx::query;
use strongroom_core::Result;

use crate::dialect::{Dialect, HINT, HINT_CHANNEL};
use crate::fault::Fault;
use crate::{Catalog, Inner, Tx};

/// Listens for hints of other processes, on a connection of its own.
pub struct Hints {
    url: SecretString,
    listener: Option<PgListener>,
}

impl Catalog {
    /// The hints of this catalog, where it has some.
    pub fn hints(&self) -> Option<Hints> {
        match self.inner.dialect {
            Dialect::Sqlite => None,
            Dialect::Postgres => Some(Hints { url: self.inner.url.clone(), listener: None }),
        }
    }
}

impl Hints {
    /// Waits for the next hint. The first call answers as soon as it listens: what was told before
    /// is unknown. An error means that the database is away; the next call begins anew.
    pub async fn next(&mut self) -> Result<()> {
        let Some(listener) = &mut self.listener else {
            let mut listener = PgListener::connect(self.url.expose_secret()).await.map_err(Fault::from)?;
            listener.listen(HINT_CHANNEL).await.map_err(Fault::from)?;
            self.listener = Some(listener);
            return Ok(());
        };
        match listener.recv().await {
            Ok(_) => Ok(()),
            Err(error) => {
                self.listener = None;
                Err(Fault::from(error).into())
            }
        }
    }
}

/// Tells the workers of all processes to look for work, when this transaction commits.
pub(crate) async fn tell_workers_in_tx(tx: &mut Tx, inner: &Inner) -> Result<(), Fault> {
    if inner.dialect == Dialect::Postgres {
        query(HINT).execute(&mut **tx).await?;
    }
    Ok(())
}
