//! Download links: who holds one may read one archive for an hour, and nothing else.
//!
//! A link names the backup, its project, the user who asked and the exact archive, and is signed over
//! all of it. It dies with its hour, with the backup, with the user's right, and with a release that
//! would make another archive of the same backup.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use jiff::{SignedDuration, Timestamp};
use ring::hmac;
use serde_json::json;
use strongroom_core::backup::Backup;
use strongroom_core::id::{AttemptId, BackupId, ProjectId, RequestId, UserId};
use strongroom_core::{Error, ErrorKind, Result, limits};
use strongroom_repository::BackupReader;
use tokio::sync::Semaphore;

use crate::archive::Layout;
use crate::backups::BackupRef;
use crate::identity::{Action, Scope};
use crate::parts::Service;

/// Layouts that are kept, of at most about a megabyte each.
const LAYOUTS_KEPT: usize = 16;
/// Layouts made at once; more wait.
const LAYOUTS_AT_ONCE: usize = 2;
const FILE_ENDING: &str = ".tar.zst";

/// A link, without the server's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownloadLink {
    pub backup: BackupId,
    pub file_name: String,
    pub bytes: u64,
    pub expires: Timestamp,
    /// File and query of the address.
    pub target: String,
}

/// What somebody shows as a link.
#[derive(Debug, Clone)]
pub struct DownloadClaim {
    pub file: String,
    pub project: String,
    pub user: String,
    pub content: String,
    pub expires: String,
    pub signature: String,
}

/// An archive that is open for reading.
pub struct Download {
    reader: Arc<BackupReader>,
    layout: Arc<Layout>,
}

/// Layouts of this process. They follow from the manifest, so that any process makes the same.
pub(crate) struct Layouts {
    kept: Mutex<VecDeque<(AttemptId, Arc<Layout>)>>,
    turns: Semaphore,
}

impl Default for Layouts {
    fn default() -> Self {
        Self { kept: Mutex::default(), turns: Semaphore::new(LAYOUTS_AT_ONCE) }
    }
}

impl Layouts {
    fn kept(&self) -> MutexGuard<'_, VecDeque<(AttemptId, Arc<Layout>)>> {
        self.kept.lock().expect("no thread panics while it holds the layouts")
    }

    fn find(&self, attempt: Option<AttemptId>) -> Option<Arc<Layout>> {
        let mut kept = self.kept();
        let at = kept.iter().position(|(of, _)| Some(*of) == attempt)?;
        let found = kept.remove(at)?;
        let layout = found.1.clone();
        kept.push_front(found);
        Some(layout)
    }

    fn keep(&self, attempt: AttemptId, layout: &Arc<Layout>) {
        let mut kept = self.kept();
        kept.retain(|(of, _)| *of != attempt);
        kept.push_front((attempt, layout.clone()));
        kept.truncate(LAYOUTS_KEPT);
    }
}

impl Download {
    pub fn bytes(&self) -> u64 {
        self.layout.bytes()
    }

    /// Tells this archive from every other.
    pub fn digest(&self) -> &str {
        self.layout.digest()
    }

    /// Sends a range of the archive, on the calling thread. Blocks. An error means that what was sent
    /// is not the whole range.
    pub fn write(&self, range: Range<u64>, sink: &mut dyn FnMut(Vec<u8>) -> Result<()>) -> Result<()> {
        self.layout.write(&self.reader, range, sink)
    }
}

impl DownloadClaim {
    /// Everything that the signature covers. Words of other characters could be read in two ways.
    fn text(&self) -> Option<String> {
        let parts = [&self.project, &self.user, &self.file, &self.content, &self.expires];
        let is_plain = |part: &&String| {
            !part.is_empty()
                && part.len() <= 128
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        parts
            .iter()
            .all(is_plain)
            .then(|| format!("strongroom download 1\n{}", parts.map(String::as_str).join("\n")))
    }
}

fn refused() -> Error {
    Error::new(ErrorKind::NotAllowed, "The link is not valid.")
        .with_hint("ask for a new one with `strongroom backup link` or the call for download links")
}

impl Service {
    /// A link to the backup as one file.
    pub async fn download_link(&self, scope: &Scope, wanted: &BackupRef) -> Result<DownloadLink> {
        scope.require(Action::Restore)?;
        let backup = self.backup_completed(scope, wanted).await?;
        let layout = self.layout_of(&backup).await?;
        let expires = self.now() + SignedDuration::from_secs(limits::DOWNLOAD_LINK_LIFE_S);
        let mut claim = DownloadClaim {
            file: format!("{}{FILE_ENDING}", backup.id),
            project: backup.project_id.to_string(),
            user: scope.actor().to_owned(),
            content: layout.digest().to_owned(),
            expires: expires.as_second().to_string(),
            signature: String::new(),
        };
        let text = claim.text().ok_or_else(|| Error::internal("a link cannot name its backup"))?;
        claim.signature = hex::encode(hmac::sign(&self.link_key(), text.as_bytes()));
        let detail = json!({ "expires": expires.to_string(), "bytes": layout.bytes() });
        self.catalog().audit_note(&self.audit(scope, "backup.link", backup.id.as_str(), detail)).await?;
        Ok(DownloadLink {
            target: format!(
                "{}?project={}&user={}&content={}&expires={}&signature={}",
                claim.file, claim.project, claim.user, claim.content, claim.expires, claim.signature
            ),
            file_name: claim.file,
            bytes: layout.bytes(),
            backup: backup.id,
            expires: Timestamp::from_second(expires.as_second()).map_err(Error::internal)?,
        })
    }

