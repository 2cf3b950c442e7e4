//! Projects, users and access keys: who there is.

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use sqlx::any::AnyRow;
use sqlx::{query, query_scalar};
use strongroom_core::Result;
use strongroom_core::id::{ProjectId, UserId};
use strongroom_core::time::to_micros;

use crate::audit::{AuditEvent, audit_in_tx};
use crate::fault::{Fault, damaged};
use crate::row::Columns;
use crate::transaction::{reading, writing};
use crate::{Catalog, Inner, Tx, quota};

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    pub id: ProjectId,
    pub name: String,
    pub domain_id: String,
    pub domain_name: String,
    /// How many manual backups may exist; `None` = no limit.
    pub backup_quota: Option<i64>,
}

/// Somebody who holds tokens or logs in.
#[derive(Debug, Clone)]
pub struct User {
    pub id: UserId,
    pub name: String,
    pub domain_id: String,
    /// `None`: cannot log in with a password.
    pub password_hash: Option<SecretString>,
}

/// What a token or an access key allows; each role includes the ones before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Viewer,
    Operator,
    Restorer,
    Admin,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Operator, Self::Restorer, Self::Admin];

    pub const fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Restorer => "restorer",
            Self::Admin => "admin",
        }
    }

    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }
}

/// An access key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKey {
    pub id: String,
    pub user_id: UserId,
    pub project_id: ProjectId,
    pub role: Role,
    pub created: Timestamp,
}

/// An access key with what checking a signature needs.
#[derive(Debug, Clone)]
pub struct AccessKeyOwner {
    pub key: AccessKey,
    pub user_name: String,
    pub secret: SecretString,
}

impl Catalog {
    pub async fn project_create(&self, project: &Project, now: Timestamp) -> Result<()> {
        writing!(self, |tx| project_create_in_tx(tx, project, now).await)
    }

    pub async fn project_find(&self, id: &ProjectId) -> Result<Option<Project>> {
        reading!(self, |tx| {
            let select = "SELECT p.id, p.name, p.domain_id, p.domain_name, q.manual_backups_max
                FROM projects p JOIN quotas q ON q.project_id = p.id WHERE p.id = $1";
            let row = query(select).bind(id.as_str()).fetch_optional(&mut **tx).await?;
            row.as_ref().map(project_from_row).transpose()
        })
    }

    /// All projects, by name.
    pub async fn project_list(&self) -> Result<Vec<Project>> {
        reading!(self, |tx| {
            let select = "SELECT p.id, p.name, p.domain_id, p.domain_name, q.manual_backups_max
                FROM projects p JOIN quotas q ON q.project_id = p.id ORDER BY p.name, p.id";
            query(select).fetch_all(&mut **tx).await?.iter().map(project_from_row).collect()
        })
    }

    pub async fn user_create(&self, user: &User, now: Timestamp) -> Result<()> {
        writing!(self, |tx| user_create_in_tx(tx, user, now).await)
    }

    pub async fn user_find(&self, id: &UserId) -> Result<Option<User>> {
        reading!(self, |tx| {
            let select = "SELECT id, name, domain_id, password_hash FROM users WHERE id = $1";
            let row = query(select).bind(id.as_str()).fetch_optional(&mut **tx).await?;
            row.as_ref().map(user_from_row).transpose()
        })
    }

    pub async fn user_by_name(&self, domain_id: &str, name: &str) -> Result<Option<User>> {
        reading!(self, |tx| {
            let select =
                "SELECT id, name, domain_id, password_hash FROM users WHERE domain_id = $1 AND name = $2";
            let row = query(select).bind(domain_id).bind(name).fetch_optional(&mut **tx).await?;
            row.as_ref().map(user_from_row).transpose()
        })
    }

    pub async fn access_key_create(
        &self,
        key: &AccessKey,
        secret: &SecretString,
        audit: &AuditEvent,
    ) -> Result<()> {
        writing!(self, |tx| {
            access_key_create_in_tx(tx, &self.inner, key, secret).await?;
            audit_in_tx(tx, &self.inner, audit).await
        })
    }

