//! Access keys: pairs of an id and a secret that requests are signed with. A signature can only be
//! checked with the secret itself, so it is stored sealed.

use secrecy::{ExposeSecret, SecretString};
use sqlx::any::AnyRow;
use sqlx::{query, query_scalar};
use strongroom_core::Result;
use strongroom_core::id::{ProjectId, UserId};
use strongroom_core::time::to_micros;

use crate::audit::AuditEvent;
use crate::fault::Fault;
use crate::identity::{AccessKey, AccessKeyOwner, Role, project_id};
use crate::row::Columns;
use crate::session::{Bearer, Credential};
use crate::transaction::{asking, writing};
use crate::{Catalog, Inner, Tx};

impl Catalog {
    pub async fn access_key_create(
        &self,
        key: &AccessKey,
        secret: &SecretString,
        audit: &AuditEvent,
    ) -> Result<()> {
        writing!(self, |tx| {
            access_key_create_in_tx(tx, &self.inner, key, secret).await?;
            tx.note(audit)
        })
    }

    /// The owner of an access key, its secret opened.
    pub async fn access_key_find(&self, id: &str) -> Result<Option<AccessKeyOwner>> {
        asking!(self, |tx| {
            let select = "SELECT k.id, k.secret_sealed, k.user_id, k.project_id, k.role, k.created,
                    k.created AS issued, a.role AS assigned, 0 AS domain_scoped, k.role AS role_max,
                    u.name AS user_name, u.domain_id, u.domain_admin, p.name AS project_name, p.domain_name
                 FROM access_keys k JOIN users u ON u.id = k.user_id JOIN projects p ON p.id = k.project_id
                 JOIN role_assignments a ON a.user_id = k.user_id AND a.project_id = k.project_id
                 WHERE k.id = $1";
            let Some(row) = query(select).bind(id).fetch_optional(&mut **tx).await? else {
                return Ok(None);
            };
            let key = key_from_row(&row)?;
            let bearer = Bearer::from_row(&row, Credential::AccessKey(key.id.clone()), None, "signature")?;
            let secret = self.inner.sealer.open(&secret_place(&key.id), &row.text("secret_sealed")?)?;
            Ok(Some(AccessKeyOwner { key, bearer, secret }))
        })
    }

    /// The access keys of a project, oldest first.
    pub async fn access_key_list(&self, project: &ProjectId) -> Result<Vec<AccessKey>> {
        asking!(self, |tx| {
            let select = "SELECT id, user_id, project_id, role, created
                 FROM access_keys WHERE project_id = $1 ORDER BY created, id";
            let rows = query(select).bind(project.as_str()).fetch_all(&mut **tx).await?;
            rows.iter().map(key_from_row).collect()
        })
    }

    /// Takes an access key away; says whether there was one.
    pub async fn access_key_revoke(&self, project: &ProjectId, id: &str, audit: &AuditEvent) -> Result<bool> {
        writing!(self, |tx| {
            let delete = "DELETE FROM access_keys WHERE id = $1 AND project_id = $2 RETURNING id";
            let gone: Option<String> =
                query_scalar(delete).bind(id).bind(project.as_str()).fetch_optional(&mut **tx).await?;
            if gone.is_some() {
                tx.note(audit)?;
            }
            Ok(gone.is_some())
        })
    }
}

pub(crate) async fn access_key_create_in_tx(
    tx: &mut Tx,
    inner: &Inner,
    key: &AccessKey,
    secret: &SecretString,
) -> Result<(), Fault> {
    let sealed = inner.sealer.seal(&secret_place(&key.id), secret.expose_secret(), inner.random.as_ref())?;
    query(
        "INSERT INTO access_keys (id, secret_sealed, user_id, project_id, role, created)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(key.id.as_str())
    .bind(sealed)
    .bind(key.user_id.as_str())
    .bind(key.project_id.as_str())
    .bind(key.role.word())
    .bind(to_micros(key.created))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Where the secret of an access key stands, for sealing.
fn secret_place(id: &str) -> String {
    format!("access key secret {id}")
}

fn key_from_row(row: &AnyRow) -> Result<AccessKey, Fault> {
    Ok(AccessKey {
        id: row.text("id")?,
        user_id: UserId::from_stored(row.text("user_id")?),
        project_id: project_id(row, "project_id")?,
        role: row.word("role", Role::from_word)?,
        created: row.time("created")?,
    })
}
