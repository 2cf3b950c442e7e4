//! The exact statements and lines that mend a source, with names quoted by one function.

use std::net::IpAddr;

/// A name as an SQL identifier: in double quotes, those inside doubled. NUL cannot occur in a name.
pub(crate) fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Text as an SQL literal of the replication grammar: in single quotes, those inside doubled.
pub(crate) fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

pub(crate) fn grant_replication(user: &str) -> String {
    format!("ALTER ROLE {} REPLICATION;", quote_identifier(user))
}

/// A line of `pg_hba.conf`. The word `all` does not cover replication connections.
pub(crate) fn hba_line(database: &str, user: &str, client: Option<IpAddr>, is_encrypted: bool) -> String {
    let kind = if is_encrypted { "hostssl" } else { "host" };
    let address = client.map_or_else(
        || "<address of this server>".to_owned(),
        |ip| format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 }),
    );
    format!("{kind} {database} {} {address} scram-sha-256", quote_identifier(user))
}

/// How a changed setting takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TakesEffect {
    Reload,
    Restart,
}

pub(crate) fn change_setting(name: &str, value: &str, takes_effect: TakesEffect) -> String {
    let statement = format!("ALTER SYSTEM SET {name} = {};", quote_literal(value));
    match takes_effect {
        TakesEffect::Reload => format!("{statement} SELECT pg_reload_conf();"),
        TakesEffect::Restart => format!("{statement} and restart the server"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn h08_no_name_ends_its_own_quotes(name in "[^\0]{0,40}") {
            let quoted = quote_identifier(&name);
            let inner = &quoted[1..quoted.len() - 1];
            prop_assert_eq!(inner.replace("\"\"", "\""), name.clone());
            prop_assert!(!inner.replace("\"\"", "").contains('"'));
            let literal = quote_literal(&name);
            let inner = &literal[1..literal.len() - 1];
            prop_assert_eq!(inner.replace("''", "'"), name);
            prop_assert!(!inner.replace("''", "").contains('\''));
        }
    }

    #[test]
    fn lines_can_be_pasted() {
        assert_eq!(grant_replication("o\"k"), "ALTER ROLE \"o\"\"k\" REPLICATION;");
        assert_eq!(
            hba_line("replication", "x", Some("10.0.0.7".parse().unwrap()), true),
            "hostssl replication \"x\" 10.0.0.7/32 scram-sha-256"
        );
        assert_eq!(
            change_setting("wal_level", "replica", TakesEffect::Restart),
            "ALTER SYSTEM SET wal_level = 'replica'; and restart the server"
        );
    }
}
