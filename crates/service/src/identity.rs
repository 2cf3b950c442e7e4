//! Who calls, and what they may do. A [`Scope`] can be made nowhere else, and every function on a
//! tenant's data takes one: forgetting the check does not compile.

use strongroom_catalog::{Bearer, Role};
use strongroom_core::id::{ProjectId, RequestId, UserId};
use strongroom_core::{Error, ErrorKind, Result};

use crate::parts::Service;

/// An authenticated caller, not yet tied to a project.
#[derive(Debug, Clone)]
pub struct Caller {
    bearer: Bearer,
}

impl Caller {
    pub(crate) fn new(bearer: Bearer) -> Self {
        Self { bearer }
    }

    /// Whom the credential speaks for, and how far.
    pub fn bearer(&self) -> &Bearer {
        &self.bearer
    }

    pub(crate) fn actor(&self) -> &str {
        self.bearer.user_id.as_str()
    }

    pub(crate) fn project_id(&self) -> Option<&ProjectId> {
        self.bearer.project.as_ref().map(|project| &project.id)
    }
}

/// A caller within a project: the proof that tenant data may be touched.
#[derive(Debug, Clone)]
pub struct Scope {
    project: ProjectId,
    actor: String,
    domain_id: String,
    domain_name: String,
    role: Role,
    governs: bool,
    request: RequestId,
}

/// What a caller wants to do. Reading a backup's content is a right of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// See rows: instances, backups, jobs.
    Read,
    /// Make backups, verify them, delete manual ones, register instances.
    Operate,
    /// Read the content of a backup.
    Restore,
    /// Tokens and access keys of the project.
    Administer,
    /// What is not one project's: projects, users and their roles, the recovery kit, the repository.
    Govern,
}

impl Action {
    fn allowed(self, role: Role, governs: bool) -> bool {
        let least = match self {
            Self::Read => Role::Viewer,
            Self::Operate => Role::Operator,
            Self::Restore => Role::Restorer,
            Self::Administer => Role::Admin,
            Self::Govern => return governs && role == Role::Admin,
        };
        role >= least
    }
}

impl Scope {
    /// What a download link reaches: content, and no more than its maker may.
    pub(crate) fn of_link(project: ProjectId, user: &UserId, role: Role, request: &RequestId) -> Self {
        Self {
            project,
            actor: user.as_str().to_owned(),
            domain_id: String::new(),
            domain_name: String::new(),
            role: role.min(Role::Restorer),
            governs: false,
            request: request.clone(),
        }
    }

    pub fn project(&self) -> &ProjectId {
        &self.project
    }

    pub fn request_id(&self) -> &RequestId {
        &self.request
    }

    pub(crate) fn actor(&self) -> &str {
        &self.actor
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// Id and name of the domain that the caller's user belongs to.
    pub(crate) fn domain(&self) -> (&str, &str) {
        (&self.domain_id, &self.domain_name)
    }

    /// Whether the role allows the action. Adapters may ask before they read a body; every use case asks.
    pub fn require(&self, action: Action) -> Result<()> {
        if action.allowed(self.role, self.governs) {
            return Ok(());
        }
        if action == Action::Govern && self.role == Role::Admin {
            return Err(Error::new(
                ErrorKind::NotAllowed,
                "Only an administrator of the domain may do this; nothing was changed.",
            )
            .with_hint("ask one, or use the token of `bootstrap.json`"));
        }
        Err(Error::new(ErrorKind::NotAllowed, "The token's role does not allow this; nothing was changed.")
            .with_hint("use a token with a wider role (`strongroom token create --role …`)"))
    }
}

/// Tokens are 256 random bits; the catalog holds their digest only, so that equal time of the
/// look-up tells nothing about a token.
pub(crate) fn token_digest(token: &str) -> String {
    blake3::hash(token.as_bytes()).to_hex().to_string()
}

/// Marks what a log-in opened, as another prefix marks tokens that were made by hand.
pub(crate) const SESSION_PREFIX: &str = "srs_";

/// No token of ours, nor of the clouds we stand in for, is longer.
const TOKEN_LENGTH_BYTES_MAX: usize = 16 * 1024;

impl Service {
    /// The caller that a token belongs to. One constant answer for every way of being wrong.
    pub async fn authenticate(&self, token: Option<&str>) -> Result<Caller> {
        let refused = || Error::new(ErrorKind::NotAuthenticated, "The token is missing, wrong or expired.");
        let token = token.filter(|token| !token.is_empty() && token.len() <= TOKEN_LENGTH_BYTES_MAX);
        self.bearer_of(token.ok_or_else(refused)?).await?.map(Caller::new).ok_or_else(refused)
    }

    /// Whom a token or a session speaks for, if for anybody.
    pub(crate) async fn bearer_of(&self, token: &str) -> Result<Option<Bearer>> {
        let (digest, now) = (token_digest(token), self.now());
        if token.starts_with(SESSION_PREFIX) {
            return self.catalog().session_by_digest(&digest, now).await;
        }
        self.catalog().token_by_digest(&digest, now).await
    }

    /// The caller within the project of a path. Another project and none are the same answer.
    pub fn scope(&self, caller: &Caller, project: &str, request: &RequestId) -> Result<Scope> {
        let scope = self.own_scope(caller, request)?;
        if project == scope.project.as_str() { Ok(scope) } else { Err(wrong_project()) }
    }

    /// The caller within the credential's own project; one for a domain or for nothing has none.
    pub fn own_scope(&self, caller: &Caller, request: &RequestId) -> Result<Scope> {
        let bearer = &caller.bearer;
        let project = bearer.project.as_ref().ok_or_else(wrong_project)?;
        Ok(Scope {
            project: project.id.clone(),
            actor: caller.actor().to_owned(),
            domain_id: bearer.domain_id.clone(),
            domain_name: bearer.domain_name.clone(),
            role: project.role,
            governs: bearer.domain_admin,
            request: request.clone(),
        })
    }
}

fn wrong_project() -> Error {
    Error::new(ErrorKind::WrongProject, "The token does not belong to the project of the path.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_rights() {
        use Action::{Administer, Operate, Read, Restore};
        let table = [
            (Role::Viewer, [true, false, false, false]),
            (Role::Operator, [true, true, false, false]),
            (Role::Restorer, [true, true, true, false]),
            (Role::Admin, [true, true, true, true]),
        ];
        for (role, rights) in table {
            for (action, allowed) in [Read, Operate, Restore, Administer].into_iter().zip(rights) {
                assert_eq!(action.allowed(role, true), allowed, "{role:?} {action:?}");
                assert_eq!(action.allowed(role, false), allowed, "{role:?} {action:?}");
            }
            assert_eq!(Action::Govern.allowed(role, true), role == Role::Admin, "{role:?}");
            assert!(!Action::Govern.allowed(role, false), "{role:?}");
        }
    }
}
