//! The ordinary account that servers run under, because database servers refuse to run as root.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

/// `nobody`, which every system has an entry for; `initdb` looks the name up.
const NOBODY: u32 = 65534;

/// Who runs a test server: the caller, or an unprivileged account when the caller is root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    ids: Option<(u32, u32)>,
}

impl Account {
    pub fn ordinary() -> Self {
        let ids = rustix::process::getuid().is_root().then_some((NOBODY, NOBODY));
        Self { ids }
    }

    /// User and group, when it is not the caller's own.
    pub fn ids(self) -> Option<(u32, u32)> {
        self.ids
    }

    /// Makes a command run under this account. Dropping the user id also drops all groups.
    pub fn apply(self, command: &mut Command) {
        if let Some((uid, gid)) = self.ids {
            command.uid(uid).gid(gid);
        }
    }

    /// Hands a folder and everything below it to this account. Links are handed over, not followed.
    pub fn own(self, path: &Path) -> anyhow::Result<()> {
        let Some((uid, gid)) = self.ids else { return Ok(()) };
        std::os::unix::fs::lchown(path, Some(uid), Some(gid))
            .with_context(|| format!("cannot change the owner of {}", path.display()))?;
        if path.is_dir() && !path.is_symlink() {
            for entry in std::fs::read_dir(path)? {
                self.own(&entry?.path())?;
            }
        }
        Ok(())
    }
}
