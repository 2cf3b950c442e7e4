//! Tokens: stored as digests, looked up by digest, gone at once when revoked.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{query, query_scalar};
use strongroom_core::Result;
use strongroom_core::id::{ProjectId, UserId};
use strongroom_core::time::to_micros;

use crate::audit::AuditEvent;
use crate::fault::Fault;
use crate::identity::{Role, project_id};
use crate::row::Columns;
use crate::session::{Bearer, Credential};
use crate::transaction::{asking, writing};
use crate::{Catalog, Tx};

/// A token's row; the token itself is shown once, at its creation, and stored nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    pub id: String,
    /// Of the token, hex.
    pub digest: String,
    pub user_id: UserId,
    pub project_id: ProjectId,
    pub role: Role,
    pub name: String,
    pub created: Timestamp,
    pub expires: Option<Timestamp>,
}

impl Catalog {
    pub async fn token_create(&self, token: &TokenRow, audit: &AuditEvent) -> Result<()> {
        writing!(self, |tx| {
            token_create_in_tx(tx, token).await?;
            tx.note(audit)
        })
    }

    /// Whom a token speaks for that exists and has not expired at `now`. One for a project in which
    /// the user has no role any more speaks for nobody.
    pub async fn token_by_digest(&self, digest: &str, now: Timestamp) -> Result<Option<Bearer>> {
        let seen = self.inner.bearers.now(now);
        if let Some(bearer) = self.inner.bearers.find(digest, seen) {
            return Ok(Some(bearer));
        }
        let found: Option<Bearer> = asking!(self, |tx| {
            let select = "SELECT t.id, t.user_id, t.project_id, 0 AS domain_scoped, t.role AS role_max,
                    t.created AS issued, t.expires, a.role AS assigned, u.name AS user_name, u.domain_id,
                    u.domain_admin, p.name AS project_name, p.domain_name
                 FROM tokens t JOIN users u ON u.id = t.user_id JOIN projects p ON p.id = t.project_id
                 JOIN role_assignments a ON a.user_id = t.user_id AND a.project_id = t.project_id
                 WHERE t.digest = $1 AND (t.expires IS NULL OR t.expires > $2)";
            let row = query(select).bind(digest).bind(to_micros(now)).fetch_optional(&mut **tx).await?;
            let Some(row) = row else { return Ok(None) };
            let credential = Credential::Token(row.text("id")?);
            Ok(Some(Bearer::from_row(&row, credential, row.maybe_time("expires")?, "token")?))
        })?;
        if let Some(bearer) = &found {
            self.inner.bearers.keep(digest, bearer, seen);
        }
        Ok(found)
    }

    /// The tokens of a project, oldest first, expired ones too.
    pub async fn token_list(&self, project: &ProjectId) -> Result<Vec<TokenRow>> {
        asking!(self, |tx| {
            let select = "SELECT id, digest, user_id, project_id, role, name, created, expires
                 FROM tokens WHERE project_id = $1 ORDER BY created, id";
            query(select)
                .bind(project.as_str())
                .fetch_all(&mut **tx)
                .await?
                .iter()
                .map(token_from_row)
                .collect()
        })
    }

    /// Takes a token away, and what was opened with it; says whether there was one.
    pub async fn token_revoke(&self, project: &ProjectId, id: &str, audit: &AuditEvent) -> Result<bool> {
        writing!(self, |tx| {
            let delete = "DELETE FROM tokens WHERE id = $1 AND project_id = $2 RETURNING id";
            let gone: Option<String> =
                query_scalar(delete).bind(id).bind(project.as_str()).fetch_optional(&mut **tx).await?;
            if gone.is_some() {
                query("DELETE FROM sessions WHERE origin = $1").bind(id).execute(&mut **tx).await?;
                tx.note(audit)?;
            }
            Ok(gone.is_some())
        })
    }
}

pub(crate) async fn token_create_in_tx(tx: &mut Tx, token: &TokenRow) -> Result<(), Fault> {
    query(
        "INSERT INTO tokens (id, digest, user_id, project_id, role, name, created, expires)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(token.id.as_str())
    .bind(token.digest.as_str())
    .bind(token.user_id.as_str())
    .bind(token.project_id.as_str())
    .bind(token.role.word())
    .bind(token.name.as_str())
    .bind(to_micros(token.created))
    .bind(token.expires.map(to_micros))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn token_from_row(row: &AnyRow) -> Result<TokenRow, Fault> {
    Ok(TokenRow {
        id: row.text("id")?,
        digest: row.text("digest")?,
        user_id: UserId::from_stored(row.text("user_id")?),
        project_id: project_id(row, "project_id")?,
        role: row.word("role", Role::from_word)?,
        name: row.text("name")?,
        created: row.time("created")?,
        expires: row.maybe_time("expires")?,
    })
}
