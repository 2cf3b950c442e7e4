//! Tokens: opaque, shown once, revocable at once.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use strongroom_catalog::{Role, TokenRow};
use strongroom_core::id::UserId;
use strongroom_core::time::Randomness;
use strongroom_core::{Error, ErrorKind, Field, Result};

use crate::identity::{Action, Scope, token_digest};
use crate::parts::Service;

/// A wish for a token.
#[derive(Debug, Clone)]
pub struct NewToken {
    pub name: String,
    pub role: Role,
    pub expires_in_s: Option<u64>,
}

/// A token and its row; the token itself is never seen again.
#[derive(Debug)]
pub struct IssuedToken {
    pub token: String,
    pub row: TokenRow,
}

/// Marks our tokens, so that scanners for leaked secrets know them.
const PREFIX: &str = "srt_";

pub(crate) fn random_token(random: &dyn Randomness) -> String {
    random_secret(PREFIX, random)
}

pub(crate) fn random_secret(prefix: &str, random: &dyn Randomness) -> String {
    let mut bytes = [0; 32];
    random.fill(&mut bytes);
    format!("{prefix}{}", hex::encode(bytes))
}

impl Service {
    pub async fn token_create(&self, scope: &Scope, new: NewToken) -> Result<IssuedToken> {
        scope.require(Action::Administer)?;
        if new.name.is_empty() || new.name.chars().count() > 64 || new.name.chars().any(char::is_control) {
            return Err(Error::parameter(Field::Other, "name: must have 1 to 64 printable characters"));
        }
        let token = random_token(&*self.parts().random);
        let row = TokenRow {
            id: self.uuid().simple().to_string(),
            digest: token_digest(&token),
            user_id: UserId::from_stored(scope.actor()),
            project_id: scope.project().clone(),
            role: new.role,
            name: new.name,
            created: self.now(),
            expires: new.expires_in_s.map(|seconds| after(self.now(), seconds)).transpose()?,
        };
        let audit = self.audit(scope, "token.create", &row.id, json!({ "role": row.role.word() }));
        self.catalog().token_create(&row, &audit).await?;
        Ok(IssuedToken { token, row })
    }

    pub async fn token_list(&self, scope: &Scope) -> Result<Vec<TokenRow>> {
        scope.require(Action::Administer)?;
        self.catalog().token_list(scope.project()).await
    }

    pub async fn token_revoke(&self, scope: &Scope, id: &str) -> Result<()> {
        scope.require(Action::Administer)?;
        let audit = self.audit(scope, "token.revoke", id, json!({}));
        if self.catalog().token_revoke(scope.project(), id, &audit).await? {
            return Ok(());
        }
        Err(Error::new(ErrorKind::RouteUnknown, "There is no such token."))
    }
}

fn after(now: Timestamp, seconds: u64) -> Result<Timestamp> {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| now.checked_add(SignedDuration::from_secs(seconds)).ok())
        .ok_or_else(|| Error::parameter(Field::Other, "expires_in_s: is too far in the future"))
}
