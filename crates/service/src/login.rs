//! Logging in: a password or a token becomes a session, for a project, for the domain or for nothing.

use std::net::IpAddr;

use jiff::SignedDuration;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use strongroom_catalog::{Assignment, AuditEvent, Credential, Project, Role, SessionRow, User};
use strongroom_core::id::{ProjectId, RequestId, UserId};
use strongroom_core::{Error, ErrorKind, Result, limits};

use crate::guesses::Account;
use crate::identity::{Caller, SESSION_PREFIX, token_digest};
use crate::parts::Service;
use crate::refusals::Refusal;
use crate::tokens::random_secret;

/// A domain, as clients name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DomainRef {
    Id(String),
    Name(String),
}

impl DomainRef {
    fn is(&self, id: &str, name: &str) -> bool {
        match self {
            Self::Id(text) => text == id,
            Self::Name(text) => text == name,
        }
    }

    /// What clients send when nobody told them the domain.
    fn is_default(&self) -> bool {
        let (Self::Id(text) | Self::Name(text)) = self;
        text.eq_ignore_ascii_case("default")
    }
}

/// A user, as clients name one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserRef {
    Id(String),
    Name { name: String, domain: Option<DomainRef> },
}

/// A project, as clients name one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProjectRef {
    Id(String),
    Name { name: String, domain: Option<DomainRef> },
}

/// Who somebody says they are.
#[derive(Debug)]
pub enum Proof {
    Password { user: UserRef, password: SecretString },
    Token(SecretString),
}

/// What the session shall be good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScopeWish {
    /// Nothing was said: the only project, where there is only one.
    Unsaid,
    Unscoped,
    Domain(DomainRef),
    Project(ProjectRef),
}

/// A wish to log in.
#[derive(Debug)]
pub struct LogIn {
    pub proof: Proof,
    pub wish: ScopeWish,
}

/// A log-in that was turned away.
#[derive(Debug)]
pub struct Turned {
    pub error: Error,
    /// When trying again makes sense, where that is known.
    pub retry_after_s: Option<i64>,
}

impl From<Error> for Turned {
    fn from(error: Error) -> Self {
        let retry_after_s = (error.kind() == ErrorKind::TooManyRequests).then_some(1);
        Self { error, retry_after_s }
    }
}

/// One answer for an account that is not there, a wrong password and a project of others.
fn refused() -> Error {
    Error::new(ErrorKind::NotAuthenticated, "The username or password is wrong.")
}

/// Somebody who has proved who they are, and how far their proof reaches.
struct Proved {
    user_id: UserId,
    domain: (String, String),
    methods: String,
    role_max: Role,
    /// The one project of a token that was made by hand.
    only: Option<ProjectId>,
    origin: Option<String>,
    expires: Option<jiff::Timestamp>,
}

