//! `extract`: writes a backup into a directory that the database can start from.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use strongroom_core::engine::{CancelToken, Engine, EngineKind, RestoreOrder, Tablespace, each_once};
use strongroom_core::progress::Progress;
use strongroom_core::size::ByteSize;
use strongroom_core::{Error, ErrorKind, Result};
use strongroom_engine_mysql::MySqlEngine;
use strongroom_engine_postgres::PostgresEngine;
use strongroom_repository::{BackupReader, MemberEntry};
use strongroom_restore::{RestoreOptions, RestorePlan, Restored, TargetState};

use crate::archive::Archive;
use crate::cli::{Cli, ExtractOptions, Format};
use crate::exit::Exit;
use crate::ports::SystemRandomness;
use crate::salvage::{Missing, PathPrefix, Source};
use crate::{output, progress};

/// Lies in the target when something could not be read.
const LIST: &str = "strongroom-missing.txt";

/// Everything that is known before the first byte is written.
struct Wish<'a> {
    options: &'a ExtractOptions,
    reader: BackupReader,
    wanted: PathPrefix,
    engine: Option<Box<dyn Engine>>,
    restore_options: RestoreOptions,
    plan: RestorePlan,
    /// What the journal in the target is bound to.
    digest: String,
}

pub(crate) fn run(archive: &Archive, options: &ExtractOptions, cli: &Cli) -> Result<Exit> {
    let wish = wish(archive, options)?;
    say_plan(&wish);
    let begun = Instant::now();
    let (restored, missing) = restore(&wish, cli)?;
    let mut added = restored.notes.clone();
    added.extend(finish(&wish, &missing)?);
    let notes = each_once(&wish.reader.summary().facts.warnings, &added);
    for note in &notes {
        output::note(format_args!("  {note}"));
    }
    let seconds = begun.elapsed().as_secs_f64();
    output::note(format_args!(
        "wrote {} in {} files and directories to {} ({seconds:.1} s)",
        ByteSize::new(restored.bytes),
        restored.members,
        wish.plan.target.display()
    ));
    if cli.output == Format::Json {
        let summary = wish.reader.summary();
        output::json(&json!({
            "schema": 1,
            "id": summary.catalog.backup_id,
            "attempt": summary.attempt.to_string(),
            "target": wish.plan.target,
            "bytes": restored.bytes,
            "members": restored.members,
            "resumed": restored.resumed,
            "seconds": seconds,
            "notes": notes,
            "missing": missing.iter().map(document).collect::<Vec<_>>(),
        }));
    }
    if missing.is_empty() {
        return Ok(Exit::Done);
    }
    output::note(format_args!("{} places could not be read; they are listed in {LIST} there", missing.len()));
    Ok(Exit::DamageFound)
}

fn wish<'a>(archive: &Archive, options: &'a ExtractOptions) -> Result<Wish<'a>> {
    let reader = archive.find(&options.backup)?.reader(options.forgotten)?;
    let wanted = PathPrefix::parse(options.path.as_deref())?;
    let summary = reader.summary();
    let engine: Option<Box<dyn Engine>> = match summary.catalog.engine {
        EngineKind::PostgreSql => Some(Box::new(PostgresEngine::new(Arc::new(SystemRandomness)))),
        EngineKind::MySql => Some(Box::new(MySqlEngine::new(Arc::new(SystemRandomness)))),
        EngineKind::SqlServer => None,
    };
    // Files can be had of any backup; what makes a server of them must be understood first.
    let (engine, mut tablespaces) = match engine.map(|engine| (engine.tablespaces(&summary.facts), engine)) {
        Some((Ok(known), engine)) => (Some(engine), known),
        Some((Err(_), _)) | None => (None, tablespaces_in(&reader)?),
    };
    tablespaces.retain(|space| wanted.meets(format!("tablespace/{}", space.id).as_bytes()));
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let restore_options = RestoreOptions {
        target: options.target.clone(),
        tablespace_map: options.tablespace.clone(),
        port: None,
        streams: options.threads.map_or(threads, usize::from),
    };
    let digest = journal_digest(&summary.content_digest, &wanted, options.keep_going);
    let plan =
        strongroom_restore::plan(&restore_options, &digest, summary.totals.source_bytes, &tablespaces)?;
    if options.keep_going && plan.state == TargetState::Resumable {
        return Err(Error::new(
            ErrorKind::TargetNotEmpty,
            "What an earlier run could not read is not known any more; nothing was written.",
        )
        .with_hint("with --keep-going, begin with an empty directory"));
    }
    Ok(Wish { options, reader, wanted, engine, restore_options, plan, digest })
}

