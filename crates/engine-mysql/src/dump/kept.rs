//! A sink that remembers the one file of a dump.

use std::sync::{Arc, Mutex};

use strongroom_core::engine::{BackupSink, MemberWriter, PatchWriter};
use strongroom_core::member::{Member, MemberPath};
use strongroom_core::overwrite::{ContentJudge, OverwriteWriter};
use strongroom_core::{Error, Result};

use super::NAME;

#[derive(Default)]
pub(super) struct Memory(pub(super) Mutex<Kept>);

#[derive(Default)]
pub(super) struct Kept {
    pub(super) content: Option<Vec<u8>>,
    pub(super) is_stored: bool,
}

impl Memory {
    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().expect("nobody panics while it is held")
    }
}

struct First<'m>(&'m Memory);

impl OverwriteWriter for First<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let mut kept = self.0.kept();
        kept.content.as_mut().expect("the file was begun").extend_from_slice(bytes);
        Ok(())
    }

    fn stored(self: Box<Self>) -> Result<()> {
        self.0.kept().is_stored = true;
        Ok(())
    }
}

impl BackupSink for Memory {
    fn open(&self, _: Member) -> Result<Box<dyn MemberWriter + '_>> {
        Err(Error::internal("the file may be taken back"))
    }

    fn patch(&self, _: Member, _: u64) -> Result<Box<dyn PatchWriter + '_>> {
        Err(Error::internal("nothing is patched"))
    }

    fn overwritable(
        &self,
        member: Member,
        _: Option<Arc<dyn ContentJudge>>,
    ) -> Result<Box<dyn OverwriteWriter + '_>> {
        assert_eq!(member.path.below_root(), NAME.as_bytes());
        assert!(self.kept().content.replace(Vec::new()).is_none());
        Ok(Box::new(First(self)))
    }

    fn overwrite(&self, _: &MemberPath, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut kept = self.kept();
        assert!(kept.is_stored);
        let offset = usize::try_from(offset).expect("a file that fits into memory");
        let content = kept.content.as_mut().expect("the file was begun");
        content.resize(content.len().max(offset + bytes.len()), 0);
        content[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn discard(&self, _: &MemberPath) -> Result<()> {
        self.kept().content = None;
        Ok(())
    }
}
