//! A whole clone, into a sink that keeps nothing.

use std::sync::Arc;

use strongroom_core::engine::{BackupSink, MemberWriter, PatchWriter};
use strongroom_core::member::{Member, MemberPath};
use strongroom_core::overwrite::{ContentJudge, OverwriteWriter};
use strongroom_core::progress::Progress;
use strongroom_core::time::Randomness;
use strongroom_core::{Error, Result};

use super::intake::{Intake, Shape};
use super::names;
use crate::clone::{Descriptor, Outcome, Phase, Response, Stages, made};
use crate::connection::fuzzing::{each_packet, packet};
use crate::keyring::{self, Keyring};

struct Void;

struct Zeroes;

impl Randomness for Zeroes {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

impl MemberWriter for Void {
    fn write(&mut self, _bytes: &[u8]) -> Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// Looks at what it is handed and throws it away.
struct Looking {
    judge: Option<Arc<dyn ContentJudge>>,
}

impl OverwriteWriter for Looking {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(judge) = &self.judge {
            for piece in bytes.chunks(128 << 10) {
                let _ = judge.suspects(0, piece);
            }
        }
        Ok(())
    }

    fn stored(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

impl BackupSink for Void {
    fn open(&self, member: Member) -> Result<Box<dyn MemberWriter + '_>> {
        inside(&member.path);
        Ok(Box::new(Self))
    }

    fn patch(&self, _member: Member, _kept: u64) -> Result<Box<dyn PatchWriter + '_>> {
        Err(Error::internal("nothing is patched"))
    }

    fn overwritable(
        &self,
        member: Member,
        judge: Option<Arc<dyn ContentJudge>>,
    ) -> Result<Box<dyn OverwriteWriter + '_>> {
        inside(&member.path);
        Ok(Box::new(Looking { judge }))
    }

    fn overwrite(&self, _path: &MemberPath, _offset: u64, _bytes: &[u8]) -> Result<()> {
        Ok(())
    }

    fn extend(&self, _path: &MemberPath, _size: u64) -> Result<()> {
        Ok(())
    }

    fn rename(&self, _from: &MemberPath, to: &MemberPath) -> Result<()> {
        inside(to);
        Ok(())
    }

    fn discard(&self, _path: &MemberPath) -> Result<()> {
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        Ok(())
    }
}

/// No file that a server would read as its configuration or identity.
fn inside(path: &MemberPath) {
    assert_eq!(path.root(), b"data");
    let name = path.below_root().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    assert!(![&b".cnf"[..], b".my", b".pem", b".so"].iter().any(|end| name.ends_with(end)), "{path}");
}

fn shape() -> Shape {
    Shape {
        system_files: names::system_files("ibdata1:12M:autoextend"),
        began_s: 0,
        page_size_bytes: 16_384,
        findings: Arc::default(),
        keyring: Keyring::generate(&Zeroes),
    }
}

/// A stream of answers from the first state to the end.
pub(crate) fn clone(bytes: &[u8]) -> bool {
    let (sink, progress) = (Void, Progress::new());
    let (mut stages, mut intake) = (Stages::new(), Intake::new(&sink, &progress, shape()));
    let mut is_complete = false;
    each_packet(bytes, |body| {
        let outcome = Response::parse(body).and_then(|response| stages.take(response, &mut intake));
        is_complete |= matches!(outcome, Ok(Outcome::Complete));
        outcome.is_ok()
    });
    if is_complete {
        let _ = intake.finish();
        let _ = (intake.outside_files(), intake.page_compressed_files(), intake.keyring());
    }
    is_complete
}

fn table(phase: Phase) -> made::File<'static> {
    made::File {
        phase,
        size: 16_384,
        space_flags: 0x4021,
        flags: 0,
        space_id: 7,
        index: 0,
        chunks: (1, 1),
        name: "./shop/orders.ibd",
    }
}

pub(crate) fn table_file() -> Vec<u8> {
    made::file(table(Phase::File))
}

/// The name in a file's descriptor.
pub(crate) fn file_names(bytes: &[u8]) -> bool {
    let Ok(Descriptor::File(file)) = Descriptor::parse(bytes) else { return false };
    let _ = (file.is_encrypted(), file.is_page_compressed(), file.is_renamed());
    let Ok(placement) = names::place(&file, &shape().system_files) else { return false };
    inside(&placement.path);
    let _ = names::beside(&placement, file.space_id);
    true
}

/// Every kind of message once.
pub(crate) fn whole_clone() -> Vec<u8> {
    let state = |phase, flags| made::state(phase, flags, 1, 1, 16_384);
    let between = |flags, index, name| made::File { flags, index, name, ..table(Phase::Page) };
    let page = [&[3][..], &[0; 16_384]].concat();
    let (opened, _) = keyring::made::opened_page(16_384);
    let secret = |phase, index, name| made::File {
        phase,
        index,
        name,
        flags: 4 | if phase == Phase::Page { 1 << 5 } else { 0 },
        space_flags: 0x4021 | 1 << 13,
        chunks: (3, 3),
        ..table(phase)
    };
    let told = |bytes: Vec<u8>| [&[2, 12, 0][..], &bytes].concat();
    [
        told(made::task(0)),
        told(state(Phase::Init, 0)),
        told(state(Phase::File, 1)),
        told(table_file()),
        told(made::file(secret(Phase::File, 3, "./shop/secret.ibd"))),
        told(made::data(Phase::File, (1, 1), 0, 16_384, 0, 16_384)),
        page.clone(),
        told(state(Phase::File, 2)),
        told(state(Phase::File, 0)),
        told(made::file(between(8, 0, "./shop/renamed.ibd"))),
        told(made::file(between(0, 1, "./shop/orders.ibd"))),
        told(made::file(between(16, 2, "./shop/gone.ibd"))),
        told(made::file(secret(Phase::Page, 4, "./shop/secret2.ibd"))),
        told(state(Phase::Page, 1)),
        told(made::data(Phase::Page, (3, 1), 3, 16_384, 0, 16_384)),
        [&[3][..], &opened].concat(),
        told(made::data(Phase::Page, (1, 1), 1, 16_384, 16_384, 32_768)),
        page,
        told(state(Phase::Page, 0)),
        told(state(Phase::Redo, 1)),
        told(made::file(made::File { name: "", size: 8_192, ..table(Phase::Redo) })),
        told(made::data(Phase::Redo, (2, 1), 0, 2_048, 0, 8_192)),
        [&[3][..], &keyring::made::opened_log_header()].concat(),
        told(made::data(Phase::Redo, (2, 2), 0, 5, 2_048, 8_192)),
        b"\x03log!!".to_vec(),
        told(state(Phase::Redo, 0)),
        told(state(Phase::Done, 1)),
        vec![99],
    ]
    .map(|body| packet(&body))
    .concat()
}
