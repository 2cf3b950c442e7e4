//! `strongroom restore`: writes where this command runs, as the account that runs it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use strongroom_api::native::wire::RestorePlanView;
use strongroom_core::engine::{
    BackupFacts, CancelToken, Engine, EngineKind, StartedServer, StopReason, Tablespace, each_once,
};
use strongroom_core::progress::Progress;
use strongroom_service::restore::{self, RestoreOptions, RestorePlan, Restored, TargetState};
use tokio::signal::ctrl_c;

use super::{Desk, backup};
use crate::client::HttpContent;
use crate::engines::engines;
use crate::exit::{Exit, Outcome, Stop};
use crate::output::{self, ProgressMode, Reporter, View, size};

const LOOK_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
#[command(
    after_help = "The same command again goes on after any interruption. Nothing that exists is overwritten.\n\
    --plan shows what would be written and where, and writes nothing."
)]
pub(crate) struct Options {
    /// Id, unique name, the beginning of an id, or @latest
    backup: String,
    /// Absent or empty; becomes the data directory
    #[arg(long, value_name = "DIR")]
    to_dir: PathBuf,
    /// A moment to recover to (not in this release)
    #[arg(long, value_name = "TIME")]
    to_time: Option<String>,
    /// Where a tablespace goes: its oid or its path at the source, and a new absolute path
    #[arg(long, value_name = "OLD=NEW", value_parser = parse_mapping)]
    tablespace_map: Vec<(String, PathBuf)>,
    /// Start the restored server
    #[arg(long, requires = "port")]
    start: bool,
    /// The port of the restored server
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    plan: bool,
    /// Connections at once
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    streams: u8,
    #[arg(long, value_enum, default_value = "auto")]
    progress: ProgressMode,
}

/// Split at the first `=` that is followed by an absolute path: a source path may hold one itself.
fn parse_mapping(text: &str) -> Result<(String, PathBuf), String> {
    let at = text.find("=/").filter(|at| *at > 0);
    let at = at.ok_or("give OLD=NEW, OLD an oid or a path at the source, NEW an absolute path")?;
    Ok((text[..at].to_owned(), PathBuf::from(&text[at + 1..])))
}

/// Everything that is known before the first byte is written.
struct Wish {
    view: RestorePlanView,
    facts: BackupFacts,
    engine: Arc<dyn Engine>,
    options: RestoreOptions,
    plan: RestorePlan,
}

pub(crate) fn run(options: &Options, desk: &Desk) -> Outcome<Exit> {
    if options.to_time.is_some() {
        return Err(Stop::new(
            Exit::Refused,
            "restoring to a moment is not supported by this release; nothing was written",
        )
        .with_hint("leave --to-time away: the restore ends at the moment the backup ended"));
    }
    let wish = Arc::new(wish(options, desk)?);
    if options.plan {
        show_plan(&wish, desk);
        return Ok(Exit::Done);
    }
    say_plan(&wish);
    let begun = Instant::now();
    let restored = restore(&wish, options.progress, desk)?;
    let notes = each_once(&wish.view.warnings, &restored.notes);
    for note in &notes {
        output::note(format_args!("  {note}"));
    }
    let seconds = begun.elapsed().as_secs_f64();
    output::note(format_args!(
        "restored {} in {} files and directories to {} ({seconds:.1} s)",
        size(restored.bytes),
        restored.members,
        wish.plan.target.display()
    ));
    let started = match options.port {
        Some(port) if options.start => Some(start(&wish, port)?),
        _ => None,
    };
    if desk.is_json() {
        output::json(&json!({
            "schema": 1,
            "backup_id": wish.view.backup_id,
            "target": wish.plan.target,
            "bytes": restored.bytes,
            "members": restored.members,
            "resumed": restored.resumed,
            "seconds": seconds,
            "notes": notes,
            "started": started,
        }));
    }
    Ok(Exit::Done)
}

fn wish(options: &Options, desk: &Desk) -> Outcome<Wish> {
    let found = backup::find(desk, &options.backup)?;
    let view: RestorePlanView = desk.runtime.block_on(desk.client.get(&["backups", &found.id, "plan"]))?;
    let facts: BackupFacts = serde_json::from_value(view.facts.clone()).map_err(|error| {
        Stop::new(Exit::Failed, format!("the server's facts of the backup are not understood ({error})"))
            .with_hint("use a strongroom command of the same release as the server; nothing was written")
    })?;
    let engine = engines().get(EngineKind::parse(&view.engine)?)?.clone();
    let restore_options = RestoreOptions {
        target: options.to_dir.clone(),
        tablespace_map: options.tablespace_map.clone(),
        port: options.port,
        streams: usize::from(options.streams),
    };
    let spaces = |space: &strongroom_api::native::wire::TablespaceView| Tablespace {
        id: space.id.clone(),
        source_path: space.source_path.clone(),
    };
    let tablespaces: Vec<Tablespace> = view.tablespaces.iter().map(spaces).collect();
    let plan = restore::plan(&restore_options, &view.manifest_digest, view.source_bytes, &tablespaces)?;
    Ok(Wish { view, facts, engine, options: restore_options, plan })
}

