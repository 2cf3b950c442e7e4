//! Projects, users and access keys: who there is.

use jiff::Timestamp;
use secrecy::SecretString;
use sqlx::any::AnyRow;
use sqlx::{query, query_scalar};
use strongroom_core::Result;
use strongroom_core::id::{ProjectId, UserId};
use strongroom_core::time::to_micros;

use crate::audit::AuditEvent;
use crate::fault::{Fault, damaged};
use crate::row::Columns;
use crate::session::Bearer;
use crate::transaction::{asking, writing};
use crate::{Catalog, Tx, quota};

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
    /// May make projects and users, and see what is not one project's.
    pub domain_admin: bool,
}

/// What a user may do in a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub user_id: UserId,
    pub user_name: String,
    pub project: Project,
    pub role: Role,
}

/// What somebody may do in a project; each role includes the ones before.
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
    pub bearer: Bearer,
    pub secret: SecretString,
}

impl Catalog {
    pub async fn project_create(&self, project: &Project, audit: &AuditEvent) -> Result<()> {
        writing!(self, |tx| {
            project_create_in_tx(tx, project, audit.at).await?;
            tx.note(audit)
        })
    }

    /// Takes a project away with its tokens, keys and roles; says whether there was one. `None`: it
    /// has, or had, instances or jobs, and stays as it is.
    pub async fn project_remove(&self, id: &ProjectId, audit: &AuditEvent) -> Result<Option<bool>> {
        writing!(self, |tx| {
            let used = "SELECT COUNT(*) FROM (SELECT id FROM instances WHERE project_id = $1
                 UNION ALL SELECT id FROM jobs WHERE project_id = $1) AS used";
            let used: i64 = query_scalar(used).bind(id.as_str()).fetch_one(&mut **tx).await?;
            if used > 0 {
                return Ok(None);
            }
            for delete in [
                "DELETE FROM sessions WHERE project_id = $1",
                "DELETE FROM tokens WHERE project_id = $1",
                "DELETE FROM access_keys WHERE project_id = $1",
                "DELETE FROM role_assignments WHERE project_id = $1",
                "DELETE FROM quotas WHERE project_id = $1",
            ] {
                query(delete).bind(id.as_str()).execute(&mut **tx).await?;
            }
            let gone =
                query("DELETE FROM projects WHERE id = $1").bind(id.as_str()).execute(&mut **tx).await?;
            if gone.rows_affected() == 0 {
                return Ok(Some(false));
            }
            tx.note(audit)?;
            Ok(Some(true))
        })
    }

    pub async fn project_find(&self, id: &ProjectId) -> Result<Option<Project>> {
        asking!(self, |tx| {
            let select = "SELECT p.id, p.name, p.domain_id, p.domain_name, q.manual_backups_max
                FROM projects p JOIN quotas q ON q.project_id = p.id WHERE p.id = $1";
            let row = query(select).bind(id.as_str()).fetch_optional(&mut **tx).await?;
            row.as_ref().map(project_from_row).transpose()
        })
    }

    /// All projects, by name.
    pub async fn project_list(&self) -> Result<Vec<Project>> {
        asking!(self, |tx| {
            let select = "SELECT p.id, p.name, p.domain_id, p.domain_name, q.manual_backups_max
                FROM projects p JOIN quotas q ON q.project_id = p.id ORDER BY p.name, p.id";
            query(select).fetch_all(&mut **tx).await?.iter().map(project_from_row).collect()
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

pub(crate) fn project_from_row(row: &AnyRow) -> Result<Project, Fault> {
    Ok(Project {
        id: project_id(row, "id")?,
        name: row.text("name")?,
        domain_id: row.text("domain_id")?,
        domain_name: row.text("domain_name")?,
        backup_quota: row.maybe_integer("manual_backups_max")?,
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
