//! pgBackRest, in its fastest honest configuration: bundles and block incrementals where the
//! version has them, two processes, the repository encrypted, the log archived by the server's own
//! command so that no backup waits for it. Its stored bytes do not count that log.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::{Tool, growth};
use crate::bench::meter::{self, Cost};
use crate::cluster::{ARCHIVED, Shop};
use crate::process;

/// The first version with block incrementals; bundles are older than any we meet.
const BLOCK_SINCE: (u32, u32) = (2, 46);

pub(in crate::bench) struct PgBackRest {
    name: String,
    program: PathBuf,
    folder: PathBuf,
    labels: HashMap<String, String>,
}

impl PgBackRest {
    pub(in crate::bench) fn new(program: &Path, shop: &Shop, level: u8) -> anyhow::Result<Self> {
        let said = process::output(Command::new(program).arg("version"))?;
        let version = said.trim().strip_prefix("pgBackRest ").context("it says its version")?.to_owned();
        let has_blocks = parse(&version)? >= BLOCK_SINCE;
        let blocks = if has_blocks { "bundle and block" } else { "bundle" };
        let folder = shop.server.make_folder(&format!("pgbackrest-{version}-{level}"))?;
        fs::write(folder.join("conf"), configuration(&folder, shop, level, has_blocks)?)?;
        let name = format!("pgBackRest {version}, zst {level}, {blocks}");
        let tool = Self { name, program: program.to_owned(), folder, labels: HashMap::new() };
        meter::command(&mut tool.command(shop, &["stanza-create"]), None)?;
        Ok(tool)
    }

    fn command(&self, shop: &Shop, arguments: &[&str]) -> Command {
        // The server's account, as it is always run.
        let mut command = shop.server.tool(&self.program.to_string_lossy());
        command.arg(format!("--config={}", self.folder.join("conf").display()));
        command.arg("--stanza=bench").args(arguments);
        command
    }

    fn newest_label(&self, shop: &Shop) -> anyhow::Result<String> {
        let text = process::output(&mut self.command(shop, &["info", "--output=json"]))?;
        let info: serde_json::Value = serde_json::from_str(&text).context("the answer of `info`")?;
        let newest = info[0]["backup"].as_array().and_then(|backups| backups.last());
        let label = newest.and_then(|backup| backup["label"].as_str());
        Ok(label.context("`info` names no backup")?.to_owned())
    }
}

fn parse(version: &str) -> anyhow::Result<(u32, u32)> {
    let mut parts = version.split('.').map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => bail!("a version {version} of pgBackRest"),
    }
}

fn configuration(folder: &Path, shop: &Shop, level: u8, has_blocks: bool) -> anyhow::Result<String> {
    let data_dir = shop.server.data_dir();
    let socket = data_dir.parent().context("a data directory has a parent")?;
    let block = if has_blocks { "repo1-block=y\n" } else { "" };
    Ok(format!(
        "[global]\nrepo1-path={folder}/repository\nrepo1-cipher-type=aes-256-cbc\nrepo1-cipher-pass=only-for-this-benchmark\n\
         repo1-bundle=y\n{block}compress-type=zst\ncompress-level={level}\nprocess-max=2\nstart-fast=y\n\
         archive-check=n\nlog-level-console=off\nlog-level-stderr=warn\nlog-level-file=off\n\
         lock-path={folder}/lock\nspool-path={folder}/spool\n\n\
         [bench]\npg1-path={data}\npg1-port={port}\npg1-socket-path={socket}\npg1-user=postgres\n",
        folder = folder.display(),
        data = data_dir.display(),
        port = shop.server.port(),
        socket = socket.display(),
    ))
}

impl Tool for PgBackRest {
    fn name(&self) -> &str {
        &self.name
    }

    fn back_up(&mut self, shop: &Shop, name: &str) -> anyhow::Result<Cost> {
        let kind = if self.labels.is_empty() { "--type=full" } else { "--type=incr" };
        let mut command = self.command(shop, &["backup", kind]);
        let cost = shop.archiving(|| {
            growth(&self.folder.join("repository"), || meter::command(&mut command, shop.server.pid()))
        })?;
        self.labels.insert(name.to_owned(), self.newest_label(shop)?);
        Ok(cost)
    }

    fn restore(&mut self, shop: &Shop, name: &str, target: &Path) -> anyhow::Result<Option<Cost>> {
        let label = self.labels.get(name).context("an unknown backup")?;
        let (set, path) = (format!("--set={label}"), format!("--pg1-path={}", target.display()));
        let fetch =
            format!("--recovery-option=restore_command=cp {}/%f %p", shop.folder(ARCHIVED)?.display());
        let arguments = ["restore", &set, &path, "--type=immediate", "--target-action=promote", &fetch];
        meter::command(&mut self.command(shop, &arguments), None).map(Some)
    }

    fn verify(&mut self, shop: &Shop) -> anyhow::Result<Option<Cost>> {
        meter::command(&mut self.command(shop, &["verify"]), None).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(parse("2.45").unwrap() < BLOCK_SINCE);
        assert!(parse("2.60.0").unwrap() > BLOCK_SINCE);
        assert!(parse("dev").is_err());
    }
}
