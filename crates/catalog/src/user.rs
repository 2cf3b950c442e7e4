//! Users, and what each may do in each project.

use secrecy::{ExposeSecret, SecretString};
use sqlx::any::AnyRow;
use sqlx::query;
use strongroom_core::Result;
use strongroom_core::id::{ProjectId, UserId};
use strongroom_core::time::to_micros;

use jiff::Timestamp;

use crate::audit::AuditEvent;
use crate::fault::Fault;
use crate::identity::{Assignment, Role, User, project_from_row};
use crate::row::Columns;
use crate::transaction::{asking, writing};
use crate::{Catalog, Tx};

impl Catalog {
    pub async fn user_create(&self, user: &User, audit: &AuditEvent) -> Result<()> {
        writing!(self, |tx| {
            user_create_in_tx(tx, user, audit.at).await?;
            tx.note(audit)
        })
    }

    pub async fn user_find(&self, id: &UserId) -> Result<Option<User>> {
        asking!(self, |tx| {
            let select = "SELECT id, name, domain_id, password_hash, domain_admin FROM users WHERE id = $1";
            let row = query(select).bind(id.as_str()).fetch_optional(&mut **tx).await?;
            row.as_ref().map(user_from_row).transpose()
        })
    }

    /// The users of one name, of whatever domain.
    pub async fn users_by_name(&self, name: &str) -> Result<Vec<User>> {
        asking!(self, |tx| {
            let select = "SELECT id, name, domain_id, password_hash, domain_admin
                 FROM users WHERE name = $1 ORDER BY domain_id";
            query(select).bind(name).fetch_all(&mut **tx).await?.iter().map(user_from_row).collect()
        })
    }

    /// The users of a domain, by name.
    pub async fn user_list(&self, domain_id: &str) -> Result<Vec<User>> {
        asking!(self, |tx| {
            let select = "SELECT id, name, domain_id, password_hash, domain_admin
                 FROM users WHERE domain_id = $1 ORDER BY name";
            query(select).bind(domain_id).fetch_all(&mut **tx).await?.iter().map(user_from_row).collect()
        })
    }

    /// Gives a user another password and ends what the old one opened; says whether there is such a user.
    pub async fn user_password_put(
        &self,
        id: &UserId,
        password_hash: &SecretString,
        audit: &AuditEvent,
    ) -> Result<bool> {
        writing!(self, |tx| {
            let update = "UPDATE users SET password_hash = $2 WHERE id = $1";
            let hash = password_hash.expose_secret();
            let updated = query(update).bind(id.as_str()).bind(hash).execute(&mut **tx).await?;
            if updated.rows_affected() == 0 {
                return Ok(false);
            }
            query("DELETE FROM sessions WHERE user_id = $1").bind(id.as_str()).execute(&mut **tx).await?;
            tx.note(audit)?;
            Ok(true)
        })
    }

    /// Takes a user away with all that lets them in; says whether there was one.
    pub async fn user_remove(&self, id: &UserId, audit: &AuditEvent) -> Result<bool> {
        writing!(self, |tx| {
            for delete in [
                "DELETE FROM sessions WHERE user_id = $1",
                "DELETE FROM tokens WHERE user_id = $1",
                "DELETE FROM access_keys WHERE user_id = $1",
                "DELETE FROM role_assignments WHERE user_id = $1",
            ] {
                query(delete).bind(id.as_str()).execute(&mut **tx).await?;
            }
            let gone = query("DELETE FROM users WHERE id = $1").bind(id.as_str()).execute(&mut **tx).await?;
            if gone.rows_affected() > 0 {
                tx.note(audit)?;
            }
            Ok(gone.rows_affected() > 0)
        })
    }

    /// Gives a user a role in a project, instead of the one before. Both must be there.
    pub async fn role_assign(
        &self,
        user: &UserId,
        project: &ProjectId,
        role: Role,
        audit: &AuditEvent,
    ) -> Result<()> {
        writing!(self, |tx| {
            role_assign_in_tx(tx, user, project, role, audit.at).await?;
            tx.note(audit)
        })
    }

    /// Takes a user's role in a project away; says whether there was one.
    pub async fn role_unassign(
        &self,
        user: &UserId,
        project: &ProjectId,
        audit: &AuditEvent,
    ) -> Result<bool> {
        writing!(self, |tx| {
            let delete = "DELETE FROM role_assignments WHERE user_id = $1 AND project_id = $2";
            let gone = query(delete).bind(user.as_str()).bind(project.as_str()).execute(&mut **tx).await?;
            if gone.rows_affected() > 0 {
                tx.note(audit)?;
            }
            Ok(gone.rows_affected() > 0)
        })
    }

    /// What one user may do, by the name of the project.
    pub async fn assignments_of_user(&self, user: &UserId) -> Result<Vec<Assignment>> {
        asking!(self, |tx| {
            let select = "SELECT a.user_id, u.name AS user_name, a.role, p.id, p.name, p.domain_id,
                        p.domain_name, q.manual_backups_max
                 FROM role_assignments a JOIN users u ON u.id = a.user_id
                 JOIN projects p ON p.id = a.project_id JOIN quotas q ON q.project_id = p.id
                 WHERE a.user_id = $1 ORDER BY p.name, p.id";
            query(select)
                .bind(user.as_str())
                .fetch_all(&mut **tx)
                .await?
                .iter()
                .map(assignment_from_row)
                .collect()
        })
    }
}

pub(crate) async fn user_create_in_tx(tx: &mut Tx, user: &User, now: Timestamp) -> Result<(), Fault> {
    query(
        "INSERT INTO users (id, name, domain_id, password_hash, domain_admin, created)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(user.id.as_str())
    .bind(user.name.as_str())
    .bind(user.domain_id.as_str())
    .bind(user.password_hash.as_ref().map(ExposeSecret::expose_secret))
    .bind(i64::from(user.domain_admin))
    .bind(to_micros(now))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(crate) async fn role_assign_in_tx(
    tx: &mut Tx,
    user: &UserId,
    project: &ProjectId,
    role: Role,
    now: Timestamp,
) -> Result<(), Fault> {
    query(
        "INSERT INTO role_assignments (user_id, project_id, role, created) VALUES ($1, $2, $3, $4)
         ON CONFLICT (user_id, project_id) DO UPDATE SET role = excluded.role",
    )
    .bind(user.as_str())
    .bind(project.as_str())
    .bind(role.word())
    .bind(to_micros(now))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn user_from_row(row: &AnyRow) -> Result<User, Fault> {
    Ok(User {
        id: UserId::from_stored(row.text("id")?),
        name: row.text("name")?,
        domain_id: row.text("domain_id")?,
        password_hash: row.maybe_text("password_hash")?.map(SecretString::from),
        domain_admin: row.flag("domain_admin")?,
    })
}

fn assignment_from_row(row: &AnyRow) -> Result<Assignment, Fault> {
    Ok(Assignment {
        user_id: UserId::from_stored(row.text("user_id")?),
        user_name: row.text("user_name")?,
        project: project_from_row(row)?,
        role: row.word("role", Role::from_word)?,
    })
}
