//! Who calls, and what they may do. A [`Scope`] can be made nowhere else, and every function on a
//! tenant's data takes one: forgetting the check does not compile.

use strongroom_catalog::Role;
use strongroom_core::id::{ProjectId, RequestId, UserId};
use strongroom_core::{Error, ErrorKind, Result};

use crate::parts::Service;

/// An authenticated caller, not yet tied to a project.
#[derive(Debug, Clone)]
pub struct Caller {
    user: UserId,
    project: ProjectId,
    role: Role,
}

/// A caller within a project: the proof that tenant data may be touched.
#[derive(Debug, Clone)]
pub struct Scope {
    project: ProjectId,
    actor: String,
    role: Role,
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
    /// Tokens, the recovery kit, the repository as a whole.
    Administer,
}

impl Action {
    fn allowed(self, role: Role) -> bool {
        let least = match self {
            Self::Read => Role::Viewer,
            Self::Operate => Role::Operator,
            Self::Restore => Role::Restorer,
            Self::Administer => Role::Admin,
        };
        role >= least
    }
}

impl Scope {
    pub fn project(&self) -> &ProjectId {
        &self.project
    }

    pub fn request_id(&self) -> &RequestId {
        &self.request
    }

    pub(crate) fn actor(&self) -> &str {
        &self.actor
    }

    /// Whether the role allows the action. Adapters may ask before they read a body; every use case asks.
    pub fn require(&self, action: Action) -> Result<()> {
        if action.allowed(self.role) {
            return Ok(());
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

/// No token of ours, nor of the clouds we stand in for, is longer.
const TOKEN_LENGTH_BYTES_MAX: usize = 16 * 1024;

impl Service {
    /// The caller that a token belongs to. One constant answer for every way of being wrong.
    pub async fn authenticate(&self, token: Option<&str>) -> Result<Caller> {
        let refused = || Error::new(ErrorKind::NotAuthenticated, "The token is missing, wrong or expired.");
        let token = token.filter(|token| !token.is_empty() && token.len() <= TOKEN_LENGTH_BYTES_MAX);
        let digest = token_digest(token.ok_or_else(refused)?);
        let owner = self.catalog().token_by_digest(&digest, self.now()).await?.ok_or_else(refused)?;
        Ok(Caller { user: owner.user_id, project: owner.project_id, role: owner.role })
    }

    /// The caller within the project of a path. Another project and none are the same answer.
    pub fn scope(&self, caller: &Caller, project: &str, request: &RequestId) -> Result<Scope> {
        if project != caller.project.as_str() {
            return Err(Error::new(
                ErrorKind::WrongProject,
                "The token does not belong to the project of the path.",
            ));
        }
        Ok(self.own_scope(caller, request))
    }

    /// The caller within the token's own project.
    pub fn own_scope(&self, caller: &Caller, request: &RequestId) -> Scope {
        Scope {
            project: caller.project.clone(),
            actor: caller.user.as_str().to_owned(),
            role: caller.role,
            request: request.clone(),
        }
    }
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
                assert_eq!(action.allowed(role), allowed, "{role:?} {action:?}");
            }
        }
    }
}
