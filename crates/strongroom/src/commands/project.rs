//! `strongroom project …`

use clap::Subcommand;
use strongroom_api::native::wire::{ProjectList, ProjectRequest, ProjectView};

use super::{Desk, Nothing};
use crate::exit::{Exit, Outcome};
use crate::output::{self, Table, or_dash};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make one; you become its administrator
    Create {
        /// Unique in the domain; clients of clouds expect a region's name, such as eu-de_sales
        name: String,
        /// How many manual backups it may have; without, as many as it likes
        #[arg(long, value_name = "BACKUPS")]
        backup_quota: Option<i64>,
    },
    /// All of the domain
    List,
    /// Remove one that never had an instance, with its tokens, keys and roles
    Delete {
        /// Id or name
        project: String,
    },
}

pub(crate) fn run(verb: &Verb, desk: &Desk) -> Outcome<Exit> {
    match verb {
        Verb::Create { name, backup_quota } => {
            let request = ProjectRequest { name: name.clone(), backup_quota: *backup_quota };
            let made: ProjectView = desk.runtime.block_on(desk.client.post(&["projects"], &request))?;
            if desk.is_json() {
                output::json(&made);
            } else {
                output::data(&made.id);
                output::next(format_args!("strongroom user grant USER ROLE --project {}", made.name));
            }
        }
        Verb::List => list(&desk.runtime.block_on(desk.client.get(&["projects"]))?, desk),
        Verb::Delete { project } => {
            let _: Nothing = desk.runtime.block_on(desk.client.delete(&["projects", project]))?;
            output::note(format_args!("deleted {project}"));
        }
    }
    Ok(Exit::Done)
}

fn list(list: &ProjectList, desk: &Desk) {
    if desk.is_json() {
        return output::json(list);
    }
    let mut table = Table::new(&["NAME", "QUOTA", "ID"]);
    for project in &list.projects {
        table.row([project.name.clone(), or_dash(project.backup_quota), project.id.clone()]);
    }
    table.print("No projects.");
}
