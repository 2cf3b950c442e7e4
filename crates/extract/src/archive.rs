//! The repository, opened for nothing but reading, and the backups in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom_core::{Error, ErrorKind, Field, Result};
use strongroom_repository::{
    BackupReader, HeldStream, Lineage, LocalStore, RecoveryKey, Repository, SealedSummary,
};

use crate::cli::RepositoryOptions;
use crate::ports::{SystemClock, SystemRandomness};

/// Stands for the newest backup that was not deleted.
const LATEST: &str = "@latest";

pub(crate) struct Archive {
    pub(crate) repository: Repository,
    pub(crate) backups: Vec<Found>,
    /// What is wrong with keys and manifests that cannot be read; their backups are not in the list.
    pub(crate) damaged: Vec<Error>,
    /// Streams of log.
    pub(crate) logs: Vec<HeldStream>,
}

/// A backup and the lineage it lies in.
pub(crate) struct Found {
    pub(crate) lineage: Lineage,
    pub(crate) summary: SealedSummary,
}

impl Archive {
    pub(crate) fn open(options: &RepositoryOptions) -> Result<Self> {
        let directory = options.repository.as_deref().ok_or_else(|| needed("--repository DIR"))?;
        let kit = options.recovery_kit.as_deref().ok_or_else(|| needed("--recovery-kit FILE"))?;
        let key = read_key(kit)?;
        let store = LocalStore::open_read_only(&local_path(directory)?)?;
        let repository =
            Repository::open(Arc::new(store), &key, Arc::new(SystemClock), Arc::new(SystemRandomness))?;
        let (mut backups, mut damaged, mut logs) = (Vec::new(), Vec::new(), Vec::new());
        for (project, lineage) in repository.lineages()? {
            let opened = repository.lineage(&project, &lineage);
            let listed = opened
                .and_then(|lineage| Ok((lineage.backups_and_damage()?, lineage.log_streams()?, lineage)));
            match listed {
                Ok(((found, errors), streams, lineage)) => {
                    damaged.extend(errors);
                    logs.extend(streams.into_iter().filter(|stream| !stream.ranges.is_empty()));
                    let found = found.into_iter().map(|summary| Found { lineage: lineage.clone(), summary });
                    backups.extend(found);
                }
                Err(error) if error.kind() == ErrorKind::Damage => damaged.push(error),
                Err(error) => return Err(error),
            }
        }
        backups.sort_by_key(|found| (found.summary.sealed_at, found.summary.attempt));
        Ok(Self { repository, backups, damaged, logs })
    }

    /// The backup that a person means.
    pub(crate) fn find(&self, text: &str) -> Result<&Found> {
        let is_meant = |found: &&Found| {
            let catalog = &found.summary.catalog;
            catalog.backup_id.as_str() == text
                || catalog.backup_name == text
                || found.summary.attempt.to_string() == text
        };
        if text == LATEST
            && let Some(error) = self.damaged.first()
        {
            // An older backup in the place of the newest would be a silent loss.
            let sentence = format!("Which backup is the newest cannot be known. {}", error.public());
            return Err(Error::new(ErrorKind::Damage, sentence));
        }
        let mut meant: Vec<&Found> = if text == LATEST {
            self.latest_of_each_instance()
        } else {
            self.backups.iter().filter(is_meant).collect()
        };
        // A name may have been used again after a delete: the one that is still there is meant.
        if meant.len() > 1 {
            meant.retain(|found| !found.summary.forgotten);
        }
        // Stored anew, and not forgotten as it was: both hold the same.
        meant.dedup_by_key(|found| &found.summary.catalog.backup_id);
        match meant[..] {
            [found] => Ok(found),
            [] => Err(Error::new(
                ErrorKind::BackupNotFound,
                format!("The repository lists no backup {text}; nothing was written."),
            )
            .with_hint("`strongroom-extract list` shows all, and what is damaged")),
            _ => Err(Error::parameter(Field::BackupId, format!("Several backups are meant by {text}."))
                .with_hint("give the attempt, which `strongroom-extract list` shows for each")),
        }
    }

    fn latest_of_each_instance(&self) -> Vec<&Found> {
        let mut latest: Vec<&Found> = Vec::new();
        for found in self.backups.iter().rev().filter(|found| !found.summary.forgotten) {
            if !latest.iter().any(|known| known.lineage.id() == found.lineage.id()) {
                latest.push(found);
            }
        }
        latest
    }
}

impl Found {
    /// Opens the backup. One that was deleted only when that is wished.
    pub(crate) fn reader(&self, even_forgotten: bool) -> Result<BackupReader> {
        if self.summary.forgotten && !even_forgotten {
            return Err(Error::new(
                ErrorKind::BackupState,
                format!("The backup {} was deleted; nothing was written.", self.summary.catalog.backup_name),
            )
            .with_hint("`extract --forgotten` takes it all the same, as long as its data is still there"));
        }
        self.lineage.open_backup_even_forgotten(self.summary.attempt)
    }
}

fn needed(option: &str) -> Error {
    Error::parameter(Field::Other, format!("{option} is needed."))
        .with_hint("the recovery kit says where the repository is; its page, in a file, holds the key")
}

fn read_key(file: &Path) -> Result<RecoveryKey> {
    let text = std::fs::read(file).map_err(|error| {
        Error::new(
            ErrorKind::WrongKey,
            format!("The recovery key cannot be read: {}: {error}.", file.display()),
        )
        .with_hint("give the file that holds the kit's page, or its line that begins with SR1-")
    })?;
    RecoveryKey::find(&String::from_utf8_lossy(&text))
}

/// The kit says where the repository was as a URL; people say it as a path.
fn local_path(given: &Path) -> Result<PathBuf> {
    let Some(text) = given.to_str() else { return Ok(given.to_owned()) };
    match text.split_once("://") {
        None => Ok(given.to_owned()),
        Some(("file", path)) if path.starts_with('/') => Ok(PathBuf::from(path)),
        Some(_) => Err(Error::parameter(Field::Other, format!("--repository: {text} is not a directory."))
            .with_hint("bring a copy of the repository to a local disk, then give its path")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_a_path_or_a_file_url() {
        for (given, path) in [("/a/b", "/a/b"), ("file:///a/b", "/a/b"), ("c", "c")] {
            assert_eq!(local_path(Path::new(given)).unwrap(), Path::new(path));
        }
        for wrong in ["s3://bucket/a", "file://host/a"] {
            assert!(local_path(Path::new(wrong)).is_err(), "{wrong}");
        }
    }
}
