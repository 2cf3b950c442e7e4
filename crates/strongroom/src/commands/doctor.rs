//! `strongroom doctor`: this end's look at the server, then the server's look at itself.

use std::os::unix::fs::PermissionsExt;

use strongroom_api::native::wire::{CheckLineView, DoctorView};

use super::Desk;
use super::instance::say_lines;
use crate::client::ClientOptions;
use crate::config::data_dir;
use crate::exit::{Exit, Outcome, Stop};
use crate::output;

pub(super) fn run<'a>(
    options: &'a ClientOptions,
    desk: impl FnOnce(&'a ClientOptions) -> Outcome<Desk>,
) -> Outcome<Exit> {
    let mut lines = private_files(options);
    let (server, is_json) = match desk(options) {
        Ok(desk) => (look(&desk, &mut lines), desk.is_json()),
        Err(stop) => (Err(stop), false),
    };
    if let Err(stop) = server {
        lines.insert(0, red("server", &stop));
    }
    let passed = lines.iter().all(|line| line.state != "missing");
    if is_json {
        output::json(&DoctorView { schema: 1, passed, lines });
    } else {
        say_lines(&lines);
    }
    if passed {
        return Ok(Exit::Done);
    }
    Err(Stop::new(Exit::Failed, "something is not as it should be")
        .with_hint("each line above says the next step"))
}

fn look(desk: &Desk, lines: &mut Vec<CheckLineView>) -> Outcome<()> {
    let found: DoctorView = desk.runtime.block_on(desk.client.get(&["doctor"]))?;
    let server = CheckLineView {
        what: "server".to_owned(),
        state: "ok".to_owned(),
        found: format!("answers at {}", desk.client.endpoint()),
        wanted: "answers".to_owned(),
        remedy: None,
        why: None,
    };
    lines.insert(0, server);
    lines.extend(found.lines);
    Ok(())
}

fn red(what: &str, stop: &Stop) -> CheckLineView {
    CheckLineView {
        what: what.to_owned(),
        state: "missing".to_owned(),
        found: stop.message.clone(),
        wanted: "answers".to_owned(),
        remedy: stop.hint.clone(),
        why: None,
    }
}

/// Secrets of a data directory on this host that others could read.
fn private_files(options: &ClientOptions) -> Vec<CheckLineView> {
    let directory = data_dir(options.data_dir.as_ref());
    let mut lines = Vec::new();
    for name in ["", "recovery.key", "bootstrap.json", "openrc"] {
        let path = if name.is_empty() { directory.clone() } else { directory.join(name) };
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        let mode = metadata.permissions().mode() & 0o777;
        if mode.trailing_zeros() >= 6 {
            continue;
        }
        lines.push(CheckLineView {
            what: if name.is_empty() { "data directory" } else { name }.to_owned(),
            state: "missing".to_owned(),
            found: format!("mode {mode:04o}"),
            wanted: "open to its owner only".to_owned(),
            remedy: Some(format!("chmod go= {}", path.display())),
            why: Some("it holds secrets".to_owned()),
        });
    }
    lines
}