impl Service {
    /// Logs in. What is answered first is the session itself, which is never seen again.
    pub async fn log_in(
        &self,
        log_in: LogIn,
        source: IpAddr,
        request: &RequestId,
    ) -> Result<(String, Caller), Turned> {
        let proved = match log_in.proof {
            Proof::Password { user, password } => {
                self.prove_password(&user, password, source, request).await?
            }
            Proof::Token(token) => self.prove_token(&token).await,
        };
        let opened = match proved {
            Ok(proved) => self.open(proved, &log_in.wish, source, request).await,
            Err(error) => Err(error),
        };
        if opened.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotAuthenticated) {
            self.refusal_note(Refusal::Password, source, None, Some(request)).await;
        }
        Ok(opened?)
    }

    async fn prove_password(
        &self,
        wanted: &UserRef,
        password: SecretString,
        source: IpAddr,
        request: &RequestId,
    ) -> Result<Result<Proved>, Turned> {
        let user = self.user_wanted(wanted).await?;
        let attempt = match self.inner.guesses.begin(source, account(wanted, user.as_ref()), self.now()) {
            Ok(attempt) => attempt,
            Err(wait_s) => {
                self.refusal_note(Refusal::Wait, source, None, Some(request)).await;
                let error =
                    Error::new(ErrorKind::TooManyRequests, "Too many wrong passwords; try again later.");
                return Err(Turned { error, retry_after_s: Some(wait_s) });
            }
        };
        let known = user.as_ref().and_then(|user| user.password_hash.clone());
        match self.inner.passwords.verify(password, known, &self.parts().random).await {
            Ok(true) => attempt.succeeded(),
            Ok(false) => {
                drop(attempt);
                return Ok(Err(refused()));
            }
            Err(error) => {
                attempt.given_up();
                return Err(error.into());
            }
        }
        let user = user.ok_or_else(refused)?;
        let domain_name = self.domain_name(&user.domain_id).await?;
        Ok(Ok(Proved {
            user_id: user.id,
            domain: (user.domain_id, domain_name),
            methods: "password".to_owned(),
            role_max: Role::Admin,
            only: None,
            origin: None,
            expires: None,
        }))
    }

    async fn user_wanted(&self, wanted: &UserRef) -> Result<Option<User>> {
        match wanted {
            UserRef::Id(id) => self.catalog().user_find(&UserId::from_stored(id.clone())).await,
            UserRef::Name { name, domain } => {
                let mut users = self.catalog().users_by_name(name).await?;
                if let Some(domain) = domain.as_ref().filter(|domain| !domain.is_default()) {
                    let projects = self.catalog().project_list().await?;
                    let name_of = |id: &str| projects.iter().find(|project| project.domain_id == id);
                    users.retain(|user| {
                        let known = name_of(&user.domain_id).map_or("", |project| &project.domain_name);
                        domain.is(&user.domain_id, known)
                    });
                }
                // Two of the same name and no word about the domain: neither is meant.
                Ok(if users.len() == 1 { users.pop() } else { None })
            }
        }
    }

    async fn domain_name(&self, domain_id: &str) -> Result<String> {
        let projects = self.catalog().project_list().await?;
        let found = projects.into_iter().find(|project| project.domain_id == domain_id);
        Ok(found.map_or_else(|| domain_id.to_owned(), |project| project.domain_name))
    }

    async fn prove_token(&self, token: &SecretString) -> Result<Proved> {
        let bearer = self.bearer_of(token.expose_secret()).await?.ok_or_else(refused)?;
        let (origin, only) = match &bearer.credential {
            Credential::Session { origin, .. } => (origin.clone(), None),
            Credential::Token(id) => (id.clone(), bearer.project.as_ref().map(|project| project.id.clone())),
            Credential::AccessKey(_) => return Err(refused()),
        };
        let mut methods = bearer.methods.clone();
        if !methods.split(',').any(|method| method == "token") {
            methods.push_str(",token");
        }
        Ok(Proved {
            user_id: bearer.user_id,
            domain: (bearer.domain_id, bearer.domain_name),
            methods,
            role_max: bearer.role_max,
            only,
            origin: Some(origin),
            expires: bearer.expires,
        })
    }

    /// Opens a session as far as the user's roles and the proof reach.
    async fn open(
        &self,
        proved: Proved,
        wish: &ScopeWish,
        source: IpAddr,
        request: &RequestId,
    ) -> Result<(String, Caller)> {
        let mut assigned = self.catalog().assignments_of_user(&proved.user_id).await?;
        assigned.retain(|one| proved.only.as_ref().is_none_or(|only| *only == one.project.id));
        let (project, domain_scoped) = reach(wish, &assigned, (&proved.domain.0, &proved.domain.1))?;
        let now = self.now();
        let longest =
            now.saturating_add(SignedDuration::from_secs(limits::SESSION_LIFE_S)).map_err(Error::internal)?;
        let id = self.uuid().simple().to_string();
        let session = random_secret(SESSION_PREFIX, &*self.parts().random);
        let row = SessionRow {
            digest: token_digest(&session),
            origin: proved.origin.unwrap_or_else(|| id.clone()),
            id,
            user_id: proved.user_id.clone(),
            project_id: project.as_ref().map(|one| one.project.id.clone()),
            domain_scoped,
            role_max: proved.role_max,
            methods: proved.methods,
            issued: now,
            // A session made from another one does not outlive it.
            expires: proved.expires.map_or(longest, |end| end.min(longest)),
        };
        let audit = AuditEvent {
            at: now,
            project_id: row.project_id.clone(),
            actor: proved.user_id.as_str().to_owned(),
            action: "session.create",
            object: row.id.clone(),
            request_id: Some(request.as_str().to_owned()),
            detail: json!({ "methods": row.methods, "source": source.to_string() }),
        };
        self.catalog().session_create(&row, &audit).await?;
        // As the catalog sees it from now on.
        let opened = self.catalog().session_by_digest(&row.digest, now).await?.ok_or_else(refused)?;
        Ok((session, Caller::new(opened)))
    }

    /// The caller that a token speaks for, as far as `caller` may know of it: their own.
    pub async fn session_shown(&self, caller: &Caller, token: &str) -> Result<Caller> {
        let found = self.bearer_of(token).await?;
        let own = found.filter(|found| found.user_id == caller.bearer().user_id);
        own.map(Caller::new).ok_or_else(|| Error::new(ErrorKind::RouteUnknown, "There is no such token."))
    }

    /// Ends a token of the caller's own, and all that was made from it.
    pub async fn session_end(&self, caller: &Caller, token: &str, request: &RequestId) -> Result<()> {
        let ended = self.session_shown(caller, token).await?;
        let bearer = ended.bearer();
        let audit = |action, object: &str| AuditEvent {
            at: self.now(),
            project_id: ended.project_id().cloned(),
            actor: caller.actor().to_owned(),
            action,
            object: object.to_owned(),
            request_id: Some(request.as_str().to_owned()),
            detail: json!({}),
        };
        match (&bearer.credential, &bearer.project) {
            (Credential::Session { id, .. }, _) => {
                self.catalog().session_revoke(id, &audit("session.revoke", id)).await
            }
            (Credential::Token(id), Some(project)) => {
                self.catalog().token_revoke(&project.id, id, &audit("token.revoke", id)).await.map(|_| ())
            }
            (Credential::Token(_) | Credential::AccessKey(_), _) => Ok(()),
        }
    }

    /// The projects that a caller can use: those of the user's roles, or the one of the credential.
    pub async fn projects_of(&self, caller: &Caller) -> Result<Vec<Project>> {
        let bearer = caller.bearer();
        let assigned = self.catalog().assignments_of_user(&bearer.user_id).await?;
        let only = match bearer.credential {
            Credential::Session { .. } => None,
            Credential::Token(_) | Credential::AccessKey(_) => caller.project_id(),
        };
        let usable = |one: &Assignment| only.is_none_or(|only| *only == one.project.id);
        Ok(assigned.into_iter().filter(usable).map(|one| one.project).collect())
    }
}

