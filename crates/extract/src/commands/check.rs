//! `check`: looks at what is stored and names what is damaged.

use serde_json::json;
use strongroom_core::Result;
use strongroom_core::engine::CancelToken;
use strongroom_core::progress::Progress;
use strongroom_core::size::ByteSize;
use strongroom_core::verification::Level;

use crate::archive::Archive;
use crate::cli::{CheckLevel, Cli, Format};
use crate::exit::Exit;
use crate::{output, progress};

impl From<CheckLevel> for Level {
    fn from(level: CheckLevel) -> Self {
        match level {
            CheckLevel::Presence => Self::Presence,
            CheckLevel::Digest => Self::Digest,
            CheckLevel::Decode => Self::Decode,
        }
    }
}

pub(crate) fn run(archive: &Archive, backup: Option<&str>, level: CheckLevel, cli: &Cli) -> Result<Exit> {
    let (counters, cancel) = (Progress::new(), CancelToken::new());
    counters.set_phase("checking");
    let level = Level::from(level);
    let report = progress::shown(&counters, cli.progress, || match backup {
        Some(backup) => {
            let found = archive.find(backup)?;
            // The sentence for a deleted one is the same as for extract.
            drop(found.reader(false)?);
            found.lineage.check(Some(found.summary.attempt), level, &cancel, &counters)
        }
        None => archive.repository.check(level, &cancel, &counters),
    })?;
    match cli.output {
        Format::Json => output::json(&json!({
            "schema": 1,
            "level": level,
            "objects_checked": report.objects_checked,
            "bytes_checked": report.bytes_checked,
            "findings": report.findings,
        })),
        Format::Table => {
            for finding in &report.findings {
                let touched = if finding.backups.is_empty() {
                    "no backup".to_owned()
                } else {
                    finding.backups.join(", ")
                };
                output::data(format_args!("{}: {} (touches {touched})", finding.object, finding.problem));
            }
        }
    }
    output::note(format_args!(
        "{} objects and {} looked at, {} damaged",
        report.objects_checked,
        ByteSize::new(report.bytes_checked),
        report.findings.len()
    ));
    Ok(if report.passed() { Exit::Done } else { Exit::DamageFound })
}
