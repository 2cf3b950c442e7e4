//! `strongroom policy …`

use clap::{Args, Subcommand};
use serde_json::json;
use strongroom_api::native::wire::{PolicyRequest, PolicyView};

use super::{Desk, Nothing};
use crate::exit::{Exit, Outcome, Stop};
use crate::output::{self, Table, moment, or_dash};

/// Backups that are named before a number stands for the rest.
const NAMED_MAX: usize = 5;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// What holds for an instance
    Show {
        /// Id, node id or name
        instance: String,
        /// For each backup, why it is still here and when it goes
        #[arg(long)]
        explain: bool,
    },
    /// Set when automated backups begin and how long they are kept
    Set(SetOptions),
    /// Say that the clock is right, after rules were held because it moved
    Resume,
}

#[derive(Debug, Args)]
pub(crate) struct SetOptions {
    /// Id, node id or name of the instance
    instance: String,
    /// 1 to 732 days after its end a backup goes; 0 switches automated backups off
    #[arg(long, value_name = "DAYS")]
    keep_days: i64,
    /// One hour in UTC such as 01:00-02:00, from a quarter of an hour on; as before when absent
    #[arg(long, value_name = "HH:MM-HH:MM")]
    start_time: Option<String>,
    /// Days of the week such as 1,3,5, where 1 is Monday; as before, or all, when absent
    #[arg(long, value_name = "DAYS")]
    period: Option<String>,
    /// With --keep-days 0: the automated backups that exist go too
    #[arg(long)]
    remove_automated: bool,
    /// Also when backups go by it that would stay otherwise
    #[arg(long)]
    yes: bool,
    /// Then show for each backup why it is still here and when it goes
    #[arg(long)]
    explain: bool,
}

pub(crate) fn run(verb: &Verb, desk: &Desk) -> Outcome<Exit> {
    match verb {
        Verb::Show { instance, explain } => {
            show(&get(instance, *explain, &[], desk)?, desk);
            Ok(Exit::Done)
        }
        Verb::Set(options) => set(options, desk),
        Verb::Resume => {
            let path = ["retention", "resume"];
            let _: Nothing = desk.runtime.block_on(desk.client.post(&path, &json!({})))?;
            output::note("rules act again with the next look");
            Ok(Exit::Done)
        }
    }
}

fn get(instance: &str, explain: bool, more: &[(&str, &str)], desk: &Desk) -> Outcome<PolicyView> {
    let mut query = more.to_vec();
    if explain {
        query.push(("explain", "true"));
    }
    desk.runtime.block_on(desk.client.get_with(&["instances", instance, "policy"], &query))
}

fn set(options: &SetOptions, desk: &Desk) -> Outcome<Exit> {
    if !options.yes {
        refuse_losses(options, desk)?;
    }
    let request = PolicyRequest {
        keep_days: options.keep_days,
        start_time: options.start_time.clone(),
        period: options.period.clone(),
        remove_automated: options.remove_automated,
    };
    let path = ["instances", options.instance.as_str(), "policy"];
    let mut view: PolicyView = desk.runtime.block_on(desk.client.put(&path, &request))?;
    if options.explain {
        view = get(&options.instance, true, &[], desk)?;
    }
    show(&view, desk);
    output::next(format_args!("strongroom policy show {} --explain", view.instance_name));
    Ok(Exit::Done)
}

/// Whoever lets backups go that would stay otherwise says so.
fn refuse_losses(options: &SetOptions, desk: &Desk) -> Outcome<()> {
    let due = |view: PolicyView| -> Vec<String> {
        let gone = view.backups.unwrap_or_default().into_iter().filter(|backup| backup.why == "due");
        gone.map(|backup| backup.name).collect()
    };
    let days = options.keep_days.to_string();
    let mut wish = vec![("keep_days", days.as_str())];
    if options.remove_automated {
        wish.push(("remove_automated", "true"));
    }
    let already = due(get(&options.instance, true, &[], desk)?);
    let mut losses = due(get(&options.instance, true, &wish, desk)?);
    losses.retain(|name| !already.contains(name));
    if losses.is_empty() {
        return Ok(());
    }
    let more = losses.len().saturating_sub(NAMED_MAX);
    let mut named = losses[..losses.len() - more].join(", ");
    if more > 0 {
        named = format!("{named} and {more} more");
    }
    Err(Stop::new(
        Exit::Refused,
        format!(
            "by this policy {} backups would go that stay now: {named}; nothing was changed",
            losses.len()
        ),
    )
    .with_hint("add --yes if they may go; they go an hour later, until then the change can be undone"))
}

fn show(view: &PolicyView, desk: &Desk) {
    if desk.is_json() {
        return output::json(view);
    }
    let automated = if view.automated { "on" } else { "off" };
    let last =
        view.last_start.as_ref().map(|start| format!("{}  {}", moment(&start.started), start.backup_id));
    for (name, value) in [
        ("instance", format!("{}  {}", view.instance_name, view.instance_id)),
        ("automated", automated.to_owned()),
        ("keep days", view.keep_days.to_string()),
        ("start time", or_dash(Some(&view.start_time).filter(|text| !text.is_empty()))),
        ("period", or_dash(Some(&view.period).filter(|text| !text.is_empty()))),
        ("next start", or_dash(view.next_start.as_deref().map(moment))),
        ("last start", or_dash(last)),
    ] {
        output::data(format_args!("{name:<10} {value}"));
    }
    if let Some(held) = &view.retention_held {
        output::note(format_args!(
            "! Nothing is removed by a rule since {}: the clock moved by {} s.",
            moment(&held.at),
            held.moved_s
        ));
        output::next("strongroom policy resume      (when the clock is right)");
    }
    let Some(backups) = &view.backups else { return };
    let mut table = Table::new(&["NAME", "TYPE", "STATUS", "GOES", "WHY"]);
    for backup in backups {
        table.row([
            backup.name.clone(),
            backup.kind.clone(),
            backup.status.clone(),
            or_dash(backup.goes.as_deref().map(moment)),
            backup.explanation.clone(),
        ]);
    }
    table.print("No backups of this instance.");
}
