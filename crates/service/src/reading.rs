//! Reading a COMPLETED backup: the plan of a restore, its members, its content.

use std::sync::Arc;

use strongroom_core::backup::Backup;
use strongroom_core::engine::{BackupFacts, Tablespace};
use strongroom_core::{Error, ErrorKind, Result};
use strongroom_repository::{BackupReader, MemberEntry};

use crate::backups::BackupRef;
use crate::content::ContentWriter;
use crate::identity::{Action, Scope};
use crate::parts::Service;

/// What a restore needs to know before its first byte.
#[derive(Debug, Clone)]
pub struct RestoreFacts {
    pub backup: Backup,
    pub facts: BackupFacts,
    pub tablespaces: Vec<Tablespace>,
    pub source_bytes: u64,
    pub members: u64,
    /// What a restore that was begun goes on with: it stays when the backup is stored anew, because
    /// members and segments do.
    pub manifest_digest: String,
}

impl Service {
    /// Opens a backup for reading; its packs are kept while the answer lives.
    pub async fn content_open(
        &self,
        scope: &Scope,
        wanted: &BackupRef,
    ) -> Result<(Backup, Arc<BackupReader>)> {
        scope.require(Action::Restore)?;
        let mut backup = self.backup_completed(scope, wanted).await?;
        loop {
            let sealed = backup.clone();
            match self.blocking(move |service| service.reader_of(&sealed)).await {
                // It was stored anew since its row was read: the row says where it is now.
                Err(error) if error.kind() == ErrorKind::BackupNotFound => {
                    let now = self.backup_completed(scope, wanted).await?;
                    if now.attempt_id == backup.attempt_id {
                        return Err(error);
                    }
                    backup = now;
                }
                opened => return Ok((backup, Arc::new(opened?))),
            }
        }
    }

    pub(crate) fn reader_of(&self, backup: &Backup) -> Result<BackupReader> {
        let lineage = self.repository().lineage(&backup.project_id, &backup.lineage_id)?;
        let attempt = backup.attempt_id.ok_or_else(|| {
            Error::internal(format!("backup {} is COMPLETED without an attempt", backup.id))
        })?;
        let reader = lineage.open_backup(attempt)?;
        if backup.manifest_digest.as_ref() == Some(&reader.summary().manifest_digest) {
            return Ok(reader);
        }
        Err(Error::new(
            ErrorKind::Damage,
            format!("The manifest of backup {} is not the one that was published.", backup.id),
        )
        .with_hint("`strongroom repository check --level digest` names what is damaged"))
    }

    pub async fn restore_facts(&self, scope: &Scope, wanted: &BackupRef) -> Result<RestoreFacts> {
        let (backup, reader) = self.content_open(scope, wanted).await?;
        let engine = self.parts().engines.get(backup.engine)?.clone();
        self.blocking(move |_| {
            let summary = reader.summary();
            Ok(RestoreFacts {
                tablespaces: engine.tablespaces(&summary.facts)?,
                facts: summary.facts.clone(),
                source_bytes: summary.totals.source_bytes,
                members: summary.totals.members,
                manifest_digest: summary.content_digest.clone(),
                backup,
            })
        })
        .await
    }

    /// Every member, on the calling thread. Blocks.
    pub fn content_members(
        reader: &BackupReader,
        out: &mut dyn FnMut(MemberEntry) -> Result<()>,
    ) -> Result<()> {
        reader.members(out)
    }

    /// Streams segments in the content stream's format, on the calling thread. Blocks. A failure
    /// in the middle becomes the stream's error frame.
    pub fn content_stream(
        reader: &BackupReader,
        segments: &[(u64, u32)],
        request_id: &str,
        sink: &mut dyn FnMut(Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let mut writer = ContentWriter::new(sink);
        writer.begin()?;
        for wanted in segments {
            let read = reader.read_segments(&[*wanted], &mut |frame| writer.frame(frame));
            if let Err(error) = read {
                tracing::warn!(request.id = request_id, "Reading a backup failed: {}", error.chain());
                return writer.error(&error, request_id);
            }
            writer.end_segment(wanted.0, wanted.1)?;
        }
        writer.end(segments.len() as u64)
    }
}
