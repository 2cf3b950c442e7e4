//! What a log-in opened, and whom any credential speaks for.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::query;
use strongroom_core::Result;
use strongroom_core::id::{ProjectId, UserId};
use strongroom_core::time::to_micros;

use crate::Catalog;
use crate::audit::AuditEvent;
use crate::fault::{Fault, damaged};
use crate::identity::{Role, maybe_project_id};
use crate::row::Columns;
use crate::transaction::{asking, writing};

/// A session's row; like a token it is shown once and stored as a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    pub id: String,
    pub digest: String,
    /// The session or the token that it was made from; itself, when it was made from a password.
    pub origin: String,
    pub user_id: UserId,
    pub project_id: Option<ProjectId>,
    pub domain_scoped: bool,
    pub role_max: Role,
    /// How the user proved who they are, as Keystone names it: `password`, `password,token`.
    pub methods: String,
    pub issued: Timestamp,
    pub expires: Timestamp,
}

/// What was shown as the proof: each by its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    Token(String),
    Session { id: String, origin: String },
    AccessKey(String),
}

/// Whom a valid credential speaks for, and how far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    pub credential: Credential,
    pub user_id: UserId,
    pub user_name: String,
    pub domain_id: String,
    pub domain_name: String,
    pub domain_admin: bool,
    pub project: Option<BearerProject>,
    pub domain_scoped: bool,
    /// The widest role that the credential reaches anywhere.
    pub role_max: Role,
    pub methods: String,
    pub issued: Timestamp,
    pub expires: Option<Timestamp>,
}

/// The one project that a credential is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BearerProject {
    pub id: ProjectId,
    pub name: String,
    /// The narrower one of the credential's role and the user's in the project.
    pub role: Role,
}

impl Catalog {
    /// Stores a session and clears away what expired before it.
    pub async fn session_create(&self, session: &SessionRow, audit: &AuditEvent) -> Result<()> {
        writing!(self, |tx| {
            query("DELETE FROM sessions WHERE expires <= $1")
                .bind(to_micros(session.issued))
                .execute(&mut **tx)
                .await?;
            query(
                "INSERT INTO sessions (id, digest, origin, user_id, project_id, domain_scoped, role_max,
                     methods, issued, expires)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            )
            .bind(session.id.as_str())
            .bind(session.digest.as_str())
            .bind(session.origin.as_str())
            .bind(session.user_id.as_str())
            .bind(session.project_id.as_ref().map(ProjectId::as_str))
            .bind(i64::from(session.domain_scoped))
            .bind(session.role_max.word())
            .bind(session.methods.as_str())
            .bind(to_micros(session.issued))
            .bind(to_micros(session.expires))
            .execute(&mut **tx)
            .await?;
            tx.note(audit)
        })
    }

    /// Whom a session speaks for that has not expired at `now`. One for a project in which the user
    /// has no role any more speaks for nobody.
    pub async fn session_by_digest(&self, digest: &str, now: Timestamp) -> Result<Option<Bearer>> {
        let seen = self.inner.bearers.now(now);
        if let Some(bearer) = self.inner.bearers.find(digest, seen) {
            return Ok(Some(bearer));
        }
        let found: Option<Bearer> = asking!(self, |tx| {
            let select = "SELECT s.id, s.origin, s.user_id, s.project_id, s.domain_scoped, s.role_max,
                    s.methods, s.issued, s.expires, a.role AS assigned, u.name AS user_name, u.domain_id,
                    u.domain_admin, p.name AS project_name,
                    (SELECT MIN(d.domain_name) FROM projects d WHERE d.domain_id = u.domain_id) AS domain_name
                 FROM sessions s JOIN users u ON u.id = s.user_id
                 LEFT JOIN projects p ON p.id = s.project_id
                 LEFT JOIN role_assignments a ON a.user_id = s.user_id AND a.project_id = s.project_id
                 WHERE s.digest = $1 AND s.expires > $2 AND (s.project_id IS NULL OR a.role IS NOT NULL)";
            let row = query(select).bind(digest).bind(to_micros(now)).fetch_optional(&mut **tx).await?;
            let Some(row) = row else { return Ok(None) };
            let credential = Credential::Session { id: row.text("id")?, origin: row.text("origin")? };
            let methods = row.text("methods")?;
            Ok(Some(Bearer::from_row(&row, credential, row.maybe_time("expires")?, &methods)?))
        })?;
        if let Some(bearer) = &found {
            self.inner.bearers.keep(digest, bearer, seen);
        }
        Ok(found)
    }

    /// Ends a session and all that was made from it.
    pub async fn session_revoke(&self, id: &str, audit: &AuditEvent) -> Result<()> {
        writing!(self, |tx| {
            query("DELETE FROM sessions WHERE id = $1 OR origin = $1").bind(id).execute(&mut **tx).await?;
            tx.note(audit)
        })
    }
}

impl Bearer {
    pub(crate) fn from_row(
        row: &AnyRow,
        credential: Credential,
        expires: Option<Timestamp>,
        methods: &str,
    ) -> Result<Self, Fault> {
        let role_max = row.word("role_max", Role::from_word)?;
        let project = match maybe_project_id(row, "project_id")? {
            None => None,
            Some(id) => Some(BearerProject {
                id,
                name: row.text("project_name")?,
                role: row.word("assigned", Role::from_word)?.min(role_max),
            }),
        };
        let domain_id = row.text("domain_id")?;
        Ok(Self {
            credential,
            user_id: UserId::from_stored(row.text("user_id")?),
            user_name: row.text("user_name")?,
            domain_name: row.maybe_text("domain_name")?.ok_or_else(|| damaged("domain_id", &domain_id))?,
            domain_id,
            domain_admin: row.flag("domain_admin")?,
            project,
            domain_scoped: row.flag("domain_scoped")?,
            role_max,
            methods: methods.to_owned(),
            issued: row.time("issued")?,
            expires,
        })
    }
}