fn state_words(state: TargetState) -> &'static str {
    match state {
        TargetState::Absent => "absent, will be made",
        TargetState::Empty => "empty",
        TargetState::Resumable => "holds a part of this restore, which goes on",
    }
}

fn say_plan(wish: &Wish) {
    let plan = &wish.plan;
    output::note(format_args!(
        "{}: {} from 1 backup, no chain   target {}: {}, {} free",
        wish.view.name,
        size(plan.bytes),
        plan.target.display(),
        state_words(plan.state),
        size(plan.free_bytes)
    ));
    if plan.free_bytes < plan.bytes && plan.state != TargetState::Resumable && plan.tablespaces.is_empty() {
        output::note("! There is not enough room for it: the restore would be refused.");
    }
    for space in &plan.tablespaces {
        let why = if space.by_default { " (not mapped: beside the target)" } else { "" };
        output::note(format_args!(
            "  tablespace {} from {} goes to {}{why}",
            space.id,
            space.source_path,
            space.target.display()
        ));
    }
}

fn show_plan(wish: &Wish, desk: &Desk) {
    if !desk.is_json() {
        say_plan(wish);
        output::note("nothing will be overwritten; nothing was written");
        return;
    }
    let spaces = wish.plan.tablespaces.iter().map(|space| {
        json!({
            "id": space.id,
            "source_path": space.source_path,
            "target": space.target,
            "by_default": space.by_default,
        })
    });
    output::json(&json!({
        "schema": 1,
        "backup_id": wish.view.backup_id,
        "name": wish.view.name,
        "engine": wish.view.engine,
        "engine_version": wish.view.engine_version,
        "bytes": wish.plan.bytes,
        "target": wish.plan.target,
        "target_state": match wish.plan.state {
            TargetState::Absent => "absent",
            TargetState::Empty => "empty",
            TargetState::Resumable => "resumable",
        },
        "free_bytes": wish.plan.free_bytes,
        "tablespaces": spaces.collect::<Vec<_>>(),
        "warnings": wish.view.warnings,
    }));
}

/// The restore on a thread of its own, its progress and Ctrl-C here.
fn restore(wish: &Arc<Wish>, mode: ProgressMode, desk: &Desk) -> Outcome<Restored> {
    let (progress, cancel) = (Arc::new(Progress::new()), CancelToken::new());
    let content = HttpContent::new(
        desk.client.clone(),
        wish.view.backup_id.clone(),
        wish.view.member_count,
        desk.runtime.handle().clone(),
    );
    let working = {
        let (wish, progress, cancel) = (wish.clone(), progress.clone(), cancel.clone());
        move || {
            restore::run(
                &content,
                &wish.plan,
                &wish.options,
                &wish.view.manifest_digest,
                &wish.facts,
                Some(&*wish.engine),
                (&progress, &cancel),
            )
        }
    };
    let mut reporter = Reporter::new(mode);
    let result = desk.runtime.block_on(async {
        let mut working = tokio::task::spawn_blocking(working);
        let mut meter = Meter::new();
        loop {
            tokio::select! {
                ended = &mut working => return ended,
                _ = ctrl_c() => cancel.stop(StopReason::Cancelled),
                () = tokio::time::sleep(LOOK_INTERVAL) => reporter.show(&meter.view(&progress)),
            }
        }
    });
    reporter.end();
    let result = result.map_err(|_| Stop::new(Exit::Failed, "the restore ended by a fault of ours"))?;
    Ok(result?)
}

/// Turns counters into a rate and a time left.
struct Meter {
    since: Instant,
    /// Bytes that an earlier run had restored already.
    before: Option<u64>,
}

impl Meter {
    fn new() -> Self {
        Self { since: Instant::now(), before: None }
    }

    fn view(&mut self, progress: &Progress) -> View {
        let reading = progress.read();
        if reading.phase == "restoring" && self.before.is_none() {
            (self.since, self.before) = (Instant::now(), Some(reading.done_bytes));
        }
        let done = reading.done_bytes.saturating_sub(self.before.unwrap_or(reading.done_bytes));
        let elapsed_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = done.saturating_mul(1000) / elapsed_ms;
        let left = reading.total_bytes.saturating_sub(reading.done_bytes);
        View {
            phase: reading.phase,
            done_bytes: reading.done_bytes,
            total_bytes: reading.total_bytes,
            rate_bytes_per_s: rate,
            eta_s: (rate > 0).then(|| left / rate),
        }
    }
}

fn start(wish: &Wish, port: u16) -> Outcome<StartedServer> {
    output::note(format_args!("starting it on port {port}"));
    let started = wish.engine.start_restored(&wish.plan.target, &wish.facts, port)?;
    output::note(format_args!("it accepts connections on port {} (pid {})", started.port, started.pid));
    output::next(format_args!("{}      stops it", started.stop_command));
    Ok(started)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_split_before_an_absolute_path() {
        let pair = |old: &str, new: &str| Ok((old.to_owned(), PathBuf::from(new)));
        assert_eq!(parse_mapping("16384=/new"), pair("16384", "/new"));
        assert_eq!(parse_mapping("/a=b c=/new/x=y"), pair("/a=b c", "/new/x=y"));
        for wrong in ["", "=/x", "/old", "/old=new"] {
            assert!(parse_mapping(wrong).is_err(), "{wrong}");
        }
    }
}
