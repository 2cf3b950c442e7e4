//! Small facts about this installation, readiness, and the check of the key.

use jiff::Timestamp;
use secrecy::ExposeSecret;
use sqlx::{query, query_scalar};
use strongroom_core::time::to_micros;
use strongroom_core::{Error, ErrorKind, Result};

use crate::fault::Fault;
use crate::transaction::{asking, reading, writing};
use crate::{Catalog, Tx};

/// A known text sealed with the key of the first start; only the same key opens it.
pub(crate) const KEY_CHECK: &str = "key check";
const KEY_CHECK_TEXT: &str = "this catalog is sealed with the right key";
/// Stored last of all that a first start stores.
pub(crate) const REPOSITORY_ID: &str = "repository.id";

impl Catalog {
    /// Whether no project exists yet: the very first start.
    pub async fn is_empty(&self) -> Result<bool> {
        asking!(self, |tx| {
            let projects: i64 = query_scalar("SELECT COUNT(*) FROM projects").fetch_one(&mut **tx).await?;
            Ok(projects == 0)
        })
    }

    /// Readiness: writes one row and reads it back, so that a full or read-only disk shows.
    pub async fn ping(&self) -> Result<()> {
        writing!(self, |tx| {
            query_scalar::<_, i64>("UPDATE heartbeats SET beats = beats + 1 WHERE id = 1 RETURNING beats")
                .fetch_one(&mut **tx)
                .await?;
            Ok(())
        })
    }

    pub async fn setting(&self, name: &str) -> Result<Option<String>> {
        reading!(self, |tx| setting_in_tx(tx, name).await)
    }

    pub async fn setting_put(&self, name: &str, value: &str, now: Timestamp) -> Result<()> {
        writing!(self, |tx| setting_put_in_tx(tx, name, value, now).await)
    }

    /// Which repository this catalog belongs to (faults.md D06, D07); `None` until the first start
    /// is complete.
    pub async fn repository_id(&self) -> Result<Option<String>> {
        self.setting(REPOSITORY_ID).await
    }

    /// Refuses a key that does not open what the first start sealed.
    pub(crate) async fn key_check(&self, now: Timestamp) -> Result<()> {
        let inner = &self.inner;
        writing!(self, |tx| {
            let Some(sealed) = setting_in_tx(tx, KEY_CHECK).await? else {
                let sealed = inner.sealer.seal(KEY_CHECK, KEY_CHECK_TEXT, inner.random.as_ref())?;
                return setting_put_in_tx(tx, KEY_CHECK, &sealed, now).await;
            };
            match inner.sealer.open(KEY_CHECK, &sealed) {
                Ok(text) if text.expose_secret() == KEY_CHECK_TEXT => Ok(()),
                _ => Err(wrong_key().into()),
            }
        })
    }
}

fn wrong_key() -> Error {
    Error::new(ErrorKind::WrongKey, "This recovery key does not belong to this catalog; nothing was changed.")
        .with_hint("Start with the recovery key that this catalog was made with.")
}

pub(crate) async fn setting_in_tx(tx: &mut Tx, name: &str) -> Result<Option<String>, Fault> {
    let select = "SELECT value FROM settings WHERE name = $1";
    Ok(query_scalar(select).bind(name).fetch_optional(&mut **tx).await?)
}

pub(crate) async fn setting_put_in_tx(
    tx: &mut Tx,
    name: &str,
    value: &str,
    now: Timestamp,
) -> Result<(), Fault> {
    query(
        "INSERT INTO settings (name, value, updated) VALUES ($1, $2, $3)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value, updated = excluded.updated",
    )
    .bind(name)
    .bind(value)
    .bind(to_micros(now))
    .execute(&mut **tx)
    .await?;
    Ok(())
}
