//! `cargo xtask tidy`: the rules of ARCHITECTURE.md that no compiler knows, as code.
//!
//! Each rule is a function from the files of the workspace to findings, and has a unit test with
//! a broken specimen that it must find.

mod faults;
mod layers;
mod length;
mod limits;
mod links;
mod scope;
mod source;
mod texts;
mod words;

use std::fs;

use anyhow::{Context, bail};
use clap::Args;

use self::source::{Finding, Source};
use crate::{say, workspace};

/// Endings of files that are read; anything else is a picture or a specimen.
const TEXT_ENDINGS: &[&str] = &["rs", "md", "toml", "yml", "yaml", "json", "http", "sql", "sh", "txt"];

#[derive(Args, Default)]
pub(crate) struct Options {
    /// Bring the test names in docs/reference/faults.md up to date first
    #[arg(long)]
    write: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut sources = load()?;
    if options.write {
        write_faults_page(&mut sources)?;
    }
    let findings = check(&sources);
    for finding in &findings {
        say::result(finding);
    }
    if !findings.is_empty() {
        bail!("tidy found {} broken {}", findings.len(), if findings.len() == 1 { "rule" } else { "rules" });
    }
    say::note(format_args!("tidy: {} files, nothing found", sources.len()));
    Ok(())
}

fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = sources.iter().filter_map(Source::syntax_error).collect();
    findings.extend(layers::check(sources));
    findings.extend(texts::check(sources));
    findings.extend(scope::check(sources, scope::WITHOUT_SCOPE));
    findings.extend(length::check(sources, length::EXCEPTIONS));
    findings.extend(words::check(sources));
    findings.extend(limits::check(sources));
    findings.extend(faults::check(sources));
    findings.extend(links::check(sources));
    findings.sort();
    findings
}

fn load() -> anyhow::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for path in workspace::files()? {
        let ending = path.rsplit_once('.').map(|(_, ending)| ending);
        // Files without an ending are ours too: `.ci/run`, LICENSE.
        if ending.is_some_and(|ending| !TEXT_ENDINGS.contains(&ending) && !ending.contains('/')) {
            continue;
        }
        let bytes = fs::read(workspace::root().join(&path)).with_context(|| format!("reading {path}"))?;
        if let Ok(text) = String::from_utf8(bytes) {
            sources.push(Source::new(path, text));
        }
    }
    Ok(sources)
}

fn write_faults_page(sources: &mut [Source]) -> anyhow::Result<()> {
    let written = faults::refresh(sources);
    if let Some(page) = sources.iter_mut().find(|source| source.path == faults::PAGE)
        && page.text != written
    {
        fs::write(workspace::root().join(faults::PAGE), &written).context("writing the page of faults")?;
        *page = Source::new(faults::PAGE, written);
    }
    Ok(())
}
