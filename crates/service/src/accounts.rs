//! Projects, users, their roles, and access keys: made, listed, taken away by administrators.
//!
//! All of it lies within the domain of the caller. What belongs to another domain, or to another
//! project where a project's administrator asks, answers as what is not there.

use secrecy::SecretString;
use serde_json::json;
use strongroom_catalog::{AccessKey, Assignment, Project, Role, User};
use strongroom_core::id::{ProjectId, UserId};
use strongroom_core::{Error, ErrorKind, Field, Result};

use crate::identity::{Action, Scope};
use crate::parts::Service;
use crate::passwords;

/// A wish for a user.
#[derive(Debug)]
pub struct NewUser {
    pub name: String,
    /// `None`: cannot log in, only hold access keys.
    pub password: Option<SecretString>,
    pub domain_admin: bool,
}

/// An access key and its secret, which is never seen again.
#[derive(Debug)]
pub struct IssuedKey {
    pub key: AccessKey,
    pub secret: SecretString,
}

fn no_such(what: &str) -> Error {
    Error::new(ErrorKind::RouteUnknown, format!("There is no such {what}."))
}

fn check_name(name: &str) -> Result<()> {
    let is_plain = |c: char| c.is_alphanumeric() || "-_.@+".contains(c);
    let length = name.chars().count();
    if (1..=64).contains(&length) && name.chars().all(is_plain) {
        return Ok(());
    }
    Err(Error::parameter(Field::Other, "name: must have 1 to 64 letters, digits or any of - _ . @ +"))
}

impl Service {
    /// The projects of the caller's domain.
    pub async fn project_list(&self, scope: &Scope) -> Result<Vec<Project>> {
        scope.require(Action::Govern)?;
        let mut projects = self.catalog().project_list().await?;
        projects.retain(|project| project.domain_id == scope.domain().0);
        Ok(projects)
    }

    /// Makes a project, of which the caller is the first administrator.
    pub async fn project_create(
        &self,
        scope: &Scope,
        name: String,
        backup_quota: Option<i64>,
    ) -> Result<Project> {
        scope.require(Action::Govern)?;
        check_name(&name)?;
        if backup_quota.is_some_and(i64::is_negative) {
            return Err(Error::parameter(Field::Other, "backup_quota: must not be negative"));
        }
        if self.project_list(scope).await?.iter().any(|project| project.name == name) {
            return Err(Error::parameter(Field::Other, "name: is taken by another project"));
        }
        let (domain_id, domain_name) = scope.domain();
        let project = Project {
            id: ProjectId::issue(self.uuid()),
            name,
            domain_id: domain_id.to_owned(),
            domain_name: domain_name.to_owned(),
            backup_quota,
        };
        let audit = self.audit(scope, "project.create", project.id.as_str(), json!({ "name": project.name }));
        self.catalog().project_create(&project, &audit).await?;
        let maker = UserId::from_stored(scope.actor());
        let audit = self.audit(
            scope,
            "role.assign",
            maker.as_str(),
            json!({ "project": project.id, "role": "admin" }),
        );
        self.catalog().role_assign(&maker, &project.id, Role::Admin, &audit).await?;
        Ok(project)
    }

    /// Takes a project away that holds nothing.
    pub async fn project_remove(&self, scope: &Scope, wanted: &str) -> Result<()> {
        let project = self.project_wanted(scope, wanted).await?;
        if project.id == *scope.project() {
            return Err(Error::new(
                ErrorKind::NotSupported,
                "This is the project of your own token; it stays.",
            ));
        }
        let audit = self.audit(scope, "project.delete", project.id.as_str(), json!({ "name": project.name }));
        match self.catalog().project_remove(&project.id, &audit).await? {
            Some(true) => Ok(()),
            Some(false) => Err(no_such("project")),
            None => Err(Error::new(
                ErrorKind::NotSupported,
                "The project has, or had, instances: their backups belong to it. Nothing was changed.",
            )
            .with_hint("take the roles in it away instead (`strongroom user revoke`)")),
        }
    }

    /// A project of the domain by its id or its name.
    async fn project_wanted(&self, scope: &Scope, wanted: &str) -> Result<Project> {
        let projects = self.project_list(scope).await?;
        let found = projects.into_iter().find(|one| one.id.as_str() == wanted || one.name == wanted);
        found.ok_or_else(|| no_such("project"))
    }

    /// The users of the caller's domain, each with their roles.
    pub async fn user_list(&self, scope: &Scope) -> Result<Vec<(User, Vec<Assignment>)>> {
        scope.require(Action::Govern)?;
        let mut users = Vec::new();
        for user in self.catalog().user_list(scope.domain().0).await? {
            let assigned = self.catalog().assignments_of_user(&user.id).await?;
            users.push((user, assigned));
        }
        Ok(users)
    }

