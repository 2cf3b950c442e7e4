//! The first start: a project, a user, and an administrator's token for both.

use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::json;
use strongroom_catalog::{AccessKey, AuditEvent, Catalog, Project, Role, TokenRow, User};
use strongroom_core::Result;
use strongroom_core::id::{ProjectId, UserId};
use strongroom_core::time::Randomness;

use crate::identity::token_digest;
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

/// Fills an empty catalog. `region` names the first project, as clients expect it.
pub async fn first_start(
    catalog: &Catalog,
    random: &dyn Randomness,
    now: Timestamp,
    region: &str,
) -> Result<Bootstrap> {
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
    // The password is for the Keystone log-in, which is not offered yet; its hash comes with it.
    let user = User {
        id: user_id.clone(),
        name: made.user_name.clone(),
        domain_id: made.domain_id.clone(),
        password_hash: None,
    };
    let audit = |action, object: &str| AuditEvent {
        at: now,
        project_id: Some(project_id.clone()),
        actor: "first start".to_owned(),
        action,
        object: object.to_owned(),
        request_id: None,
        detail: json!({}),
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
    let key = AccessKey {
        id: made.access_key.clone(),
        user_id,
        project_id: project_id.clone(),
        role: Role::Admin,
        created: now,
    };
    catalog.project_create(&project, now).await?;
    catalog.user_create(&user, now).await?;
    catalog.token_create(&token, &audit("token.create", &token.id)).await?;
    let secret = SecretString::from(made.secret_key.clone());
    catalog.access_key_create(&key, &secret, &audit("access_key.create", &key.id)).await?;
    Ok(made)
}
