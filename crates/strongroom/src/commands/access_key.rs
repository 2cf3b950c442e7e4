//! `strongroom access-key …`

use clap::Subcommand;
use strongroom_api::native::wire::{AccessKeyList, AccessKeyRequest, AccessKeyView};

use super::{Desk, Nothing};
use crate::exit::{Exit, Outcome};
use crate::output::{self, Table, moment};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make one for yourself in this project; its secret is printed once and never again
    Create {
        /// viewer, operator, restorer or admin; it reaches no further than your own role
        #[arg(long, default_value = "admin")]
        role: String,
    },
    /// Those of this project, without their secrets
    List,
    /// End one at once
    Delete {
        /// The access key that `list` shows
        access_key: String,
    },
}

pub(crate) fn run(verb: &Verb, desk: &Desk) -> Outcome<Exit> {
    match verb {
        Verb::Create { role } => {
            let request = AccessKeyRequest { role: Some(role.clone()) };
            let made: AccessKeyView = desk.runtime.block_on(desk.client.post(&["access-keys"], &request))?;
            if desk.is_json() {
                output::json(&made);
            } else {
                output::data(format_args!("access_key {}", made.access_key));
                output::data(format_args!("secret_key {}", made.secret_key.as_deref().unwrap_or_default()));
                output::note(format_args!("  {}; the secret is shown once", made.role));
            }
        }
        Verb::List => list(&desk.runtime.block_on(desk.client.get(&["access-keys"]))?, desk),
        Verb::Delete { access_key } => {
            let _: Nothing = desk.runtime.block_on(desk.client.delete(&["access-keys", access_key]))?;
            output::note(format_args!("deleted {access_key}"));
        }
    }
    Ok(Exit::Done)
}

fn list(list: &AccessKeyList, desk: &Desk) {
    if desk.is_json() {
        return output::json(list);
    }
    let mut table = Table::new(&["ACCESS KEY", "ROLE", "CREATED", "USER"]);
    for key in &list.access_keys {
        table.row([key.access_key.clone(), key.role.clone(), moment(&key.created), key.user_id.clone()]);
    }
    table.print("No access keys.");
}
