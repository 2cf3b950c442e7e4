//! `strongroom token …`

use clap::Subcommand;
use strongroom_api::native::wire::{TokenList, TokenRequest, TokenView};

use super::{Desk, Nothing};
use crate::exit::{Exit, Outcome};
use crate::output::{self, Table, moment, or_dash};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make one; it is printed once and never again
    Create {
        /// What it is for, 1 to 64 characters
        name: String,
        /// viewer, operator, restorer or admin
        #[arg(long, default_value = "admin")]
        role: String,
        /// Seconds until it expires; without, it stands until it is revoked
        #[arg(long, value_name = "SECONDS")]
        expires_in: Option<u64>,
    },
    /// Those of this project, without the tokens themselves
    List,
    /// End one at once
    Revoke {
        /// The id that `list` shows
        id: String,
    },
}

pub(crate) fn run(verb: &Verb, desk: &Desk) -> Outcome<Exit> {
    match verb {
        Verb::Create { name, role, expires_in } => {
            let request =
                TokenRequest { name: name.clone(), role: Some(role.clone()), expires_in_s: *expires_in };
            let made: TokenView = desk.runtime.block_on(desk.client.post(&["tokens"], &request))?;
            if desk.is_json() {
                output::json(&made);
            } else {
                output::data(made.token.as_deref().unwrap_or_default());
                output::note(format_args!("  {} ({}), shown once; id {}", made.name, made.role, made.id));
            }
        }
        Verb::List => list(&desk.runtime.block_on(desk.client.get(&["tokens"]))?, desk),
        Verb::Revoke { id } => {
            let _: Nothing = desk.runtime.block_on(desk.client.delete(&["tokens", id]))?;
            output::note(format_args!("revoked {id}"));
        }
    }
    Ok(Exit::Done)
}

fn list(list: &TokenList, desk: &Desk) {
    if desk.is_json() {
        return output::json(list);
    }
    let mut table = Table::new(&["NAME", "ROLE", "CREATED", "EXPIRES", "ID"]);
    for token in &list.tokens {
        table.row([
            token.name.clone(),
            token.role.clone(),
            moment(&token.created),
            or_dash(token.expires.as_deref().map(moment)),
            token.id.clone(),
        ]);
    }
    table.print("No tokens.");
}
