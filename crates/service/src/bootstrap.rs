//! The first start: a project, a user, and an administrator's token for both.

use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::json;
use strongroom_catalog::{AccessKey, AuditEvent, Catalog, FirstRows, Project, Role, TokenRow, User};
use strongroom_core::Result;
use strongroom_core::id::{ProjectId, UserId};
use strongroom_core::time::Randomness;

use crate::identity::token_digest;
use crate::passwords;
use crate::tokens::random_token;

/// What `bootstrap.json` is made of. Secrets are shown once, here.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    pub domain_id: String,
    pub domain_name: String,
    pub user_id: String,
    pub user_name: String,
    pub password: String,
    pub project_id: String,
    pub project_name: String,
    pub token: String,
    pub access_key: String,
    pub secret_key: String,
}

fn random_text(random: &dyn Randomness, bytes: usize) -> String {
    let mut raw = vec![0; bytes];
    random.fill(&mut raw);
    hex::encode(raw)
}

/// A first start that is planned and not stored yet, so that what is shown once can be written
/// down before the catalog knows of it.
#[derive(Debug)]
pub struct FirstStart {
    made: Bootstrap,
    project: Project,
    user: User,
    token: TokenRow,
    access_key: AccessKey,
    now: Timestamp,
}

impl FirstStart {
    /// `region` names the first project, as clients expect it.
    pub fn plan(random: &dyn Randomness, now: Timestamp, region: &str) -> Result<Self> {
        let (project_id, user_id) = (ProjectId::issue(random.uuid(now)), UserId::issue(random.uuid(now)));
        let made = Bootstrap {
            domain_id: random.uuid(now).simple().to_string(),
            domain_name: "strongroom".to_owned(),
            user_id: user_id.as_str().to_owned(),
            user_name: "admin".to_owned(),
            password: random_text(random, 16),
            project_id: project_id.as_str().to_owned(),
            project_name: region.to_owned(),
            token: random_token(random),
            access_key: random_text(random, 10).to_ascii_uppercase(),
            secret_key: random_text(random, 20),
        };
        let project = Project {
            id: project_id.clone(),
            name: made.project_name.clone(),
            domain_id: made.domain_id.clone(),
            domain_name: made.domain_name.clone(),
            backup_quota: None,
        };
        let user = User {
            id: user_id.clone(),
            name: made.user_name.clone(),
            domain_id: made.domain_id.clone(),
            password_hash: Some(passwords::hash(&SecretString::from(made.password.clone()), random)?),
            domain_admin: true,
        };
        let token = TokenRow {
            id: random.uuid(now).simple().to_string(),
            digest: token_digest(&made.token),
            user_id: user_id.clone(),
            project_id: project_id.clone(),
            role: Role::Admin,
            name: "bootstrap".to_owned(),
            created: now,
            expires: None,
        };
        let access_key =
            AccessKey { id: made.access_key.clone(), user_id, project_id, role: Role::Admin, created: now };
        Ok(Self { made, project, user, token, access_key, now })
    }

    /// What is shown once.
    pub fn bootstrap(&self) -> &Bootstrap {
        &self.made
    }

    /// Fills an empty catalog, in one transaction.
    pub async fn store(&self, catalog: &Catalog, repository_id: &str) -> Result<()> {
        let audit = |action, object: &str| AuditEvent {
            at: self.now,
            project_id: Some(self.project.id.clone()),
            actor: "first start".to_owned(),
            action,
            object: object.to_owned(),
            request_id: None,
            detail: json!({}),
        };
        let rows = FirstRows {
            project: &self.project,
            user: &self.user,
            token: &self.token,
            access_key: &self.access_key,
            access_secret: &SecretString::from(self.made.secret_key.clone()),
            repository_id,
            audit: &[audit("token.create", &self.token.id), audit("access_key.create", &self.access_key.id)],
        };
        catalog.first_start(&rows, self.now).await
    }
}
