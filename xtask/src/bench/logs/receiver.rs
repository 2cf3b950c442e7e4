//! Who receives the log, and the field's own tool: it writes the files as the server has them.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use anyhow::{Context, bail, ensure};

use super::source::{Place, Source};
use crate::bench::peers::usage;

/// Receives until it is dropped.
pub(super) trait Receiver {
    fn name(&self) -> &str;

    fn pid(&self) -> u32;

    /// Up to where it has the log.
    fn reached(&mut self, source: &dyn Source) -> anyhow::Result<Place>;

    fn stored_bytes(&self) -> anyhow::Result<u64>;

    /// It holds all of the log between two places, and the server's own.
    fn judge(&mut self, source: &dyn Source, from: Place, until: Place) -> anyhow::Result<()>;
}

pub(super) struct Tool {
    name: &'static str,
    process: Child,
    folder: PathBuf,
    said: PathBuf,
}

impl Tool {
    pub(super) fn start(source: &dyn Source) -> anyhow::Result<Self> {
        let (folder, said) = (source.make_folder("received")?, source.make_folder("said")?.join("log"));
        let (name, mut command) = source.tool(&folder)?;
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&said)?);
        let process = process.spawn().with_context(|| format!("starting {name}"))?;
        Ok(Self { name, process, folder, said })
    }
}

impl Receiver for Tool {
    fn name(&self) -> &str {
        self.name
    }

    fn pid(&self) -> u32 {
        self.process.id()
    }

    fn reached(&mut self, source: &dyn Source) -> anyhow::Result<Place> {
        if let Some(status) = self.process.try_wait()? {
            let said = fs::read_to_string(&self.said).unwrap_or_default();
            bail!("it ended with {status}: {}", said.trim());
        }
        source.reached(&self.folder)
    }

    fn stored_bytes(&self) -> anyhow::Result<u64> {
        Ok(usage(&self.folder)?.0)
    }

    fn judge(&mut self, source: &dyn Source, from: Place, until: Place) -> anyhow::Result<()> {
        for number in from.file..=until.file {
            let name = source.file_name(number);
            let mut own = match fs::read(source.log_folder().join(&name)) {
                Ok(own) => own,
                // The last one ends where the next one would begin.
                Err(_) if number == until.file && until.offset == 0 => continue,
                Err(error) => return Err(error).with_context(|| name),
            };
            if number == until.file {
                own.truncate(usize::try_from(until.offset)?);
            }
            source.forgive(&mut own);
            let whole = self.folder.join(&name);
            let path = if whole.is_file() { whole } else { whole.with_extension("partial") };
            let received = fs::read(path).with_context(|| name.clone())?;
            ensure!(received.get(..own.len()) == Some(&own[..]), "{name} differs from the server's own");
        }
        Ok(())
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