    /// The owner of an access key, its secret opened.
    pub async fn access_key_find(&self, id: &str) -> Result<Option<AccessKeyOwner>> {
        reading!(self, |tx| {
            let select =
                "SELECT k.id, k.secret_sealed, k.user_id, k.project_id, k.role, k.created, u.name AS user_name
                 FROM access_keys k JOIN users u ON u.id = k.user_id WHERE k.id = $1";
            let Some(row) = query(select).bind(id).fetch_optional(&mut **tx).await? else {
                return Ok(None);
            };
            let key = AccessKey {
                id: row.text("id")?,
                user_id: UserId::from_stored(row.text("user_id")?),
                project_id: project_id(&row, "project_id")?,
                role: row.word("role", Role::from_word)?,
                created: row.time("created")?,
            };
            let secret = self.inner.sealer.open(&secret_place(&key.id), &row.text("secret_sealed")?)?;
            Ok(Some(AccessKeyOwner { key, user_name: row.text("user_name")?, secret }))
        })
    }

    /// Takes an access key away; says whether there was one.
    pub async fn access_key_revoke(&self, project: &ProjectId, id: &str, audit: &AuditEvent) -> Result<bool> {
        writing!(self, |tx| {
            let delete = "DELETE FROM access_keys WHERE id = $1 AND project_id = $2 RETURNING id";
            let gone: Option<String> =
                query_scalar(delete).bind(id).bind(project.as_str()).fetch_optional(&mut **tx).await?;
            if gone.is_some() {
                audit_in_tx(tx, &self.inner, audit).await?;
            }
            Ok(gone.is_some())
        })
    }
}

pub(crate) async fn project_create_in_tx(
    tx: &mut Tx,
    project: &Project,
    now: Timestamp,
) -> Result<(), Fault> {
    query("INSERT INTO projects (id, name, domain_id, domain_name, created) VALUES ($1, $2, $3, $4, $5)")
        .bind(project.id.as_str())
        .bind(project.name.as_str())
        .bind(project.domain_id.as_str())
        .bind(project.domain_name.as_str())
        .bind(to_micros(now))
        .execute(&mut **tx)
        .await?;
    quota::create_in_tx(tx, &project.id, project.backup_quota).await
}

pub(crate) async fn user_create_in_tx(tx: &mut Tx, user: &User, now: Timestamp) -> Result<(), Fault> {
    query("INSERT INTO users (id, name, domain_id, password_hash, created) VALUES ($1, $2, $3, $4, $5)")
        .bind(user.id.as_str())
        .bind(user.name.as_str())
        .bind(user.domain_id.as_str())
        .bind(user.password_hash.as_ref().map(ExposeSecret::expose_secret))
        .bind(to_micros(now))
        .execute(&mut **tx)
        .await?;
    Ok(())
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

fn project_from_row(row: &AnyRow) -> Result<Project, Fault> {
    Ok(Project {
        id: project_id(row, "id")?,
        name: row.text("name")?,
        domain_id: row.text("domain_id")?,
        domain_name: row.text("domain_name")?,
        backup_quota: row.maybe_integer("manual_backups_max")?,
    })
}

fn user_from_row(row: &AnyRow) -> Result<User, Fault> {
    Ok(User {
        id: UserId::from_stored(row.text("id")?),
        name: row.text("name")?,
        domain_id: row.text("domain_id")?,
        password_hash: row.maybe_text("password_hash")?.map(SecretString::from),
    })
}

pub(crate) fn project_id(row: &AnyRow, column: &str) -> Result<ProjectId, Fault> {
    let text = row.text(column)?;
    ProjectId::parse(&text).map_err(|_| damaged(column, &text))
}

pub(crate) fn maybe_project_id(row: &AnyRow, column: &str) -> Result<Option<ProjectId>, Fault> {
    row.maybe_text(column)?
        .map(|text| ProjectId::parse(&text).map_err(|_| damaged(column, &text)))
        .transpose()
}
