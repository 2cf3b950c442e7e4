//! `strongroom user …`

use clap::Subcommand;
use strongroom_api::native::wire::{PasswordRequest, RoleRequest, RoleView, UserList, UserRequest, UserView};

use super::password::PasswordOptions;
use super::{Desk, Nothing};
use crate::exit::{Exit, Outcome};
use crate::output::{self, Table};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make one; what they may do is given with `grant`
    Create {
        /// Unique in the domain
        name: String,
        #[command(flatten)]
        password: PasswordOptions,
        /// Without a password: such a user cannot log in
        #[arg(long, conflicts_with_all = ["password_file", "password_env"])]
        no_password: bool,
        /// May make projects and users, and see the repository and its recovery kit
        #[arg(long)]
        domain_admin: bool,
    },
    /// All of the domain, with their roles
    List,
    /// Remove one with their tokens and keys, at once
    Delete {
        /// Id or name
        user: String,
    },
    /// Set a password; what the old one opened is closed
    SetPassword {
        /// Id or name
        user: String,
        #[command(flatten)]
        password: PasswordOptions,
    },
    /// Give a role in a project, instead of the one before
    Grant {
        /// Id or name
        user: String,
        /// viewer, operator, restorer or admin
        role: String,
        /// Id or name; without, your own project
        #[arg(long)]
        project: Option<String>,
    },
    /// Take the role in a project away; none of their tokens and keys reaches it any more
    Revoke {
        /// Id or name
        user: String,
        /// Id or name
        #[arg(long)]
        project: String,
    },
}

pub(crate) fn run(verb: &Verb, desk: &Desk) -> Outcome<Exit> {
    match verb {
        Verb::Create { name, password, no_password, domain_admin } => {
            let password = if *no_password { None } else { Some(password.read(name)?) };
            let request = UserRequest { name: name.clone(), password, domain_admin: *domain_admin };
            let made: UserView = desk.runtime.block_on(desk.client.post(&["users"], &request))?;
            if desk.is_json() {
                output::json(&made);
            } else {
                output::data(&made.id);
                output::next(format_args!("strongroom user grant {} ROLE", made.name));
            }
        }
        Verb::List => list(&desk.runtime.block_on(desk.client.get(&["users"]))?, desk),
        Verb::Delete { user } => {
            let _: Nothing = desk.runtime.block_on(desk.client.delete(&["users", user]))?;
            output::note(format_args!("deleted {user}"));
        }
        Verb::SetPassword { user, password } => {
            let request = PasswordRequest { password: password.read(user)? };
            let parts = ["users", user, "password"];
            let _: Nothing = desk.runtime.block_on(desk.client.post(&parts, &request))?;
            output::note(format_args!("{user} has another password"));
        }
        Verb::Grant { user, role, project } => {
            let request = RoleRequest { role: role.clone(), project: project.clone() };
            let _: Nothing = desk.runtime.block_on(desk.client.post(&["users", user, "roles"], &request))?;
            output::note(format_args!("{user} is {role} now"));
        }
        Verb::Revoke { user, project } => {
            let parts = ["users", user, "roles", project];
            let _: Nothing = desk.runtime.block_on(desk.client.delete(&parts))?;
            output::note(format_args!("{user} has no role in {project} any more"));
        }
    }
    Ok(Exit::Done)
}

fn list(list: &UserList, desk: &Desk) {
    if desk.is_json() {
        return output::json(list);
    }
    let mut table = Table::new(&["NAME", "DOMAIN ADMIN", "PASSWORD", "ROLES", "ID"]);
    let yes = |is: bool| if is { "yes" } else { "-" }.to_owned();
    for user in &list.users {
        let role = |one: &RoleView| format!("{} in {}", one.role, one.project_name);
        let roles = user.roles.iter().map(role).collect::<Vec<_>>().join(", ");
        let roles = if roles.is_empty() { "-".to_owned() } else { roles };
        table.row([user.name.clone(), yes(user.domain_admin), yes(user.can_log_in), roles, user.id.clone()]);
    }
    table.print("No users.");
}
