//! Members that are at hand as a whole.

use strongroom_core::Result;
use strongroom_core::engine::BackupSink;
use strongroom_core::member::{Dedupe, Member, MemberKind, MemberPath};

/// Stores a file. It has no time of its own, so that equal content is an equal member.
pub(super) fn store(sink: &dyn BackupSink, path: &str, content: &[u8], dedupe: Dedupe) -> Result<()> {
    let mut writer = sink.open(Member {
        path: MemberPath::parse(path.as_bytes())?,
        kind: MemberKind::File,
        size: Some(content.len() as u64),
        mode: 0o600,
        mtime_s: 0,
        page_size: 0,
        dedupe,
    })?;
    writer.write(content)?;
    writer.finish()
}
