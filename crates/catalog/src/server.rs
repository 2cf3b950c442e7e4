//! The database as seen from outside its rows: what it is, and what time it has.

use jiff::Timestamp;
use sqlx::query_scalar;
use strongroom_core::Result;
use strongroom_core::time::from_micros;

use crate::Catalog;
use crate::dialect::{Dialect, SERVER_TIME, SERVER_VERSION};
use crate::fault::Fault;

impl Catalog {
    /// The time of a database that several machines share, so that leases need no agreement of
    /// their clocks. `None` where the database has no other clock than ours.
    pub async fn server_time(&self) -> Result<Option<Timestamp>> {
        match self.inner.dialect {
            Dialect::Sqlite => Ok(None),
            Dialect::Postgres => {
                let micros: i64 =
                    query_scalar(SERVER_TIME).fetch_one(&self.inner.readers).await.map_err(Fault::from)?;
                Ok(Some(from_micros(micros)))
            }
        }
    }

    /// Whether other machines may work on this catalog too.
    pub fn is_shared(&self) -> bool {
        self.inner.dialect == Dialect::Postgres
    }

    /// Name and version of the database, for people.
    pub async fn server_version(&self) -> Result<String> {
        let statement = self.inner.dialect.spell(SERVER_VERSION);
        let version: String =
            query_scalar(statement).fetch_one(&self.inner.readers).await.map_err(Fault::from)?;
        Ok(match self.inner.dialect {
            Dialect::Sqlite => format!("SQLite {version}"),
            Dialect::Postgres => format!("PostgreSQL {version}"),
        })
    }

    /// Whether this process has closed it, which no waiting mends.
    pub fn is_closed(&self) -> bool {
        self.inner.writers.is_closed()
    }
}
