//! The recovery kit: one page that is enough to get the data back without this server.

use serde_json::json;
use strongroom_core::Result;

use crate::identity::{Action, Scope};
use crate::parts::Service;

/// The page and its parts.
#[derive(Debug, Clone)]
pub struct RecoveryKit {
    pub repository_id: String,
    pub location: String,
    pub recovery_key: String,
    pub text: String,
}

pub(crate) const PRINTED: &str = "recovery_kit.printed";

impl Service {
    /// The kit. From now on nobody is reminded of it.
    pub async fn recovery_kit(&self, scope: &Scope) -> Result<RecoveryKit> {
        scope.require(Action::Govern)?;
        let (repository_id, location) = (self.repository().id().to_owned(), self.parts().location.clone());
        let recovery_key = self.parts().recovery_key.to_text();
        let text = page(&repository_id, &location, &recovery_key, &self.now().to_string());
        self.catalog().setting_put(PRINTED, &self.now().to_string(), self.now()).await?;
        let audit = self.audit(scope, "recovery_kit.print", &repository_id, json!({}));
        tracing::info!(actor = audit.actor, "The recovery kit was printed.");
        Ok(RecoveryKit { repository_id, location, recovery_key, text })
    }

    /// Whether the kit was ever printed. Until then a lost disk means lost backups.
    pub async fn recovery_kit_printed(&self) -> Result<bool> {
        Ok(self.catalog().setting(PRINTED).await?.is_some())
    }
}

fn page(id: &str, location: &str, key: &str, at: &str) -> String {
    format!(
        "strongroom recovery kit                                   printed {at}\n\
         \n\
         Repository    {id}\n\
         Where it is   {location}\n\
         Recovery key  {key}\n\
         \n\
         Whoever holds this page and the repository can read every backup. Keep it away from both\n\
         the repository and this server: on paper, in a safe, or in a password manager.\n\
         \n\
         To get the data back when this server is gone:\n\
         1. Bring the repository (or a copy of it) to any machine. FORMAT.md inside describes every byte.\n\
         2. Put this page, or the line with the key, into a file, then run\n\
              strongroom-extract list --repository {location} --recovery-kit FILE\n\
              strongroom-extract extract NAME --repository {location} --recovery-kit FILE --target DIR\n\
            It needs no server, no catalog and no network, and writes nothing into the repository.\n\
         3. Start the database on the extracted directory.\n"
    )
}