/// What names an account when wrong passwords are counted: the user, or what was asked for.
fn account(wanted: &UserRef, user: Option<&User>) -> Account {
    let text = match (user, wanted) {
        (Some(user), _) => format!("id {}", user.id),
        (None, UserRef::Id(id)) => format!("id {id}"),
        (None, UserRef::Name { name, .. }) => format!("name {name}"),
    };
    *blake3::hash(text.as_bytes()).as_bytes()
}

/// The project of a wish, if it is for one, and whether it is for the domain.
fn reach<'a>(
    wish: &ScopeWish,
    assigned: &'a [Assignment],
    domain: (&str, &str),
) -> Result<(Option<&'a Assignment>, bool)> {
    let found = match wish {
        ScopeWish::Unscoped => return Ok((None, false)),
        ScopeWish::Unsaid => return Ok((assigned.first().filter(|_| assigned.len() == 1), false)),
        ScopeWish::Domain(wanted) => {
            let is_own = wanted.is(domain.0, domain.1) || wanted.is_default();
            return if is_own { Ok((None, true)) } else { Err(refused()) };
        }
        ScopeWish::Project(ProjectRef::Id(id)) => assigned.iter().find(|one| one.project.id.as_str() == id),
        ScopeWish::Project(ProjectRef::Name { name, domain: wanted }) => {
            let named = || assigned.iter().filter(|one| one.project.name == *name);
            let is_in = |one: &&Assignment| {
                wanted
                    .as_ref()
                    .is_some_and(|domain| domain.is(&one.project.domain_id, &one.project.domain_name))
            };
            // A domain that nobody knows is that of the user: the tools send one when none was given.
            named().find(is_in).or_else(|| named().find(|one| one.project.domain_id == domain.0))
        }
    };
    found.map(|one| (Some(one), false)).ok_or_else(refused)
}