/// Tablespaces, as far as the paths of the files tell of them.
fn tablespaces_in(reader: &BackupReader) -> Result<Vec<Tablespace>> {
    let mut found: Vec<Tablespace> = Vec::new();
    let mut look = |entry: MemberEntry| {
        if entry.path.root() == b"tablespace" {
            let id = entry.path.below_root().split(|byte| *byte == b'/').next().unwrap_or_default();
            let id = String::from_utf8_lossy(id).into_owned();
            if !id.is_empty() && found.last().is_none_or(|last| last.id != id) {
                found.push(Tablespace { id, source_path: String::new() });
            }
        }
        Ok(())
    };
    reader.readable_members(&mut look, &mut |_| {})?;
    Ok(found)
}

/// A directory with a part of a backup, or with gaps, is never taken for the begin of a whole one.
fn journal_digest(manifest_digest: &str, wanted: &PathPrefix, keep_going: bool) -> String {
    if wanted.is_whole() && !keep_going {
        return manifest_digest.to_owned();
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(manifest_digest.as_bytes()).update(&[u8::from(keep_going)]).update(wanted.as_bytes());
    hasher.finalize().to_hex().to_string()
}

fn say_plan(wish: &Wish<'_>) {
    let (summary, plan) = (wish.reader.summary(), &wish.plan);
    output::note(format_args!(
        "{} of {} ({} {}), sealed {:.0}, to {}",
        summary.catalog.backup_name,
        summary.catalog.instance_name,
        summary.catalog.engine,
        summary.facts.identity.version,
        summary.sealed_at,
        plan.target.display()
    ));
    if plan.state == TargetState::Resumable {
        output::note("  an earlier run was interrupted; this one goes on there");
    }
    for space in &plan.tablespaces {
        output::note(format_args!(
            "  tablespace {} ({}) goes to {}",
            space.id,
            space.source_path,
            space.target.display()
        ));
    }
}

fn restore(wish: &Wish<'_>, cli: &Cli) -> Result<(Restored, Vec<Missing>)> {
    let source = Source::new(&wish.reader, wish.wanted.clone(), wish.options.keep_going);
    let (counters, cancel) = (Progress::new(), CancelToken::new());
    // With gaps to be expected, the engine comes only when it is known that there are none.
    let is_sure = wish.wanted.is_whole() && !wish.options.keep_going;
    let engine = wish.engine.as_deref().filter(|_| is_sure);
    let restored = progress::shown(&counters, cli.progress, || {
        strongroom_restore::run(
            &source,
            &wish.plan,
            &wish.restore_options,
            &wish.digest,
            &wish.reader.summary().facts,
            engine,
            (&counters, &cancel),
        )
    })?;
    let missing = source.into_missing();
    if restored.members == 0 && missing.is_empty() {
        let path = wish.options.path.as_deref().unwrap_or_default();
        return Err(Error::new(
            ErrorKind::BackupNotFound,
            format!("Nothing of the backup is written for the path {path}; the target was left empty."),
        )
        .with_hint("`files` shows the paths; those below meta/ are for `cat`"));
    }
    Ok((restored, missing))
}

/// What is left to do after the files of a part, or of a backup that may be damaged.
fn finish(wish: &Wish<'_>, missing: &[Missing]) -> Result<Vec<String>> {
    if !missing.is_empty() {
        write_list(&wish.plan.target, missing)?;
        let note = "Something is missing, so the directory was not made startable: a server would take the zeroes \
                    in the place of lost bytes for data.";
        return Ok(vec![note.to_owned()]);
    }
    if !wish.wanted.is_whole() {
        return Ok(vec!["A part of a backup is not startable.".to_owned()]);
    }
    let Some(engine) = &wish.engine else {
        let note =
            "This release makes directories of PostgreSQL and of MySQL startable, and no other engine's.";
        return Ok(vec![note.to_owned()]);
    };
    if !wish.options.keep_going {
        return Ok(Vec::new());
    }
    engine.finish_restore(&RestoreOrder {
        target: &wish.plan.target,
        facts: &wish.reader.summary().facts,
        tablespaces: &wish.plan.tablespace_dirs(),
        port: None,
    })
}

fn write_list(target: &Path, missing: &[Missing]) -> Result<()> {
    let mut text =
        String::from("What could not be read of the backup. Lost bytes of a file are zero here.\n\n");
    for place in missing {
        let range = place.range.map(|(offset, length)| format!(" bytes {offset} to {}", offset + length));
        let _ = writeln!(text, "{}{}: {}", place.path, range.unwrap_or_default(), place.problem);
    }
    let path = target.join(LIST);
    std::fs::write(&path, text).map_err(|error| {
        Error::new(ErrorKind::Unavailable, format!("{} cannot be written: {error}.", path.display()))
    })
}

fn document(missing: &Missing) -> Value {
    json!({
        "path": missing.path,
        "offset": missing.range.map(|(offset, _)| offset),
        "length": missing.range.map(|(_, length)| length),
        "problem": missing.problem,
    })
}
