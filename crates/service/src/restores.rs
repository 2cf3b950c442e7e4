//! What an instance can be brought back to, and wishes to bring it there.

use std::convert::Infallible;

use jiff::{SignedDuration, Timestamp};
use strongroom_core::backup::{Backup, BackupState, InstanceRef};
use strongroom_core::instance::Instance;
use strongroom_core::logs::{LogPoint, leads_until};
use strongroom_core::restore::{RestorePoint, RestoreTarget, RestoreWindow, RestoreWish, union};
use strongroom_core::{Error, ErrorKind, Result};

use crate::backups::BackupRef;
use crate::identity::{Action, Scope};
use crate::parts::Service;

const GB: u64 = 1 << 30;

/// The beginning of a moment's millisecond.
fn whole(moment: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(moment.as_microsecond().div_euclid(1_000)).unwrap_or(moment)
}

/// The last microsecond of a moment's millisecond.
fn end_of(moment: Timestamp) -> Timestamp {
    whole(moment).saturating_add(SignedDuration::from_micros(999)).unwrap_or(moment)
}

impl Service {
    /// What can be restored of an instance, oldest first; only what has a moment in `within` too, where
    /// it is given. A full backup holds one moment: its end. Log that leads on from it holds every one
    /// after it, as far as it has no gap.
    pub async fn restore_windows(
        &self,
        scope: &Scope,
        instance: &str,
        within: Option<RestoreWindow>,
    ) -> Result<Vec<RestoreWindow>> {
        scope.require(Action::Read)?;
        let instance = self.instance_known(scope, instance).await?;
        self.windows_of(scope, &instance, within).await
    }

    async fn windows_of(
        &self,
        scope: &Scope,
        instance: &Instance,
        within: Option<RestoreWindow>,
    ) -> Result<Vec<RestoreWindow>> {
        // Moments are told and asked for in milliseconds: the one in which a backup ended is its own.
        let until = within.map(|bounds| end_of(bounds.until));
        let moments = self.catalog().backup_moments(scope.project(), &instance.id, until).await?;
        let held = self.catalog().log_held(&instance.id).await?;
        let window = |(moment, point): (Timestamp, Option<LogPoint>)| {
            let from = whole(moment);
            let until = point.and_then(|point| leads_until(&point, &held)).map_or(from, whole);
            RestoreWindow { from, until: until.max(from) }
        };
        let mut windows = union(moments.into_iter().map(window).collect());
        windows.retain(|window| within.is_none_or(|bounds| window.meets(&bounds)));
        Ok(windows)
    }

    /// Judges a wish to restore into an instance, as far as it can be judged. No engine of this release
    /// does it: what is right with it is refused as not supported, and nothing was begun.
    pub async fn restore_ask(&self, scope: &Scope, wish: &RestoreWish) -> Result<Infallible> {
        scope.require(Action::Restore)?;
        let (source, backup) = self.restore_source(scope, wish).await?;
        match &wish.target {
            RestoreTarget::Existing(target) => {
                let target = self.instance_find(scope, target).await?;
                if target.engine != source.engine {
                    return Err(Error::new(
                        ErrorKind::NotSupported,
                        "The target is of another engine than the source; nothing was changed.",
                    ));
                }
            }
            RestoreTarget::New { name, volume_gb } => {
                let taken = InstanceRef::Any(name.as_str().to_owned());
                let holder = self.catalog().instance_find(scope.project(), &taken).await?;
                if holder.is_some_and(|holder| holder.name == *name) {
                    return Err(Error::new(
                        ErrorKind::InstanceNameTaken,
                        format!("An instance is called {name} already; nothing was changed."),
                    ));
                }
                refuse_small(*volume_gb, backup.as_ref())?;
            }
        }
        self.refuse_unreachable_point(scope, wish, &source, backup.as_ref()).await?;
        Err(Error::new(
            ErrorKind::NotSupported,
            "This release does not restore into an instance; nothing was changed.",
        )
        .with_hint("`strongroom restore` writes a backup to where the command runs"))
    }

    async fn restore_source(&self, scope: &Scope, wish: &RestoreWish) -> Result<(Instance, Option<Backup>)> {
        let mut source = match &wish.source {
            Some(source) => Some(self.instance_known(scope, source.text()).await?),
            None => None,
        };
        let backup = match &wish.point {
            RestorePoint::Backup(id) => Some(self.backup_find(scope, &BackupRef::Id(id.clone())).await?),
            RestorePoint::Moment(_) => None,
        };
        if let Some(backup) = &backup {
            match &source {
                Some(source) if source.id != backup.instance_id => {
                    return Err(Error::new(
                        ErrorKind::BackupNotFound,
                        "There is no such backup of the source; nothing was changed.",
                    ));
                }
                Some(_) => {}
                None => source = Some(self.instance_known(scope, backup.instance_id.as_str()).await?),
            }
        }
        let source = source.ok_or_else(|| Error::internal("a wish to restore names backup or source"))?;
        Ok((source, backup))
    }

    async fn refuse_unreachable_point(
        &self,
        scope: &Scope,
        wish: &RestoreWish,
        source: &Instance,
        backup: Option<&Backup>,
    ) -> Result<()> {
        if let Some(backup) = backup {
            return refuse_unreadable(backup);
        }
        let RestorePoint::Moment(moment) = wish.point else { return Ok(()) };
        let windows = self.windows_of(scope, source, Some(RestoreWindow::at(moment))).await?;
        if windows.iter().any(|window| window.holds(moment)) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::NoRestorePoint,
            "No backup of the source holds that moment; nothing was changed.",
        )
        .with_hint("the restore times of the instance say which moments there are"))
    }
}

fn refuse_small(volume_gb: Option<u64>, backup: Option<&Backup>) -> Result<()> {
    let needed = backup.and_then(|backup| backup.source_bytes).map_or(0, |size| size.bytes().div_ceil(GB));
    match volume_gb {
        Some(volume) if volume < needed => Err(Error::new(
            ErrorKind::TargetTooSmall,
            format!("The backup needs {needed} GB; nothing was changed."),
        )),
        _ => Ok(()),
    }
}

/// Whether the content of a backup can be read.
pub(crate) fn refuse_unreadable(backup: &Backup) -> Result<()> {
    match backup.state {
        BackupState::Completed => Ok(()),
        BackupState::Building => Err(Error::new(ErrorKind::BackupState, "The backup is still being built.")
            .with_hint("wait for it with `strongroom job watch`")),
        BackupState::Failed => {
            Err(Error::new(ErrorKind::BackupState, "The backup failed; there is nothing to read.")
                .with_hint("`strongroom backup show` tells why"))
        }
        BackupState::Deleting => {
            Err(Error::new(ErrorKind::BackupBeingDeleted, "The backup is being deleted."))
        }
    }
}