    pub async fn user_create(&self, scope: &Scope, new: NewUser) -> Result<User> {
        scope.require(Action::Govern)?;
        check_name(&new.name)?;
        if self.catalog().user_list(scope.domain().0).await?.iter().any(|user| user.name == new.name) {
            return Err(Error::parameter(Field::User, "name: is taken by another user"));
        }
        let user = User {
            id: UserId::issue(self.uuid()),
            name: new.name,
            domain_id: scope.domain().0.to_owned(),
            password_hash: match new.password {
                None => None,
                Some(password) => Some(self.password_hash(password).await?),
            },
            domain_admin: new.domain_admin,
        };
        let detail = json!({ "name": user.name, "domain_admin": user.domain_admin });
        let audit = self.audit(scope, "user.create", user.id.as_str(), detail);
        self.catalog().user_create(&user, &audit).await?;
        Ok(user)
    }

    async fn password_hash(&self, password: SecretString) -> Result<SecretString> {
        passwords::check(&password)?;
        self.inner.passwords.hash(password, &self.parts().random).await
    }

    /// Takes a user away with all that lets them in, at once.
    pub async fn user_remove(&self, scope: &Scope, wanted: &str) -> Result<()> {
        let user = self.user_named(scope, wanted).await?;
        if user.id.as_str() == scope.actor() {
            return Err(Error::new(ErrorKind::NotSupported, "This is yourself; nothing was changed.")
                .with_hint("let another administrator of the domain do it"));
        }
        let audit = self.audit(scope, "user.delete", user.id.as_str(), json!({ "name": user.name }));
        if self.catalog().user_remove(&user.id, &audit).await? { Ok(()) } else { Err(no_such("user")) }
    }

    /// Gives a user another password; what the old one opened is closed.
    pub async fn user_password_put(&self, scope: &Scope, wanted: &str, password: SecretString) -> Result<()> {
        let user = self.user_named(scope, wanted).await?;
        let hash = self.password_hash(password).await?;
        let audit = self.audit(scope, "user.password", user.id.as_str(), json!({}));
        let is_put = self.catalog().user_password_put(&user.id, &hash, &audit).await?;
        if is_put { Ok(()) } else { Err(no_such("user")) }
    }

    /// Gives a user a role in a project, instead of the one before.
    pub async fn role_assign(
        &self,
        scope: &Scope,
        user: &str,
        project: Option<&str>,
        role: Role,
    ) -> Result<()> {
        let user = self.user_named(scope, user).await?;
        let project = self.project_wanted(scope, project.unwrap_or(scope.project().as_str())).await?;
        if user.id.as_str() == scope.actor() && project.id == *scope.project() {
            return Err(own_role());
        }
        let detail = json!({ "project": project.id, "role": role.word() });
        let audit = self.audit(scope, "role.assign", user.id.as_str(), detail);
        self.catalog().role_assign(&user.id, &project.id, role, &audit).await
    }

    /// Takes a user's role in a project away; none of their tokens and keys reaches it any more.
    pub async fn role_unassign(&self, scope: &Scope, user: &str, project: &str) -> Result<()> {
        let user = self.user_named(scope, user).await?;
        let project = self.project_wanted(scope, project).await?;
        if user.id.as_str() == scope.actor() && project.id == *scope.project() {
            return Err(own_role());
        }
        let audit = self.audit(scope, "role.unassign", user.id.as_str(), json!({ "project": project.id }));
        let is_gone = self.catalog().role_unassign(&user.id, &project.id, &audit).await?;
        if is_gone { Ok(()) } else { Err(no_such("role")) }
    }

    /// A user of the domain by their id or their name.
    async fn user_named(&self, scope: &Scope, wanted: &str) -> Result<User> {
        scope.require(Action::Govern)?;
        let users = self.catalog().user_list(scope.domain().0).await?;
        let found = users.into_iter().find(|one| one.id.as_str() == wanted || one.name == wanted);
        found.ok_or_else(|| no_such("user"))
    }

    /// Makes an access key for the caller in their project.
    pub async fn access_key_create(&self, scope: &Scope, role: Role) -> Result<IssuedKey> {
        scope.require(Action::Administer)?;
        let (mut id, mut secret) = ([0; 10], [0; 20]);
        self.parts().random.fill(&mut id);
        self.parts().random.fill(&mut secret);
        let key = AccessKey {
            id: hex::encode_upper(id),
            user_id: UserId::from_stored(scope.actor()),
            project_id: scope.project().clone(),
            role: role.min(scope.role()),
            created: self.now(),
        };
        let secret = SecretString::from(hex::encode(secret));
        let audit = self.audit(scope, "access_key.create", &key.id, json!({ "role": key.role.word() }));
        self.catalog().access_key_create(&key, &secret, &audit).await?;
        Ok(IssuedKey { key, secret })
    }

    pub async fn access_key_list(&self, scope: &Scope) -> Result<Vec<AccessKey>> {
        scope.require(Action::Administer)?;
        self.catalog().access_key_list(scope.project()).await
    }

    pub async fn access_key_revoke(&self, scope: &Scope, id: &str) -> Result<()> {
        scope.require(Action::Administer)?;
        let audit = self.audit(scope, "access_key.revoke", id, json!({}));
        let is_gone = self.catalog().access_key_revoke(scope.project(), id, &audit).await?;
        if is_gone { Ok(()) } else { Err(no_such("access key")) }
    }
}

fn own_role() -> Error {
    Error::new(
        ErrorKind::NotSupported,
        "This is your own role in the project you act in; nothing was changed.",
    )
    .with_hint("let another administrator of the domain do it")
}