    /// Whom a link speaks for: the one who asked for it, as far as they may read now.
    pub async fn download_scope(&self, claim: &DownloadClaim, request: &RequestId) -> Result<Scope> {
        let text = claim.text().ok_or_else(refused)?;
        let signature = hex::decode(&claim.signature).map_err(|_| refused())?;
        hmac::verify(&self.link_key(), text.as_bytes(), &signature).map_err(|_| refused())?;
        let expires: i64 = claim.expires.parse().map_err(|_| refused())?;
        if self.now().as_second() >= expires {
            return Err(Error::new(ErrorKind::NotAllowed, "The link has expired.")
                .with_hint("ask for a new one; a download that was cut goes on with it where it stopped"));
        }
        let (user, project) = (UserId::from_stored(claim.user.as_str()), ProjectId::parse(&claim.project)?);
        let roles = self.catalog().assignments_of_user(&user).await?;
        let role = roles.into_iter().find(|role| role.project.id == project).ok_or_else(refused)?;
        let scope = Scope::of_link(project, &user, role.role, request);
        scope.require(Action::Restore).map_err(|_| refused())?;
        Ok(scope)
    }

    /// Opens what a link leads to; its packs are kept while the answer lives.
    pub async fn download_open(&self, scope: &Scope, claim: &DownloadClaim) -> Result<Download> {
        scope.require(Action::Restore)?;
        let id = claim.file.strip_suffix(FILE_ENDING).ok_or_else(refused)?;
        let wanted = BackupRef::Id(BackupId::parse(id)?);
        let (backup, reader) = self.content_open(scope, &wanted).await?;
        let layout = self.layout_of(&backup).await?;
        if layout.digest() != claim.content {
            return Err(Error::new(
                ErrorKind::BackupState,
                "The server would make another archive than the one that the link was made for.",
            )
            .with_hint("ask for a new link and begin anew; parts of two archives do not fit together"));
        }
        Ok(Download { reader, layout })
    }

    fn link_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.catalog().link_key())
    }

    /// Goes on when the caller does not wait: a second call finds what the first one began.
    async fn layout_of(&self, backup: &Backup) -> Result<Arc<Layout>> {
        if let Some(layout) = self.inner.layouts.find(backup.attempt_id) {
            return Ok(layout);
        }
        let (service, backup) = (self.clone(), backup.clone());
        let making = tokio::spawn(async move {
            let layouts = &service.inner.layouts;
            let _turn = layouts.turns.acquire().await.map_err(Error::internal)?;
            if let Some(layout) = layouts.find(backup.attempt_id) {
                return Ok(layout);
            }
            let engine = service.parts().engines.get(backup.engine)?.clone();
            let attempt = backup.attempt_id;
            let made = service.blocking(move |service| {
                let reader = service.reader_of(&backup)?;
                Layout::of(&reader, &backup, &*engine).map(Arc::new)
            });
            let layout = made.await?;
            if let Some(attempt) = attempt {
                layouts.keep(attempt, &layout);
            }
            Ok(layout)
        });
        making.await.map_err(Error::internal)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a27_no_two_claims_have_the_same_text() {
        let claim = |project: &str, user: &str| DownloadClaim {
            file: "b.tar.zst".to_owned(),
            project: project.to_owned(),
            user: user.to_owned(),
            content: "c".to_owned(),
            expires: "1".to_owned(),
            signature: String::new(),
        };
        assert_ne!(claim("a", "bc").text().unwrap(), claim("ab", "c").text().unwrap());
        for odd in ["", "a\nb", "a b", "ä", &"a".repeat(129)] {
            assert_eq!(claim(odd, "u").text(), None, "{odd:?}");
        }
    }
}
