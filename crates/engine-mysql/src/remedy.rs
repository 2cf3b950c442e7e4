//! The exact statements that mend a source, with names quoted by one function.

/// Text as an SQL literal: in single quotes, those inside doubled, and backslashes too.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// A name as an identifier: in backticks, those inside doubled.
pub(crate) fn quote_name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// An account, as statements name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    user: String,
    host: String,
}

impl Account {
    pub(crate) fn new(user: &str, host: &str) -> Self {
        Self { user: user.to_owned(), host: host.to_owned() }
    }

    /// As `CURRENT_USER()` shows it: the host follows the last `@`.
    pub(crate) fn of_current_user(text: &str) -> Self {
        let (user, host) = text.rsplit_once('@').unwrap_or((text, "%"));
        Self::new(user, host)
    }

    pub(crate) fn quoted(&self) -> String {
        format!("{}@{}", quote(&self.user), quote(&self.host))
    }

    pub(crate) fn grant(&self, right: &str, on: &str) -> String {
        format!("GRANT {right} ON {on} TO {};", self.quoted())
    }

    pub(crate) fn create(&self) -> String {
        format!("CREATE USER {} IDENTIFIED BY '...'; {}", self.quoted(), self.grant("BACKUP_ADMIN", "*.*"))
    }

    pub(crate) fn alter(&self, what: &str) -> String {
        format!("ALTER USER {} {what};", self.quoted())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn h08_no_name_ends_its_own_quotes_in_mysql(name in "[^\0]{0,40}") {
            let quoted = quote_name(&name);
            let inner = &quoted[1..quoted.len() - 1];
            prop_assert_eq!(inner.replace("``", "`"), name.clone());
            prop_assert!(!inner.replace("``", "").contains('`'));
            let literal = quote(&name);
            let inner = &literal[1..literal.len() - 1];
            // Read as the server reads it: what is escaped or doubled is one character.
            let (mut read, mut rest) = (String::new(), inner.chars());
            while let Some(c) = rest.next() {
                if c == '\\' || c == '\'' {
                    prop_assert_eq!(rest.next(), Some(c));
                }
                read.push(c);
            }
            prop_assert_eq!(read, name);
        }
    }

    #[test]
    fn statements_can_be_pasted() {
        let account = Account::of_current_user("o'k@home@10.0.0.%");
        assert_eq!(
            account.grant("BACKUP_ADMIN", "*.*"),
            "GRANT BACKUP_ADMIN ON *.* TO 'o''k@home'@'10.0.0.%';"
        );
        assert_eq!(account.alter("ACCOUNT UNLOCK"), "ALTER USER 'o''k@home'@'10.0.0.%' ACCOUNT UNLOCK;");
    }
}
